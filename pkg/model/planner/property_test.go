package planner_test

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// drawDeployment draws a configuration that is valid: any topology and target,
// loops on and off, windows, budgets, small engines and large.
func drawDeployment(t *rapid.T) model.Deployment {
	d := model.DefaultDeployment()
	d.Name = "chat"
	d.Topology = rapid.SampledFrom([]model.Topology{model.TopologyDisaggregated, model.TopologyPrefill, model.TopologyDecode, model.TopologyAggregated}).Draw(t, "topology")
	d.Target = rapid.SampledFrom([]model.Target{model.TargetSLA, model.TargetSLA, model.TargetThroughput, model.TargetLatency, model.TargetLoad}).Draw(t, "target")
	d.SLA = model.SLA{TTFTMs: float64(rapid.IntRange(1, 4000).Draw(t, "ttft")), ITLMs: float64(rapid.IntRange(1, 100).Draw(t, "itl"))}
	leastGPUs := 0
	for _, role := range d.Topology.Roles() {
		spec := model.RoleSpec{GPUsPerReplica: rapid.SampledFrom([]int{1, 1, 2, 4, 8}).Draw(t, "gpus"), MinReplicas: rapid.IntRange(1, 3).Draw(t, "min")}
		spec.MaxReplicas = spec.MinReplicas + rapid.IntRange(0, 12).Draw(t, "max")
		spec.Engine = model.Engine{
			MaxNumBatchedTokens: rapid.SampledFrom([]int{0, 2048, 8192}).Draw(t, "batched"),
			MaxNumSeqs:          rapid.SampledFrom([]int{0, 16, 256}).Draw(t, "seqs"),
			ContextLength:       rapid.SampledFrom([]int{0, 4096, 131072}).Draw(t, "context"),
			MaxKVTokens:         rapid.SampledFrom([]int{0, 20_000, 600_000}).Draw(t, "kv"),
		}
		leastGPUs += spec.MinReplicas * spec.GPUsPerReplica
		d.Roles.Set(role, spec)
	}
	if rapid.Bool().Draw(t, "max budget") {
		d.Budget.MaxGPUs = leastGPUs + rapid.IntRange(0, 40).Draw(t, "max gpus")
	}
	if rapid.Bool().Draw(t, "min budget") {
		d.Budget.MinGPUs = rapid.IntRange(0, leastGPUs).Draw(t, "min gpus")
	}
	d.Load.Enabled = d.Target != model.TargetSLA || rapid.Bool().Draw(t, "load")
	d.Load.MaxStep = rapid.IntRange(1, 4).Draw(t, "load step")
	d.Load.MinObservations = rapid.IntRange(1, 4).Draw(t, "min observations")
	d.Load.MaxSamples = rapid.IntRange(4, 16).Draw(t, "max samples")
	d.Load.WarmupS = rapid.SampledFrom([]float64{0, 60}).Draw(t, "warm-up")
	if d.Target == model.TargetLoad {
		d.Load.PrefillScaleUpQueueTokens, d.Load.PrefillScaleDownQueueTokens = new(3000.0), new(200.0)
		d.Load.DecodeScaleUpKVPercent, d.Load.DecodeScaleDownKVPercent = new(80.0), new(30.0)
	}
	d.Throughput.Enabled = d.Target == model.TargetSLA && (!d.Load.Enabled || rapid.Bool().Draw(t, "throughput"))
	d.Throughput.IntervalS = 60
	d.Throughput.Predictor = rapid.SampledFrom([]string{"constant", "kalman", "holt-winters", "arima"}).Draw(t, "predictor")
	d.Throughput.MaxStep = rapid.IntRange(1, 9).Draw(t, "throughput step")
	d.Throughput.IdleIntervals = rapid.IntRange(1, 3).Draw(t, "idle intervals")
	d.Behavior.ScaleUpWindowS = rapid.SampledFrom([]float64{0, 0, 20, 200}).Draw(t, "up window")
	d.Behavior.ScaleDownWindowS = rapid.SampledFrom([]float64{0, 0, 20, 200}).Draw(t, "down window")
	if d.Target == model.TargetSLA && rapid.Bool().Draw(t, "bench") {
		for i := range 5 {
			for _, role := range d.Topology.Roles() {
				tokens, kv := 500*(i+1), 4000*(i+1)
				s := sampleAt(role, "bench", engineFigures{ageS: 3600, wallS: 0.002 + 1e-4*float64(tokens*tokens%7) + 1e-3*float64(i), kv: kv})
				*s.Scheduled.PrefillRequests, *s.Scheduled.PrefillTokens = 1, tokens
				*s.Scheduled.DecodeRequests = 2*i + 1
				d.Throughput.Samples = append(d.Throughput.Samples, s)
			}
		}
	}
	if err := d.Validate(); err != nil {
		t.Fatalf("the generator drew an invalid deployment: %v", err)
	}
	return d
}

