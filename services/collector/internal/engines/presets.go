package engines

import (
	"math"
	"strconv"

	dto "github.com/prometheus/client_model/go"

	"tidemark.dev/pkg/model"
)

// preset is how the metrics of an engine are read.
type preset struct {
	// path is where they are served.
	path string
	// rank is the label of the data-parallel rank.
	rank string
	// marks are metrics of which a scrape of such an engine has one.
	marks []string
	read  func(m metrics, role model.RoleSpec) reading
}

var presets = map[model.Preset]preset{
	model.PresetVLLM:   {path: "/metrics", rank: "engine", marks: []string{"vllm:num_requests_running"}, read: readVLLM},
	model.PresetSGLang: {path: "/metrics", rank: "dp_rank", marks: []string{"sglang:num_running_reqs"}, read: readSGLang},
	model.PresetTRTLLM: {path: "/prometheus/metrics", rank: "", marks: []string{"trtllm_num_requests_running", "trtllm_request_success_total"}, read: readTRTLLM},
}

// readVLLM reads vLLM's metrics. Its iterations are the observations of the
// histogram of tokens per engine step.
func readVLLM(m metrics, role model.RoleSpec) reading {
	usage := either(m.value("vllm:kv_cache_usage_perc"), m.value("vllm:gpu_cache_usage_perc"))
	capacity := times(m.label("vllm:cache_config_info", "num_gpu_blocks"), m.label("vllm:cache_config_info", "block_size"))
	latency := m.histogram("vllm:inter_token_latency_seconds")
	if latency.count == nil {
		latency = m.histogram("vllm:time_per_output_token_seconds")
	}
	prompt := m.histogram("vllm:request_prompt_tokens")
	return reading{
		running: m.value("vllm:num_requests_running"), waiting: m.value("vllm:num_requests_waiting"),
		kvTokens: times(usage, either(capacity, limit(role.Engine.MaxKVTokens))), kvCapacity: capacity,
		promptTokens: m.value("vllm:prompt_tokens_total"), iterations: m.histogram("vllm:iteration_tokens_total").count,
		latencySumS: latency.sum, latencies: latency.count, promptSum: prompt.sum, prompts: prompt.count,
	}
}

// readSGLang reads SGLang's metrics. What a disaggregated engine has not taken
// into its queue yet waits in queues of their own.
func readSGLang(m metrics, role model.RoleSpec) reading {
	capacity := m.value("sglang:max_total_num_tokens")
	usage := times(m.value("sglang:token_usage"), either(capacity, limit(role.Engine.MaxKVTokens)))
	latency := m.histogram("sglang:inter_token_latency_seconds")
	if latency.count == nil {
		latency = m.histogram("sglang:time_per_output_token_seconds")
	}
	r := reading{
		running: m.value("sglang:num_running_reqs"), waiting: m.value("sglang:num_queue_reqs"),
		kvTokens: either(m.value("sglang:decode_sum_seq_lens"), either(m.value("sglang:num_used_tokens"), usage)), kvCapacity: capacity,
		promptTokens: either(m.where("sglang:realtime_tokens_total", "mode", "prefill_compute"), m.value("sglang:prompt_tokens_total")),
		iterations:   m.value("sglang:cuda_graph_passes_total"), busyS: m.value("sglang:forward_execution_seconds_total"),
		latencySumS: latency.sum, latencies: latency.count,
		promptSum: m.value("sglang:prompt_tokens_total"), prompts: m.value("sglang:num_requests_total"),
	}
	for _, queue := range [...]string{
		"sglang:num_prefill_bootstrap_queue_reqs", "sglang:num_decode_prealloc_queue_reqs", "sglang:num_decode_transfer_queue_reqs",
	} {
		if n := m.value(queue); n != nil {
			r.handover = plus(n, r.handover)
		}
	}
	return r
}

