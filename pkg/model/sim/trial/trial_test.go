package trial_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
	"tidemark.dev/pkg/model/sim/trial"
)

var start = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

// aggregated returns a deployment of one pool that scales by thresholds.
func aggregated(replicas, most int) *model.Deployment {
	d := model.DefaultDeployment()
	d.Name, d.Topology, d.Target = "chat", model.TopologyAggregated, model.TargetLatency
	d.Throughput.Enabled = false
	d.Roles.Set(model.Aggregated, model.RoleSpec{GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: most, Engine: model.Engine{MaxKVTokens: 100_000}})
	simulated := &model.SimulatedSource{Speed: 1, RateMultiplier: 1, ColdStartS: 30}
	simulated.Replicas.Set(model.Aggregated, replicas)
	d.Source = &model.Source{Simulated: simulated}
	return &d
}

func options(duration time.Duration) trial.Options {
	return trial.Options{Start: start, Duration: duration, ObservationID: func(at time.Time) string { return at.Format(time.RFC3339) }}
}

func run(t *testing.T, d *model.Deployment, workload sim.Workload, o trial.Options) trial.Result {
	t.Helper()
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	result, err := trial.Run(d, workload, o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// steady returns requests at a steady rate.
func steady(n int, every time.Duration, isl, osl int) sim.Workload {
	requests := make([]sim.Request, n)
	for i := range requests {
		requests[i] = sim.Request{At: time.Duration(i) * every, ISL: isl, OSL: osl}
	}
	return sim.NewRequests(requests)
}

func want(t *testing.T, what string, got, wanted any) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s is %v, want %v", what, got, wanted)
	}
}

// TestIdleFleet has nothing to do: it falls to its minimum, one replica a
// decision, and every figure can be told without a simulation.
func TestIdleFleet(t *testing.T) {
	got := run(t, aggregated(3, 4), steady(0, 0, 0, 0), options(time.Minute))
	want(t, "decisions", got.Decisions.Total, 12) // at 5, 10, ... 60 s
	want(t, "scale-downs", got.Decisions.ScaleDown, 2)
	want(t, "holds", got.Decisions.Hold, 10)
	want(t, "changes", got.Changes, 2)
	want(t, "flaps", got.Flaps, 0)
	replicas, _ := got.Replicas.Get(model.Aggregated)
	want(t, "replicas", replicas, trial.Range{Min: 1, Max: 3})
	want(t, "most GPUs", got.GPUs.HighestSet, 6)
	// Three replicas of two GPUs for 5 s, two for 5 s, one for 50 s.
	if gpuS := 3600 * got.GPUs.Hours; math.Abs(gpuS-(3*5+2*5+1*50)*2) > 1e-6 {
		t.Errorf("GPU time is %v s, want 150", gpuS)
	}
	if got.SLA.Attained != nil || got.TTFTMs != nil || got.ITLMs != nil {
		t.Errorf("without a request, it attains %+v", got.SLA)
	}
}

func TestHoldLeavesTheFleet(t *testing.T) {
	o := options(time.Minute)
	o.Hold = true
	o.Stepped = func(s trial.Step) error {
		if s.Decision.Mode != model.Advisory || !s.Applied.Empty() {
			t.Errorf("at %v the decision is %s and changes %+v", s.Observation.ObservedAt, s.Decision.Mode, s.Applied)
		}
		return nil
	}
	got := run(t, aggregated(3, 4), steady(0, 0, 0, 0), o)
	want(t, "scale-downs", got.Decisions.ScaleDown, 12)
	want(t, "changes", got.Changes, 0)
	want(t, "held", got.Held, true)
	if math.Abs(got.GPUs.Mean-6) > 1e-9 {
		t.Errorf("the mean of GPUs is %v, want 6", got.GPUs.Mean)
	}
}

