// Package reporttest makes the facts of days for the tests of what is shown.
package reporttest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"tidemark.dev/pkg/model"
)

// Midnight is when days begin.
var Midnight = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// TicksOfDay are the ticks of 5 s of a day.
const TicksOfDay = 17_280

// Fact is one event as projections take it.
type Fact struct {
	ID   string
	Fact any
}

// Day describes the day of a deployment.
type Day struct {
	Name string
	Seed uint64
	// Ticks is how often it is observed, every Step, of which every third minute
	// or 36 steps by traffic, too.
	Ticks int
	Step  time.Duration
	// ActiveAt is when it is activated; later than the day is never.
	ActiveAt time.Time
}

func ptr[T any](v T) *T { return &v }

func pair(prefill, decode int) model.PerRole[int] {
	return model.PerRole[int]{Prefill: &prefill, Decode: &decode}
}

func spec(name string, advisory bool, step, window time.Duration) model.Deployment {
	d := model.DefaultDeployment()
	d.Load.IntervalS, d.Throughput.IntervalS = step.Seconds(), window.Seconds()
	d.Name, d.Advisory = name, advisory
	role := model.RoleSpec{GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: 12, Engine: model.Engine{MaxKVTokens: 590_818}}
	d.Roles.Set(model.Prefill, role)
	d.Roles.Set(model.Decode, role)
	d.Budget = model.Budget{MinGPUs: -1, MaxGPUs: 32}
	return d
}