// drawObservation draws what may be seen of a deployment: any class of
// evidence, changes under way, engines that do not answer, and nonsense.
func drawObservation(t *rapid.T, d *model.Deployment, at time.Time) model.Observation {
	o := model.Observation{Deployment: d.Name, ConfigRevision: 1, ObservedAt: at}
	o.Loops = model.Loops{Load: rapid.IntRange(0, 5).Draw(t, "load due") > 0, Throughput: rapid.Bool().Draw(t, "throughput due")}
	class := func(name string) model.Evidence {
		return rapid.SampledFrom([]model.Evidence{model.Measured, model.Measured, model.Measured, model.Measured, model.Absent, model.Stale, model.Failed}).Draw(t, name)
	}
	o.Fleet = &model.FleetObservation{Status: class("fleet")}
	o.Engines = &model.EnginesObservation{Status: class("engines")}
	for _, role := range d.Topology.Roles() {
		ready := rapid.IntRange(0, 8).Draw(t, "ready")
		r := model.RoleReplicas{Ready: ready, Desired: ready}
		if rapid.IntRange(0, 4).Draw(t, "under way") == 0 {
			r.Desired = rapid.IntRange(0, 20).Draw(t, "desired")
			r.Pending = rapid.IntRange(0, 2).Draw(t, "pending")
		}
		if o.Fleet.Status == model.Measured || o.Fleet.Status == model.Stale {
			o.Fleet.Roles.Set(role, r)
		}
		reporting := ready
		if rapid.IntRange(0, 9).Draw(t, "one is missing") == 0 {
			reporting = max(0, ready-1)
		}
		busy := rapid.SampledFrom([]int{0, 1, 20}).Draw(t, "busy")
		for i := range reporting {
			s := sampleAt(role, fmt.Sprint(role, i), engineFigures{
				ageS: float64(rapid.IntRange(0, 200).Draw(t, "age")), wallS: float64(rapid.IntRange(0, 300).Draw(t, "wall ms")) / 1000,
				queuedPrefill: busy * rapid.IntRange(0, 900).Draw(t, "queued"), kv: busy * rapid.IntRange(0, 9000).Draw(t, "decode kv"),
			})
			*s.Scheduled.PrefillRequests = rapid.IntRange(0, 4).Draw(t, "requests")
			*s.Scheduled.PrefillTokens = *s.Scheduled.PrefillRequests * rapid.IntRange(0, 2000).Draw(t, "prompt")
			*s.Queued.DecodeKVTokens = busy * rapid.IntRange(0, 300).Draw(t, "queued kv")
			o.Engines.Samples = append(o.Engines.Samples, s)
		}
	}
	traffic := rapid.SampledFrom([]model.Evidence{model.Measured, model.Measured, model.Measured, model.Idle, model.Absent, model.Failed, model.Stale}).Draw(t, "traffic")
	o.Traffic = &model.TrafficObservation{Status: traffic, WindowS: 60}
	if traffic == model.Measured {
		o.Traffic.Requests = new(float64(rapid.SampledFrom([]int{0, 1, 100, 5000, 1_000_000}).Draw(t, "requests")))
		o.Traffic.MeanISL, o.Traffic.MeanOSL = new(float64(rapid.IntRange(0, 9000).Draw(t, "isl"))), new(float64(rapid.IntRange(0, 900).Draw(t, "osl")))
		if rapid.Bool().Draw(t, "hit known") {
			o.Traffic.KVHitRate = new(float64(rapid.IntRange(0, 120).Draw(t, "hit")) / 100)
		}
	}
	if err := o.Validate(); err != nil {
		t.Fatalf("the generator drew an invalid observation: %v", err)
	}
	return o
}

