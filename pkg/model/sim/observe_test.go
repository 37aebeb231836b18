package sim_test

import (
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
)

// TestObserve wants observations that every decider takes, with the class that
// fits: nothing before time has passed, then idleness, then figures.
func TestObserve(t *testing.T) {
	spec := model.DefaultDeployment()
	spec.Name, spec.Topology = "chat", model.TopologyAggregated
	spec.Roles.Set(model.Aggregated, model.RoleSpec{MinReplicas: 1, MaxReplicas: 4})
	spec.Source = &model.Source{Simulated: &model.SimulatedSource{Speed: 1, RateMultiplier: 1, ColdStartS: 60}}
	config, err := sim.ConfigOf(&spec)
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := sim.New(config, sim.NewRequests([]sim.Request{{At: 200 * time.Second, ISL: 1000, OSL: 50}}))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		at       time.Duration
		loops    model.Loops
		traffic  model.Evidence
		requests float64
		windowS  float64
	}{
		{0, model.Loops{Load: true}, model.Absent, 0, 0},
		{5 * time.Second, model.Loops{Load: true}, model.Idle, 0, 5},
		{180 * time.Second, model.Loops{Load: true, Throughput: true}, model.Idle, 0, 180},
		{200 * time.Second, model.Loops{Load: true}, model.Absent, 1, 60}, // it has come, and no answer is complete
		{210 * time.Second, model.Loops{Load: true}, model.Measured, 1, 60},
		{360 * time.Second, model.Loops{Load: true, Throughput: true}, model.Measured, 1, 180},
	} {
		if err := fleet.Advance(c.at); err != nil {
			t.Fatal(err)
		}
		got := model.Observation{Deployment: "chat", ConfigRevision: 1, ObservedAt: start.Add(c.at), Loops: c.loops}
		fleet.Observe(&spec, &got)
		if err := got.Validate(); err != nil {
			t.Fatalf("at %v: %v", c.at, err)
		}
		if got.Traffic.Status != c.traffic || got.Traffic.WindowS != c.windowS || got.Traffic.Requests != nil && *got.Traffic.Requests != c.requests {
			t.Errorf("at %v the traffic is %+v, want %s with %v requests of %v s", c.at, got.Traffic, c.traffic, c.requests, c.windowS)
		}
		if r, ok := got.Fleet.Roles.Get(model.Aggregated); !ok || r != (model.RoleReplicas{Ready: 1, Desired: 1}) {
			t.Errorf("at %v the fleet is %+v", c.at, got.Fleet)
		}
		if got.Engines.Status != model.Measured || len(got.Engines.Samples) != 1 {
			t.Errorf("at %v the engines are %+v", c.at, got.Engines)
		}
	}
}
