package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"tidemark.dev/pkg/model"
)

var start = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

func configured(name string, revision int, advisory bool) *model.DeploymentConfigured {
	spec := model.DefaultDeployment()
	spec.Name, spec.Advisory = name, advisory
	return &model.DeploymentConfigured{Deployment: name, Revision: revision, Spec: spec}
}

func decided(name string, after time.Duration, change func(*model.ScalingDecision)) *model.ScalingDecision {
	d := &model.ScalingDecision{
		Deployment: name, ConfigRevision: 1, ObservedAt: start.Add(after), Mode: model.Advisory, Action: model.Hold,
		Reasons: model.Reasons{Load: model.ReasonNoChange, Throughput: model.ReasonNotDue},
	}
	if change != nil {
		change(d)
	}
	return d
}

func observed(name string, after time.Duration, traffic *model.TrafficObservation, engines *model.EnginesObservation) *model.Observation {
	return &model.Observation{Deployment: name, ConfigRevision: 1, ObservedAt: start.Add(after), Traffic: traffic, Engines: engines}
}

// series returns the samples of a metric, one a line.
func series(t *testing.T, p *Projection, name string) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, label := range m.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetSummary().GetSampleSum()
			out = append(out, fmt.Sprintf("%s %g", strings.Join(labels, " "), value))
		}
	}
	return strings.Join(out, "\n")
}

