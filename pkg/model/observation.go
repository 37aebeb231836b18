package model

import (
	"fmt"
	"slices"
	"time"
)

// Evidence is the class of what a source said. No stage conflates the classes:
// no number is not zero.
type Evidence string

// The classes of evidence.
const (
	// Measured is a figure, zero included.
	Measured Evidence = "measured"
	// Idle is measured too: there were no requests, so averages do not exist.
	Idle Evidence = "idle"
	// Absent means that the source answers and the series is not there.
	Absent Evidence = "absent"
	// Stale means that the newest figure is older than allowed.
	Stale Evidence = "stale"
	// Failed means that the query failed.
	Failed Evidence = "failed"
)

// Observation is all that was seen of one deployment at one instant. What it
// does not carry is left out, never written as zero.
type Observation struct {
	Deployment     string    `json:"deployment"`
	ConfigRevision int       `json:"config_revision"`
	ObservedAt     time.Time `json:"observed_at"`
	// Loops says which loops this observation serves. The collector owns the
	// schedule, so that a replay needs no clock.
	Loops   Loops               `json:"loops"`
	Fleet   *FleetObservation   `json:"fleet,omitempty"`
	Traffic *TrafficObservation `json:"traffic,omitempty"`
	Engines *EnginesObservation `json:"engines,omitempty"`
}

// Loops tells which control loops are due.
type Loops struct {
	Load       bool `json:"load"`
	Throughput bool `json:"throughput"`
}

// FleetObservation is the inventory: how many replicas each role has.
type FleetObservation struct {
	Status Evidence              `json:"status"`
	AgeS   *float64              `json:"age_s,omitempty"`
	Error  string                `json:"error,omitempty"`
	Roles  PerRole[RoleReplicas] `json:"roles,omitzero"`
}

// RoleReplicas counts the replicas of one role.
type RoleReplicas struct {
	// Ready replicas serve now.
	Ready int `json:"ready"`
	// Desired is what the fleet is set to.
	Desired int `json:"desired"`
	// Pending replicas cannot be placed; those that are merely starting do not count.
	Pending int `json:"pending"`
}

// TrafficObservation is the traffic of a window that ends at the observation.
// Averages are absent when nothing was there to average.
type TrafficObservation struct {
	Status Evidence `json:"status"`
	AgeS   *float64 `json:"age_s,omitempty"`
	Error  string   `json:"error,omitempty"`
	// WindowS is the length of the window in seconds.
	WindowS float64 `json:"window_s,omitzero"`
	// Requests counts the requests of the window. It may be fractional: a
	// source that extrapolates counters to the window's edges says so.
	Requests      *float64 `json:"requests,omitempty"`
	MeanISL       *float64 `json:"mean_isl,omitempty"`
	MeanOSL       *float64 `json:"mean_osl,omitempty"`
	KVHitRate     *float64 `json:"kv_hit_rate,omitempty"`
	MeanTTFTMs    *float64 `json:"mean_ttft_ms,omitempty"`
	P95TTFTMs     *float64 `json:"p95_ttft_ms,omitempty"`
	MeanITLMs     *float64 `json:"mean_itl_ms,omitempty"`
	P95ITLMs      *float64 `json:"p95_itl_ms,omitempty"`
	MeanDurationS *float64 `json:"mean_duration_s,omitempty"`
}

// EnginesObservation holds the newest sample of every engine that was seen.
type EnginesObservation struct {
	Status  Evidence       `json:"status"`
	AgeS    *float64       `json:"age_s,omitempty"`
	Error   string         `json:"error,omitempty"`
	Samples []EngineSample `json:"samples,omitempty"`
}

// EngineSample is the state of one engine rank at its last iteration.
type EngineSample struct {
	Role   Role   `json:"role"`
	Worker string `json:"worker"`
	// DPRank is the data-parallel rank within the worker.
	DPRank int `json:"dp_rank"`
	// AgeS is how long the engine has been ready.
	AgeS *float64 `json:"age_s,omitempty"`
	// WallTimeS is the duration of the iteration; 0 is an idle heartbeat.
	WallTimeS *float64   `json:"wall_time_s,omitempty"`
	Scheduled EngineLoad `json:"scheduled"`
	Queued    EngineLoad `json:"queued"`
}

// EngineLoad is the work in one state (scheduled or queued) of an engine. A
// field that the engine does not publish is absent.
type EngineLoad struct {
	PrefillRequests *int `json:"prefill_requests,omitempty"`
	PrefillTokens   *int `json:"prefill_tokens,omitempty"`
	DecodeRequests  *int `json:"decode_requests,omitempty"`
	DecodeKVTokens  *int `json:"decode_kv_tokens,omitempty"`
}

