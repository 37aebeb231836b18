package replay

import (
	"fmt"
	"strings"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// Comparison holds the decisions of a candidate against those that were made,
// over the same observations.
//
// The recorded fleet did not follow the candidate. From the first decision on
// after which the fleet was set to something else than the candidate wanted,
// the candidate answers to a fleet that it would not have had: load per engine,
// latency and readiness would have been others. Followed says of each series
// how much of the time the fleet was where the series wanted it.
type Comparison struct {
	Recorded  Series `json:"recorded"`
	Candidate Series `json:"candidate"`
	// Decisions were compared, and Different of them have another target.
	Decisions int `json:"decisions"`
	Different int `json:"different"`
	// FirstDifferent is the instant of the first of those.
	FirstDifferent *time.Time `json:"first_different,omitempty"`
	// Notes say what limits the comparison.
	Notes []string `json:"notes"`
}

// Series sums up the decisions of one configuration over a range.
type Series struct {
	Actions map[model.Action]int `json:"actions"`
	// TargetChanges counts the decisions whose target is not that of the
	// decision before.
	TargetChanges int `json:"target_changes"`
	// Flaps are changes of a role that reverse the direction of its last one
	// within FlapWindow.
	Flaps int `json:"flaps"`
	// Unsupported are holds for which a loop named missing evidence.
	Unsupported int `json:"holds_without_evidence"`
	// Hours is the time that the figures below are integrated over: each
	// decision but the last holds until the next, over a gap no longer than
	// three usual intervals.
	Hours        float64                `json:"hours"`
	ReplicaHours model.PerRole[float64] `json:"replica_hours,omitzero"`
	// GPUHours is nil where a replica's GPUs are unknown.
	GPUHours *float64 `json:"gpu_hours,omitempty"`
	// AtMin and AtMax are the hours for which the target was at a role's bound,
	// AtBudget those at the most GPUs that fit the budget.
	AtMin    model.PerRole[float64] `json:"hours_at_min,omitzero"`
	AtMax    model.PerRole[float64] `json:"hours_at_max,omitzero"`
	AtBudget float64                `json:"hours_at_budget"`
	// Peak is the largest target of each role.
	Peak model.PerRole[int] `json:"peak,omitzero"`
	// Followed is the share of the decisions after which the fleet was set to
	// what they wanted, Parted the instant of the first after which it was not.
	Followed *float64   `json:"followed,omitempty"`
	Parted   *time.Time `json:"parted,omitempty"`
}

// Figure is one line of a comparison, for people.
type Figure struct {
	// Name says what it counts, its unit included.
	Name string `json:"name"`
	// Decimals are the digits behind the point that it is worth.
	Decimals  int     `json:"decimals"`
	Decided   float64 `json:"decided"`
	Candidate float64 `json:"candidate"`
}

// Figures lists what is known of both series, in the order in which it is read.
func (c *Comparison) Figures() []Figure {
	r, k := &c.Recorded, &c.Candidate
	var figures []Figure
	add := func(name string, decimals int, decided, candidate float64) {
		figures = append(figures, Figure{name, decimals, decided, candidate})
	}
	for _, action := range []model.Action{model.Hold, model.ScaleUp, model.ScaleDown, model.Rebalance} {
		add(strings.ReplaceAll(string(action), "_", " "), 0, float64(r.Actions[action]), float64(k.Actions[action]))
	}
	add("holds without evidence", 0, float64(r.Unsupported), float64(k.Unsupported))
	add("changes of target", 0, float64(r.TargetChanges), float64(k.TargetChanges))
	add(fmt.Sprintf("flaps within %.0f min", FlapWindow.Minutes()), 0, float64(r.Flaps), float64(k.Flaps))
	for _, role := range model.AllRoles {
		for _, hours := range []struct {
			name               string
			decided, candidate model.PerRole[float64]
		}{{"replica-hours", r.ReplicaHours, k.ReplicaHours}, {"hours at min_replicas", r.AtMin, k.AtMin}, {"hours at max_replicas", r.AtMax, k.AtMax}} {
			decided, known := hours.decided.Get(role)
			candidate, has := hours.candidate.Get(role)
			if known || has {
				add(string(role)+" "+hours.name, 2, decided, candidate)
			}
		}
		decided, known := r.Peak.Get(role)
		candidate, has := k.Peak.Get(role)
		if known || has {
			add(string(role)+" peak", 0, float64(decided), float64(candidate))
		}
	}
	if r.GPUHours != nil && k.GPUHours != nil {
		add("GPU-hours", 2, *r.GPUHours, *k.GPUHours)
		add("hours at the GPU budget", 2, r.AtBudget, k.AtBudget)
	}
	if r.Followed != nil && k.Followed != nil {
		add("fleet was where wanted, %", 1, 100**r.Followed, 100**k.Followed)
	}
	return figures
}

// FlapWindow is the time within which the opposite of a change is a flap. Load
// that rises in the morning and falls in the evening is none.
const FlapWindow = 10 * time.Minute

// comparing is a comparison in the making.
type comparing struct {
	Comparison
	recorded, candidate summing
}

// branch gives the candidate the state that the deployment has at the start of
// the range: what was learned until then is common to both.
func (r *run) branch(d *deployment, configured *model.DeploymentConfigured) error {
	spec := r.options.Candidates[d.name]
	if spec == nil || d.lane.candidate != nil {
		return nil
	}
	if d.comparison == nil {
		d.comparison = &comparing{Comparison: Comparison{Notes: limits(&configured.Spec, spec)}}
	}
	state, err := d.lane.state.MarshalBinary()
	if err != nil {
		return fmt.Errorf("copy the state of %s: %w", d.name, err)
	}
	if d.lane.candidate, err = planner.UnmarshalState(state); err != nil {
		return fmt.Errorf("copy the state of %s: %w", d.name, err)
	}
	return nil
}

// whatIf decides an observation under the candidate's specification.
func (r *run) whatIf(d *deployment, input planner.Input, recorded *model.ScalingDecision) *model.ScalingDecision {
	spec := *r.options.Candidates[d.name]
	spec.Advisory = input.Configured.Spec.Advisory
	configured := *input.Configured
	configured.Spec = spec
	actual := input.Configured
	input.Configured = &configured
	decision := planner.Step(d.lane.candidate, input)
	d.comparison.add(recorded, &decision, &actual.Spec, &spec, input.Observation)
	return &decision
}

func (c *comparing) add(recorded, candidate *model.ScalingDecision, was, would *model.Deployment, observation *model.Observation) {
	c.Decisions++
	if !equal(recorded.Target, candidate.Target) {
		if c.Different++; c.FirstDifferent == nil {
			c.FirstDifferent = &recorded.ObservedAt
		}
	}
	c.recorded.add(recorded, was, observation)
	c.candidate.add(candidate, would, observation)
}

func (c *comparing) conclude() *Comparison {
	c.Recorded, c.Candidate = c.recorded.conclude(), c.candidate.conclude()
	if c.Candidate.Parted != nil {
		c.Notes = append(c.Notes, fmt.Sprintf(
			"acted on, the candidate would have had another fleet from %s on; what it sees of loads and latencies after that is of the fleet as it was, which stood where the candidate wanted it %.1f %% of the time",
			c.Candidate.Parted.Format(time.RFC3339), 100**c.Candidate.Followed))
	}
	return &c.Comparison
}

// limits says what a comparison over recorded observations cannot show of a
// candidate.
func limits(was, would *model.Deployment) []string {
	notes := []string{}
	if was.Topology != would.Topology {
		notes = append(notes, fmt.Sprintf("the fleet was %s and the candidate is %s: what the observations lack of its roles is not known", was.Topology, would.Topology))
	}
	for _, loop := range []struct {
		name       string
		was, would float64
		on         bool
	}{
		{"load", was.Load.IntervalS, would.Load.IntervalS, would.Load.Enabled},
		{"throughput", was.Throughput.IntervalS, would.Throughput.IntervalS, would.Throughput.Enabled},
	} {
		if loop.on && loop.was != loop.would {
			notes = append(notes, fmt.Sprintf("the %s loop was due every %g s and stays so: the candidate's %g s need observations of their own", loop.name, loop.was, loop.would))
		}
	}
	return notes
}

// usualTicks is how many usual intervals a decision holds at most, where no
// other follows: one tick may be late and one lost.
const usualTicks = 3

// summing is a series in the making.
type summing struct {
	series     Series
	last       *model.ScalingDecision
	lastSpec   *model.Deployment
	directions model.PerRole[direction]
	gpus       float64
	gpusKnown  bool
	followed   int
	judged     int
}

// direction is the last change of a role.
type direction struct {
	up bool
	at time.Time
}

func (s *summing) add(d *model.ScalingDecision, spec *model.Deployment, observation *model.Observation) {
	if s.series.Actions == nil {
		s.series.Actions = map[model.Action]int{}
		s.gpusKnown = true
	}
	s.series.Actions[d.Action]++
	if d.Action == model.Hold && (d.Reasons.Load.LacksEvidence() || d.Reasons.Throughput.LacksEvidence()) {
		s.series.Unsupported++
	}
	if s.last != nil {
		s.hold(d.ObservedAt.Sub(s.last.ObservedAt))
		s.judge(observation)
		if !equal(s.last.Target, d.Target) {
			s.series.TargetChanges++
		}
	}
	if s.flaps(d) {
		s.series.Flaps++
	}
	for _, role := range model.AllRoles {
		if n, ok := d.Target.Get(role); ok {
			peak, _ := s.series.Peak.Get(role)
			s.series.Peak.Set(role, max(peak, n))
		}
	}
	s.last, s.lastSpec = d, spec
}

// hold lets the last decision stand for a time.
func (s *summing) hold(span time.Duration) {
	usual := s.lastSpec.Load.IntervalS
	if !s.lastSpec.Load.Enabled {
		usual = s.lastSpec.Throughput.IntervalS
	}
	hours := min(span.Hours(), usualTicks*usual/3600)
	total, known := 0, true
	for _, role := range model.AllRoles {
		n, ok := s.last.Target.Get(role)
		if !ok {
			continue
		}
		spec, _ := s.lastSpec.Roles.Get(role)
		bump(&s.series.ReplicaHours, role, float64(n)*hours)
		if n <= spec.MinReplicas {
			bump(&s.series.AtMin, role, hours)
		}
		if n >= spec.MaxReplicas {
			bump(&s.series.AtMax, role, hours)
		}
		total += n * spec.GPUsPerReplica
		known = known && spec.GPUsPerReplica > 0
	}
	s.series.Hours += hours
	s.gpus += float64(total) * hours
	s.gpusKnown = s.gpusKnown && known
	if s.atBudget(total) {
		s.series.AtBudget += hours
	}
}

// atBudget says whether no role could have a replica more.
func (s *summing) atBudget(total int) bool {
	limit := s.lastSpec.Budget.MaxGPUs
	if limit == model.Unbounded {
		return false
	}
	for _, role := range s.lastSpec.Topology.Roles() {
		if spec, _ := s.lastSpec.Roles.Get(role); total+spec.GPUsPerReplica <= limit {
			return false
		}
	}
	return true
}

// judge says whether the fleet was set to what the last decision wanted. Where
// the inventory is not known, it says nothing.
func (s *summing) judge(observation *model.Observation) {
	fleet := observation.Fleet
	if fleet == nil || fleet.Status != model.Measured {
		return
	}
	there := true
	for _, role := range s.lastSpec.Topology.Roles() {
		want, wanted := s.last.Target.Get(role)
		is, seen := fleet.Roles.Get(role)
		if !wanted || !seen {
			return
		}
		there = there && want == is.Desired
	}
	s.judged++
	if there {
		s.followed++
	} else if s.series.Parted == nil {
		s.series.Parted = &s.last.ObservedAt
	}
}

func (s *summing) flaps(d *model.ScalingDecision) bool {
	flap := false
	for _, role := range model.AllRoles {
		n, ok := d.Delta.Get(role)
		if !ok || n == 0 {
			continue
		}
		last, known := s.directions.Get(role)
		flap = flap || known && last.up != (n > 0) && d.ObservedAt.Sub(last.at) <= FlapWindow
		s.directions.Set(role, direction{up: n > 0, at: d.ObservedAt})
	}
	return flap
}

func (s *summing) conclude() Series {
	if s.gpusKnown && s.series.Hours > 0 {
		s.series.GPUHours = &s.gpus
	}
	if s.judged > 0 {
		share := float64(s.followed) / float64(s.judged)
		s.series.Followed = &share
	}
	return s.series
}

func bump(hours *model.PerRole[float64], role model.Role, by float64) {
	was, _ := hours.Get(role)
	hours.Set(role, was+by)
}

func equal(a, b model.PerRole[int]) bool {
	for _, role := range model.AllRoles {
		x, inA := a.Get(role)
		y, inB := b.Get(role)
		if inA != inB || x != y {
			return false
		}
	}
	return true
}
