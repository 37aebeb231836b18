package inference

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tidemark.dev/pkg/model"
)

// names are the metrics of one engine API. An empty name is not exported.
type names struct {
	path   string
	labels prometheus.Labels
	// reason is the label of why a request ended.
	reason string
	// promptAtFirstToken says that a prompt is counted with the first token, and
	// not with the last.
	promptAtFirstToken bool

	requests, promptTokens, generationTokens            string
	promptLength, generationLength                      string
	ttft, itl, e2e                                      string
	running, waiting, usage, used, capacity             string
	iterations, iterationsHistogram, busy, lastDuration string
	prefilling, decoding, contextTokens                 string
	cacheInfo                                           string
}

func namesOf(config Config) (names, error) {
	switch config.API {
	case model.PresetVLLM:
		return names{
			path: "/metrics", labels: prometheus.Labels{"model_name": config.Model, "engine": "0"}, reason: "finished_reason", promptAtFirstToken: true,
			requests: "vllm:request_success_total", promptTokens: "vllm:prompt_tokens_total", generationTokens: "vllm:generation_tokens_total",
			promptLength: "vllm:request_prompt_tokens", generationLength: "vllm:request_generation_tokens",
			ttft: "vllm:time_to_first_token_seconds", itl: "vllm:inter_token_latency_seconds", e2e: "vllm:e2e_request_latency_seconds",
			running: "vllm:num_requests_running", waiting: "vllm:num_requests_waiting", usage: "vllm:kv_cache_usage_perc",
			iterationsHistogram: "vllm:iteration_tokens_total", cacheInfo: "vllm:cache_config_info",
		}, nil
	case model.PresetSGLang:
		kind := map[model.Role]string{model.Aggregated: "unified", model.Prefill: "prefill", model.Decode: "decode"}[config.Role]
		return names{
			path: "/metrics", labels: prometheus.Labels{"model_name": config.Model, "engine_type": kind},
			requests: "sglang:num_requests_total", promptTokens: "sglang:prompt_tokens_total", generationTokens: "sglang:generation_tokens_total",
			ttft: "sglang:time_to_first_token_seconds", itl: "sglang:inter_token_latency_seconds", e2e: "sglang:e2e_request_latency_seconds",
			running: "sglang:num_running_reqs", waiting: "sglang:num_queue_reqs", usage: "sglang:token_usage", used: "sglang:num_used_tokens",
			capacity: "sglang:max_total_num_tokens", iterations: "sglang:cuda_graph_passes_total", busy: "sglang:forward_execution_seconds_total",
		}, nil
	case model.PresetTRTLLM:
		return names{
			path: "/prometheus/metrics", labels: prometheus.Labels{"model_name": config.Model, "engine_type": "trtllm"}, reason: "finished_reason",
			requests: "trtllm_request_success_total", promptTokens: "trtllm_prompt_tokens_total", generationTokens: "trtllm_generation_tokens_total",
			ttft: "trtllm_time_to_first_token_seconds", itl: "trtllm_time_per_output_token_seconds", e2e: "trtllm_e2e_request_latency_seconds",
			running: "trtllm_num_requests_running", waiting: "trtllm_num_requests_waiting", usage: "trtllm_kv_cache_utilization",
			lastDuration: "trtllm_iteration_latency_seconds", prefilling: "trtllm_num_context_requests", decoding: "trtllm_num_generation_requests",
			contextTokens: "trtllm_total_context_tokens",
		}, nil
	}
	return names{}, fmt.Errorf("API %q is not one of vllm, sglang, trtllm", string(config.API))
}

var (
	latencyBuckets = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	tokenBuckets   = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
)

// metrics are what the engine exports. They are there from the start, at zero,
// as those of the engines are.
type metrics struct {
	names    names
	registry *prometheus.Registry

	finished                       map[string]prometheus.Counter // by reason
	promptTokens, generationTokens prometheus.Counter
	promptLength, generationLength prometheus.Histogram
	ttft, itl, e2e                 prometheus.Histogram
}