// Validate reports the first thing that makes the observation unusable. A
// class that is missing evidence is valid; a figure that contradicts its class
// or cannot be is not.
func (o *Observation) Validate() error {
	if o.Deployment == "" {
		return fmt.Errorf("observation: deployment is missing")
	}
	if o.ObservedAt.IsZero() {
		return fmt.Errorf("observation of %s: observed_at is missing", o.Deployment)
	}
	v := figures{of: "observation of ", name: o.Deployment}
	if f := o.Fleet; f != nil {
		v.class("fleet", f.Status, Measured, Absent, Stale, Failed)
		v.notNegative("fleet.age_s", f.AgeS)
		for i, role := range AllRoles {
			if r, ok := f.Roles.Get(role); ok {
				v.counts(fleetRoles[i], r.Ready, r.Desired, r.Pending)
			}
		}
	}
	if t := o.Traffic; t != nil {
		v.traffic(t)
	}
	if e := o.Engines; e != nil {
		v.class("engines", e.Status, Measured, Absent, Stale, Failed)
		v.notNegative("engines.age_s", e.AgeS)
		for i := range e.Samples {
			if err := e.Samples[i].Validate(); err != nil && v.err == nil {
				v.err = fmt.Errorf("%s%s: engines.samples[%d]: %w", v.of, v.name, i, err)
			}
		}
	}
	return v.err
}

// Validate reports the first figure of the sample that cannot be.
func (s *EngineSample) Validate() error {
	v := figures{of: "sample"}
	switch s.Role {
	case Prefill, Decode, Aggregated:
	default:
		return fmt.Errorf("role %q is not one of prefill, decode, aggregated", string(s.Role))
	}
	v.notNegative("age_s", s.AgeS)
	v.notNegative("wall_time_s", s.WallTimeS)
	for _, load := range [...]struct {
		name string
		EngineLoad
	}{{"scheduled", s.Scheduled}, {"queued", s.Queued}} {
		for _, n := range [...]*int{load.PrefillRequests, load.PrefillTokens, load.DecodeRequests, load.DecodeKVTokens} {
			if n != nil {
				v.counts(load.name, *n)
			}
		}
	}
	return v.err
}

// MaxFigure is the largest figure that an observation may hold. No fleet comes
// near it; below it, counts are exact in float64, and no sum of squares of them
// leaves its range.
const MaxFigure = 1e15

// minWindowS is the shortest window that traffic is counted over, in seconds.
const minWindowS = 1e-3

// fleetRoles are the paths of the fleet's roles, in the order of AllRoles.
var fleetRoles = [len(AllRoles)]string{"fleet.roles.prefill", "fleet.roles.decode", "fleet.roles.aggregated"}

// figures collects the first problem among figures of one thing. As long as there
// is none, it allocates nothing: every observation of a log is read through it.
type figures struct {
	of, name string
	err      error
}

func (v *figures) fail(format string, args ...any) {
	if v.err == nil {
		v.err = fmt.Errorf("%s%s: %w", v.of, v.name, fmt.Errorf(format, args...))
	}
}

func (v *figures) class(name string, got Evidence, allowed ...Evidence) {
	for _, c := range allowed {
		if got == c {
			return
		}
	}
	v.fail("%s.status is %q, want one of %v", name, string(got), slices.Clone(allowed))
}

func (v *figures) notNegative(name string, value *float64) {
	if value != nil && !(*value >= 0 && *value <= MaxFigure) {
		v.fail("%s is %v, want a number from 0 to %v", name, *value, float64(MaxFigure))
	}
}

func (v *figures) counts(name string, counts ...int) {
	for _, n := range counts {
		if n < 0 || n > MaxFigure {
			v.fail("%s holds %d, want a number from 0 to %v", name, n, float64(MaxFigure))
		}
	}
}

func (v *figures) traffic(t *TrafficObservation) {
	v.class("traffic", t.Status, Measured, Idle, Absent, Stale, Failed)
	for _, f := range [...]struct {
		name  string
		value *float64
	}{
		{"age_s", t.AgeS},
		{"requests", t.Requests},
		{"mean_isl", t.MeanISL},
		{"mean_osl", t.MeanOSL},
		{"kv_hit_rate", t.KVHitRate},
		{"mean_ttft_ms", t.MeanTTFTMs},
		{"p95_ttft_ms", t.P95TTFTMs},
		{"mean_itl_ms", t.MeanITLMs},
		{"p95_itl_ms", t.P95ITLMs},
		{"mean_duration_s", t.MeanDurationS},
	} {
		if f.value != nil {
			v.notNegative("traffic."+f.name, f.value)
		}
	}
	switch t.Status {
	case Measured:
		if t.Requests == nil || t.MeanISL == nil || t.MeanOSL == nil || !(t.WindowS >= minWindowS && t.WindowS <= MaxFigure) {
			v.fail("traffic is measured and lacks window_s, requests, mean_isl or mean_osl")
		}
	case Idle:
		if t.Requests != nil && *t.Requests != 0 {
			v.fail("traffic is idle and counts %v requests", *t.Requests)
		}
		if !(t.WindowS >= minWindowS && t.WindowS <= MaxFigure) {
			v.fail("traffic is idle and lacks window_s")
		}
	}
}
