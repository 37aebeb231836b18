package dynamo

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// field is one field of the planner's configuration.
type field struct {
	// names are those that the planner has accepted for it over time.
	names []string
	// to are the paths of the settings that it becomes; none where it becomes
	// nothing.
	to []string
	// read takes its value, and returns what is wrong with it. It is nil for a
	// field whose value makes no difference here.
	read func(*settings, *yaml.Node) string
	// left returns why the field is not carried over, or "" where it is; nil for
	// one that always is.
	left func(*settings) string
}

// carried is a field that becomes settings.
func carried(name string, read func(*settings, *yaml.Node) string, to ...string) field {
	return field{names: strings.Split(name, "|"), to: to, read: read}
}

// where is a field that becomes settings unless there is a reason against it.
func (f field) where(left func(*settings) string) field {
	f.left = left
	return f
}

// lost is a field that becomes nothing.
func lost(name, reason string) field {
	return field{names: strings.Split(name, "|"), left: func(*settings) string { return reason }}
}

// The reasons that several fields have.
const (
	becauseReporter = "it belongs to the reporter, which serves all deployments"
	becauseProfile  = "measurements of engines come from a profile with units, under throughput.profile, or from live engines"
	becauseAnomaly  = "it belongs to a proposal that was never released"
	becausePlugins  = "there are no plug-ins: whoever wants to decide otherwise reads the log and publishes decisions"
)

