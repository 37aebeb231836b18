package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pm "github.com/prometheus/common/model"

	"tidemark.dev/pkg/model"
)

// fakeAPI answers queries like Prometheus: those that match a pattern with a
// value, the others with an empty result.
type fakeAPI struct {
	mu      sync.Mutex
	queries []string
	answers map[string]any // by pattern: a pm.Value, or func(http.ResponseWriter)
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.FormValue("query")
	f.mu.Lock()
	f.queries = append(f.queries, query)
	f.mu.Unlock()
	var value pm.Value = pm.Vector{}
	if strings.HasSuffix(query, "]") {
		value = pm.Matrix{}
	}
	for _, pattern := range slices.Sorted(maps.Keys(f.answers)) {
		if !regexp.MustCompile(pattern).MatchString(query) {
			continue
		}
		if answer, ok := f.answers[pattern].(func(http.ResponseWriter)); ok {
			answer(w)
			return
		}
		value, _ = f.answers[pattern].(pm.Value)
		break
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"status": "success", "data": map[string]any{"resultType": value.Type().String(), "result": value},
	})
}

func refuse(status int, kind, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"status":"error","errorType":%q,"error":%q}`, kind, text)
	}
}

func serve(t *testing.T, f http.Handler) string {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return server.URL
}

func specOf(url string) *model.PrometheusSource {
	return &model.PrometheusSource{URL: url, Preset: model.PresetVLLM, Model: "m", MaxAgeS: 60, TimeoutS: 5}
}

func observe(t *testing.T, spec *model.PrometheusSource) *model.TrafficObservation {
	t.Helper()
	source := New(spec, func(query string, err error) { t.Logf("left out: %s: %v", query, err) })
	defer source.Close()
	traffic := source.Traffic(t.Context(), second(120), time.Minute)
	observation := &model.Observation{Deployment: "d", ObservedAt: second(120), Traffic: traffic}
	if err := observation.Validate(); err != nil {
		t.Errorf("the observation is not valid: %v", err)
	}
	return traffic
}

// engine returns the counters of one engine of the vllm preset, at the seconds
// 55 and 115, with a number of requests of 100 tokens in and 10 out.
func engine(instance string, requests float64) pm.Matrix {
	at := func(name string, from, to float64) *pm.SampleStream {
		return stream(named(name, "job", "engines", "instance", instance, "model_name", "m"), 55, from, 115, to)
	}
	return pm.Matrix{
		at("vllm:request_success_total", 1000, 1000+requests),
		at("vllm:request_prompt_tokens_sum", 5e5, 5e5+100*requests), at("vllm:request_prompt_tokens_count", 1000, 1000+requests),
		at("vllm:request_generation_tokens_sum", 5e4, 5e4+10*requests), at("vllm:request_generation_tokens_count", 1000, 1000+requests),
		at("vllm:time_to_first_token_seconds_sum", 300, 300+0.25*requests), at("vllm:time_to_first_token_seconds_count", 1000, 1000+requests),
		at("vllm:inter_token_latency_seconds_sum", 300, 300+0.02*9*requests), at("vllm:inter_token_latency_seconds_count", 9000, 9000+9*requests),
		at("vllm:e2e_request_latency_seconds_sum", 300, 300+requests), at("vllm:e2e_request_latency_seconds_count", 1000, 1000+requests),
		at("vllm:prefix_cache_hits_total", 0, 30*requests), at("vllm:prefix_cache_queries_total", 0, 100*requests),
	}
}

func TestTrafficIsMeasured(t *testing.T) {
	api := &fakeAPI{answers: map[string]any{
		`\]$`:                 append(engine("a:1", 30), engine("b:1", 10)...),
		`time_to_first_token`: pm.Vector{{Value: 0.4}},
		`inter_token_latency`: pm.Vector{{Value: 0.03}},
	}}
	spec := specOf(serve(t, api))
	spec.Namespace, spec.Labels = `prod"`, map[string]string{"role": `de\code`}
	got := observe(t, spec)
	if got.Status != model.Measured || got.Error != "" {
		t.Fatalf("status is %s, error %q", got.Status, got.Error)
	}
	for name, figure := range map[string]struct{ got, want *float64 }{
		"requests": {got.Requests, new(40.0)}, "mean_isl": {got.MeanISL, new(100.0)}, "mean_osl": {got.MeanOSL, new(10.0)},
		"mean_ttft_ms": {got.MeanTTFTMs, new(250.0)}, "p95_ttft_ms": {got.P95TTFTMs, new(400.0)}, "mean_itl_ms": {got.MeanITLMs, new(20.0)},
		"p95_itl_ms": {got.P95ITLMs, new(30.0)}, "mean_duration_s": {got.MeanDurationS, new(1.0)}, "kv_hit_rate": {got.KVHitRate, new(0.3)},
		"age_s": {got.AgeS, new(5.0)},
	} {
		if figure.got == nil || *figure.got-*figure.want > 1e-9 || *figure.want-*figure.got > 1e-9 {
			t.Errorf("%s is %v, want %v", name, show(figure.got), *figure.want)
		}
	}
	if got.WindowS != 60 {
		t.Errorf("window_s is %v", got.WindowS)
	}
	for _, query := range api.queries {
		if !strings.Contains(query, `model_name="m",namespace="prod\"",role="de\\code"`) {
			t.Errorf("query is not scoped to the deployment: %s", query)
		}
	}
}

