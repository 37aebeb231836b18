package planner_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// decideOne decides one observation from a fresh state.
func decideOne(t *testing.T, d *model.Deployment, o *model.Observation) model.ScalingDecision {
	t.Helper()
	state, err := planner.New(d)
	if err != nil {
		t.Fatal(err)
	}
	return decideNext(t, state, d, o)
}

func decideNext(t *testing.T, state *planner.State, d *model.Deployment, o *model.Observation) model.ScalingDecision {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	decision, _, err := planner.Decide(state, planner.Input{
		ObservationID: "o", Observation: o, Configured: &model.DeploymentConfigured{Deployment: d.Name, Revision: o.ConfigRevision, Spec: *d},
	})
	if err != nil {
		t.Fatal(err)
	}
	return decision
}

func TestUnknownLoadIsNotZeroLoad(t *testing.T) {
	d, o := busyFleet(2, "constant")
	d.Target, d.Throughput.Enabled = model.TargetLatency, false
	o.ObservedAt = scenarioStart
	for i := range o.Engines.Samples {
		s := &o.Engines.Samples[i]
		*s.Queued.PrefillTokens, *s.Scheduled.DecodeKVTokens = 0, 0
	}
	o.Engines.Samples[3].Queued.DecodeKVTokens = nil
	got := decideOne(t, &d, &o)
	decode, _ := got.Reasons.Roles.Get(model.Decode)
	if to, _ := got.Target.Get(model.Decode); to != 2 || decode.Load != model.ReasonNoFPMData {
		t.Errorf("decode: target %d, reason %s; one engine's queue is unknown, so nothing is known of the pool", to, decode.Load)
	}
	if to, _ := got.Target.Get(model.Prefill); to != 1 {
		t.Errorf("prefill: target %d, want 1: all of its queues are known to be empty", to)
	}
}

func TestMeasuredWithoutRequestsIsIdle(t *testing.T) {
	d, o := busyFleet(1, "constant")
	d.Throughput.IdleIntervals = 1
	o.ObservedAt, o.Loops = scenarioStart, model.Loops{Throughput: true}
	o.Traffic = &model.TrafficObservation{Status: model.Measured, WindowS: 180, Requests: new(0.0), MeanISL: new(0.0), MeanOSL: new(0.0)}
	got := decideOne(t, &d, &o)
	if got.Reasons.Throughput != model.ReasonSetLowerBound {
		t.Errorf("throughput %s, want set_lower_bound, at min_replicas", got.Reasons.Throughput)
	}
	if f := got.Forecast; f == nil || f.ISL != 0 || f.Requests != 0 {
		t.Errorf("forecast %+v: lengths of no request were learned", f)
	}
}

func TestWarmUpFeedsThePredictors(t *testing.T) {
	d, o := busyFleet(1, "constant")
	d.Throughput.Warmup = []model.WarmupInterval{
		{Requests: 300, MeanISL: new(900.0), MeanOSL: new(80.0)},
		{Requests: 0},
		{Requests: 500, MeanISL: new(1000.0), MeanOSL: new(100.0)},
	}
	o.ObservedAt, o.Loops = scenarioStart, model.Loops{Throughput: true}
	o.Traffic = &model.TrafficObservation{Status: model.Idle, WindowS: 180}
	// The zero is a leading one again after the warm-up: the last value stands.
	got := decideOne(t, &d, &o)
	if f := got.Forecast; f == nil || f.Requests != 500 || f.ISL != 1000 || f.OSL != 100 {
		t.Errorf("forecast %+v, want the last warm-up interval", f)
	}
}