// fields lists the planner's fields: those of its release with the advisory
// flag, then those of earlier and of later ones.
var fields = []field{
	lost("pre_deployment_sweeping_mode", becauseProfile),
	lost("environment", "it does not say which objects are scaled: that is the deployment's actuator"),
	carried("namespace", text(func(s *settings) *string { return &s.namespace }), "source.prometheus.namespace").where(withoutPrometheus),
	lost("backend", "names of components belong to the deployment's actuator, and those of metrics to its source"),
	carried("mode", choice(func(s *settings) *string { return &s.mode }, "disagg", "prefill", "decode", "agg"), "topology"),
	carried("optimization_target", choice(func(s *settings) *string { return &s.target }, "throughput", "latency", "sla", "load"), "target"),
	lost("log_dir", "services log to standard error"),
	carried("throughput_adjustment_interval|throughput_adjustment_interval_seconds", number(func(s *settings) *float64 { return &s.throughputIntervalS }), "throughput.interval_s"),
	carried("max_gpu_budget", whole(func(s *settings) *int { return &s.maxGPUs }), "budget.max_gpus"),
	carried("min_endpoint", whole(func(s *settings) *int { return &s.minReplicas }), minReplicasOf("prefill"), minReplicasOf("decode"), minReplicasOf("aggregated")),
	carried("prefill_engine_num_gpu", whole(func(s *settings) *int { return &s.prefillGPUs }), gpusOf("prefill")).where(withoutPrefill),
	carried("decode_engine_num_gpu", whole(func(s *settings) *int { return &s.decodeGPUs }), gpusOf("decode"), gpusOf("aggregated")).where(withoutDecode),
	lost("profile_results_dir", becauseProfile),
	lost("aic_interpolation", becauseProfile),
	carried("ttft|ttft_ms", number(func(s *settings) *float64 { return &s.ttftMs }), "sla.ttft_ms"),
	carried("itl|itl_ms", number(func(s *settings) *float64 { return &s.itlMs }), "sla.itl_ms"),
	carried("load_predictor", choice(func(s *settings) *string { return &s.predictor }, "constant", "arima", "kalman", "prophet"), "throughput.predictor"),
	carried("load_predictor_log1p", truth(func(s *settings) **bool { return &s.log1p }), "throughput.log1p"),
	carried("prophet_window_size", optionalWhole(func(s *settings) **int { return &s.prophetWindow }), "throughput.predictor_params").where(onlyFor("prophet")),
	carried("load_predictor_warmup_trace", text(func(s *settings) *string { return &s.warmupTrace }), "throughput.warmup_trace"),
	carried("kalman_q_level", optionalNumber(func(s *settings) **float64 { return &s.kalmanQLevel }), "throughput.predictor_params").where(onlyFor("kalman")),
	carried("kalman_q_trend", optionalNumber(func(s *settings) **float64 { return &s.kalmanQTrend }), "throughput.predictor_params").where(onlyFor("kalman")),
	carried("kalman_r", optionalNumber(func(s *settings) **float64 { return &s.kalmanR }), "throughput.predictor_params").where(onlyFor("kalman")),
	carried("kalman_min_points", optionalWhole(func(s *settings) **int { return &s.kalmanMinPoints }), "throughput.predictor_params").where(onlyFor("kalman")),
	carried("metric_pulling_prometheus_endpoint", text(func(s *settings) *string { return &s.prometheus }), "source.prometheus.url").where(withoutPrometheus),
	lost("metric_reporting_prometheus_port", "every service serves /metrics on the port of its own"),
	carried("throughput_metrics_source", choice(func(s *settings) *string { return &s.metricsSource }, "frontend", "router"), "source.prometheus.preset").where(withoutPrometheus),
	carried("model_name", text(func(s *settings) *string { return &s.modelName }), "name", "source.prometheus.model"),
	lost("global_planner_namespace", "there is no global planner: each deployment has its own budget"),
	carried("enable_throughput_scaling", truth(func(s *settings) **bool { return &s.throughput }), "throughput.enabled").where(func(s *settings) string {
		if s.target != "sla" && s.throughput != nil && *s.throughput {
			return fmt.Sprintf("target %s has no throughput loop, and the planner switches it off too", s.target)
		}
		return ""
	}),
	carried("enable_load_scaling", truth(func(s *settings) **bool { return &s.load }), "load.enabled").where(func(s *settings) string {
		if s.target != "sla" && s.load != nil && !*s.load {
			return fmt.Sprintf("target %s has nothing but the load loop, and the planner switches it on too", s.target)
		}
		return ""
	}),
	carried("load_adjustment_interval|load_adjustment_interval_seconds", number(func(s *settings) *float64 { return &s.loadIntervalS }), "load.interval_s"),
	carried("max_num_fpm_samples", whole(func(s *settings) *int { return &s.maxSamples }), "load.max_samples"),
	carried("fpm_sample_bucket_size", whole(func(s *settings) *int { return &s.buckets }), "load.buckets"),
	carried("load_scaling_down_sensitivity", number(func(s *settings) *float64 { return &s.sensitivity }), "load.scale_down_sensitivity"),
	lost("load_metric_samples", "the planner does not use it either"),
	carried("load_min_observations", whole(func(s *settings) *int { return &s.minObservations }), "load.min_observations"),
	carried("advisory", truth(func(s *settings) **bool { return &s.advisory }), "advisory"),
	lost("report_interval_hours", becauseReporter+": its flag is --report-interval-hours"),
	lost("report_output_dir", becauseReporter+": its flag is --report-dir"),
	lost("report_filename", becauseReporter+": its flag is --report-filename"),
	lost("live_dashboard_port", becauseReporter),

	carried("no_operation", truth(func(s *settings) **bool { return &s.noOperation }), "advisory"),
	carried("scaling_mode", choice(func(s *settings) *string { return &s.scalingMode }, "active", "advisory", "noop"), "advisory"),
	lost("advisory_log_interval", becauseAnomaly),
	lost("advisory_max_step_size", becauseAnomaly),
	lost("advisory_anomaly_threshold", becauseAnomaly),
	lost("advisory_file_output", "every decision is an event in the log: tidemark tail decisions prints them as JSON lines"),

	carried("min_gpu_budget", whole(func(s *settings) *int { return &s.minGPUs }), "budget.min_gpus"),
	carried("max_throughput_scaling_replicas", whole(func(s *settings) *int { return &s.throughputStep }), "throughput.max_step"),
	carried("prefill_min_endpoint", optionalWhole(func(s *settings) **int { return &s.prefillMinReplicas }), minReplicasOf("prefill")).where(withoutPrefill),
	carried("decode_min_endpoint", optionalWhole(func(s *settings) **int { return &s.decodeMinReplicas }), minReplicasOf("decode")).where(func(s *settings) string {
		if s.mode == "agg" {
			return "mode agg has no decode pool of its own; min_endpoint counts"
		}
		return withoutDecode(s)
	}),
	lost("metric_pulling_prometheus_token", "every revision of a configuration is in the log, so it holds no secret: name a file under source.prometheus.http.bearer_token_file"),
	carried("metric_pulling_prometheus_token_file", text(func(s *settings) *string { return &s.tokenFile }), "source.prometheus.http.bearer_token_file").where(withoutPrometheus),
	carried("metric_pulling_prometheus_ssl_verify", truth(func(s *settings) **bool { return &s.sslVerify }), "source.prometheus.http.tls").where(withoutPrometheus),
	carried("metric_pulling_prometheus_ca_bundle", text(func(s *settings) *string { return &s.caBundle }), "source.prometheus.http.tls").where(withoutPrometheus),
	carried("metric_pulling_prometheus_request_timeout_seconds", number(func(s *settings) *float64 { return &s.prometheusTimeoutS }), "source.prometheus.timeout_s").where(withoutPrometheus),
	lost("metric_pulling_prometheus_extra_query_params", "no parameters are added to queries; a tenant is named by source.prometheus.http.headers, or by the path of the url"),
	lost("control_api_port", "a configuration is changed by tidemark apply, and every revision is in the log"),
	lost("aic_perf_model", becauseProfile),
	carried("prefill_scale_up_queue_tokens", optionalNumber(func(s *settings) **float64 { return &s.prefillUp }), "load.prefill_scale_up_queue_tokens").where(first(onlyForTargetLoad, withoutPrefill)),
	carried("prefill_scale_down_queue_tokens", optionalNumber(func(s *settings) **float64 { return &s.prefillDown }), "load.prefill_scale_down_queue_tokens").where(first(onlyForTargetLoad, withoutPrefill)),
	carried("decode_scale_up_kv_rate", optionalNumber(func(s *settings) **float64 { return &s.decodeUp }), "load.decode_scale_up_kv_percent").where(first(onlyForTargetLoad, withoutDecode)),
	carried("decode_scale_down_kv_rate", optionalNumber(func(s *settings) **float64 { return &s.decodeDown }), "load.decode_scale_down_kv_percent").where(first(onlyForTargetLoad, withoutDecode)),
	lost("speculative_nextn", "the performance models learn from the engines' own times, in which speculative decoding is contained"),
	lost("report_write_gzip_log", becauseReporter),
	lost("enable_power_awareness", "there is no budget of power"),
	lost("total_gpu_power_limit", "there is no budget of power"),
	lost("scheduling", "ticks are aligned on the clock at load.interval_s and throughput.interval_s; "+becausePlugins),
	lost("plugin_registration", becausePlugins),
}

