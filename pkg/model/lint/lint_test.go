package lint_test

import (
	"fmt"
	"strings"
	"testing"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
)

// sound is a deployment of which nothing is found.
const sound = `
  - name: NAME
    advisory: false
    target: sla
    sla: {ttft_ms: 500, itl_ms: 50}
    roles:
      prefill: {gpus_per_replica: 2, max_replicas: 8, engine: {max_num_batched_tokens: 8192, context_length: 131072, max_kv_tokens: 590000}}
      decode: {gpus_per_replica: 2, max_replicas: 8, engine: {max_num_batched_tokens: 8192, context_length: 131072, max_kv_tokens: 590000}}
    source:
      prometheus: {url: "http://prometheus:9090", preset: vllm, model: org/NAME, namespace: NAME}
      engines: {preset: vllm, roles: {prefill: {dns: "http://prefill.NAME:8000"}, decode: {dns: "http://decode.NAME:8000"}}}
      fleet: {kubernetes: {namespace: NAME, roles: {prefill: {name: prefill}, decode: {name: decode}}}}
    actuator: {kubernetes: {namespace: NAME, roles: {prefill: {name: prefill}, decode: {name: decode}}}}
`

// deployment returns the sound one with some of its text replaced.
func deployment(t *testing.T, name string, replaced ...string) *model.Deployment {
	t.Helper()
	for i := 0; i < len(replaced); i += 2 {
		if !strings.Contains(sound, replaced[i]) {
			t.Fatalf("%q is not in the sound deployment", replaced[i])
		}
	}
	text := "deployments:" + strings.ReplaceAll(strings.NewReplacer(replaced...).Replace(sound), "NAME", name)
	specs, err := model.DecodeDeployments([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &specs[0]
}

const (
	slaTarget = "target: sla\n    sla: {ttft_ms: 500, itl_ms: 50}"
	decodeOf  = "decode: {gpus_per_replica: 2, max_replicas: 8, engine: {max_num_batched_tokens: 8192, context_length: 131072, max_kv_tokens: 590000}}"
	prefillOf = "prefill: {gpus_per_replica: 2, max_replicas: 8, engine: {max_num_batched_tokens: 8192, context_length: 131072, max_kv_tokens: 590000}}"
	scaled    = "actuator: {kubernetes: {namespace: NAME, roles: {prefill: {name: prefill}, decode: {name: decode}}}}"
	counted   = "fleet: {kubernetes: {namespace: NAME, roles: {prefill: {name: prefill}, decode: {name: decode}}}}"
	series    = "model: org/NAME, namespace: NAME"
	engines   = `engines: {preset: vllm, roles: {prefill: {dns: "http://prefill.NAME:8000"}, decode: {dns: "http://decode.NAME:8000"}}}`
)

// pods finds the engines by the pods of a namespace.
func pods(namespace string) string {
	return "engines: {preset: vllm, roles: {prefill: {kubernetes: {namespace: " + namespace + ", selector: role=prefill, port: 8000}}, decode: {kubernetes: {namespace: " + namespace + ", selector: role=decode, port: 8000}}}}"
}

// without returns the settings of a role but for one.
func without(role, setting string) string { return strings.Replace(role, setting, "", 1) }

func TestCheck(t *testing.T) {
	loadTarget := func(prefillDown, decodeDown string) string {
		return "target: load\n    throughput: {enabled: false}\n    load: {prefill_scale_up_queue_tokens: 9000, prefill_scale_down_queue_tokens: " +
			prefillDown + ", decode_scale_up_kv_percent: 80, decode_scale_down_kv_percent: " + decodeDown + "}"
	}
	other := func(replaced ...string) []string { return replaced }
	for name, test := range map[string]struct {
		replaced []string
		other    []string // replaced in deployment b, which is there as well
		want     []string
	}{
		"sound":             {},
		"sound beside b":    {other: other("advisory: false", "advisory: true")},
		"no GPU count":      {replaced: []string{decodeOf, without(decodeOf, "gpus_per_replica: 2, ")}, want: []string{"warning: a: roles.decode.gpus_per_replica: is missing"}},
		"nobody observes":   {replaced: []string{counted, ""}, want: []string{"error: a: source.fleet: is missing"}},
		"TTFT not known":    {replaced: []string{prefillOf, without(prefillOf, "max_num_batched_tokens: 8192, ")}, want: []string{"error: a: roles.prefill.engine.max_num_batched_tokens: is missing"}},
		"the router's rate": {replaced: []string{"preset: vllm, " + series, "preset: dynamo, model: org/NAME"}, want: []string{"warning: a: source.prometheus.namespace: is missing"}},
		"share of nothing": {
			replaced: []string{
				slaTarget, "target: latency\n    throughput: {enabled: false}",
				prefillOf, without(prefillOf, "context_length: 131072, "), decodeOf, without(decodeOf, ", max_kv_tokens: 590000"),
			},
			want: []string{
				"error: a: roles.prefill.engine.context_length: is missing, and target latency scales by the share of it that waits",
				"error: a: roles.decode.engine.max_kv_tokens: is missing, and target latency scales by the share of it in use",
			},
		},
		"thresholds": {replaced: []string{slaTarget, loadTarget("100", "20")}},
		"thresholds of nothing": {
			replaced: []string{slaTarget, loadTarget("0", "0")},
			want: []string{
				"warning: a: load.prefill_scale_down_queue_tokens: is 0, and no load is under 0: prefill is never scaled down",
				"warning: a: load.decode_scale_down_kv_percent: is 0, and no load is under 0: decode is never scaled down",
			},
		},
		"one scale target, both active": {
			other: other(scaled, strings.ReplaceAll(scaled, "NAME", "a"), counted, strings.ReplaceAll(counted, "NAME", "b2")),
			want: []string{
				"error: a: actuator.kubernetes.roles.prefill: Deployment a/prefill is the scale target of deployment b too",
				"error: a: actuator.kubernetes.roles.decode: Deployment a/decode is the scale target of deployment b too",
			},
		},
		"one scale target, one advises": {
			other: other("advisory: false", "advisory: true", scaled, strings.ReplaceAll(scaled, "NAME", "a")),
			want: []string{
				"warning: a: actuator.kubernetes.roles.prefill: Deployment a/prefill is the scale target of deployment b too",
				"warning: a: actuator.kubernetes.roles.decode: Deployment a/decode is the scale target of deployment b too",
			},
		},
		"one object, by another version of its group": {
			other: other(scaled, strings.Replace(strings.ReplaceAll(scaled, "NAME", "a"), "{name: decode}", "{api_version: apps/v1beta1, name: decode}", 1)+"\n"),
			want:  []string{"error: a: actuator.kubernetes.roles.prefill", "error: a: actuator.kubernetes.roles.decode"},
		},
		"one fleet counted twice": {
			other: other(scaled, "", counted, strings.ReplaceAll(counted, "NAME", "a")),
			want: []string{
				"warning: a: source.fleet.kubernetes.roles.prefill: Deployment a/prefill is counted for deployment b too",
				"warning: a: source.fleet.kubernetes.roles.decode: Deployment a/decode is counted for deployment b too",
			},
		},
		"the same series": {
			other: other(series, "model: org/a, namespace: a"),
			want:  []string{"error: a: source.prometheus.labels: model, namespace and labels match every series of deployment b too"},
		},
		"the same series, to compare": {
			replaced: []string{"advisory: false", "advisory: true"},
			other:    other(series, "model: org/a, namespace: a", "advisory: false", "advisory: true"),
			want:     []string{"warning: a: source.prometheus.labels: model"},
		},
		"a part of the series": {
			replaced: []string{series, "model: org/a"},
			other:    other(series, "model: org/a, labels: {cluster: eu}"),
			want:     []string{"error: a: source.prometheus.labels"},
		},
		"all of the series, and more": {
			replaced: []string{series, "model: org/a, labels: {cluster: eu}"},
			other:    other(series, "model: org/a"), // b is told
		},
		"the same series at another server": {other: other(series, "model: org/a, namespace: a", "http://prometheus", "http://elsewhere")},
		"the same engines": {
			other: other(engines, strings.ReplaceAll(engines, "decode.NAME", "decode.a")),
			want:  []string{"error: a: source.engines.roles.decode.dns: http://decode.a:8000: these engines are read for deployment b too"},
		},
		"the same pods, to compare": {
			replaced: []string{"advisory: false", "advisory: true", engines, pods("NAME")},
			other:    other("advisory: false", "advisory: true", engines, pods("a")),
			want: []string{
				"warning: a: source.engines.roles.prefill.kubernetes: the pods with role=prefill in namespace a: these engines are read for deployment b too",
				"warning: a: source.engines.roles.decode.kubernetes: the pods with role=decode in namespace a",
			},
		},
		"the same engines of one fleet": {
			other: other("advisory: false", "advisory: true", engines, strings.ReplaceAll(engines, "NAME", "a"), counted, strings.ReplaceAll(counted, "NAME", "a"), scaled, ""),
			want:  []string{"warning: a: source.fleet.kubernetes.roles.prefill", "warning: a: source.fleet.kubernetes.roles.decode"},
		},
		"the same series of one fleet": {
			other: other(series, "model: org/a, namespace: a", "advisory: false", "advisory: true", counted, strings.ReplaceAll(counted, "NAME", "a"), scaled, ""),
			want:  []string{"warning: a: source.fleet.kubernetes.roles.prefill", "warning: a: source.fleet.kubernetes.roles.decode"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := deployment(t, "a", test.replaced...)
			all := []*model.Deployment{a, deployment(t, "c")}
			if test.other != nil {
				all = append(all, deployment(t, "b", test.other...))
			}
			want(t, lint.Check([]*model.Deployment{a}, all), test.want)
		})
	}
}

// want checks that findings begin with texts, one each.
func want(t *testing.T, found []lint.Finding, want []string) {
	t.Helper()
	if len(found) != len(want) {
		t.Errorf("%d findings, want %d:\n%v", len(found), len(want), found)
		return
	}
	for i, finding := range found {
		if text := finding.String(); !strings.HasPrefix(text, want[i]) || strings.Contains(text, "\n") {
			t.Errorf("finding is %q, want one line that begins with %q", text, want[i])
		}
	}
}

// TestPools: the two pools of one model are two deployments, and see the same
// requests.
func TestPools(t *testing.T) {
	prefill, decode := deployment(t, "a"), deployment(t, "b", series, "model: org/a, namespace: a")
	prefill.Topology, decode.Topology = model.TopologyPrefill, model.TopologyDecode
	want(t, lint.Check([]*model.Deployment{prefill, decode}, []*model.Deployment{prefill, decode}), nil)
}

// TestUnreachableLatencies: by its samples an engine takes 10 ms and a
// hundredth of a ms for each token of a prompt, and 20 ms and a thousandth for
// each KV token that it decodes with.
func TestUnreachableLatencies(t *testing.T) {
	var samples []model.EngineSample
	for n := 1; n <= 8; n++ {
		samples = append(samples,
			model.EngineSample{
				Role: model.Prefill, Worker: "profile", WallTimeS: new(0.010 + 0.00001*2000*float64(n)),
				Scheduled: model.EngineLoad{PrefillRequests: &n, PrefillTokens: new(2000 * n)},
			},
			model.EngineSample{
				Role: model.Decode, Worker: "profile", WallTimeS: new(0.020 + 0.000001*3000*float64(n*n)),
				Scheduled: model.EngineLoad{DecodeRequests: &n, DecodeKVTokens: new(3000 * n * n)},
			})
	}
	for _, test := range []struct {
		ttftMs, itlMs float64
		want          []string
	}{
		{40, 40, nil},
		{25, 40, []string{"error: a: sla.ttft_ms: is 25 and cannot be met: by the profile a prompt of 2000 tokens, its shortest, takes 30 ms alone on a prefill engine"}},
		{40, 21, []string{"error: a: sla.itl_ms: is 21 and cannot be met: by the profile a request of 3000 tokens, its shortest, takes 23.0 ms a token alone on a decode engine"}},
	} {
		d := deployment(t, "a")
		d.SLA = model.SLA{TTFTMs: test.ttftMs, ITLMs: test.itlMs}
		d.Throughput.Samples = samples
		want(t, lint.Check([]*model.Deployment{d}, []*model.Deployment{d}), test.want)
	}
	d := deployment(t, "a", slaTarget, strings.Replace(slaTarget, "ttft_ms: 500, itl_ms: 50", "ttft_ms: 500, itl_ms: 19", 1)+"\n    topology: aggregated",
		prefillOf, strings.Replace(prefillOf, "prefill:", "aggregated:", 1), decodeOf, "",
		"roles: {prefill: {dns: \"http://prefill.NAME:8000\"}, decode: {dns: \"http://decode.NAME:8000\"}}", "roles: {aggregated: {dns: \"http://NAME:8000\"}}",
		counted, "fleet: {static: {aggregated: 1}}", scaled, "")
	for i := range samples {
		samples[i].Role = model.Aggregated
		for _, n := range []**int{
			&samples[i].Scheduled.PrefillRequests, &samples[i].Scheduled.PrefillTokens,
			&samples[i].Scheduled.DecodeRequests, &samples[i].Scheduled.DecodeKVTokens,
		} {
			if *n == nil {
				*n = new(0)
			}
		}
	}
	d.Throughput.Samples = samples
	found := lint.Check([]*model.Deployment{d}, []*model.Deployment{d})
	if len(found) != 1 || found[0].Path != "sla.itl_ms" {
		t.Errorf("of an aggregated engine is found %v, want that 19 ms are less than what an iteration takes", found)
	}
	d.SLA = model.SLA{TTFTMs: 1, ITLMs: 50}
	if found := lint.Check([]*model.Deployment{d}, []*model.Deployment{d}); len(found) != 1 || found[0].Path != "sla.ttft_ms" {
		t.Errorf("of an aggregated engine is found %v, want that 1 ms is less than what a prompt takes", found)
	}
}

// TestManyDeployments: ten thousand deployments on one server are held against
// each other, each with those alone that may read its series.
func TestManyDeployments(t *testing.T) {
	base := deployment(t, "a")
	all := make([]*model.Deployment, 10_000)
	for i := range all {
		d, source, prometheus, fleet, cluster, engines := *base, *base.Source, *base.Source.Prometheus, *base.Source.Fleet, *base.Source.Fleet.Kubernetes, *base.Source.Engines
		for _, role := range []model.Role{model.Prefill, model.Decode} {
			engines.Roles.Set(role, model.EnginePool{DNS: fmt.Sprintf("http://%s-%d:8000", role, i)})
		}
		d.Name = fmt.Sprintf("d-%d", i)
		prometheus.Model, cluster.Namespace = d.Name, d.Name
		fleet.Kubernetes, source.Prometheus, source.Fleet, source.Engines = &cluster, &prometheus, &fleet, &engines
		d.Source, d.Actuator = &source, nil
		all[i] = &d
	}
	want(t, lint.Check(all, all), nil)
}
