package inference

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
)

// start returns an engine at work. In a bubble of synctest it works in virtual time.
func start(t *testing.T, config Config) *Engine {
	t.Helper()
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go e.Run(ctx)
	return e
}

func post(ctx context.Context, e *Engine, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body)))
	return w
}

// scrape returns the samples of the engine's metrics, by name and labels.
func scrape(t *testing.T, e *Engine) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, e.metrics.names.path, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("metrics: status %d: %s", w.Code, w.Body)
	}
	samples := map[string]string{}
	for lines := bufio.NewScanner(w.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "} "); ok && !strings.HasPrefix(name, "#") {
			samples[name+"}"] = value
		}
	}
	return samples
}

func ids(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }

// TestAnswersTakeAsLongAsTheFiguresSay holds the server against a fleet of the
// simulator under the same requests, in virtual time.
func TestAnswersTakeAsLongAsTheFiguresSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := DefaultConfig()
		config.Speed = 2
		e := start(t, config)
		figures, err := sim.FiguresOf(config.Figures)
		if err != nil {
			t.Fatal(err)
		}
		fleet := sim.Config{Topology: model.TopologyAggregated}
		fleet.Roles.Set(model.Aggregated, sim.RoleConfig{Replicas: 1, Engine: figures.Engine(model.Aggregated)})
		twin, err := sim.New(fleet, sim.NewRequests([]sim.Request{{ISL: 2000, OSL: 50}}))
		if err != nil {
			t.Fatal(err)
		}
		if err := twin.Advance(time.Hour); err != nil {
			t.Fatal(err)
		}
		want, err := twin.Traffic(time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		w := post(t.Context(), e, "/v1/completions", `{"max_tokens":50,"prompt":`+ids(2000)+`}`)
		took := time.Since(began)
		if w.Code != http.StatusOK {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if got := 2 * took.Seconds(); got < *want.MeanDurationS-1e-6 || got > *want.MeanDurationS+1e-6 {
			t.Errorf("the answer took %v at twice the speed, and the simulator says %v s", took, *want.MeanDurationS)
		}
		var answer struct {
			Choices []struct{ Text string }
			Usage   map[string]int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		if answer.Usage["prompt_tokens"] != 2000 || answer.Usage["completion_tokens"] != 50 || len(strings.Fields(answer.Choices[0].Text)) != 50 {
			t.Errorf("answer is %+v", answer)
		}
		got := scrape(t, e)
		ttft := fmt.Sprintf("%.6g", *want.MeanTTFTMs/2000)
		var have float64
		_, _ = fmt.Sscan(got[`vllm:time_to_first_token_seconds_sum{engine="0",model_name="tidemark/simulated"}`], &have)
		if fmt.Sprintf("%.6g", have) != ttft {
			t.Errorf("TTFT is %v s, want %s", have, ttft)
		}
	})
}

func TestMetricsCountRequests(t *testing.T) {
	for api, want := range map[model.Preset]map[string]string{
		model.PresetVLLM: {
			`vllm:request_success_total{engine="0",finished_reason="length",model_name="m"}`: "3",
			`vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"}`:  "1",
			`vllm:prompt_tokens_total{engine="0",model_name="m"}`:                            "60",
			`vllm:request_generation_tokens_sum{engine="0",model_name="m"}`:                  "20",
			`vllm:num_requests_running{engine="0",model_name="m"}`:                           "0",
		},
		model.PresetSGLang: {
			`sglang:num_requests_total{engine_type="unified",model_name="m"}`:      "4",
			`sglang:prompt_tokens_total{engine_type="unified",model_name="m"}`:     "60",
			`sglang:generation_tokens_total{engine_type="unified",model_name="m"}`: "20",
		},
		model.PresetTRTLLM: {
			`trtllm_request_success_total{engine_type="trtllm",finished_reason="length",model_name="m"}`: "3",
			`trtllm_prompt_tokens_total{engine_type="trtllm",model_name="m"}`:                            "60",
		},
	} {
		t.Run(string(api), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := DefaultConfig()
				config.API, config.Model = api, "m"
				e := start(t, config)
				before := scrape(t, e)
				for name := range want {
					if before[name] != "0" {
						t.Errorf("%s is %q before any request, want 0", name, before[name])
					}
				}
				gone, leave := context.WithTimeout(t.Context(), time.Millisecond)
				defer leave()
				post(gone, e, "/v1/completions", `{"max_tokens":5,"prompt":`+ids(15)+`}`)
				post(t.Context(), e, "/v1/completions", `{"max_tokens":5,"prompt":`+ids(15)+`}`)
				post(t.Context(), e, "/v1/chat/completions", `{"model":"m","max_completion_tokens":5,"messages":[{"role":"user","content":"`+strings.Repeat("a ", 10)+`"},{"content":[{"type":"text","text":"b c d e f"}]}]}`)
				w := post(t.Context(), e, "/v1/chat/completions", `{"stream":true,"max_tokens":5,"messages":[{"content":"`+strings.Repeat("a ", 15)+`"}]}`)
				if text := w.Body.String(); strings.Count(text, "tide") != 5 || !strings.HasSuffix(text, "data: [DONE]\n\n") {
					t.Errorf("the stream is %q", text)
				}
				time.Sleep(time.Minute) // virtual: the answer that nobody waits for is made too
				got := scrape(t, e)
				for name, value := range want {
					if got[name] != value {
						t.Errorf("%s is %q, want %s", name, got[name], value)
					}
				}
			})
		})
	}
}

func TestWhatIsNoRequestIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, DefaultConfig())
		for _, test := range []struct {
			path, body string
			code       int
			want       string
		}{
			{"/v1/completions", `{`, 400, "read request"},
			{"/v1/completions", `{"model":"other","prompt":"a"}`, 404, "does not exist"},
			{"/v1/completions", `{"prompt":""}`, 400, "the prompt is empty"},
			{"/v1/completions", `{"prompt":{"a":1}}`, 400, "want a text"},
			{"/v1/completions", `{"prompt":"a","max_tokens":0}`, 400, "want at least 1"},
			{"/v1/completions", `{"prompt":"a","max_tokens":900000000}`, 400, "exceed the KV cache"},
			{"/v1/chat/completions", `{}`, 400, "the prompt is empty"},
		} {
			if w := post(t.Context(), e, test.path, test.body); w.Code != test.code || !strings.Contains(w.Body.String(), test.want) {
				t.Errorf("%s: status %d, %s", test.body, w.Code, w.Body)
			}
		}
	})
}
