package sim

import (
	"time"

	"tidemark.dev/pkg/model"
)

// displayWindow is the window of the traffic that is observed between the ticks
// of the throughput loop, for people to look at.
const displayWindow = time.Minute

// Observe fills in the evidence of an observation whose identity, instant and
// loops are set: what a collector would see of the fleet at present.
func (f *Fleet) Observe(spec *model.Deployment, observation *model.Observation) {
	observation.Fleet = f.observeInventory()
	observation.Engines = f.observeEngines()
	observation.Traffic = f.observeTraffic(spec, observation.Loops)
}

func (f *Fleet) observeInventory() *model.FleetObservation {
	fleet := &model.FleetObservation{Status: model.Measured, AgeS: new(0.0)}
	now := f.Inventory()
	for _, role := range f.topology.Roles() {
		if r, ok := now.Get(role); ok {
			fleet.Roles.Set(role, model.RoleReplicas{Ready: r.Ready, Desired: r.Desired, Pending: r.Pending})
		}
	}
	return fleet
}

func (f *Fleet) observeEngines() *model.EnginesObservation {
	engines := &model.EnginesObservation{Status: model.Measured, AgeS: new(0.0)}
	for _, sample := range f.Engines() {
		engines.Samples = append(engines.Samples, model.EngineSample{
			Role: sample.Role, Worker: sample.Worker, DPRank: sample.DPRank, AgeS: new(sample.AgeS), WallTimeS: new(sample.WallTimeS),
			Scheduled: loadOf(sample.Scheduled), Queued: loadOf(sample.Queued),
		})
	}
	if len(engines.Samples) == 0 {
		engines.Status, engines.Error = model.Absent, "no engine is ready"
	}
	return engines
}

func loadOf(load Load) model.EngineLoad {
	return model.EngineLoad{
		PrefillRequests: new(load.PrefillRequests), PrefillTokens: new(load.PrefillTokens),
		DecodeRequests: new(load.DecodeRequests), DecodeKVTokens: new(load.DecodeKVTokens),
	}
}

// observeTraffic returns the traffic of the throughput loop's window when that
// loop is due, and of the last minute otherwise.
func (f *Fleet) observeTraffic(spec *model.Deployment, loops model.Loops) *model.TrafficObservation {
	window := displayWindow
	if loops.Throughput {
		window = seconds(spec.Throughput.IntervalS)
	}
	seen, err := f.Traffic(window)
	if err != nil {
		return &model.TrafficObservation{Status: model.Failed, Error: err.Error()}
	}
	traffic := &model.TrafficObservation{
		Status: model.Measured, AgeS: new(0.0), WindowS: seen.Window.Seconds(), Requests: new(float64(seen.Requests)),
		MeanISL: seen.MeanISL, MeanOSL: seen.MeanOSL, MeanTTFTMs: seen.MeanTTFTMs, P95TTFTMs: seen.P95TTFTMs,
		MeanITLMs: seen.MeanITLMs, P95ITLMs: seen.P95ITLMs, MeanDurationS: seen.MeanDurationS,
	}
	switch {
	case !(traffic.WindowS > 0):
		return &model.TrafficObservation{Status: model.Absent, Error: "no time has passed yet"}
	case seen.Requests == 0:
		traffic.Status, traffic.MeanISL = model.Idle, nil
	case traffic.MeanOSL == nil:
		// Requests came and none was completed: how long their answers are is not known.
		traffic.Status, traffic.Error = model.Absent, "no request was completed in the window, so there is no mean_osl"
	}
	return traffic
}