// readTRTLLM reads TensorRT-LLM's metrics, which describe the last iteration.
func readTRTLLM(m metrics, role model.RoleSpec) reading {
	used := times(m.value("trtllm_kv_cache_used_blocks"), m.value("trtllm_kv_cache_tokens_per_block"))
	usage := times(m.value("trtllm_kv_cache_utilization"), limit(role.Engine.MaxKVTokens))
	latency := m.histogram("trtllm_time_per_output_token_seconds")
	return reading{
		running: m.value("trtllm_num_requests_running"), waiting: m.value("trtllm_num_requests_waiting"),
		prefilling: m.value("trtllm_num_context_requests"), decoding: m.value("trtllm_num_generation_requests"),
		prefillTokens: m.value("trtllm_total_context_tokens"), kvTokens: either(used, usage),
		iterationS:   m.value("trtllm_iteration_latency_seconds"),
		promptTokens: m.value("trtllm_prompt_tokens_total"), latencySumS: latency.sum, latencies: latency.count,
		promptSum: m.value("trtllm_prompt_tokens_total"), prompts: m.value("trtllm_request_success_total"),
	}
}

func limit(tokens int) *float64 {
	if tokens == 0 {
		return nil
	}
	return new(float64(tokens))
}

// metrics are those of one rank of an engine: those without a rank, and those
// with its rank.
type metrics struct {
	families map[string]*dto.MetricFamily
	// label and rank select the metrics; those without the label count for all.
	rankLabel, rank string
}

// ranks returns the ranks that a scrape tells apart: one without a name where it
// tells none apart.
func ranks(families map[string]*dto.MetricFamily, label string, marks []string) []string {
	var found []string
	seen := map[string]bool{}
	for _, name := range marks {
		for _, metric := range families[name].GetMetric() {
			if rank := valueOf(metric, label); !seen[rank] {
				seen[rank] = true
				found = append(found, rank)
			}
		}
	}
	return found
}

func valueOf(metric *dto.Metric, label string) string {
	for _, pair := range metric.GetLabel() {
		if pair.GetName() == label {
			return pair.GetValue()
		}
	}
	return ""
}

// each calls a function with the metrics of a family that are the rank's.
func (m metrics) each(name string, do func(*dto.Metric)) {
	for _, metric := range m.families[name].GetMetric() {
		if m.rankLabel != "" {
			if rank := valueOf(metric, m.rankLabel); rank != "" && rank != m.rank {
				continue
			}
		}
		do(metric)
	}
}

// value returns the sum of a counter or gauge over its other labels, or nil where
// it is not there or not a number that can be.
func (m metrics) value(name string) *float64 { return m.where(name, "", "") }

func (m metrics) where(name, label, value string) *float64 {
	var sum *float64
	m.each(name, func(metric *dto.Metric) {
		if label != "" && valueOf(metric, label) != value {
			return
		}
		// Of requests by priority, those without one are all of them.
		if valueOf(metric, "priority") != "" {
			return
		}
		v := math.NaN()
		switch {
		case metric.Gauge != nil:
			v = metric.GetGauge().GetValue()
		case metric.Counter != nil:
			v = metric.GetCounter().GetValue()
		case metric.Untyped != nil:
			v = metric.GetUntyped().GetValue()
		}
		if sum == nil {
			sum = new(0.0)
		}
		*sum += v
	})
	return finite(sum)
}

// label returns the number that a label of an information metric holds.
func (m metrics) label(name, label string) *float64 {
	var number *float64
	m.each(name, func(metric *dto.Metric) {
		if v, err := strconv.ParseFloat(valueOf(metric, label), 64); err == nil {
			number = &v
		}
	})
	return finite(number)
}

type distribution struct{ sum, count *float64 }

func (m metrics) histogram(name string) distribution {
	var d distribution
	m.each(name, func(metric *dto.Metric) {
		if h := metric.GetHistogram(); h != nil {
			if d.count == nil {
				d = distribution{new(0.0), new(0.0)}
			}
			*d.sum += h.GetSampleSum()
			*d.count += float64(h.GetSampleCount())
		}
	})
	return distribution{finite(d.sum), finite(d.count)}
}

// finite returns a number that can be: finite and not negative.
func finite(value *float64) *float64 {
	if value == nil || math.IsInf(*value, 0) || !(*value >= 0) {
		return nil
	}
	return value
}
