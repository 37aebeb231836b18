package reporter

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark.dev/pkg/model"
)

// gauges is the projection of the log onto metrics: for each deployment the
// newest figures that an event carried. A figure that an event does not carry
// keeps its value; it never turns 0. The series of a retired deployment go.
//
// It is a prometheus.Collector over a plain table, so that what is exported is
// what the events say and nothing else.
type gauges struct {
	mu          sync.Mutex
	deployments map[string]*figures
}

type figures struct {
	mode      model.Mode
	revision  int
	current   model.PerRole[int]
	desired   model.PerRole[int]
	target    model.PerRole[int]
	floors    model.PerRole[int]
	gpus      *model.GPUs
	estimates model.Estimates
	capacity  model.Capacity
	forecast  *model.Forecast
	traffic   *model.TrafficObservation
	sla       *model.SLA
	evidence  map[string]model.Evidence
	decidedAt time.Time
	actions   map[actionLabels]float64
	outcomes  map[string]float64
	rejected  map[model.Rejection]float64
}

type actionLabels struct {
	action           model.Action
	load, throughput model.Reason
}

func newGauges() *gauges { return &gauges{deployments: map[string]*figures{}} }

func (g *gauges) of(deployment string) *figures {
	f := g.deployments[deployment]
	if f == nil {
		f = &figures{
			evidence: map[string]model.Evidence{}, actions: map[actionLabels]float64{},
			outcomes: map[string]float64{}, rejected: map[model.Rejection]float64{},
		}
		g.deployments[deployment] = f
	}
	return f
}

// add folds one fact.
func (g *gauges) add(fact any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch fact := fact.(type) {
	case *model.DeploymentConfigured:
		f := g.of(fact.Deployment)
		f.mode, f.revision, f.sla = fact.Spec.Mode(), fact.Revision, nil
		if fact.Spec.Target == model.TargetSLA {
			f.sla = &fact.Spec.SLA
		}
	case *model.DeploymentRetired:
		delete(g.deployments, fact.Deployment)
	case *model.Observation:
		if t := fact.Traffic; t != nil && (t.Status == model.Measured || t.Status == model.Idle) {
			g.of(fact.Deployment).traffic = t
		}
	case *model.ScalingDecision:
		g.of(fact.Deployment).decided(fact)
	case *model.ScalingApplied:
		g.of(fact.Deployment).outcomes["applied"]++
	case *model.ScalingSettled:
		g.of(fact.Deployment).outcomes["settled"]++
	case *model.ScalingFailed:
		g.of(fact.Deployment).outcomes["failed"]++
	case *model.ScalingRejected:
		f := g.of(fact.Deployment)
		f.outcomes["rejected"]++
		f.rejected[fact.Reason]++
	}
}

func (f *figures) decided(d *model.ScalingDecision) {
	keep(&f.current, d.Current)
	keep(&f.desired, d.Desired)
	keep(&f.target, d.Target)
	keep(&f.floors, d.Floors)
	if d.GPUs != nil {
		f.gpus = d.GPUs
	}
	if d.Estimates.TTFTMs != nil {
		f.estimates.TTFTMs = d.Estimates.TTFTMs
	}
	if d.Estimates.ITLMs != nil {
		f.estimates.ITLMs = d.Estimates.ITLMs
	}
	if d.Capacity != (model.Capacity{}) {
		f.capacity = d.Capacity
	}
	if d.Forecast != nil {
		f.forecast = d.Forecast
	}
	for source, class := range map[string]model.Evidence{"fleet": d.Evidence.Fleet, "traffic": d.Evidence.Traffic, "engines": d.Evidence.Engines} {
		if class != "" {
			f.evidence[source] = class
		}
	}
	f.decidedAt = d.ObservedAt
	f.actions[actionLabels{d.Action, d.Reasons.Load, d.Reasons.Throughput}]++
}

func keep(into *model.PerRole[int], values model.PerRole[int]) {
	for _, role := range model.AllRoles {
		if n, ok := values.Get(role); ok {
			into.Set(role, n)
		}
	}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tidemark_"+name, help, append([]string{"deployment"}, labels...), nil)
}

