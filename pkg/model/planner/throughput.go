package planner

import (
	"math"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/perf"
)

// maxHitRate bounds what a KV hit rate discounts: the last block of a prompt is
// computed even when all of it is in the cache.
const maxHitRate = 0.95

// staleFloorIntervals is the age, in throughput intervals without evidence of
// the traffic, after which a floor still stands and is warned of.
const staleFloorIntervals = 3

// proposeThroughput sizes every role for the traffic that is forecast. While
// the load loop is on the result is a floor under its proposals; while it is
// off the result is the proposal.
func (d *decision) proposeThroughput() {
	switch {
	case !d.throughputOn():
		d.throughputReason(model.ReasonDisabled)
		return
	case !d.obs.Loops.Throughput:
		d.throughputReason(model.ReasonNotDue)
	case !d.known:
		d.throughputReason(model.ReasonNoFleetData)
	default:
		d.sizeForTraffic()
	}
	d.showFloors()
}

func (d *decision) sizeForTraffic() {
	class := d.trafficClass()
	if class != model.Measured && class != model.Idle {
		d.throughputReason(model.ReasonNoTrafficData)
		return
	}
	expected, ok := d.forecast()
	if class == model.Idle {
		d.sizeForIdleness()
		return
	}
	if !ok {
		d.throughputReason(model.ReasonPredictFailed)
		return
	}
	d.sizeFor(expected)
}

// sizeForIdleness keeps what there is until enough windows in a row were idle,
// and then lets it fall to the minimum. Forecasts have no say: a model that
// was fitted to traffic expects traffic.
func (d *decision) sizeForIdleness() {
	for i := range d.roles {
		r := &d.roles[i]
		if d.state.traffic.idle >= d.spec.Throughput.IdleIntervals {
			d.size(r, r.spec.MinReplicas)
			continue
		}
		r.throughput = proposal{reason: model.ReasonNoChange}
		if !d.spec.Load.Enabled {
			r.throughput.replicas, r.throughput.made = r.desired, true
		}
	}
}

// demand is the traffic of the next window.
type demand struct{ rps, isl, osl, hitRate float64 }

// forecast predicts the traffic of the next window, and shows it.
func (d *decision) forecast() (demand, bool) {
	t := &d.state.traffic
	if t.predictors == nil {
		return demand{}, false
	}
	requests, isl, osl := t.predictors.requests.Forecast(), t.predictors.isl.Forecast(), t.predictors.osl.Forecast()
	for _, f := range [...]model.Warning{requests.Warning, isl.Warning, osl.Warning} {
		d.warn(f)
	}
	rps := requests.Value / d.obs.Traffic.WindowS
	d.out.Forecast = &model.Forecast{
		Predictor: d.spec.Throughput.Predictor, Requests: requests.Value, RPS: rps, ISL: isl.Value, OSL: osl.Value, KVHitRate: t.hitRate,
	}
	return demand{rps: rps, isl: isl.Value, osl: osl.Value, hitRate: d.state.hitRate()}, true
}

// hitRate returns the share of prompt tokens that is taken to be in the cache.
func (s *State) hitRate() float64 {
	if s.traffic.hitRate == nil {
		return 0
	}
	return min(max(*s.traffic.hitRate, 0), maxHitRate)
}

func (d *decision) sizeFor(expected demand) {
	ready := true
	rates := make([]float64, len(d.roles))
	for i := range d.roles {
		rates[i] = d.rate(d.roles[i].role, expected)
		ready = ready && rates[i] > 0
	}
	for i := range d.roles {
		r := &d.roles[i]
		switch {
		case rates[i] <= 0:
			r.throughput.reason = model.ReasonModelNotReady
		case !ready:
			r.throughput.reason = model.ReasonPartnerNotReady
		default:
			d.size(r, max(wholeUp(expected.rps/rates[i]), r.spec.MinReplicas))
		}
	}
}

// wholeUp rounds a number of replicas up. Beyond what any fleet has it says
// 2^31-1, which the bounds cut.
func wholeUp(n float64) int { return int(min(math.Ceil(n), math.MaxInt32)) }

// rate returns the requests per second that one engine of a role serves within
// the SLA, shows it, and warns of an SLA that a single request breaks. It is 0
// while the role's model is not ready.
func (d *decision) rate(role model.Role, expected demand) float64 {
	m, sla, c := &d.state.models, d.spec.SLA, &d.out.Capacity
	var rps float64
	var shown **float64
	switch role {
	case model.Prefill:
		var ttftMs float64
		rps, ttftMs = m.prefill.Rate(expected.isl * (1 - expected.hitRate))
		if ttftMs > sla.TTFTMs {
			d.warn(model.WarningTTFTUnreachable)
		}
		shown = &c.PrefillRPS
	case model.Decode:
		var reachable bool
		rps, reachable = m.decode.Rate(sla.ITLMs, expected.isl, expected.osl)
		if !reachable {
			d.warn(model.WarningITLUnreachable)
		}
		shown = &c.DecodeRPS
	case model.Aggregated:
		var within perf.Reach
		rps, within = m.aggregated.Rate(sla.TTFTMs, sla.ITLMs, expected.isl, expected.osl, expected.hitRate)
		if !within.TTFT {
			d.warn(model.WarningTTFTUnreachable)
		}
		if !within.ITL {
			d.warn(model.WarningITLUnreachable)
		}
		shown = &c.AggregatedRPS
	}
	if rps > 0 {
		*shown = &rps
	}
	return rps
}

// size makes a number the role's floor, or its proposal while the load loop is off.
func (d *decision) size(r *roleDecision, replicas int) {
	if d.spec.Load.Enabled {
		d.state.floors.Set(r.role, replicas)
		r.throughput.reason = model.ReasonSetLowerBound
		return
	}
	r.throughput = proposal{replicas: replicas, made: true, reason: model.ReasonScale}
	if replicas == r.desired {
		r.throughput.reason = model.ReasonNoChange
	}
}

// showFloors writes the floors, min_replicas before the first result, and warns
// of one that has had no evidence for long.
func (d *decision) showFloors() {
	if !d.spec.Load.Enabled {
		return
	}
	stands := false
	for _, r := range d.roles {
		floor, set := d.state.floors.Get(r.role)
		if !set {
			floor = r.spec.MinReplicas
		}
		stands = stands || set
		d.out.Floors.Set(r.role, floor)
	}
	limit := time.Duration(staleFloorIntervals * d.spec.Throughput.IntervalS * float64(time.Second))
	if stands && d.now.Sub(d.state.traffic.evidenceAt) > limit {
		d.warn(model.WarningFloorWithoutEvidence)
	}
}

func (d *decision) throughputReason(reason model.Reason) {
	for i := range d.roles {
		d.roles[i].throughput.reason = reason
	}
}
