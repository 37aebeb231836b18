package planner_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// busyFleet returns a deployment under target sla and an observation of it:
// prefill and decode pools of the given size under load.
func busyFleet(engines int, predictor string) (model.Deployment, model.Observation) {
	d := model.DefaultDeployment()
	d.Name, d.Throughput.Predictor = "chat", predictor
	d.Budget.MaxGPUs = 8 * engines
	o := model.Observation{
		Deployment: "chat", ConfigRevision: 1, Loops: model.Loops{Load: true},
		Fleet:   &model.FleetObservation{Status: model.Measured, AgeS: new(0.4)},
		Engines: &model.EnginesObservation{Status: model.Measured, AgeS: new(0.4)},
	}
	for _, role := range d.Topology.Roles() {
		d.Roles.Set(role, model.RoleSpec{
			GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: 2 * engines,
			Engine: model.Engine{MaxNumBatchedTokens: 8192, MaxNumSeqs: 256, ContextLength: 131072, MaxKVTokens: 590_818},
		})
		o.Fleet.Roles.Set(role, model.RoleReplicas{Ready: engines, Desired: engines})
		for i := range engines {
			s := sampleAt(role, fmt.Sprintf("%s-%d", role, i), engineFigures{ageS: 600, wallS: 0.03, queuedPrefill: 900 * i % 4000, kv: 40_000 + 900*i%200_000})
			*s.Scheduled.PrefillRequests, *s.Scheduled.PrefillTokens, *s.Scheduled.DecodeRequests = 2, 2300, 40
			o.Engines.Samples = append(o.Engines.Samples, s)
		}
	}
	return d, o
}

// vary changes an observation's figures from one tick to the next.
func vary(o *model.Observation, tick int) {
	o.ObservedAt = scenarioStart.Add(time.Duration(5*tick) * time.Second)
	for i := range o.Engines.Samples {
		s := &o.Engines.Samples[i]
		*s.Scheduled.PrefillTokens = 1000 + (tick*37+i*11)%3000
		*s.Scheduled.DecodeKVTokens = 30_000 + (tick*911+i*77)%200_000
		*s.WallTimeS = 0.01 + 1e-5*float64(*s.Scheduled.PrefillTokens) + 5e-8*float64(*s.Scheduled.DecodeKVTokens)
	}
}

func BenchmarkStep(b *testing.B) {
	for _, engines := range []int{4, 32, 500} {
		b.Run(fmt.Sprintf("load tick of %d engines", 2*engines), func(b *testing.B) {
			benchmarkTicks(b, engines, "constant", false)
		})
	}
	for _, predictor := range []string{"constant", "kalman", "arima", "holt-winters"} {
		b.Run("throughput tick with "+predictor, func(b *testing.B) { benchmarkTicks(b, 4, predictor, true) })
	}
}

func benchmarkTicks(b *testing.B, engines int, predictor string, throughput bool) {
	d, o := busyFleet(engines, predictor)
	o.Loops.Throughput = throughput
	o.Traffic = &model.TrafficObservation{Status: model.Measured, WindowS: 180, Requests: new(0.0), MeanISL: new(1155.0), MeanOSL: new(211.0), KVHitRate: new(0.3)}
	state, err := planner.New(&d)
	if err != nil {
		b.Fatal(err)
	}
	configured := &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: d}
	tick := 0
	step := func() {
		tick++
		vary(&o, tick)
		*o.Traffic.Requests = float64(400 + tick%97*tick%31)
		planner.Step(state, planner.Input{ObservationID: "o", Observation: &o, Configured: configured})
	}
	for range 200 {
		step()
	}
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
}

// BenchmarkDay decides a day of load ticks of one deployment, every 5 s, with a
// throughput tick every 180 s.
func BenchmarkDay(b *testing.B) {
	const ticks = 24 * 3600 / 5
	d, o := busyFleet(4, "arima")
	o.Traffic = &model.TrafficObservation{Status: model.Measured, WindowS: 180, Requests: new(0.0), MeanISL: new(1155.0), MeanOSL: new(211.0), KVHitRate: new(0.3)}
	configured := &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: d}
	b.ReportAllocs()
	for b.Loop() {
		state, err := planner.New(&d)
		if err != nil {
			b.Fatal(err)
		}
		for tick := range ticks {
			vary(&o, tick)
			o.Loops.Throughput = tick%36 == 0
			*o.Traffic.Requests = 400 + 200*math.Sin(2*math.Pi*float64(tick)/ticks) + float64(tick*37%61)
			planner.Step(state, planner.Input{ObservationID: "o", Observation: &o, Configured: configured})
		}
	}
	b.ReportMetric(float64(b.N)*ticks/b.Elapsed().Seconds(), "steps/s")
}

// BenchmarkFleetOfDeployments decides one tick of each of 10,000 deployments.
func BenchmarkFleetOfDeployments(b *testing.B) {
	const deployments = 10_000
	d, o := busyFleet(4, "constant")
	configured := &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: d}
	states := make([]*planner.State, deployments)
	for i := range states {
		state, err := planner.New(&d)
		if err != nil {
			b.Fatal(err)
		}
		states[i] = state
	}
	b.ReportAllocs()
	for tick := 0; b.Loop(); tick++ {
		vary(&o, tick)
		for _, state := range states {
			planner.Step(state, planner.Input{ObservationID: "o", Observation: &o, Configured: configured})
		}
	}
	b.ReportMetric(float64(b.N)*deployments/b.Elapsed().Seconds(), "steps/s")
}

// BenchmarkDecide adds the encoding of the decision and its digest.
func BenchmarkDecide(b *testing.B) {
	d, o := busyFleet(4, "constant")
	state, err := planner.New(&d)
	if err != nil {
		b.Fatal(err)
	}
	configured := &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: d}
	b.ReportAllocs()
	for tick := 0; b.Loop(); tick++ {
		vary(&o, tick)
		if _, _, err := planner.Decide(state, planner.Input{ObservationID: "o", Observation: &o, Configured: configured}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkState encodes and decodes what a checkpoint holds.
func BenchmarkState(b *testing.B) {
	d, o := busyFleet(4, "arima")
	o.Loops.Throughput = true
	o.Traffic = &model.TrafficObservation{Status: model.Measured, WindowS: 180, Requests: new(0.0), MeanISL: new(1155.0), MeanOSL: new(211.0)}
	state, err := planner.New(&d)
	if err != nil {
		b.Fatal(err)
	}
	for tick := range 500 {
		vary(&o, tick)
		*o.Traffic.Requests = float64(400 + tick%97*tick%31)
		planner.Step(state, planner.Input{ObservationID: "o", Observation: &o, Configured: &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: d}})
	}
	data, err := state.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := state.MarshalBinary(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(data)), "bytes")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := planner.UnmarshalState(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