func show(value *float64) string {
	if value == nil {
		return "missing"
	}
	return fmt.Sprint(*value)
}

// change returns the counters of an engine with one metric changed.
func change(matrix pm.Matrix, name string, edit func(*pm.SampleStream)) pm.Matrix {
	for _, series := range matrix {
		if string(series.Metric[pm.MetricNameLabel]) == name {
			edit(series)
		}
	}
	return matrix
}

func without(matrix pm.Matrix, prefix string) pm.Matrix {
	return slices.DeleteFunc(matrix, func(s *pm.SampleStream) bool {
		return strings.HasPrefix(string(s.Metric[pm.MetricNameLabel]), prefix)
	})
}

func TestEvidenceHasItsClass(t *testing.T) {
	for name, test := range map[string]struct {
		answer any
		status model.Evidence
		error  string
	}{
		"no series":       {pm.Matrix{}, model.Absent, `no series matches {__name__="vllm:request_success_total",model_name="m"}`},
		"no requests":     {engine("a:1", 0), model.Idle, ""},
		"too old":         {change(engine("a:1", 5), "vllm:request_success_total", func(s *pm.SampleStream) { s.Values = s.Values[:1] }), model.Stale, "65 s old, and max_age_s is 60"},
		"not a number":    {change(engine("a:1", 5), "vllm:request_success_total", func(s *pm.SampleStream) { s.Values[1].Value = pm.SampleValue(math.NaN()) }), model.Absent, "a value that no counter can have"},
		"just begun":      {change(engine("a:1", 5), "vllm:request_success_total", func(s *pm.SampleStream) { s.Values = s.Values[1:]; delete(s.Metric, "instance") }), model.Absent, "scraped since 5 s, which does not cover the window of 60 s"},
		"no lengths":      {without(engine("a:1", 5), "vllm:request_prompt_tokens"), model.Absent, "no mean_isl is known"},
		"none completed":  {change(engine("a:1", 5), "vllm:request_generation_tokens_count", func(s *pm.SampleStream) { s.Values[1] = s.Values[0] }), model.Absent, "none was completed"},
		"server error":    {refuse(500, "internal", "head\nis corrupt"), model.Failed, "prometheus: query counters: server_error: "},
		"bad query":       {refuse(400, "bad_data", "parse error"), model.Failed, "prometheus: query counters: bad_data: parse error"},
		"not permitted":   {func(w http.ResponseWriter) { w.WriteHeader(401) }, model.Failed, "prometheus: query counters: client_error: client error: 401"},
		"not Prometheus":  {func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }, model.Failed, "prometheus: query counters: "},
		"a number for it": {pm.Vector{{Value: 1}}, model.Failed, "want a matrix, have a vector"},
		"a redirect": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://elsewhere.invalid/")
			w.WriteHeader(307)
		}, model.Failed, "the server redirects to http://elsewhere.invalid/, which is not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			got := observe(t, specOf(serve(t, &fakeAPI{answers: map[string]any{`\]$`: test.answer}})))
			if got.Status != test.status || !strings.Contains(got.Error, test.error) || (test.error == "") != (got.Error == "") {
				t.Errorf("have %s %q, want %s %q", got.Status, got.Error, test.status, test.error)
			}
			if strings.ContainsAny(got.Error, "\r\n") {
				t.Errorf("the error is not one line: %q", got.Error)
			}
			if got.Status != model.Measured && got.Status != model.Idle && got.Requests != nil && *got.Requests == 0 {
				t.Error("what is not known is written as zero")
			}
		})
	}
}

// A window in which nothing was scraped is not one without requests.
func TestWindowWithoutAScrapeIsNotIdle(t *testing.T) {
	spec := specOf(serve(t, &fakeAPI{answers: map[string]any{`\]$`: engine("a:1", 0)}}))
	spec.MaxAgeS = 600
	source := New(spec, func(string, error) {})
	defer source.Close()
	got := source.Traffic(t.Context(), second(150), 30*time.Second) // the newest sample is of second 115
	if got.Status != model.Stale || got.Requests != nil || got.Error != "the newest sample of vllm:request_success_total is 35 s old, and the window of 30 s has none" {
		t.Errorf("have %s %q, requests %s", got.Status, got.Error, show(got.Requests))
	}
}

func TestServerThatDoesNotAnswerFails(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(release) })
	spec := specOf(url)
	spec.TimeoutS = 0.05
	if got := observe(t, spec); got.Status != model.Failed || !strings.Contains(got.Error, "query counters: no answer within 0.05 s") {
		t.Errorf("have %s %q", got.Status, got.Error)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := New(specOf(url), nil).Traffic(ctx, second(120), time.Minute); got.Status != model.Failed {
		t.Errorf("have %s %q after the tick was given up", got.Status, got.Error)
	}
	down := httptest.NewServer(nil)
	down.Close()
	if got := observe(t, specOf(down.URL)); got.Status != model.Failed || !strings.Contains(got.Error, "connection refused") {
		t.Errorf("have %s %q of a server that is down", got.Status, got.Error)
	}
}

