package metrics

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark.dev/pkg/model"
)

// deadLettersName is of no deployment.
const deadLettersName = "tidemark_dead_letters_total"

var names = []string{deadLettersName}

// Names returns the names of all metrics that a projection may export.
func Names() []string { return slices.Clone(names) }

func describe(name, help string, labels ...string) *prometheus.Desc {
	names = append(names, "tidemark_"+name)
	return prometheus.NewDesc("tidemark_"+name, help, append([]string{"deployment"}, labels...), nil)
}

var (
	descInfo     = describe("deployment_info", "1; what a deployment is.", "mode", "topology", "target")
	descRevision = describe("deployment_config_revision", "The configuration revision of a deployment.")
	descEpoch    = describe("deployment_epoch", "How often a deployment was activated.")

	descReplicas = describe("replicas", "Replicas of a role: ready, desired (what the fleet is set to), and recommended by the newest decision.", "role", "state")
	descDelta    = describe("replicas_delta", "Recommended replicas minus desired ones: what acting would change.", "role")
	descFloor    = describe("replicas_floor", "The floor that the throughput loop sets, before bounds.", "role")
	descBound    = describe("replicas_bound", "The configured bounds of a role's replicas.", "role", "bound")
	descPending  = describe("replicas_pending", "Replicas of a role that cannot be placed.", "role")

	descGPUs       = describe("gpus", "GPUs of what the fleet is set to and of the recommendation.", "state")
	descGPUBudget  = describe("gpu_budget", "The configured bounds of a deployment's GPUs.", "bound")
	descGPUSeconds = describe("gpu_seconds_total", "GPU-seconds of what the fleet was set to and of what was recommended, over the time for which there were decisions; 3600 are a GPU-hour.", "state")

	descDecisions = describe("decisions_total", "Decisions by action and reasons.", "action", "load_reason", "throughput_reason")
	descWarnings  = describe("decision_warnings_total", "Warnings of decisions.", "warning")
	descFlaps     = describe("flaps_total", "Decisions that reverse the recommended direction of a role within 10 minutes.")
	descDecidedAt = describe("last_decision_timestamp_seconds", "The instant of the newest decision's observation, on the deployment's clock; time() minus it is the age of the decision.")

	descEstimated   = describe("estimated_latency_seconds", "The latency that the models expect at the present load.", "signal")
	descSLA         = describe("sla_latency_seconds", "The latency that the deployment is scaled for.", "signal")
	descObserved    = describe("observed_latency_seconds", "The latency of the newest window of traffic that measured it.", "signal", "statistic")
	descWindows     = describe("sla_windows_total", "Windows of traffic with a measured latency, by whether it was within the SLA.", "signal", "statistic", "result")
	descRequestRate = describe("requests_per_second", "The request rate: observed in the newest window of traffic, and forecast for the next.", "kind")
	descDuration    = describe("request_duration_seconds", "The mean duration of a request in the newest window of traffic that measured it.")
	descTokens      = describe("sequence_length_tokens", "The mean sequence length: observed and forecast.", "sequence", "kind")
	descHitRatio    = describe("kv_hit_ratio", "The share of prompt tokens found in the KV cache: observed and forecast.", "kind")
	descError       = describe("forecast_error_ratio", "(forecast - observed) / observed of the request rate of the newest window that has both.")
	descErrors      = describe("forecast_absolute_error_ratio", "|forecast - observed| / observed of the request rate: sum and count over windows with requests.")
	descCapacity    = describe("engine_capacity_requests_per_second", "The request rate that one engine sustains within the SLA.", "role")

	descEngines    = describe("engines", "Engine ranks that reported at the newest observation of engines.", "role")
	descUnlisted   = describe("engines_unlisted", "Engine ranks that are too many to have series of their own.")
	descQueue      = describe("engine_queued_prefill_tokens", "Prompt tokens that wait in front of an engine rank.", "role", "worker", "dp_rank")
	descKV         = describe("engine_kv_tokens", "Tokens in the KV cache of an engine rank that are being decoded.", "role", "worker", "dp_rank")
	descKVCapacity = describe("engine_kv_capacity_tokens", "The configured KV cache of an engine.", "role")

	descEvidence = describe("evidence_info", "1 for the class of the newest evidence of a source.", "source", "class")
	descAge      = describe("evidence_age_seconds", "How old the newest evidence of a source was when it was observed.", "source")
	descClasses  = describe("evidence_total", "Evidence in observations, by source and class.", "source", "class")

	descActuations = describe("actuations_total", "Actuation events by outcome.", "outcome")
	descRejections = describe("rejections_total", "Decisions that the actuator rejected, by reason.", "reason")
	descSettle     = describe("settle_seconds", "Time from a change to the fleet having reached it, on the deployment's clock.")

	descDeadLetters = prometheus.NewDesc(deadLettersName, "Messages in the dead letters, by the topic that they came from and the service that could not handle them.", []string{"topic", "service"}, nil)
)