// Generate returns the facts of the day: diurnal load over a fleet of a fixed
// size that is advised until ActiveAt and scaled from there on, with an hour of
// failing traffic queries, minutes of stale engines, a collector that is away for
// 20 minutes, and refused and failed actuations. Equal days give equal facts.
func (d Day) Generate() []Fact {
	name, activeAt, step := d.Name, d.ActiveAt, d.Step
	every := 36
	if step > time.Minute {
		every = 3
	}
	window := time.Duration(every) * step
	r := rand.New(rand.NewPCG(d.Seed, 1))
	var out []Fact
	add := func(id string, f any) { out = append(out, Fact{id, f}) }
	uuid := func() string {
		a, b := r.Uint64(), r.Uint64()
		return fmt.Sprintf("%08x-%04x-5%03x-%04x-%012x", uint32(a>>32), uint16(a>>16), a&0xfff, uint16(b>>48), b&0xffffffffffff)
	}
	add("c1", &model.DeploymentConfigured{Deployment: name, Revision: 1, Spec: spec(name, true, step, window), ChangedBy: "operator", Reason: "first"})
	const cold = 40 * time.Second
	type pool struct {
		ready, desired int
		since          time.Time
	}
	pools := map[model.Role]*pool{model.Prefill: {ready: 4, desired: 4}, model.Decode: {ready: 6, desired: 6}}
	prefill, decode := pools[model.Prefill], pools[model.Decode]
	floors := pair(1, 1)
	var plan *model.Forecast
	var capacity model.Capacity
	revision, epoch, mode := 1, 0, model.Advisory
	var pending struct {
		id string
		at time.Time
		model.PerRole[model.Change]
	}
	lastStep := Midnight
	noise := 0.0
	for i := range d.Ticks {
		at := Midnight.Add(time.Duration(i) * step)
		hour := at.Sub(Midnight).Hours()
		noise = 0.98*noise + 0.03*r.NormFloat64()
		rate := max(0, 7+6*math.Sin((hour-9)/24*2*math.Pi)+1.2*math.Sin(hour*2.3)+3*noise)
		if hour > 2.2 && hour < 2.6 {
			rate = 0
		}
		if hour > 19 && hour < 19.4 {
			rate += 5
		}
		if !at.Before(activeAt) && epoch == 0 {
			revision, epoch, mode = 2, 1, model.Active
			add("c2", &model.DeploymentConfigured{Deployment: name, Revision: 2, Epoch: 1, Spec: spec(name, false, step, window), ChangedBy: "operator", Reason: "a night of good advice"})
		}
		for _, p := range pools {
			if p.ready != p.desired && at.Sub(p.since) >= cold {
				p.ready = p.desired
			}
		}
		if pending.id != "" && prefill.ready == prefill.desired && decode.ready == decode.desired {
			add(uuid(), &model.ScalingSettled{
				Actuation: model.Actuation{Deployment: name, DecisionID: pending.id, Epoch: epoch, ObservedAt: pending.at, OccurredAt: at, Connector: "kubernetes", Roles: pending.PerRole},
				SettleS:   at.Sub(pending.at).Seconds(),
			})
			pending.id = ""
		}
		away := hour > 16 && hour < 16.33
		if away {
			continue
		}
		due := i%every == 0
		o := &model.Observation{Deployment: name, ConfigRevision: revision, ObservedAt: at, Loops: model.Loops{Load: true, Throughput: due}}
		o.Fleet = &model.FleetObservation{Status: model.Measured, AgeS: ptr(0.4)}
		o.Fleet.Roles.Set(model.Prefill, model.RoleReplicas{Ready: prefill.ready, Desired: prefill.desired})
		o.Fleet.Roles.Set(model.Decode, model.RoleReplicas{Ready: decode.ready, Desired: decode.desired})
		prefillLoad, decodeLoad := rate/(3.3*float64(prefill.ready)), rate/(1.9*float64(decode.ready))
		ttft := 120 + 190*prefillLoad*prefillLoad + 700*max(0, prefillLoad-1) + 12*r.NormFloat64()
		itl := 12 + 22*decodeLoad + 60*max(0, decodeLoad-1.05) + r.NormFloat64()
		trafficFailed := hour > 5 && hour < 6
		if due {
			t := &model.TrafficObservation{Status: model.Measured, AgeS: ptr(1.0), WindowS: window.Seconds()}
			switch {
			case trafficFailed:
				t = &model.TrafficObservation{Status: model.Failed, Error: "query traffic: the server answered 503"}
			case rate == 0:
				t.Status, t.Requests = model.Idle, ptr(0.0)
			default:
				t.Requests = ptr(math.Round(rate * window.Seconds()))
				t.MeanISL, t.MeanOSL, t.KVHitRate = ptr(1150+180*math.Sin(hour)), ptr(210+25*math.Cos(hour)), ptr(0.31)
				t.MeanTTFTMs, t.P95TTFTMs = ptr(ttft), ptr(ttft*1.9)
				t.MeanITLMs, t.P95ITLMs = ptr(itl), ptr(itl*1.5)
			}
			o.Traffic = t
		}
		enginesStale := hour > 13 && hour < 13.2
		o.Engines = &model.EnginesObservation{Status: model.Measured, AgeS: ptr(0.4)}
		if enginesStale {
			o.Engines = &model.EnginesObservation{Status: model.Stale, Error: "the newest sample is 42 s old"}
		} else {
			for _, role := range []model.Role{model.Prefill, model.Decode} {
				for w := range pools[role].ready {
					s := model.EngineSample{Role: role, Worker: fmt.Sprintf("%s-%d", role, w), AgeS: ptr(600.0), WallTimeS: ptr(0.03)}
					if role == model.Prefill {
						s.Queued.PrefillTokens = ptr(int(max(0, 2600*(prefillLoad-0.5)+900*r.NormFloat64())))
						s.Scheduled.PrefillTokens = ptr(int(4096 * min(1, prefillLoad)))
					} else {
						s.Scheduled.DecodeKVTokens = ptr(int(max(0, 330_000*decodeLoad+18_000*r.NormFloat64())))
						s.Scheduled.DecodeRequests = ptr(int(90 * decodeLoad))
					}
					o.Engines.Samples = append(o.Engines.Samples, s)
				}
			}
		}
		add(uuid(), o)

		d := &model.ScalingDecision{
			Deployment: name, ConfigRevision: revision, Epoch: epoch, Mode: mode, ObservationID: out[len(out)-1].ID,
			ObservedAt: at, ValidUntil: at.Add(time.Minute), Action: model.Hold, Warnings: []model.Warning{}, PlannerVersion: "1",
			Current: pair(prefill.ready, decode.ready), Desired: pair(prefill.desired, decode.desired),
			Reasons:  model.Reasons{Load: model.ReasonNoChange, Throughput: model.ReasonNotDue},
			Evidence: model.DecisionEvidence{Fleet: model.Measured, Engines: o.Engines.Status, OldestAgeS: ptr(1.0)},
		}
		if due {
			d.Evidence.Traffic = o.Traffic.Status
			if o.Traffic.Requests != nil {
				d.Reasons.Throughput = model.ReasonSetLowerBound
				plan = &model.Forecast{Predictor: "arima", RPS: rate * (1 + 0.07*r.NormFloat64()), ISL: 1160, OSL: 209, KVHitRate: ptr(0.3)}
				plan.Requests = plan.RPS * window.Seconds()
				capacity = model.Capacity{PrefillRPS: ptr(3.9), DecodeRPS: ptr(2.2)}
				floors = pair(max(1, int(math.Ceil(plan.RPS/3.9))), max(1, int(math.Ceil(plan.RPS/2.2))))
			} else {
				d.Reasons.Throughput = model.ReasonNoTrafficData
			}
		}
		d.Forecast, d.Capacity, d.Floors = plan, capacity, floors
		target := pair(prefill.desired, decode.desired)
		busy := prefill.ready != prefill.desired || decode.ready != decode.desired
		switch {
		case enginesStale:
			d.Reasons.Load = model.ReasonNoFPMData
		case busy:
			d.Reasons.Load = model.ReasonScalingInProgress
		default:
			d.Estimates = model.Estimates{TTFTMs: ptr(max(1, ttft*(1.06+0.06*r.NormFloat64()))), ITLMs: ptr(max(1, itl*(0.97+0.03*r.NormFloat64())))}
			for _, p := range []struct {
				role      model.Role
				load, low float64
			}{{model.Prefill, prefillLoad, 0.62}, {model.Decode, decodeLoad, 0.66}} {
				from, _ := target.Get(p.role)
				floor, _ := floors.Get(p.role)
				to, reason := from, model.ReasonNoChange
				switch {
				case p.load > 1.02 && from < 12:
					to, reason = from+1, model.ReasonScaleUp
				case from > 1 && p.load*float64(from)/float64(from-1) < p.low*1.25 && at.Sub(lastStep) > 6*time.Minute:
					to, reason = from-1, model.ReasonScaleDown
				}
				if to != from {
					d.Chain = append(d.Chain, model.ChainEntry{Stage: model.StageLoad, Role: p.role, From: from, To: to, Reason: reason})
					d.Reasons.Load = reason
				}
				if to < floor {
					d.Chain = append(d.Chain, model.ChainEntry{Stage: model.StageFloor, Role: p.role, From: to, To: floor, Reason: model.ReasonFloor})
					to = floor
				}
				target.Set(p.role, to)
			}
		}
		d.Target = target
		tp, _ := target.Get(model.Prefill)
		td, _ := target.Get(model.Decode)
		d.Delta = pair(tp-prefill.desired, td-decode.desired)
		d.Action = model.Classify(d.Delta)
		d.GPUs = &model.GPUs{Current: 2 * (prefill.desired + decode.desired), Target: 2 * (tp + td), Min: -1, Max: 32}
		if prefillLoad > 1.5 {
			d.Warnings = append(d.Warnings, model.WarningTTFTUnreachable)
		}
		id := uuid()
		add(id, d)
		if mode != model.Active || d.Action == model.Hold {
			continue
		}
		a := model.Actuation{Deployment: name, DecisionID: id, Epoch: epoch, ObservedAt: at, OccurredAt: at.Add(200 * time.Millisecond), Connector: "kubernetes"}
		for _, role := range []model.Role{model.Prefill, model.Decode} {
			if n, _ := d.Delta.Get(role); n != 0 {
				to, _ := target.Get(role)
				a.Roles.Set(role, model.Change{From: pools[role].desired, To: to})
			}
		}
		switch outcome := r.Float64(); {
		case outcome < 0.08:
			add(uuid(), &model.ScalingRejected{Actuation: a, Reason: model.RejectedDrift, Detail: "decode is set to 5, the decision saw 4"})
		case outcome < 0.12:
			add(uuid(), &model.ScalingFailed{Actuation: a, Error: "patch scale of decode: the server timed out", Attempt: 1})
		default:
			add(uuid(), &model.ScalingApplied{Actuation: a})
			prefill.desired, decode.desired = tp, td
			prefill.since, decode.since, lastStep = at, at, at
			pending.id, pending.at, pending.PerRole = id, at, a.Roles
		}
	}
	return out
}
