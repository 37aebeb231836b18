package model_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/model"
)

// withSource returns a configuration with a source.
func withSource(source string) []byte {
	return fmt.Appendf(nil, "deployments:\n  - {name: a, topology: decode, target: latency, roles: {decode: {max_replicas: 3}}, source: {%s}}\n", source)
}

func TestPrometheusSourceIsDecoded(t *testing.T) {
	deployments, err := model.DecodeDeployments(withSource(`prometheus: {url: "https://p:9090/prefix", preset: vllm, model: org/m, namespace: prod,
      labels: {role: decode}, queries: {kv_hit_rate: "avg(h{$selector})"}, timeout_s: 2,
      http: {bearer_token_file: /t, headers: {X-Scope-OrgID: x}, header_files: {X-Key: /k}, tls: {ca_file: /ca, cert_file: /c, key_file: /k}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &model.PrometheusSource{
		URL: "https://p:9090/prefix", Preset: model.PresetVLLM, Model: "org/m", Namespace: "prod",
		Labels: map[string]string{"role": "decode"}, Queries: model.PrometheusQueries{KVHitRate: "avg(h{$selector})"},
		MaxAgeS: 60, TimeoutS: 2,
		HTTP: model.HTTPClient{
			BearerTokenFile: "/t", Headers: map[string]string{"X-Scope-OrgID": "x"}, HeaderFiles: map[string]string{"X-Key": "/k"},
			TLS: model.ClientTLS{CAFile: "/ca", CertFile: "/c", KeyFile: "/k"},
		},
	}
	if diff := cmp.Diff(want, deployments[0].Source.Prometheus); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSourcesAreChecked(t *testing.T) {
	const valid = `url: "http://p:9090", preset: vllm, model: m`
	for name, test := range map[string]struct{ source, want string }{
		"nothing":               {``, "source: names nothing"},
		"two":                   {`simulated: {engine: x}, prometheus: {` + valid + `}`, "source.simulated: stands beside a real source"},
		"unknown key":           {`prometheus: {` + valid + `, labls: {}}`, "source.prometheus.labls: is not a known key; the keys here are url, preset"},
		"unknown preset":        {`prometheus: {url: "http://p", preset: tgi, model: m}`, `source.prometheus.preset: is "tgi", want one of dynamo, dynamo-router, vllm, sglang, trtllm, custom`},
		"no url":                {`prometheus: {preset: vllm, model: m}`, "source.prometheus.url: is missing"},
		"no scheme":             {`prometheus: {url: "p:9090", preset: vllm, model: m}`, "source.prometheus.url: is \"p:9090\", want an address"},
		"a query":               {`prometheus: {url: "http://p?x=1", preset: vllm, model: m}`, "source.prometheus.url: has a query"},
		"secret in url":         {`prometheus: {url: "https://u:hunter2@p", preset: vllm, model: m}`, "source.prometheus.url: holds credentials"},
		"no model":              {`prometheus: {url: "http://p", preset: vllm}`, "source.prometheus.model: is missing"},
		"router, no namespace":  {`prometheus: {url: "http://p", preset: dynamo-router}`, "source.prometheus.namespace: is missing"},
		"router, model":         {`prometheus: {url: "http://p", preset: dynamo-router, namespace: n, model: m}`, "source.prometheus.model: is given"},
		"custom, model":         {`prometheus: {url: "http://p", preset: custom, model: m}`, "source.prometheus.labels: is where preset custom"},
		"custom, no labels":     {`prometheus: {url: "http://p", preset: custom}`, "source.prometheus.labels: is missing"},
		"custom, no queries":    {`prometheus: {url: "http://p", preset: custom, labels: {a: b}}`, "source.prometheus.queries.requests: is missing"},
		"query without scope":   {`prometheus: {` + valid + `, queries: {mean_isl: "x"}}`, "source.prometheus.queries.mean_isl: lacks $selector"},
		"label name":            {`prometheus: {` + valid + `, labels: {"a-b": x}}`, "source.prometheus.labels.a-b: is not the name of a label"},
		"reserved label":        {`prometheus: {` + valid + `, labels: {__name__: x}}`, "source.prometheus.labels.__name__: is not the name of a label"},
		"label twice":           {`prometheus: {` + valid + `, labels: {a: x, a: y}}`, "source.prometheus.labels.a: is given twice"},
		"label of numbers":      {`prometheus: {` + valid + `, labels: {a: 1}}`, "source.prometheus.labels.a: want text"},
		"labels as a list":      {`prometheus: {` + valid + `, labels: [a]}`, "source.prometheus.labels: want keys and values, have a list"},
		"credentials over http": {`prometheus: {` + valid + `, http: {bearer_token_file: /t}}`, "source.prometheus.url: would be sent credentials unencrypted"},
		"two credentials":       {`prometheus: {` + valid + `, http: {bearer_token_file: /t, basic: {username: u, password_file: /p}, allow_credentials_over_http: true}}`, "source.prometheus.http.basic: stands beside bearer_token_file"},
		"no password":           {`prometheus: {` + valid + `, http: {basic: {username: u}, allow_credentials_over_http: true}}`, "source.prometheus.http.basic: needs username and password_file"},
		"half a certificate":    {`prometheus: {` + valid + `, http: {tls: {cert_file: /c}}}`, "source.prometheus.http.tls: needs cert_file and key_file"},
		"secret header":         {`prometheus: {` + valid + `, http: {headers: {X-Api-Key: s3cret}}}`, "source.prometheus.http.headers.X-Api-Key: looks like a secret"},
		"header injection":      {`prometheus: {` + valid + `, http: {headers: {X-A: "a\r\nX-B: b"}}}`, "source.prometheus.http.headers.X-A: is not a header"},
		"authorization twice":   {`prometheus: {` + valid + `, http: {header_files: {authorization: /f}, allow_credentials_over_http: true}}`, "source.prometheus.http.header_files.authorization: is set by"},
		"no age":                {`prometheus: {` + valid + `, max_age_s: 0}`, "source.prometheus.max_age_s: is 0, want more than 0"},
		"no timeout":            {`prometheus: {` + valid + `, timeout_s: -1}`, "source.prometheus.timeout_s: is -1, want more than 0"},
		"no engines":            {`engines: {preset: vllm}`, "source.engines.roles.decode: is missing"},
		"engines elsewhere":     {`engines: {preset: vllm, roles: {prefill: {dns: "http://e:1"}, decode: {dns: "http://e:1"}}}`, "source.engines.roles.prefill: is given, and topology decode does not have it"},
		"engines of Dynamo":     {`engines: {preset: dynamo, roles: {decode: {dns: "http://e:1"}}}`, `source.engines.preset: is "dynamo", want one of vllm, sglang, trtllm`},
		"engines nowhere":       {`engines: {preset: vllm, roles: {decode: {}}}`, "source.engines.roles.decode: wants one of endpoints, dns, kubernetes, zmq, nats and push, and has 0"},
		"engine twice":          {`engines: {preset: vllm, roles: {decode: {endpoints: ["http://e:1", "http://e:1"]}}}`, "source.engines.roles.decode.endpoints[1]: is in the list twice"},
		"engine's address":      {`engines: {preset: vllm, roles: {decode: {endpoints: ["e:1"]}}}`, "source.engines.roles.decode.endpoints[0]: is \"e:1\", want an address"},
		"pods of nowhere":       {`engines: {preset: vllm, roles: {decode: {kubernetes: {namespace: "Chat ", selector: " ", port: 0, scheme: ftp}}}}`, "source.engines.roles.decode.kubernetes.selector: is missing"},
		"pods that cannot be":   {`engines: {preset: vllm, roles: {decode: {kubernetes: {namespace: chat, selector: "app=\u0000", port: 8000}}}}`, "source.engines.roles.decode.kubernetes.selector: is "},
		"pods' port":            {`engines: {preset: vllm, roles: {decode: {kubernetes: {namespace: chat, selector: app=decode}}}}`, "source.engines.roles.decode.kubernetes.port: is 0"},
		"pods' credentials":     {`engines: {preset: vllm, roles: {decode: {kubernetes: {namespace: chat, selector: app=decode, port: 8000}}}, http: {bearer_token_file: /t}}`, "source.engines.roles.decode.kubernetes.scheme: would be sent credentials unencrypted"},
		"engine's credentials":  {`engines: {preset: vllm, roles: {decode: {dns: "http://e:1"}}, http: {bearer_token_file: /t}}`, "source.engines.roles.decode.dns: would be sent credentials unencrypted"},
		"engine's path":         {`engines: {preset: vllm, path: metrics, roles: {decode: {dns: "http://e:1"}}}`, `source.engines.path: is "metrics"`},
		"engines twice":         {`engines: {preset: vllm, roles: {decode: {dns: "http://e:1", zmq: ["tcp://e:1"]}}}`, "source.engines.roles.decode: wants one of endpoints, dns, kubernetes, zmq, nats and push, and has 2"},
		"preset of a stream":    {`engines: {preset: vllm, roles: {decode: {zmq: ["tcp://e:1"]}}}`, "source.engines.preset: is given, and no role is scraped"},
		"stream's address":      {`engines: {roles: {decode: {zmq: ["e:1"]}}}`, "source.engines.roles.decode.zmq[0]: is \"e:1\", want an address such as tcp"},
		"NATS address":          {`engines: {roles: {decode: {nats: {url: "e:1", subject: a}}}}`, "source.engines.roles.decode.nats.url: is \"e:1\", want an address such as nats"},
		"NATS secret":           {`engines: {roles: {decode: {nats: {url: "nats://u:hunter2@e:1", subject: a}}}}`, "source.engines.roles.decode.nats.url: holds credentials"},
		"NATS subject":          {`engines: {roles: {decode: {nats: {url: "nats://e:1"}}}}`, "source.engines.roles.decode.nats.subject: is \"\""},
		"push without a token":  {`engines: {roles: {decode: {push: {token_file: ""}}}}`, "source.engines.roles.decode.push.token_file: is missing"},
		"empty fleet":           {`fleet: {}`, "source.fleet: names nothing"},
		"two fleets":            {`fleet: {static: {decode: 1}, kubernetes: {namespace: n, roles: {decode: {name: d}}}}`, "source.fleet: names static and kubernetes; give one"},
		"fleet of no object":    {`fleet: {kubernetes: {namespace: n, roles: {}}}`, "source.fleet.kubernetes.roles.decode: is missing"},
		"fleet elsewhere":       {`fleet: {static: {prefill: 2}}`, "source.fleet.static.decode: is missing"},
		"negative fleet":        {`fleet: {static: {decode: -2}}`, "source.fleet.static.decode: is -2, want at least 0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := model.DecodeDeployments(withSource(test.source))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error = %v, want one that says %q", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}