// TestOverload brings one engine more than it can do: the policy adds engines,
// and attains more than a fleet that is left as it is.
func TestOverload(t *testing.T) {
	workload := func() sim.Workload { return steady(3000, 80*time.Millisecond, 1024, 128) } // 12.5 a second for 4 minutes
	o := options(4 * time.Minute)
	var steps []trial.Step
	o.Stepped = func(s trial.Step) error { steps = append(steps, s); return nil }
	scaled := run(t, aggregated(1, 4), workload(), o)
	o.Hold, o.Stepped = true, nil
	held := run(t, aggregated(1, 4), workload(), o)

	want(t, "requests", scaled.Requests.Arrived, 3000)
	want(t, "answered", scaled.Requests.Answered, 3000)
	if scaled.Decisions.ScaleUp == 0 || *scaled.SLA.Attained <= *held.SLA.Attained || scaled.TTFTMs.P95 >= held.TTFTMs.P95 {
		t.Errorf("scaled, %v is attained at a TTFT of %v; held, %v at %v", *scaled.SLA.Attained, scaled.TTFTMs, *held.SLA.Attained, held.TTFTMs)
	}
	if held.Requests.Unfinished == 0 {
		t.Error("a fleet that is overloaded has nothing in flight at the end")
	}
	if *held.SLA.Attained > *held.SLA.TTFTAttained || *held.SLA.Attained > *held.SLA.ITLAttained {
		t.Errorf("both limits are kept more often than one: %+v", held.SLA)
	}
	// A decision is applied at its own instant, and the next tick sees it.
	for i, s := range steps[:len(steps)-1] {
		next, _ := steps[i+1].Observation.Fleet.Roles.Get(model.Aggregated)
		if target, _ := s.Decision.Target.Get(model.Aggregated); next.Desired != target {
			t.Fatalf("after a decision for %d, the fleet is set to %d", target, next.Desired)
		}
		if err := s.Observation.Validate(); err != nil {
			t.Fatal(err)
		}
		if s.Decision.PreviousDigest != "" && s.Decision.PreviousDigest != model.Digest(steps[i-1].Data) {
			t.Fatalf("the chain of decisions breaks at %v", s.Observation.ObservedAt)
		}
	}
}

// TestUnansweredKeepNothing: what was never answered counts against the policy.
func TestUnansweredKeepNothing(t *testing.T) {
	d := aggregated(1, 1)
	fits := sim.Request{At: time.Second, ISL: 1000, OSL: 2}
	never := sim.Request{At: 2 * time.Second, ISL: 200_000, OSL: 2} // more than the KV cache
	got := run(t, d, sim.NewRequests([]sim.Request{fits, never}), options(time.Minute))
	want(t, "rejected", got.Requests.Rejected, 1)
	want(t, "attained", *got.SLA.Attained, 0.5)
}

// TestSameTwice wants equal bytes from equal arguments.
func TestSameTwice(t *testing.T) {
	d := model.DefaultDeployment()
	d.Name = "chat"
	for _, role := range d.Topology.Roles() {
		d.Roles.Set(role, model.RoleSpec{GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: 8, Engine: model.Engine{MaxNumBatchedTokens: 8192, MaxKVTokens: 590_818}})
	}
	d.Throughput.IntervalS, d.Throughput.Predictor = 60, "auto"
	d.Source = &model.Source{Simulated: &model.SimulatedSource{Speed: 1, RateMultiplier: 1, ColdStartS: 60}}
	once := func() string {
		config := sim.DefaultGeneratorConfig()
		config.Duration = 20 * time.Minute
		workload, err := sim.Generate(config)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		o := options(config.Duration)
		o.Stepped = func(s trial.Step) error { all.Write(s.Data); return nil }
		result, err := json.Marshal(run(t, &d, workload, o))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(result)
		return all.String()
	}
	first := once()
	if again := once(); again != first {
		t.Error("tried twice, it comes out differently")
	}
	if !strings.Contains(first, `"throughput":"set_lower_bound"`) {
		t.Error("the throughput loop said nothing")
	}
}

func TestRunRefuses(t *testing.T) {
	noSource := aggregated(1, 2)
	noSource.Source = nil
	noEngine := aggregated(1, 2)
	noEngine.Source.Simulated.Engine = "abacus"
	stopped := errors.New("stopped")
	for _, c := range []struct {
		name, message string
		spec          *model.Deployment
		options       trial.Options
	}{
		{"no time", "the duration is 0s", aggregated(1, 2), options(0)},
		{"no simulated source", "source.simulated is not set", noSource, options(time.Minute)},
		{"an unknown engine", "abacus", noEngine, options(time.Minute)},
		{"stopped by its caller", "try chat: stopped", aggregated(1, 2), func() trial.Options {
			o := options(time.Minute)
			o.Stepped = func(trial.Step) error { return stopped }
			return o
		}()},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := trial.Run(c.spec, steady(0, 0, 0, 0), c.options); err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("the error is %v, want one with %q", err, c.message)
			}
		})
	}
	if _, err := trial.Run(aggregated(1, 2), steady(2, -time.Second, 10, 10), options(time.Minute)); err == nil {
		t.Error("requests out of order are taken")
	}
}

func BenchmarkDay(b *testing.B) {
	d := aggregated(2, 8)
	b.ReportAllocs()
	for b.Loop() {
		config := sim.DefaultGeneratorConfig()
		config.Duration, config.MeanRPS = 24*time.Hour, 5
		workload, err := sim.Generate(config)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := trial.Run(d, workload, options(config.Duration)); err != nil {
			b.Fatal(err)
		}
	}
}