func minReplicasOf(role string) string { return "roles." + role + ".min_replicas" }

func gpusOf(role string) string { return "roles." + role + ".gpus_per_replica" }

// withoutPrometheus tells why a file makes no source of traffic, if it does not.
func withoutPrometheus(s *settings) string {
	switch {
	case s.prometheus == "":
		return "it is a setting of source.prometheus, and the file names no server in metric_pulling_prometheus_endpoint"
	case s.metricsSource == "frontend" && s.modelName == "":
		return "source.prometheus tells the series of a frontend apart by the model, and the file has no model_name"
	}
	return ""
}

func withoutPrefill(s *settings) string {
	if s.mode == "disagg" || s.mode == "prefill" {
		return ""
	}
	return fmt.Sprintf("mode %s has no prefill pool", s.mode)
}

func withoutDecode(s *settings) string {
	if s.mode == "prefill" {
		return "mode prefill has no decode pool"
	}
	return ""
}

func onlyFor(predictor string) func(*settings) string {
	return func(s *settings) string {
		if s.predictor == predictor {
			return ""
		}
		return fmt.Sprintf("predictor %s does not take it", s.predictor)
	}
}

func onlyForTargetLoad(s *settings) string {
	if s.target == "load" {
		return ""
	}
	return fmt.Sprintf("target %s has no thresholds of its own", s.target)
}

// first returns the first of two reasons that there is.
func first(a, b func(*settings) string) func(*settings) string {
	return func(s *settings) string { return cmp.Or(a(s), b(s)) }
}

// The readers take what the planner takes: a number may be quoted, a whole one
// may have a point and zeros, and a truth value may be a word or 0 and 1.

func number(of func(*settings) *float64) func(*settings, *yaml.Node) string {
	return func(s *settings, node *yaml.Node) string {
		v, err := strconv.ParseFloat(node.Value, 64)
		if node.Kind != yaml.ScalarNode || err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return wrong("a number", node)
		}
		*of(s) = v
		return ""
	}
}

func optionalNumber(of func(*settings) **float64) func(*settings, *yaml.Node) string {
	return func(s *settings, node *yaml.Node) string {
		*of(s) = new(float64)
		return number(func(s *settings) *float64 { return *of(s) })(s, node)
	}
}

func whole(of func(*settings) *int) func(*settings, *yaml.Node) string {
	return func(s *settings, node *yaml.Node) string {
		var v float64
		if number(func(*settings) *float64 { return &v })(s, node) != "" || v != math.Trunc(v) || math.Abs(v) > math.MaxInt32 {
			return wrong("a whole number", node)
		}
		*of(s) = int(v)
		return ""
	}
}

func optionalWhole(of func(*settings) **int) func(*settings, *yaml.Node) string {
	return func(s *settings, node *yaml.Node) string {
		*of(s) = new(int)
		return whole(func(s *settings) *int { return *of(s) })(s, node)
	}
}

func truth(of func(*settings) **bool) func(*settings, *yaml.Node) string {
	return func(s *settings, node *yaml.Node) string {
		switch word := strings.ToLower(node.Value); {
		case node.Kind != yaml.ScalarNode:
		case slices.Contains([]string{"true", "t", "yes", "y", "on", "1"}, word):
			*of(s) = new(true)
			return ""
		case slices.Contains([]string{"false", "f", "no", "n", "off", "0"}, word):
			*of(s) = new(false)
			return ""
		}
		return wrong("true or false", node)
	}
}

func text(of func(*settings) *string) func(*settings, *yaml.Node) string {
	return func(s *settings, node *yaml.Node) string {
		if node.Kind != yaml.ScalarNode {
			return wrong("text", node)
		}
		*of(s) = node.Value
		return ""
	}
}

func choice(of func(*settings) *string, allowed ...string) func(*settings, *yaml.Node) string {
	return func(s *settings, node *yaml.Node) string {
		if node.Kind != yaml.ScalarNode || !slices.Contains(allowed, node.Value) {
			return wrong("one of "+strings.Join(allowed, ", "), node)
		}
		*of(s) = node.Value
		return ""
	}
}

func wrong(want string, node *yaml.Node) string {
	if node.Kind != yaml.ScalarNode {
		return "want " + want
	}
	return fmt.Sprintf("is %q, want %s", node.Value, want)
}