// Describe implements prometheus.Collector. It describes nothing: which series
// there are follows from the log.
func (p *Projection) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (p *Projection) Collect(out chan<- prometheus.Metric) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, f := range p.deployments {
		if !f.gone() {
			exporter{deployment: valid(name), out: out}.export(f)
		}
	}
	for labels, n := range p.deadLetters {
		out <- prometheus.MustNewConstMetric(descDeadLetters, prometheus.CounterValue, n, valid(labels.topic), valid(labels.service))
	}
}

// valid makes a label value of text that anyone may have written. Different texts
// stay different: two series with equal labels would spoil all of /metrics.
func valid(text string) string {
	const most = 200
	if len(text) <= most {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	sum := sha256.Sum256([]byte(text))
	return strings.ToValidUTF8(text[:most], "\uFFFD") + "~" + hex.EncodeToString(sum[:4])
}

// exporter writes the metrics of one deployment.
type exporter struct {
	deployment string
	out        chan<- prometheus.Metric
}

func (e exporter) labels(values []string) []string {
	all := make([]string, 1, 1+len(values))
	all[0] = e.deployment
	for _, value := range values {
		all = append(all, valid(value))
	}
	return all
}

func (e exporter) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, e.labels(labels)...)
}

func (e exporter) counter(desc *prometheus.Desc, value float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, e.labels(labels)...)
}

// some exports a figure in another unit, if there is one.
func (e exporter) some(desc *prometheus.Desc, value *float64, scale float64, labels ...string) {
	if value != nil {
		e.gauge(desc, *value*scale, labels...)
	}
}

const msToSeconds = 1e-3

func (e exporter) export(f *figures) {
	e.configuration(f.latest)
	e.decisions(f)
	e.observations(f)
	for outcome, n := range f.outcomes {
		e.counter(descActuations, n, outcome)
	}
	for reason, n := range f.rejected {
		e.counter(descRejections, n, reason)
	}
	if f.settles.count > 0 {
		// The metric is written after the projection has moved on.
		e.out <- prometheus.MustNewConstHistogram(descSettle, f.settles.count, f.settles.sum, maps.Clone(f.settles.buckets), e.deployment)
	}
}

func (e exporter) configuration(c *model.DeploymentConfigured) {
	spec := &c.Spec
	e.gauge(descInfo, 1, string(spec.Mode()), string(spec.Topology), string(spec.Target))
	e.gauge(descRevision, float64(c.Revision))
	e.gauge(descEpoch, float64(c.Epoch))
	if spec.Target == model.TargetSLA {
		e.gauge(descSLA, spec.SLA.TTFTMs*msToSeconds, "ttft")
		e.gauge(descSLA, spec.SLA.ITLMs*msToSeconds, "itl")
	}
	if spec.Budget.MinGPUs != model.Unbounded {
		e.gauge(descGPUBudget, float64(spec.Budget.MinGPUs), "min")
	}
	if spec.Budget.MaxGPUs != model.Unbounded {
		e.gauge(descGPUBudget, float64(spec.Budget.MaxGPUs), "max")
	}
	for _, role := range spec.Topology.Roles() {
		if r, ok := spec.Roles.Get(role); ok {
			e.gauge(descBound, float64(r.MinReplicas), string(role), "min")
			e.gauge(descBound, float64(r.MaxReplicas), string(role), "max")
			if r.Engine.MaxKVTokens > 0 {
				e.gauge(descKVCapacity, float64(r.Engine.MaxKVTokens), string(role))
			}
		}
	}
}