func TestPredictorThatCannotBeMade(t *testing.T) {
	d, o := busyFleet(1, "kalman")
	d.Throughput.PredictorParams.R = new(-1.0)
	if _, err := planner.New(&d); err == nil || !strings.Contains(err.Error(), "parameter r ") {
		t.Errorf("New: %v, want a refusal that names the parameter", err)
	}
	// A revision that nobody checked reaches a running state: the loop says so,
	// and what stood stands.
	good := d
	good.Throughput.PredictorParams.R = nil
	state, err := planner.New(&good)
	if err != nil {
		t.Fatal(err)
	}
	o.ObservedAt, o.Loops = scenarioStart, model.Loops{Throughput: true}
	o.Traffic = &model.TrafficObservation{Status: model.Measured, WindowS: 180, Requests: new(5.0), MeanISL: new(900.0), MeanOSL: new(90.0)}
	got := decideNext(t, state, &d, &o)
	if got.Reasons.Throughput != model.ReasonPredictFailed || got.Action != model.Hold {
		t.Errorf("throughput %s, action %s; want predict_failed and hold", got.Reasons.Throughput, got.Action)
	}
	state = reload(t, state)
	o.ObservedAt = o.ObservedAt.Add(time.Minute)
	if got := decideNext(t, state, &good, &o); got.Reasons.Throughput == model.ReasonPredictFailed {
		t.Error("the repaired revision still fails")
	}
}

func TestPredictorOfAnotherRevisionStartsAfresh(t *testing.T) {
	d, o := busyFleet(1, "constant")
	for i := range 5 {
		for _, role := range d.Topology.Roles() {
			s := sampleAt(role, "bench", engineFigures{wallS: 0.1 + 0.1*float64(i), kv: 9000 * (i + 1)})
			*s.Scheduled.PrefillRequests, *s.Scheduled.PrefillTokens, *s.Scheduled.DecodeRequests = 1, 500*(i+1), i+1
			d.Throughput.Samples = append(d.Throughput.Samples, s)
		}
	}
	d.SLA = model.SLA{TTFTMs: 5000, ITLMs: 5000}
	state, err := planner.New(&d)
	if err != nil {
		t.Fatal(err)
	}
	o.ObservedAt, o.Loops = scenarioStart, model.Loops{Throughput: true}
	o.Traffic = &model.TrafficObservation{Status: model.Measured, WindowS: 180, Requests: new(5000.0), MeanISL: new(900.0), MeanOSL: new(90.0)}
	first := decideNext(t, state, &d, &o)
	if first.Floors.Empty() {
		t.Fatalf("no floor: %+v", first)
	}
	changed := d
	changed.Throughput.Predictor = "kalman"
	o.ObservedAt, o.Traffic.Status = o.ObservedAt.Add(3*time.Minute), model.Failed
	second := decideNext(t, state, &changed, &o)
	if !slices.Contains(second.Warnings, model.WarningStateReset) {
		t.Errorf("warnings %v, want state_reset", second.Warnings)
	}
	if was, _ := first.Floors.Get(model.Prefill); func() int { n, _ := second.Floors.Get(model.Prefill); return n }() != was {
		t.Errorf("floors %+v, want those of before: they are replicas, whoever forecast them", second.Floors)
	}
	off := changed
	off.Throughput.Enabled = false
	o.ObservedAt = o.ObservedAt.Add(3 * time.Minute)
	if third := decideNext(t, state, &off, &o); !third.Floors.Empty() || third.Action != model.Hold {
		t.Errorf("with the throughput loop off: floors %+v, action %s", third.Floors, third.Action)
	}
}

func TestBudgetThatCannotHoldTheMinimumHolds(t *testing.T) {
	d, o := busyFleet(2, "constant")
	d.Budget.MaxGPUs = 3
	o.ObservedAt = scenarioStart
	got := decideOne(t, &d, &o)
	if got.Action != model.Hold || !slices.Contains(got.Warnings, model.WarningBudgetInfeasible) {
		t.Errorf("action %s, warnings %v; want a hold that says budget_infeasible", got.Action, got.Warnings)
	}
}