func newMetrics(e *Engine) (*metrics, error) {
	n, err := namesOf(e.config)
	if err != nil {
		return nil, err
	}
	m := &metrics{names: n, registry: prometheus.NewRegistry(), finished: map[string]prometheus.Counter{}}
	for _, reason := range []string{"length", "abort"} {
		labels := prometheus.Labels{}
		if n.reason != "" {
			labels[n.reason] = reason
		} else if reason != "length" {
			m.finished[reason] = m.finished["length"]
			continue
		}
		m.finished[reason] = m.counter(n.requests, labels)
	}
	m.promptTokens, m.generationTokens = m.counter(n.promptTokens, nil), m.counter(n.generationTokens, nil)
	m.promptLength, m.generationLength = m.histogram(n.promptLength, tokenBuckets), m.histogram(n.generationLength, tokenBuckets)
	m.ttft, m.itl, m.e2e = m.histogram(n.ttft, latencyBuckets), m.histogram(n.itl, latencyBuckets), m.histogram(n.e2e, latencyBuckets)
	m.registry.MustRegister(&looking{engine: e, names: n})
	return m, nil
}

func (m *metrics) counter(name string, labels prometheus.Labels) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "Simulated.", ConstLabels: with(m.names.labels, labels)})
	m.registry.MustRegister(c)
	return c
}

// histogram returns a histogram, which is exported if it has a name.
func (m *metrics) histogram(name string, buckets []float64) prometheus.Histogram {
	exported := name != ""
	if !exported {
		name = "unexported"
	}
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: "Simulated.", ConstLabels: m.names.labels, Buckets: buckets})
	if exported {
		m.registry.MustRegister(h)
	}
	return h
}

func with(labels, more prometheus.Labels) prometheus.Labels {
	all := prometheus.Labels{}
	for _, from := range []prometheus.Labels{labels, more} {
		for name, value := range from {
			all[name] = value
		}
	}
	return all
}

// startedAnswer counts a first token.
func (m *metrics) startedAnswer(isl int, ttft time.Duration) {
	m.ttft.Observe(ttft.Seconds())
	if m.names.promptAtFirstToken {
		m.promptTokens.Add(float64(isl))
	}
}

// finishedAnswer counts an answer, all of its figures at once.
func (m *metrics) finishedAnswer(r *request, e2e, decoding time.Duration) {
	reason := "length"
	if r.aborted {
		reason = "abort"
	}
	m.finished[reason].Inc()
	if !m.names.promptAtFirstToken {
		m.promptTokens.Add(float64(r.isl))
	}
	m.generationTokens.Add(float64(r.osl))
	m.promptLength.Observe(float64(r.isl))
	m.generationLength.Observe(float64(r.osl))
	m.e2e.Observe(e2e.Seconds())
	for range r.osl - 1 {
		m.itl.Observe(decoding.Seconds() / float64(r.osl-1))
	}
}

// looking exports what the engine has in hand when it is scraped.
type looking struct {
	engine *Engine
	names  names
}

// Describe implements prometheus.Collector. It describes nothing: the metrics
// are checked when they are collected.
func (l *looking) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (l *looking) Collect(out chan<- prometheus.Metric) {
	s, n := l.engine.look(), l.names
	limit := float64(l.engine.limits.MaxKVTokens)
	send := func(name string, kind prometheus.ValueType, value float64, more prometheus.Labels) {
		if name != "" {
			out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, "Simulated.", nil, with(n.labels, more)), kind, value)
		}
	}
	send(n.running, prometheus.GaugeValue, float64(s.Running), nil)
	send(n.waiting, prometheus.GaugeValue, float64(s.waiting), nil)
	send(n.usage, prometheus.GaugeValue, float64(s.KVTokens)/limit, nil)
	send(n.used, prometheus.GaugeValue, float64(s.KVTokens), nil)
	send(n.capacity, prometheus.GaugeValue, limit, nil)
	send(n.iterations, prometheus.CounterValue, float64(s.Iterations), nil)
	send(n.busy, prometheus.CounterValue, l.engine.wall(s.Busy).Seconds(), nil)
	send(n.lastDuration, prometheus.GaugeValue, s.sample.WallTimeS/l.engine.config.Speed, nil)
	send(n.prefilling, prometheus.GaugeValue, float64(s.sample.Scheduled.PrefillRequests), nil)
	send(n.decoding, prometheus.GaugeValue, float64(s.sample.Scheduled.DecodeRequests), nil)
	send(n.contextTokens, prometheus.GaugeValue, float64(s.sample.Scheduled.PrefillTokens), nil)
	send(n.cacheInfo, prometheus.GaugeValue, 1, prometheus.Labels{"block_size": "1", "num_gpu_blocks": strconv.Itoa(l.engine.limits.MaxKVTokens)})
	if n.iterationsHistogram != "" {
		out <- prometheus.MustNewConstHistogram(prometheus.NewDesc(n.iterationsHistogram, "Simulated.", nil, n.labels), uint64(s.Iterations), 0, nil)
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
