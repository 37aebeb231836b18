//go:build e2e

package prometheus

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/prometheustest"
)

// history is what an engine's metrics were at instants in the past.
type history struct {
	text   strings.Builder
	labels string
}

func (h *history) family(name, kind string) {
	fmt.Fprintf(&h.text, "# TYPE %s %s\n", name, kind)
}

func (h *history) sample(name, more string, at time.Time, value float64) {
	fmt.Fprintf(&h.text, "%s{%s%s} %v %.3f\n", name, h.labels, more, value, float64(at.UnixMilli())/1000)
}

// TestRealPrometheus holds the source against a real server with an hour of
// backfilled scrapes, 15 s apart and never on a window's edge: 24 requests of
// 1000 tokens in and 100 out between two scrapes, a restart of the engine in
// the middle of the hour, silence after it, and at last no scrape at all.
func TestRealPrometheus(t *testing.T) {
	prometheustest.Require(t)
	begin := time.Now().UTC().Add(-3 * time.Hour).Truncate(time.Hour).Add(7 * time.Second)
	scrape := func(n int) time.Time { return begin.Add(time.Duration(n) * 15 * time.Second) }
	const scrapes, restart, silence = 240, 120, 180
	model1, model2 := `my"model\x`, "other"
	var text strings.Builder
	// The format wants all samples of a family together.
	for _, metric := range []struct {
		family, kind, sample, more string
		perRequest                 float64
	}{
		{"vllm:request_success", "counter", "vllm:request_success_total", `,finished_reason="stop"`, 1},
		{"vllm:prefix_cache_hits", "counter", "vllm:prefix_cache_hits_total", "", 250},
		{"vllm:prefix_cache_queries", "counter", "vllm:prefix_cache_queries_total", "", 1000},
		{"vllm:request_prompt_tokens", "histogram", "vllm:request_prompt_tokens_sum", "", 1000},
		{"", "", "vllm:request_prompt_tokens_count", "", 1},
		{"vllm:request_generation_tokens", "histogram", "vllm:request_generation_tokens_sum", "", 100},
		{"", "", "vllm:request_generation_tokens_count", "", 1},
		{"vllm:time_to_first_token_seconds", "histogram", "vllm:time_to_first_token_seconds_bucket", `,le="0.1"`, 0.5},
		{"", "", "vllm:time_to_first_token_seconds_bucket", `,le="0.5"`, 1},
		{"", "", "vllm:time_to_first_token_seconds_bucket", `,le="+Inf"`, 1},
		{"", "", "vllm:time_to_first_token_seconds_sum", "", 0.2},
		{"", "", "vllm:time_to_first_token_seconds_count", "", 1},
		{"vllm:inter_token_latency_seconds", "histogram", "vllm:inter_token_latency_seconds_sum", "", 99 * 0.025},
		{"", "", "vllm:inter_token_latency_seconds_count", "", 99},
		{"vllm:e2e_request_latency_seconds", "histogram", "vllm:e2e_request_latency_seconds_sum", "", 2.7},
		{"", "", "vllm:e2e_request_latency_seconds_count", "", 1},
	} {
		h := &history{}
		if metric.family != "" {
			h.family(metric.family, metric.kind)
		}
		for i, name := range []string{model1, model2} {
			h.labels = fmt.Sprintf(`instance="engine-%d:8000",job="vllm",model_name=%q`, i, name)
			for n := range scrapes {
				requests := 24 * min(n, silence)
				if n >= restart {
					requests = 24 * (min(n, silence) - restart)
				}
				value := float64(requests) * metric.perRequest * float64(1+i*999)
				h.sample(metric.sample, metric.more, scrape(n), value)
			}
		}
		text.WriteString(h.text.String())
	}
	text.WriteString("# EOF\n")
	dir := t.TempDir()
	prometheustest.Backfill(t, dir, text.String())
	server := prometheustest.Start(t, dir, "global: {}\n")

	spec := &model.PrometheusSource{URL: server.URL, Preset: model.PresetVLLM, Model: model1, MaxAgeS: 60, TimeoutS: 30}
	observe := func(t *testing.T, spec *model.PrometheusSource, at time.Time) *model.TrafficObservation {
		t.Helper()
		source := New(spec, func(query string, err error) { t.Errorf("query %s: %v", query, err) })
		defer source.Close()
		return source.Traffic(t.Context(), at, 3*time.Minute)
	}

	t.Run("exact, in whole numbers", func(t *testing.T) {
		got := observe(t, spec, scrape(60).Add(4*time.Second))
		if got.Status != model.Measured {
			t.Fatalf("status is %s: %s", got.Status, got.Error)
		}
		for name, figure := range map[string]struct {
			got  *float64
			want float64
		}{
			"requests": {got.Requests, 12 * 24}, "mean_isl": {got.MeanISL, 1000}, "mean_osl": {got.MeanOSL, 100},
			"kv_hit_rate": {got.KVHitRate, 0.25}, "mean_ttft_ms": {got.MeanTTFTMs, 200}, "mean_itl_ms": {got.MeanITLMs, 25},
			"mean_duration_s": {got.MeanDurationS, 2.7}, "age_s": {got.AgeS, 4},
			// Half of the requests are under 0.1 s and all under 0.5 s: the 95th
			// percentile is nine tenths of the way from one bound to the other.
			"p95_ttft_ms": {got.P95TTFTMs, 460},
		} {
			if figure.got == nil || math.Abs(*figure.got-figure.want) > 1e-6 {
				t.Errorf("%s is %s, want %v", name, show(figure.got), figure.want)
			}
		}
		if got.P95ITLMs != nil {
			t.Errorf("p95_itl_ms is %v of a histogram without buckets", *got.P95ITLMs)
		}
	})
	t.Run("a restart is no negative traffic", func(t *testing.T) {
		if got := observe(t, spec, scrape(126).Add(time.Second)); got.Status != model.Measured || *got.Requests != 11*24 {
			t.Errorf("have %s %q, %s requests; want what was counted but for the one interval of the restart", got.Status, got.Error, show(got.Requests))
		}
	})
	t.Run("windows count every request once", func(t *testing.T) {
		counted := 0.0
		for at := scrape(12).Add(time.Second); at.Before(scrape(119)); at = at.Add(3 * time.Minute) {
			counted += *observe(t, spec, at).Requests
		}
		if counted != 9*12*24 {
			t.Errorf("nine windows count %v requests, want %d", counted, 9*12*24)
		}
	})
	for name, test := range map[string]struct {
		spec   func(*model.PrometheusSource)
		at     time.Time
		status model.Evidence
		error  string
	}{
		"no requests":       {nil, scrape(200).Add(time.Second), model.Idle, ""},
		"not scraped since": {nil, scrape(scrapes - 1).Add(90 * time.Second), model.Stale, "90 s old"},
		"gone":              {nil, scrape(scrapes - 1).Add(15 * time.Minute), model.Absent, "no series matches"},
		"just begun":        {nil, scrape(4).Add(time.Second), model.Absent, "does not cover the window of 180 s"},
		"wrong preset":      {func(s *model.PrometheusSource) { s.Preset = model.PresetSGLang }, scrape(60), model.Absent, "no series matches"},
		"broken query":      {func(s *model.PrometheusSource) { s.Queries.MeanISL = "sum(x{$selector}" }, scrape(60), model.Failed, "query mean_isl: bad_data: "},
		"own query":         {func(s *model.PrometheusSource) { s.Queries.MeanISL = "0*max(vllm:request_success_total{$selector})+7" }, scrape(60).Add(time.Second), model.Measured, ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := *spec
			if test.spec != nil {
				test.spec(&asked)
			}
			got := observe(t, &asked, test.at)
			if got.Status != test.status || !strings.Contains(got.Error, test.error) {
				t.Errorf("have %s %q, want %s %q", got.Status, got.Error, test.status, test.error)
			}
			if name == "own query" && *got.MeanISL != 7 {
				t.Errorf("mean_isl is %v, want that of the query", *got.MeanISL)
			}
		})
	}
}