// history plays a random history, with the state and a copy that is encoded and
// decoded before each observation.
func history(t *rapid.T, check func(d *model.Deployment, state *planner.State, in planner.Input, decision *model.ScalingDecision)) {
	d := drawDeployment(t)
	state, err := planner.New(&d)
	if err != nil {
		t.Fatal(err)
	}
	at := scenarioStart
	for i := range rapid.IntRange(1, 25).Draw(t, "observations") {
		at = at.Add(time.Duration(rapid.SampledFrom([]int{5, 5, 10, 60, 600}).Draw(t, "seconds")) * time.Second)
		o := drawObservation(t, &d, at)
		in := planner.Input{
			ObservationID: fmt.Sprintf("observation-%d", i), Observation: &o,
			Configured: &model.DeploymentConfigured{Deployment: d.Name, Revision: 1, Spec: d},
		}
		before, err := state.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		decision, data, err := planner.Decide(state, in)
		if err != nil {
			// A decision with a number that JSON has no word for ends here too.
			t.Fatalf("observation %d: %v", i, err)
		}
		again, err := planner.UnmarshalState(before)
		if err != nil {
			t.Fatal(err)
		}
		if _, repeated, err := planner.Decide(again, in); err != nil || string(repeated) != string(data) {
			t.Fatalf("the same observation on the restored state: %v\n%s\nwant\n%s", err, repeated, data)
		}
		after, err := state.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if same, _ := again.MarshalBinary(); string(same) != string(after) {
			t.Fatalf("the restored state became\n%s\nwant\n%s", same, after)
		}
		unchanged, err := planner.UnmarshalState(before)
		if err != nil {
			t.Fatal(err)
		}
		check(&d, unchanged, in, &decision)
	}
}

// TestRestartAndRepetitionChangeNothing is what history checks by itself.
func TestRestartAndRepetitionChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history(t, func(*model.Deployment, *planner.State, planner.Input, *model.ScalingDecision) {})
	})
}

// TestTargetsStayWithinBoundsAndBudget: or the fleet is outside already, and
// the target is not further out.
func TestTargetsStayWithinBoundsAndBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history(t, func(d *model.Deployment, _ *planner.State, in planner.Input, got *model.ScalingDecision) {
			gpus, gpusDesired := 0, 0
			for _, role := range d.Topology.Roles() {
				spec, _ := d.Roles.Get(role)
				target, named := got.Target.Get(role)
				desired, _ := got.Desired.Get(role)
				if !named {
					if f := in.Observation.Fleet.Status; f == model.Measured || f == model.Stale {
						t.Fatalf("role %s has no target", role)
					}
					return
				}
				if got.Reasons.Load == model.ReasonNoFleetData || got.Reasons.Throughput == model.ReasonNoFleetData {
					if target != desired {
						t.Fatalf("%s: %d -> %d without an inventory", role, desired, target)
					}
					continue
				}
				if fleet := in.Observation.Fleet.Status; fleet != model.Measured && fleet != model.Stale {
					continue
				}
				if target < spec.MinReplicas || target > spec.MaxReplicas {
					t.Fatalf("%s: target %d, bounds %d..%d, desired %d", role, target, spec.MinReplicas, spec.MaxReplicas, desired)
				}
				gpus += target * spec.GPUsPerReplica
				gpusDesired += desired * spec.GPUsPerReplica
			}
			if limit := d.Budget.MaxGPUs; limit != model.Unbounded && gpus > limit {
				t.Fatalf("target has %d GPUs of at most %d (desired %d): %+v", gpus, limit, gpusDesired, got.Chain)
			}
		})
	})
}

// TestChainLeadsFromDesiredToTarget: each entry of a role starts where the last
// one ended, the stages come in their order, and the deltas are the difference.
func TestChainLeadsFromDesiredToTarget(t *testing.T) {
	order := map[model.Stage]int{
		model.StageThroughput: 0, model.StageLoad: 0, model.StageFloor: 1,
		model.StageStabilization: 2, model.StageStep: 3, model.StageBounds: 4, model.StageBudget: 5,
	}
	rapid.Check(t, func(t *rapid.T) {
		history(t, func(d *model.Deployment, _ *planner.State, _ planner.Input, got *model.ScalingDecision) {
			for _, role := range d.Topology.Roles() {
				at, named := got.Desired.Get(role)
				target, _ := got.Target.Get(role)
				delta, _ := got.Delta.Get(role)
				if !named {
					continue
				}
				stage := 0
				for _, c := range got.Chain {
					if c.Role != role {
						continue
					}
					if c.From != at || c.To == c.From || order[c.Stage] < stage {
						t.Fatalf("chain of %s breaks at %+v (was %d): %+v", role, c, at, got.Chain)
					}
					at, stage = c.To, order[c.Stage]
				}
				if desired, _ := got.Desired.Get(role); at != target || delta != target-desired {
					t.Fatalf("%s: chain ends at %d, target %d, delta %d of %d", role, at, target, delta, desired)
				}
			}
			if got.Action != model.Classify(got.Delta) {
				t.Fatalf("action %s of delta %+v", got.Action, got.Delta)
			}
		})
	})
}