var (
	descInfo        = describe("deployment_info", "1; the mode and the configuration revision of a deployment.", "mode")
	descRevision    = describe("deployment_config_revision", "The configuration revision of a deployment.")
	descReplicas    = describe("replicas", "Replicas of a role: ready, desired, and recommended by the newest decision.", "role", "state")
	descFloor       = describe("replicas_floor", "The floor that the throughput loop sets, before bounds.", "role")
	descGPUs        = describe("gpus", "GPUs of what the fleet is set to and of the recommendation.", "state")
	descDecisions   = describe("decisions_total", "Decisions by action and reasons.", "action", "load_reason", "throughput_reason")
	descDecidedAt   = describe("last_decision_timestamp_seconds", "The instant of the newest decision's observation, on the deployment's clock.")
	descEstimated   = describe("estimated_latency_seconds", "The latency that the models expect at the present load.", "signal")
	descSLA         = describe("sla_latency_seconds", "The latency that the deployment is scaled for.", "signal")
	descObserved    = describe("observed_latency_seconds", "The latency that was observed.", "signal", "statistic")
	descRequestRate = describe("requests_per_second", "The request rate: observed and forecast.", "kind")
	descTokens      = describe("sequence_length_tokens", "The mean sequence length: observed and forecast.", "sequence", "kind")
	descCapacity    = describe("engine_capacity_requests_per_second", "The request rate that one engine sustains within the SLA.", "role")
	descEvidence    = describe("evidence", "1 for the class of the newest evidence of a source.", "source", "class")
	descActuations  = describe("actuations_total", "Actuation events by outcome.", "outcome")
	descRejections  = describe("rejections_total", "Decisions that the actuator rejected, by reason.", "reason")
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, out) }

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, f := range g.deployments {
		f.collect(name, out)
	}
}

func (f *figures) collect(deployment string, out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{deployment}, labels...)...)
	}
	counter := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, append([]string{deployment}, labels...)...)
	}
	// some exports a figure in another unit, if there is one.
	some := func(desc *prometheus.Desc, value *float64, scale float64, labels ...string) {
		if value != nil {
			gauge(desc, *value*scale, labels...)
		}
	}
	const msToSeconds = 1e-3
	if f.mode != "" {
		gauge(descInfo, 1, string(f.mode))
		gauge(descRevision, float64(f.revision))
	}
	for _, role := range model.AllRoles {
		for _, replicas := range []struct {
			state string
			of    model.PerRole[int]
		}{{"ready", f.current}, {"desired", f.desired}, {"recommended", f.target}} {
			if n, ok := replicas.of.Get(role); ok {
				gauge(descReplicas, float64(n), string(role), replicas.state)
			}
		}
		if n, ok := f.floors.Get(role); ok {
			gauge(descFloor, float64(n), string(role))
		}
	}
	if f.gpus != nil {
		gauge(descGPUs, float64(f.gpus.Current), "current")
		gauge(descGPUs, float64(f.gpus.Target), "recommended")
	}
	for labels, n := range f.actions {
		counter(descDecisions, n, string(labels.action), string(labels.load), string(labels.throughput))
	}
	if !f.decidedAt.IsZero() {
		gauge(descDecidedAt, float64(f.decidedAt.UnixMilli())/1000)
	}
	some(descEstimated, f.estimates.TTFTMs, msToSeconds, "ttft")
	some(descEstimated, f.estimates.ITLMs, msToSeconds, "itl")
	if f.sla != nil {
		gauge(descSLA, f.sla.TTFTMs*msToSeconds, "ttft")
		gauge(descSLA, f.sla.ITLMs*msToSeconds, "itl")
	}
	if t := f.traffic; t != nil {
		some(descObserved, t.MeanTTFTMs, msToSeconds, "ttft", "mean")
		some(descObserved, t.P95TTFTMs, msToSeconds, "ttft", "p95")
		some(descObserved, t.MeanITLMs, msToSeconds, "itl", "mean")
		some(descObserved, t.P95ITLMs, msToSeconds, "itl", "p95")
		some(descTokens, t.MeanISL, 1, "input", "observed")
		some(descTokens, t.MeanOSL, 1, "output", "observed")
		if t.Requests != nil && t.WindowS > 0 {
			gauge(descRequestRate, *t.Requests/t.WindowS, "observed")
		}
	}
	if p := f.forecast; p != nil {
		gauge(descRequestRate, p.RPS, "forecast")
		gauge(descTokens, p.ISL, "input", "forecast")
		gauge(descTokens, p.OSL, "output", "forecast")
	}
	some(descCapacity, f.capacity.PrefillRPS, 1, string(model.Prefill))
	some(descCapacity, f.capacity.DecodeRPS, 1, string(model.Decode))
	some(descCapacity, f.capacity.AggregatedRPS, 1, string(model.Aggregated))
	for source, class := range f.evidence {
		gauge(descEvidence, 1, source, string(class))
	}
	for outcome, n := range f.outcomes {
		counter(descActuations, n, outcome)
	}
	for why, n := range f.rejected {
		counter(descRejections, n, string(why))
	}
}