func expect(t *testing.T, p *Projection, name, want string) {
	t.Helper()
	if got := series(t, p, name); got != want {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

func TestWhatIsUnknownIsNotZero(t *testing.T) {
	p := New()
	p.Add("c", configured("a", 1, true))
	p.Add("o1", observed("a", 0, &model.TrafficObservation{Status: model.Measured, WindowS: 10, Requests: new(20.0), MeanTTFTMs: new(250.0)}, nil))
	p.Add("d1", decided("a", 0, func(d *model.ScalingDecision) { d.Estimates.TTFTMs = new(300.0) }))
	expect(t, p, "tidemark_observed_latency_seconds", "a ttft mean 0.25")
	expect(t, p, "tidemark_replicas", "")
	expect(t, p, "tidemark_gpus", "")

	// A tick that computes nothing changes nothing.
	p.Add("o2", observed("a", 5*time.Second, &model.TrafficObservation{Status: model.Failed, Error: "503"}, &model.EnginesObservation{Status: model.Absent}))
	p.Add("d2", decided("a", 5*time.Second, nil))
	expect(t, p, "tidemark_observed_latency_seconds", "a ttft mean 0.25")
	expect(t, p, "tidemark_estimated_latency_seconds", "a ttft 0.3")
	expect(t, p, "tidemark_requests_per_second", "a observed 2")
	expect(t, p, "tidemark_evidence_info", "absent a engines 1\nfailed a traffic 1")

	// Idle is a measurement of requests, and none of latencies.
	p.Add("o3", observed("a", 10*time.Second, &model.TrafficObservation{Status: model.Idle, WindowS: 10, Requests: new(0.0)}, nil))
	expect(t, p, "tidemark_requests_per_second", "a observed 0")
	expect(t, p, "tidemark_observed_latency_seconds", "a ttft mean 0.25")
}

func TestSeriesGo(t *testing.T) {
	p := New()
	p.Add("", configured("a", 1, true))
	expect(t, p, "tidemark_deployment_info", "a advisory sla disaggregated 1")
	p.Add("", configured("a", 2, false))
	expect(t, p, "tidemark_deployment_info", "a active sla disaggregated 1")

	sample := func(worker string) model.EngineSample {
		return model.EngineSample{Role: model.Prefill, Worker: worker, Queued: model.EngineLoad{PrefillTokens: new(7)}}
	}
	p.Add("", observed("a", 0, nil, &model.EnginesObservation{Status: model.Measured, Samples: []model.EngineSample{sample("w-1"), sample("w-0")}}))
	expect(t, p, "tidemark_engine_queued_prefill_tokens", "a 0 prefill w-0 7\na 0 prefill w-1 7")
	p.Add("", observed("a", time.Second, nil, &model.EnginesObservation{Status: model.Measured, Samples: []model.EngineSample{sample("w-1")}}))
	expect(t, p, "tidemark_engine_queued_prefill_tokens", "a 0 prefill w-1 7")

	p.Add("", &model.DeploymentRetired{Deployment: "a", Revision: 3})
	if n := testutil.CollectAndCount(p); n != 0 {
		t.Errorf("a retired deployment has %d series", n)
	}
	// Facts that are read late, an old revision among them, do not bring it back.
	p.Add("", configured("a", 2, false))
	p.Add("", decided("a", time.Minute, nil))
	if n := testutil.CollectAndCount(p); n != 0 {
		t.Errorf("a retired deployment has %d series again", n)
	}
	p.Add("", configured("a", 4, true))
	expect(t, p, "tidemark_deployment_info", "a advisory sla disaggregated 1")
}

func TestCountsOnce(t *testing.T) {
	p := New()
	p.Add("", configured("a", 1, true))
	for range 2 {
		p.Add("d", decided("a", 0, nil))
		p.Add("r", &model.ScalingRejected{Actuation: model.Actuation{Deployment: "a"}, Reason: model.RejectedDrift})
		p.Add("s", &model.ScalingSettled{Actuation: model.Actuation{Deployment: "a"}, SettleS: 40})
		p.Add("l", &model.DeadLetter{Topic: "tidemark.observations", Service: "decider"})
	}
	expect(t, p, "tidemark_decisions_total", "hold a no_change not_due 1")
	expect(t, p, "tidemark_rejections_total", "a drift 1")
	expect(t, p, "tidemark_actuations_total", "a rejected 1\na settled 1")
	expect(t, p, "tidemark_dead_letters_total", "decider tidemark.observations 1")
}

func TestGPUSecondsLeaveGapsOut(t *testing.T) {
	p := New()
	p.Add("", configured("a", 1, true)) // The load loop is due every 5 s.
	for _, after := range []time.Duration{0, 5 * time.Second, 10 * time.Second, time.Hour} {
		p.Add("", decided("a", after, func(d *model.ScalingDecision) { d.GPUs = &model.GPUs{Current: 10, Target: 12} }))
	}
	expect(t, p, "tidemark_gpu_seconds_total", "a desired 150\na recommended 180")
}

func TestForecastError(t *testing.T) {
	window := seconds(model.DefaultDeployment().Throughput.IntervalS)
	forecast := decided("a", 0, func(d *model.ScalingDecision) {
		d.Reasons.Throughput, d.Forecast = model.ReasonSetLowerBound, &model.Forecast{RPS: 3}
	})
	traffic := observed("a", window+time.Second, &model.TrafficObservation{Status: model.Measured, WindowS: 10, Requests: new(20.0)}, nil)
	for name, facts := range map[string][]any{"in order": {forecast, traffic}, "traffic first": {traffic, forecast}} {
		p := New()
		p.Add("", configured("a", 1, true))
		for _, fact := range facts {
			p.Add("", fact)
		}
		t.Run(name, func(t *testing.T) {
			expect(t, p, "tidemark_forecast_error_ratio", "a 0.5")
			expect(t, p, "tidemark_forecast_absolute_error_ratio", "a 0.5")
		})
	}
}

// TestHostile holds that no text and no number of things breaks /metrics.
func TestHostile(t *testing.T) {
	p := New()
	long := strings.Repeat("\"\n\\<🌊", 3000)
	p.Add("", configured(long, 1, true))
	p.Add("", configured(long+"x", 1, true))
	engines := &model.EnginesObservation{Status: model.Measured}
	for i := range 1000 {
		engines.Samples = append(engines.Samples, model.EngineSample{Role: model.Decode, Worker: fmt.Sprint(long, i), Scheduled: model.EngineLoad{DecodeKVTokens: new(i)}})
		p.Add("", decided(long, time.Duration(i)*time.Second, func(d *model.ScalingDecision) {
			d.Reasons.Load, d.Warnings = model.Reason(fmt.Sprint(long, i)), []model.Warning{model.Warning(fmt.Sprint(i))}
		}))
		p.Add(fmt.Sprint(i), &model.DeadLetter{Topic: fmt.Sprint(long, i), Service: long})
	}
	engines.Samples = append(engines.Samples, engines.Samples[0])
	p.Add("", observed(long, 0, nil, engines))
	for name, most := range map[string]int{
		"tidemark_engine_kv_tokens": maxEngines, "tidemark_decisions_total": maxSeries + 1,
		"tidemark_decision_warnings_total": maxSeries + 1, "tidemark_dead_letters_total": maxSeries + 1,
	} {
		if got := testutil.CollectAndCount(p, name); got != most {
			t.Errorf("%s has %d series, want %d", name, got, most)
		}
	}
	if got := testutil.CollectAndCount(p, "tidemark_engines"); got != 1 {
		t.Errorf("tidemark_engines has %d series, want 1", got)
	}
}