func (e exporter) decisions(f *figures) {
	for _, role := range model.AllRoles {
		for _, replicas := range []struct {
			desc   *prometheus.Desc
			of     model.PerRole[int]
			labels []string
		}{
			{descReplicas, f.current, []string{string(role), "ready"}},
			{descReplicas, f.desired, []string{string(role), "desired"}},
			{descReplicas, f.target, []string{string(role), "recommended"}},
			{descDelta, f.delta, []string{string(role)}},
			{descFloor, f.floors, []string{string(role)}},
		} {
			if n, ok := replicas.of.Get(role); ok {
				e.gauge(replicas.desc, float64(n), replicas.labels...)
			}
		}
	}
	if f.gpus != nil {
		e.gauge(descGPUs, float64(f.gpus.Current), "desired")
		e.gauge(descGPUs, float64(f.gpus.Target), "recommended")
	}
	if f.gpuSecondsKnown {
		e.counter(descGPUSeconds, f.gpuSecondsSet, "desired")
		e.counter(descGPUSeconds, f.gpuSecondsRecommended, "recommended")
	}
	for labels, n := range f.actions {
		e.counter(descDecisions, n, labels.action, labels.load, labels.throughput)
	}
	for warning, n := range f.warnings {
		e.counter(descWarnings, n, warning)
	}
	if !f.decidedAt.IsZero() {
		e.counter(descFlaps, f.flaps)
		e.gauge(descDecidedAt, float64(f.decidedAt.UnixMilli())/1000)
	}
	e.some(descEstimated, f.estimates.TTFTMs, msToSeconds, "ttft")
	e.some(descEstimated, f.estimates.ITLMs, msToSeconds, "itl")
	e.some(descCapacity, f.capacity.PrefillRPS, 1, string(model.Prefill))
	e.some(descCapacity, f.capacity.DecodeRPS, 1, string(model.Decode))
	e.some(descCapacity, f.capacity.AggregatedRPS, 1, string(model.Aggregated))
	if p := f.forecast; p != nil {
		e.gauge(descRequestRate, p.RPS, "forecast")
		e.gauge(descTokens, p.ISL, "input", "forecast")
		e.gauge(descTokens, p.OSL, "output", "forecast")
		e.some(descHitRatio, p.KVHitRate, 1, "forecast")
	}
	if f.errors.pairs > 0 {
		e.gauge(descError, f.errors.last)
		e.out <- prometheus.MustNewConstSummary(descErrors, f.errors.pairs, f.errors.absolute, nil, e.deployment)
	}
}

func (e exporter) observations(f *figures) {
	for _, role := range model.AllRoles {
		if r, ok := f.ready.Get(role); ok {
			e.gauge(descPending, float64(r.Pending), string(role))
		}
	}
	t := &f.traffic
	e.some(descRequestRate, f.rps, 1, "observed")
	e.some(descObserved, t.MeanTTFTMs, msToSeconds, "ttft", "mean")
	e.some(descObserved, t.P95TTFTMs, msToSeconds, "ttft", "p95")
	e.some(descObserved, t.MeanITLMs, msToSeconds, "itl", "mean")
	e.some(descObserved, t.P95ITLMs, msToSeconds, "itl", "p95")
	e.some(descDuration, t.MeanDurationS, 1)
	e.some(descTokens, t.MeanISL, 1, "input", "observed")
	e.some(descTokens, t.MeanOSL, 1, "output", "observed")
	e.some(descHitRatio, t.KVHitRate, 1, "observed")
	for labels, n := range f.windows {
		e.counter(descWindows, n, labels.signal, labels.statistic, labels.result)
	}
	for source, heard := range f.evidence {
		e.gauge(descEvidence, 1, source, string(heard.class))
		e.some(descAge, heard.ageS, 1, source)
	}
	for labels, n := range f.classes {
		e.counter(descClasses, n, labels.source, labels.class)
	}
	for i := range f.engines {
		s := &f.engines[i]
		rank := []string{string(s.Role), s.Worker, strconv.Itoa(s.DPRank)}
		e.tokens(descQueue, s.Queued.PrefillTokens, rank)
		e.tokens(descKV, s.Scheduled.DecodeKVTokens, rank)
	}
	if f.reporting != nil {
		e.gauge(descUnlisted, float64(f.unlisted))
	}
	for role, n := range f.reporting {
		e.gauge(descEngines, float64(n), string(role))
	}
}

func (e exporter) tokens(desc *prometheus.Desc, n *int, labels []string) {
	if n != nil {
		e.gauge(desc, float64(*n), labels...)
	}
}
