package trial

import (
	"math"
	"slices"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
)

// FlapWindow is the time within which the opposite of a change of a role is a
// flap. Load that rises in the morning and falls in the evening is none.
const FlapWindow = 10 * time.Minute

// Result is what came of a trial. Its JSON is what tidemark simulate prints.
type Result struct {
	Deployment string `json:"deployment"`
	// Held is true if decisions were made and not applied.
	Held      bool     `json:"held"`
	DurationS float64  `json:"duration_s"`
	Requests  Requests `json:"requests"`
	SLA       SLA      `json:"sla"`
	// TTFTMs and ITLMs are over the requests that have one.
	TTFTMs *Quantiles `json:"ttft_ms,omitempty"`
	ITLMs  *Quantiles `json:"itl_ms,omitempty"`

	Decisions Decisions `json:"decisions"`
	// Changes counts the changes of roles that were made, and Flaps the decisions
	// that reverse a role's change of the last ten minutes.
	Changes int `json:"changes"`
	Flaps   int `json:"flaps"`

	GPUs GPUs `json:"gpus"`
	// Replicas are what each role was set to over the ticks.
	Replicas model.PerRole[Range] `json:"replicas"`
}

// Requests counts requests. Those that are neither answered nor rejected were
// still waiting an hour after the end.
type Requests struct {
	Arrived  int `json:"arrived"`
	Answered int `json:"answered"`
	// Rejected requests fit into no engine.
	Rejected int `json:"rejected"`
	// Unfinished requests were in flight at the end of the trial; most of them
	// are answered later.
	Unfinished int `json:"unfinished_at_end"`
}

// SLA says how well the limits were kept. Shares are of all requests that
// arrived: one that was not answered kept nothing.
type SLA struct {
	TTFTMs float64 `json:"ttft_ms"`
	ITLMs  float64 `json:"itl_ms"`
	// Attained is the share of requests within both limits, nil without requests.
	Attained     *float64 `json:"attained,omitempty"`
	TTFTAttained *float64 `json:"ttft_attained,omitempty"`
	ITLAttained  *float64 `json:"itl_attained,omitempty"`
}

// Quantiles are of the nearest rank.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// Decisions counts decisions.
type Decisions struct {
	Total     int `json:"total"`
	Hold      int `json:"hold"`
	ScaleUp   int `json:"scale_up"`
	ScaleDown int `json:"scale_down"`
	Rebalance int `json:"rebalance"`
	// Warnings counts the decisions that carry a warning.
	Warnings map[model.Warning]int `json:"warnings,omitempty"`
}

// GPUs are the GPUs that were held, from placing a replica until it is gone.
type GPUs struct {
	Hours   float64                `json:"hours"`
	HoursOf model.PerRole[float64] `json:"hours_of"`
	Mean    float64                `json:"mean"`
	// HighestSet is the most that the fleet was set to.
	HighestSet int `json:"highest_set"`
}

// Range is the lowest and the highest of a number.
type Range struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// tally counts while a trial runs.
type tally struct {
	spec       *model.Deployment
	config     *sim.Config
	out        Result
	changes    int
	ttfts      []time.Duration
	itls       []time.Duration
	keptTTFT   int
	keptITL    int
	keptBoth   int
	directions map[model.Role]direction
	highest    int
}

// direction is the last change that was decided for a role.
type direction struct {
	up bool
	at time.Time
}

func newTally(spec *model.Deployment, config *sim.Config) *tally {
	return &tally{
		spec: spec, config: config, directions: map[model.Role]direction{},
		out: Result{Deployment: spec.Name, Held: spec.Advisory, SLA: SLA{TTFTMs: spec.SLA.TTFTMs, ITLMs: spec.SLA.ITLMs}},
	}
}

// finished judges an answered request.
func (t *tally) finished(r sim.Finished) {
	ttftKept, itlKept := true, true
	if t.spec.Topology != model.TopologyDecode {
		t.ttfts = append(t.ttfts, r.TTFT())
		ttftKept = milliseconds(r.TTFT()) <= t.spec.SLA.TTFTMs
	}
	if itl, ok := r.ITL(); ok {
		t.itls = append(t.itls, itl)
		itlKept = milliseconds(itl) <= t.spec.SLA.ITLMs
	}
	t.keptTTFT += count(ttftKept)
	t.keptITL += count(itlKept)
	t.keptBoth += count(ttftKept && itlKept)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (t *tally) decided(d *model.ScalingDecision) {
	c := &t.out.Decisions
	c.Total++
	switch d.Action {
	case model.Hold:
		c.Hold++
	case model.ScaleUp:
		c.ScaleUp++
	case model.ScaleDown:
		c.ScaleDown++
	case model.Rebalance:
		c.Rebalance++
	}
	for _, w := range d.Warnings {
		if c.Warnings == nil {
			c.Warnings = map[model.Warning]int{}
		}
		c.Warnings[w]++
	}
	t.out.Flaps += count(t.flaps(d))
}

// flaps tells whether a decision reverses a role's last change within the window.
func (t *tally) flaps(d *model.ScalingDecision) bool {
	flap := false
	for _, role := range model.AllRoles {
		delta, _ := d.Delta.Get(role)
		if delta == 0 {
			continue
		}
		last, known := t.directions[role]
		flap = flap || known && last.up != (delta > 0) && d.ObservedAt.Sub(last.at) <= FlapWindow
		t.directions[role] = direction{up: delta > 0, at: d.ObservedAt}
	}
	return flap
}

// inventory notes what the fleet is set to.
func (t *tally) inventory(now model.PerRole[sim.Replicas]) {
	gpus := 0
	for _, role := range t.spec.Topology.Roles() {
		r, _ := now.Get(role)
		seen, known := t.out.Replicas.Get(role)
		if !known {
			seen = Range{Min: r.Desired, Max: r.Desired}
		}
		t.out.Replicas.Set(role, Range{Min: min(seen.Min, r.Desired), Max: max(seen.Max, r.Desired)})
		config, _ := t.config.Roles.Get(role)
		gpus += r.Desired * config.GPUsPerReplica
	}
	t.highest = max(t.highest, gpus)
}

// result sums up: with what was counted at the end, and what once the answers
// under way had come.
func (t *tally) result(duration time.Duration, atEnd, drained sim.Totals) Result {
	out := t.out
	out.DurationS = duration.Seconds()
	out.Changes = t.changes
	out.Requests = Requests{Arrived: drained.Arrived, Answered: drained.Completed, Rejected: drained.Rejected, Unfinished: atEnd.InFlight}
	if n := float64(drained.Arrived); n > 0 {
		out.SLA.Attained, out.SLA.TTFTAttained, out.SLA.ITLAttained = new(float64(t.keptBoth)/n), new(float64(t.keptTTFT)/n), new(float64(t.keptITL)/n)
	}
	out.TTFTMs, out.ITLMs = quantiles(t.ttfts), quantiles(t.itls)
	for _, role := range t.spec.Topology.Roles() {
		s, _ := atEnd.GPUSeconds.Get(role)
		out.GPUs.HoursOf.Set(role, s/3600)
		out.GPUs.Hours += s / 3600
	}
	out.GPUs.Mean = out.GPUs.Hours / duration.Hours()
	out.GPUs.HighestSet = t.highest
	return out
}

func quantiles(of []time.Duration) *Quantiles {
	if len(of) == 0 {
		return nil
	}
	slices.Sort(of)
	rank := func(q float64) float64 { return milliseconds(of[int(math.Ceil(q*float64(len(of))))-1]) }
	return &Quantiles{P50: rank(0.50), P95: rank(0.95), P99: rank(0.99)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