func TestFigureThatFailsIsLeftOut(t *testing.T) {
	for name, answer := range map[string]any{
		"failed": refuse(422, "execution", "too many samples"), "NaN": pm.Vector{{Value: pm.SampleValue(0)}}, "none": pm.Vector{},
	} {
		if name == "NaN" {
			answer = &pm.Scalar{Value: pm.SampleValue(math.NaN()), Timestamp: 0}
		}
		got := observe(t, specOf(serve(t, &fakeAPI{answers: map[string]any{`\]$`: engine("a:1", 5), `histogram_quantile`: answer}})))
		if got.Status != model.Measured || got.P95TTFTMs != nil || got.P95ITLMs != nil || got.MeanTTFTMs == nil {
			t.Errorf("%s: have %s %q, p95 %v, mean %v", name, got.Status, got.Error, show(got.P95TTFTMs), show(got.MeanTTFTMs))
		}
	}
}

func TestPresetsPreferWhatIsNewer(t *testing.T) {
	frontend := func(name string, from, to float64) *pm.SampleStream {
		return stream(named(name, "instance", "f", "model", "M"), 55, from, 115, to)
	}
	base := pm.Matrix{
		frontend("dynamo_frontend_requests_total", 0, 7),
		frontend("dynamo_frontend_input_sequence_tokens_sum", 0, 900), frontend("dynamo_frontend_input_sequence_tokens_count", 0, 9),
		frontend("dynamo_frontend_output_sequence_tokens_sum", 0, 70), frontend("dynamo_frontend_output_sequence_tokens_count", 0, 7),
	}
	hits := pm.Matrix{
		stream(named("dynamo_component_router_kv_hit_rate_sum", "instance", "r"), 55, 0, 115, 4.5),
		stream(named("dynamo_component_router_kv_hit_rate_count", "instance", "r"), 55, 0, 115, 9),
	}
	api := &fakeAPI{answers: map[string]any{`dynamo_frontend.*\]$`: base, `kv_hit_rate.*\]$`: hits}}
	spec := specOf(serve(t, api))
	spec.Preset, spec.Model, spec.Namespace = model.PresetDynamo, "m.x", "ns"
	if got := observe(t, spec); *got.Requests != 7 || *got.KVHitRate != 0.5 || *got.MeanISL != 100 {
		t.Errorf("have %v requests, hit rate %v", *got.Requests, *got.KVHitRate)
	}
	api.answers[`dynamo_frontend.*\]$`] = append(base, frontend("dynamo_frontend_requests_started_total", 0, 9))
	if got := observe(t, spec); *got.Requests != 9 {
		t.Errorf("have %v requests, want those that started", *got.Requests)
	}
	if all := strings.Join(api.queries, "\n"); !strings.Contains(all, `model=~"(?i:m\\.x)",dynamo_namespace="ns"`) {
		t.Errorf("no query folds the model's case:\n%s", all)
	}
}

func TestOwnQueries(t *testing.T) {
	api := &fakeAPI{answers: map[string]any{
		`^sum\(r\{`: pm.Vector{{Value: 12}}, `^isl`: &pm.Scalar{Value: 300}, `^osl`: pm.Vector{{Value: 40}},
		`^ttft`: pm.Vector{{Value: 0.5}}, `^two`: pm.Vector{{Value: 1}, {Value: 2}}, `^zero`: pm.Vector{{Value: 0}},
	}}
	spec := specOf(serve(t, api))
	spec.Preset, spec.Model, spec.Labels = model.PresetCustom, "", map[string]string{"app": "chat"}
	spec.Queries = model.PrometheusQueries{
		Requests: "sum(r{$selector}[$window])", MeanISL: "isl{$selector}", MeanOSL: "osl{$selector}", MeanTTFTS: "ttft{$selector}",
	}
	got := observe(t, spec)
	if got.Status != model.Measured || *got.Requests != 12 || *got.MeanISL != 300 || *got.MeanOSL != 40 || *got.MeanTTFTMs != 500 {
		t.Errorf("have %+v", got)
	}
	if !slices.Contains(api.queries, `sum(r{app="chat"}[1m])`) {
		t.Errorf("queries are %q", api.queries)
	}
	for _, test := range []struct {
		query  string
		status model.Evidence
		error  string
	}{
		{"zero{$selector}", model.Idle, ""},
		{"none{$selector}", model.Absent, `no series matches none{app="chat"}`},
		{"two{$selector}", model.Failed, "query requests gives 2 series, want one: aggregate it with sum()"},
	} {
		spec.Queries.Requests = test.query
		if got := observe(t, spec); got.Status != test.status || !strings.Contains(got.Error, test.error) {
			t.Errorf("%s: have %s %q, want %s %q", test.query, got.Status, got.Error, test.status, test.error)
		}
	}
}
