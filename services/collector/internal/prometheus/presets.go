package prometheus

import (
	"strings"

	"tidemark.dev/pkg/model"
)

// ratio is a mean: the increases of some counters, divided by those of others.
type ratio struct{ of, per []string }

// histogram returns the mean of a histogram.
func histogram(name string) ratio {
	return ratio{of: []string{name + "_sum"}, per: []string{name + "_count"}}
}

// buckets returns the name of the buckets of the histogram whose mean this is,
// and empty for a ratio of plain counters.
func (r ratio) buckets() string {
	if base, ok := strings.CutSuffix(r.of[0], "_sum"); ok && len(r.of) == 1 && r.per[0] == base+"_count" {
		return base + "_bucket"
	}
	return ""
}

// family is the metrics of one preset. Where a figure has several, the first
// that the server has is taken: newer versions come before older ones, and
// requests that started before those that were completed.
type family struct {
	// modelLabel and namespaceLabel tell deployments apart.
	modelLabel, namespaceLabel string
	// foldModel compares the model's name without regard to case.
	foldModel bool

	requests                      []string
	isl, osl, ttft, itl, duration []ratio
	hitRate                       []ratio
	// hitRateWithoutModel says that the metrics of the hit rate carry no model.
	hitRateWithoutModel bool
}

// families holds the metrics of each preset. The names and where they were
// found are in docs/sources.md.
var families = map[model.Preset]family{
	model.PresetDynamo: {
		modelLabel: "model", namespaceLabel: "dynamo_namespace", foldModel: true,
		requests: []string{"dynamo_frontend_requests_started_total", "dynamo_frontend_requests_total"},
		isl:      []ratio{histogram("dynamo_frontend_input_sequence_tokens")},
		osl:      []ratio{histogram("dynamo_frontend_output_sequence_tokens")},
		ttft:     []ratio{histogram("dynamo_frontend_time_to_first_token_seconds")},
		itl:      []ratio{histogram("dynamo_frontend_inter_token_latency_seconds")},
		duration: []ratio{histogram("dynamo_frontend_request_duration_seconds")},
		hitRate:  []ratio{histogram("dynamo_component_router_kv_hit_rate")}, hitRateWithoutModel: true,
	},
	model.PresetDynamoRouter: {
		namespaceLabel: "dynamo_namespace",
		requests:       []string{"dynamo_component_router_requests_started_total", "dynamo_component_router_requests_total"},
		isl:            []ratio{histogram("dynamo_component_router_input_sequence_tokens")},
		osl:            []ratio{histogram("dynamo_component_router_output_sequence_tokens")},
		ttft:           []ratio{histogram("dynamo_component_router_time_to_first_token_seconds")},
		itl:            []ratio{histogram("dynamo_component_router_inter_token_latency_seconds")},
		hitRate:        []ratio{histogram("dynamo_component_router_kv_hit_rate")},
	},
	model.PresetVLLM: {
		modelLabel: "model_name", namespaceLabel: "namespace",
		requests: []string{"vllm:request_success_total"},
		isl:      []ratio{histogram("vllm:request_prompt_tokens")},
		osl:      []ratio{histogram("vllm:request_generation_tokens")},
		ttft:     []ratio{histogram("vllm:time_to_first_token_seconds")},
		itl:      []ratio{histogram("vllm:inter_token_latency_seconds"), histogram("vllm:time_per_output_token_seconds")},
		duration: []ratio{histogram("vllm:e2e_request_latency_seconds")},
		hitRate: []ratio{
			{of: []string{"vllm:prefix_cache_hits_total"}, per: []string{"vllm:prefix_cache_queries_total"}},
			{of: []string{"vllm:gpu_prefix_cache_hits_total"}, per: []string{"vllm:gpu_prefix_cache_queries_total"}},
		},
	},
	model.PresetSGLang: {
		modelLabel: "model_name", namespaceLabel: "namespace",
		requests: []string{"sglang:num_requests_total"},
		isl:      []ratio{{of: []string{"sglang:prompt_tokens_total"}, per: []string{"sglang:num_requests_total"}}},
		osl:      []ratio{{of: []string{"sglang:generation_tokens_total"}, per: []string{"sglang:num_requests_total"}}},
		ttft:     []ratio{histogram("sglang:time_to_first_token_seconds")},
		itl:      []ratio{histogram("sglang:inter_token_latency_seconds"), histogram("sglang:time_per_output_token_seconds")},
		duration: []ratio{histogram("sglang:e2e_request_latency_seconds")},
		hitRate:  []ratio{{of: []string{"sglang:cached_tokens_total"}, per: []string{"sglang:prompt_tokens_total"}}},
	},
	model.PresetTRTLLM: {
		modelLabel: "model_name", namespaceLabel: "namespace",
		requests: []string{"trtllm_request_success_total"},
		isl:      []ratio{{of: []string{"trtllm_prompt_tokens_total"}, per: []string{"trtllm_request_success_total"}}},
		osl:      []ratio{{of: []string{"trtllm_generation_tokens_total"}, per: []string{"trtllm_request_success_total"}}},
		ttft:     []ratio{histogram("trtllm_time_to_first_token_seconds")},
		itl:      []ratio{histogram("trtllm_time_per_output_token_seconds")},
		duration: []ratio{histogram("trtllm_e2e_request_latency_seconds")},
		hitRate: []ratio{
			{of: []string{"trtllm_prompt_cached_tokens_total"}, per: []string{"trtllm_prompt_tokens_total"}},
			{
				of:  []string{"trtllm_kv_cache_reused_blocks_total"},
				per: []string{"trtllm_kv_cache_reused_blocks_total", "trtllm_kv_cache_missed_blocks_total"},
			},
		},
	},
}

// counters lists the names of all counters that some figures rest on.
func counters(requests []string, figures ...[]ratio) []string {
	names := append([]string(nil), requests...)
	for _, figure := range figures {
		for _, r := range figure {
			names = append(append(names, r.of...), r.per...)
		}
	}
	return names
}