// TestWindowsReverseNothing: stabilization may hold a change back, and never
// makes it larger or turns it around.
func TestWindowsReverseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history(t, func(_ *model.Deployment, _ *planner.State, _ planner.Input, got *model.ScalingDecision) {
			for _, c := range got.Chain {
				if c.Stage != model.StageStabilization {
					continue
				}
				b, _ := got.Desired.Get(c.Role)
				down := c.From < b && c.From < c.To && c.To <= b
				up := c.From > b && c.From > c.To && c.To >= b
				if !down && !up {
					t.Fatalf("%+v, desired %d", c, b)
				}
			}
		})
	})
}

// TestMoreLoadNeverLowersTheTarget: in the same state, with one engine more
// loaded and nothing else different.
func TestMoreLoadNeverLowersTheTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history(t, func(d *model.Deployment, state *planner.State, in planner.Input, got *model.ScalingDecision) {
			engines := in.Observation.Engines
			if len(d.Topology.Roles()) != 1 || len(engines.Samples) == 0 {
				return
			}
			more := *in.Observation
			grown := *engines
			grown.Samples = append([]model.EngineSample(nil), engines.Samples...)
			one := &grown.Samples[rapid.IntRange(0, len(grown.Samples)-1).Draw(t, "engine")]
			one.Queued.PrefillTokens = new(*one.Queued.PrefillTokens + rapid.IntRange(0, 50_000).Draw(t, "more queued"))
			one.Queued.DecodeKVTokens = new(*one.Queued.DecodeKVTokens + rapid.IntRange(0, 500_000).Draw(t, "more kv"))
			more.Engines = &grown
			with, _, err := planner.Decide(state, planner.Input{ObservationID: in.ObservationID, Observation: &more, Configured: in.Configured})
			if err != nil {
				t.Fatal(err)
			}
			role := d.Topology.Roles()[0]
			before, _ := got.Target.Get(role)
			after, _ := with.Target.Get(role)
			if after < before {
				t.Fatalf("target %d with more load, %d without: %+v and %+v", after, before, with.Reasons, got.Reasons)
			}
		})
	})
}

// TestExtremeFiguresStayNumbers: the largest figures that an observation may
// hold make decisions of finite numbers.
func TestExtremeFiguresStayNumbers(t *testing.T) {
	for _, topology := range []model.Topology{model.TopologyPrefill, model.TopologyDecode, model.TopologyAggregated} {
		for _, predictor := range []string{"constant", "kalman", "arima", "prophet", "holt-winters", "auto"} {
			d := model.DefaultDeployment()
			d.Name, d.Topology, d.Throughput.Predictor, d.Load.MinObservations = "chat", topology, predictor, 2
			role := topology.Roles()[0]
			d.Roles.Set(role, model.RoleSpec{GPUsPerReplica: 8, MinReplicas: 1, MaxReplicas: math.MaxInt32, Engine: model.Engine{MaxNumBatchedTokens: 1}})
			state, err := planner.New(&d)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				figure := []float64{model.MaxFigure, 1e-3, 1, 0}[i%4]
				s := sampleAt(role, "w", engineFigures{ageS: 1, wallS: max(figure, 1e-9), queuedPrefill: int(figure), kv: int(figure)})
				*s.Scheduled.PrefillRequests, *s.Scheduled.PrefillTokens = 1, int(figure)
				o := model.Observation{
					Deployment: "chat", ConfigRevision: 1, ObservedAt: scenarioStart.Add(time.Duration(i) * time.Minute), Loops: model.Loops{Load: true, Throughput: true},
					Fleet:   &model.FleetObservation{Status: model.Measured},
					Traffic: &model.TrafficObservation{Status: model.Measured, WindowS: 1e-3, Requests: &figure, MeanISL: &figure, MeanOSL: &figure, KVHitRate: &figure},
					Engines: &model.EnginesObservation{Status: model.Measured, Samples: []model.EngineSample{s}},
				}
				o.Fleet.Roles.Set(role, model.RoleReplicas{Ready: 1, Desired: 1})
				if err := o.Validate(); err != nil {
					t.Fatal(err)
				}
				if _, _, err := planner.Decide(state, planner.Input{
					ObservationID: "o", Observation: &o, Configured: &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: d},
				}); err != nil {
					t.Fatalf("%s, %s, observation %d: %v", topology, predictor, i, err)
				}
				state = reload(t, state)
			}
		}
	}
}