// TestMinGPUsGuard: decreases that would leave too few GPUs are given back.
func TestMinGPUsGuard(t *testing.T) {
	type pair struct{ prefill, decode int }
	for _, c := range []struct {
		name           string
		gpus           pair
		minGPUs, max   int
		fleet          pair
		queued, kv     int
		want           pair
		wantGuardWords int
	}{
		{"both go down to the edge", pair{1, 1}, 2, -1, pair{2, 2}, 0, 0, pair{1, 1}, 0},
		{"both would go under it", pair{1, 1}, 3, -1, pair{2, 2}, 0, 0, pair{2, 2}, 2},
		{"a rebalance may miss it by the wider replica", pair{2, 1}, 6, 8, pair{2, 2}, 0, 120_000, pair{1, 3}, 0},
		{"without a maximum it may not", pair{2, 1}, 6, -1, pair{2, 2}, 0, 120_000, pair{2, 3}, 1},
		{"a fleet that is under it already is left alone", pair{1, 1}, 4, -1, pair{1, 1}, 0, 50_000, pair{1, 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := model.DefaultDeployment()
			d.Name, d.Target, d.Throughput.Enabled = "chat", model.TargetThroughput, false
			d.Budget = model.Budget{MinGPUs: c.minGPUs, MaxGPUs: c.max}
			engine := model.Engine{ContextLength: 4096, MaxKVTokens: 100_000}
			d.Roles.Set(model.Prefill, model.RoleSpec{GPUsPerReplica: c.gpus.prefill, MinReplicas: 1, MaxReplicas: 9, Engine: engine})
			d.Roles.Set(model.Decode, model.RoleSpec{GPUsPerReplica: c.gpus.decode, MinReplicas: 1, MaxReplicas: 9, Engine: engine})
			o := model.Observation{
				Deployment: "chat", ConfigRevision: 1, ObservedAt: scenarioStart, Loops: model.Loops{Load: true},
				Fleet: &model.FleetObservation{Status: model.Measured}, Engines: &model.EnginesObservation{Status: model.Measured},
			}
			for role, n := range map[model.Role]int{model.Prefill: c.fleet.prefill, model.Decode: c.fleet.decode} {
				o.Fleet.Roles.Set(role, model.RoleReplicas{Ready: n, Desired: n})
			}
			for i := range c.fleet.prefill {
				o.Engines.Samples = append(o.Engines.Samples, sampleAt(model.Prefill, string(rune('a'+i)), engineFigures{queuedPrefill: c.queued}))
			}
			for i := range c.fleet.decode {
				o.Engines.Samples = append(o.Engines.Samples, sampleAt(model.Decode, string(rune('a'+i)), engineFigures{kv: c.kv}))
			}
			got := decideOne(t, &d, &o)
			prefill, _ := got.Target.Get(model.Prefill)
			decode, _ := got.Target.Get(model.Decode)
			guarded := 0
			for _, entry := range got.Chain {
				if entry.Reason == model.ReasonBudgetGuard {
					guarded++
				}
			}
			if (pair{prefill, decode}) != c.want || guarded != c.wantGuardWords {
				t.Errorf("target %d/%d with %d guard entries, want %d/%d with %d: %+v", prefill, decode, guarded, c.want.prefill, c.want.decode, c.wantGuardWords, got.Chain)
			}
		})
	}
}

func TestUnmarshalStateRefusesWhatIsDamaged(t *testing.T) {
	d, o := busyFleet(2, "kalman")
	o.ObservedAt, o.Loops.Throughput = scenarioStart, true
	o.Traffic = &model.TrafficObservation{Status: model.Measured, WindowS: 180, Requests: new(5.0), MeanISL: new(900.0), MeanOSL: new(90.0)}
	state, err := planner.New(&d)
	if err != nil {
		t.Fatal(err)
	}
	decideNext(t, state, &d, &o)
	data, err := state.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new string }{
		"no JSON":             {`{"version":1`, `{"version:1`},
		"other version":       {`{"version":1`, `{"version":2`},
		"missing model":       {`"models":{"prefill":`, `"models":{"aggregated":`},
		"damaged model":       {`"limit":64`, `"limit":0`},
		"unknown predictor":   {`"predicting":{"enabled":true,"kind":"kalman"`, `"predicting":{"enabled":true,"kind":"oracle"`},
		"predictors when off": {`"predicting":{"enabled":true`, `"predicting":{"enabled":false`},
	} {
		damaged := strings.Replace(string(data), c.old, c.new, 1)
		if damaged == string(data) {
			t.Errorf("%s: %s is not in %s", name, c.old, data)
			continue
		}
		if _, err := planner.UnmarshalState([]byte(damaged)); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}
