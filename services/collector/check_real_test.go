//go:build e2e

package collector

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	pm "github.com/prometheus/common/model"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/prometheustest"
)

// TestCheckOnRealPrometheus: a server scrapes engines of one model in two
// namespaces, and a gateway whose series have labels of two deployments.
func TestCheckOnRealPrometheus(t *testing.T) {
	prometheustest.Require(t)
	var page strings.Builder
	for _, namespace := range []string{"blue", "green"} {
		for _, name := range []string{
			"vllm:request_success_total", "vllm:request_prompt_tokens_sum", "vllm:request_prompt_tokens_count",
			"vllm:request_generation_tokens_sum", "vllm:request_generation_tokens_count",
			"vllm:time_to_first_token_seconds_sum", "vllm:time_to_first_token_seconds_count",
			"vllm:time_per_output_token_seconds_sum", "vllm:time_per_output_token_seconds_count",
			"vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total",
		} {
			fmt.Fprintf(&page, "%s{model_name=\"org/a\",namespace=%q,cluster=\"eu\"} 7\n", name, namespace)
		}
	}
	page.WriteString("dynamo_frontend_requests_total{model=\"Org/D\",dynamo_namespace=\"d\"} 7\n")
	for _, name := range []string{"gateway_requests_total", "gateway_tokens_total"} {
		fmt.Fprintf(&page, "%s{app=\"chat\",team=\"red\"} 7\n%s{app=\"chat\",team=\"blue\"} 7\n", name, name)
	}
	engines := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, page.String())
	}))
	defer engines.Close()
	server := prometheustest.Start(t, t.TempDir(), `
global: {scrape_interval: 1s}
scrape_configs: [{job_name: engines, static_configs: [{targets: ["`+strings.TrimPrefix(engines.URL, "http://")+`"]}]}]
`)
	scraped(t, server.URL, "increase(gateway_tokens_total[3m])") // of two scrapes

	vllm := func(more string) string {
		return `{url: "` + server.URL + `", preset: vllm, timeout_s: 30, ` + more + `}`
	}
	custom := func(labels, isl string) string {
		return `{url: "` + server.URL + `", preset: custom, timeout_s: 30, labels: ` + labels + `, queries: {
			requests: "sum(increase(gateway_requests_total{$selector}[$window]))", mean_isl: "` + isl + `", mean_osl: "sum(gateway_tokens_total{$selector})/0"}}`
	}
	const noDuration = `: source.prometheus.preset: no series matches {__name__=~"vllm:e2e_request_latency_seconds_count|vllm:e2e_request_latency_seconds_sum",`
	lacks := `for mean_duration_s: an observation lacks mean_duration_s; have the engines export it, or give queries.mean_duration_s`
	const tokens = "sum(gateway_tokens_total{$selector})"
	for name, test := range map[string]struct {
		deployments [][2]string
		want        []string
	}{
		"one of its own": {[][2]string{{"a", vllm("model: org/a, namespace: blue")}, {"b", vllm("model: org/a, namespace: green")}}, []string{
			"warning: a" + noDuration + `model_name="org/a",namespace="blue"} ` + lacks, "warning: b" + noDuration,
		}},
		"a figure measured otherwise": {[][2]string{{"a", vllm("model: org/a, namespace: blue, queries: {mean_duration_s: 'sum(up) + 0*sum(vllm:request_success_total{$selector})'}")}}, nil},
		"two namespaces": {[][2]string{{"a", vllm("model: org/a")}}, []string{
			"warning: a" + noDuration,
			"error: a: source.prometheus.namespace: is missing, and series of 2 namespaces match, by label namespace: blue, green; their requests are counted together",
		}},
		"no such model": {[][2]string{{"a", vllm("model: org/b")}}, []string{
			`error: a: source.prometheus: no series matches {__name__="vllm:request_success_total",model_name="org/b"}: an observation lacks all traffic; ...; the server has {model_name="org/a", namespace="blue"}, {model_name="org/a", namespace="green"}`,
		}},
		"no such metric": {[][2]string{{"a", `{url: "` + server.URL + `", preset: sglang, model: org/a}`}}, []string{
			`error: a: source.prometheus: no series matches {__name__="sglang:num_requests_total",model_name="org/a"}: ...the server has no such metric of any deployment`,
		}},
		"series of another": {[][2]string{{"a", vllm("model: org/a, labels: {cluster: eu}, namespace: blue")}, {"b", vllm("model: org/a, labels: {instance: '" + strings.TrimPrefix(engines.URL, "http://") + "'}, namespace: blue")}}, []string{
			"warning: a" + noDuration, "error: a: source.prometheus.labels: series of deployment b match too, such as ", "warning: b" + noDuration, "error: b: source.prometheus.labels: series of deployment a match too, such as ",
		}},
		"queries of its own": {[][2]string{{"a", custom("{app: chat, team: red}", tokens)}, {"b", custom("{app: chat, team: blue}", tokens)}}, nil},
		"labels of another": {[][2]string{{"a", custom("{app: chat}", tokens)}, {"b", custom("{team: blue}", tokens)}}, []string{
			`error: a: source.prometheus.labels: series of deployment b match too, such as gateway_requests_total{app="chat", team="blue"}`,
			`error: b: source.prometheus.labels: series of deployment a match too, such as gateway_requests_total{app="chat", team="blue"}`,
		}},
		"a query of nothing": {[][2]string{{"a", custom("{app: chat}", "sum(gateway_prompt_tokens_total{$selector})")}}, []string{
			`error: a: source.prometheus.queries.mean_isl: matches no series as sum(gateway_prompt_tokens_total{app="chat"}): an observation lacks all traffic`,
		}},
		"a query of many": {[][2]string{{"a", custom("{app: chat}", "gateway_tokens_total{$selector}")}}, []string{
			"error: a: source.prometheus.queries.mean_isl: gives 2 series, want one: aggregate it with sum()",
		}},
		"a query that is none": {[][2]string{{"a", custom("{app: chat}", "sum(gateway_tokens_total{$selector}")}}, []string{
			"error: a: source.prometheus.queries.mean_isl: prometheus: query mean_isl: bad_data: ",
		}},
		"another case": {[][2]string{{"a", `{url: "` + server.URL + `", preset: dynamo, model: org/d, namespace: d}`}}, []string{
			`error: a: source.prometheus.preset: no series matches ... for mean_isl: an observation lacks all traffic`, "error: a: ... for mean_osl: ",
			"warning: a: ... for mean_ttft_ms: an observation lacks mean_ttft_ms and p95_ttft_ms", "warning: a: ... for mean_itl_ms", "warning: a: ... for mean_duration_s",
			"warning: a: source.prometheus.preset: no series matches ... for kv_hit_rate: ",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var all []*model.Deployment
			for _, one := range test.deployments {
				all = append(all, lintable(t, one[0], one[1]))
			}
			wantFindings(t, Check(t.Context(), CheckConfig{Timeout: time.Minute}, all, all), test.want)
		})
	}
	t.Run("down", func(t *testing.T) {
		server.Stop()
		a := lintable(t, "a", vllm("model: org/a"))
		wantFindings(t, Check(t.Context(), CheckConfig{Timeout: time.Minute}, []*model.Deployment{a}, []*model.Deployment{a}), []string{
			"error: a: source.prometheus.url: cannot be read from here: prometheus: query series: dial tcp ...: connect: connection refused; look at the address",
		})
	})
}

// scraped waits until a server has an answer to a query.
func scraped(t *testing.T, url, query string) {
	t.Helper()
	client, err := api.NewClient(api.Config{Address: url})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		value, _, _, err := v1.NewAPI(client).Query(ctx, query, time.Now())
		if vector, ok := value.(pm.Vector); err == nil && ok && len(vector) > 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s has no answer: %v", query, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