func FuzzUnmarshalState(f *testing.F) {
	d := model.DefaultDeployment()
	d.Name, d.Topology, d.Throughput.Predictor = "chat", model.TopologyAggregated, "kalman"
	d.Roles.Set(model.Aggregated, model.RoleSpec{MinReplicas: 1, MaxReplicas: 4, Engine: model.Engine{MaxNumBatchedTokens: 2048}})
	state, err := planner.New(&d)
	if err != nil {
		f.Fatal(err)
	}
	o := model.Observation{
		Deployment: "chat", ConfigRevision: 1, ObservedAt: scenarioStart, Loops: model.Loops{Load: true, Throughput: true},
		Fleet:   &model.FleetObservation{Status: model.Measured},
		Traffic: &model.TrafficObservation{Status: model.Measured, WindowS: 60, Requests: new(5.0), MeanISL: new(900.0), MeanOSL: new(90.0)},
		Engines: &model.EnginesObservation{Status: model.Measured, Samples: []model.EngineSample{sampleAt(model.Aggregated, "w", engineFigures{ageS: 9, wallS: 0.02, kv: 5000})}},
	}
	o.Fleet.Roles.Set(model.Aggregated, model.RoleReplicas{Ready: 1, Desired: 1})
	in := planner.Input{ObservationID: "o", Observation: &o, Configured: &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: d}}
	if _, _, err := planner.Decide(state, in); err != nil {
		f.Fatal(err)
	}
	seed, err := state.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		restored, err := planner.UnmarshalState(data)
		if err != nil {
			return
		}
		if _, _, err := planner.Decide(restored, in); err != nil {
			t.Error(err)
		}
	})
}

// FuzzObservation decides whatever is a valid observation, on a deployment of
// each topology: nothing panics, and every decision can be written.
func FuzzObservation(f *testing.F) {
	_, busy := busyFleet(2, "constant")
	busy.ObservedAt = scenarioStart
	busy.Loops.Throughput = true
	busy.Traffic = &model.TrafficObservation{Status: model.Measured, WindowS: 180, Requests: new(5.0), MeanISL: new(900.0), MeanOSL: new(90.0), KVHitRate: new(0.5)}
	seed, err := json.Marshal(busy)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"deployment": "chat", "observed_at": "2026-01-05T08:00:05Z", "loops": {"load": true, "throughput": true}, "fleet": {"status": "stale", "roles": {"aggregated": {"ready": 1, "desired": 2, "pending": 1}}}, "traffic": {"status": "idle", "window_s": 60}, "engines": {"status": "measured", "samples": [{"role": "aggregated", "worker": "w", "wall_time_s": 0, "scheduled": {}, "queued": {"prefill_tokens": 3}}]}}`))
	var deployments []model.Deployment
	for _, topology := range []model.Topology{model.TopologyDisaggregated, model.TopologyPrefill, model.TopologyDecode, model.TopologyAggregated} {
		d := model.DefaultDeployment()
		d.Name, d.Topology, d.Throughput.Predictor, d.Load.MinObservations = "chat", topology, "kalman", 1
		for _, role := range topology.Roles() {
			d.Roles.Set(role, model.RoleSpec{GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: 9, Engine: model.Engine{MaxNumBatchedTokens: 2048}})
		}
		deployments = append(deployments, d)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var o model.Observation
		if json.Unmarshal(data, &o) != nil || o.Validate() != nil {
			return
		}
		for i := range deployments {
			state, err := planner.New(&deployments[i])
			if err != nil {
				t.Fatal(err)
			}
			in := planner.Input{ObservationID: "o", Observation: &o, Configured: &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: deployments[i]}}
			for range 2 {
				if _, _, err := planner.Decide(state, in); err != nil {
					t.Fatal(err)
				}
			}
			reload(t, state)
		}
	})
}
