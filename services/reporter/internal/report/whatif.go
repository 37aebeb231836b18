package report

import (
	"reflect"
	"slices"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
)

// WhatIf is what a page shows of a candidate configuration beside what was
// decided on the same observations.
type WhatIf struct {
	// Figures are the lines of the comparison, Notes what limits it.
	Figures []replay.Figure `json:"figures"`
	Notes   []string        `json:"notes"`
	// Decisions were compared; Different of them have another target, the first
	// at FirstDifferentMs.
	Decisions        int   `json:"decisions"`
	Different        int   `json:"different"`
	FirstDifferentMs int64 `json:"first_different_ms,omitzero"`
	// PartedMs is the instant of the first decision of the candidate that the
	// fleet did not follow, Followed the share of those that it did.
	PartedMs int64    `json:"parted_ms,omitzero"`
	Followed *float64 `json:"followed,omitempty"`
	// Findings counts what is wrong with the recorded decisions. What is shown of
	// those is what this build decides.
	Findings int `json:"findings,omitzero"`

	// Settings are the limits of the candidate, Decided and Forecasts its series,
	// beside those of the deployment.
	Settings  []Setting `json:"settings"`
	Decided   *Series   `json:"decided,omitempty"`
	Forecasts *Series   `json:"forecasts,omitempty"`
	// Spans are the stretches of time of each column of whatIfColumns. The values
	// of decided and candidate index WhatIfActions; those of the others are 1
	// where it is so.
	Spans map[string][]Span `json:"spans"`
	// Was and Would list the decisions of the instants at which the targets
	// differ, oldest first, one beside the other.
	Was   Decisions `json:"was"`
	Would Decisions `json:"would"`
}

// WhatIfActions are the values of spans of actions, by what they matter: where a
// bucket holds several, the last is shown.
var WhatIfActions = []model.Action{model.Hold, model.ScaleDown, model.Rebalance, model.ScaleUp}

// whatIfColumns are the actions of both series, whether their targets differ, and
// whether the fleet stood apart from what each had wanted.
var whatIfColumns = []string{"decided", "candidate", "differ", "decided_apart", "candidate_apart"}

// WhatIfBuilder folds what was decided and what a candidate would have decided.
// What holds of a Builder holds of it.
type WhatIfBuilder struct {
	decided, candidate *Builder
	compared           map[string]*compared
}

// compared is what is folded of both series of a deployment together.
type compared struct {
	revision   int
	both       *track
	was, would ledger
	leftOut    int
	// lastDecided and lastCandidate are the targets of the tick before.
	lastDecided, lastCandidate model.PerRole[int]
}

// NewWhatIfBuilder returns a builder that has seen nothing.
func NewWhatIfBuilder() *WhatIfBuilder {
	return &WhatIfBuilder{decided: NewBuilder(), candidate: NewBuilder(), compared: map[string]*compared{}}
}

// Add folds one observation and both decisions on it. The id is that of the one
// that was made, spec that which the other was made under.
func (b *WhatIfBuilder) Add(id string, o *model.Observation, configured *model.DeploymentConfigured, spec *model.Deployment, decided, candidate *model.ScalingDecision) {
	c := b.compared[o.Deployment]
	if c == nil {
		c = &compared{both: newTrack(maxBuckets, whatIfColumns...), was: newLedger(maxDecisions), would: newLedger(maxDecisions)}
		b.compared[o.Deployment] = c
	}
	if configured.Revision != c.revision {
		c.revision = configured.Revision
		b.decided.Add("", configured)
		would := *configured
		would.Spec = *spec
		b.candidate.Add("", &would)
	}
	b.decided.Add("", o)
	b.decided.Add(id, decided)
	b.candidate.Add(id, candidate)

	differ := !reflect.DeepEqual(decided.Target, candidate.Target)
	row := []float64{
		float64(slices.Index(WhatIfActions, decided.Action)), float64(slices.Index(WhatIfActions, candidate.Action)), truth(differ),
		apart(o, c.lastDecided), apart(o, c.lastCandidate),
	}
	if !c.both.add(o.ObservedAt, row) {
		return
	}
	c.lastDecided, c.lastCandidate = decided.Target, candidate.Target
	switch {
	case !differ:
	case len(c.was.entries) == maxDecisions:
		c.leftOut++
	default:
		c.was.add(id, decided)
		c.would.add(id, candidate)
	}
}

// apart is 1 where the fleet is set to something else than a target, and none
// where that is not known.
func apart(o *model.Observation, target model.PerRole[int]) float64 {
	if o.Fleet == nil || o.Fleet.Status != model.Measured || target.Empty() {
		return none
	}
	for _, role := range model.AllRoles {
		want, wanted := target.Get(role)
		is, seen := o.Fleet.Roles.Get(role)
		if wanted && !seen {
			return none
		}
		if wanted && want != is.Desired {
			return 1
		}
	}
	return 0
}

// Build makes the data of a page from what was folded and what a replay found.
func (b *WhatIfBuilder) Build(o Options, result *replay.Result) Data {
	data := b.decided.Build(o)
	candidates := b.candidate.Build(o)
	for i := range data.Deployments {
		d := &data.Deployments[i]
		// What is listed are the differences; engines belong to another question.
		d.Decisions, d.Engines, d.EnginesUnlisted, d.Load = Decisions{}, []Engine{}, 0, nil
		d.WhatIf = b.compared[d.Name].whatIf(&candidates.Deployments[i])
		for _, f := range result.Findings {
			if f.Deployment == d.Name {
				d.WhatIf.Findings++
			}
		}
		for j := range result.Deployments {
			if r := &result.Deployments[j]; r.Deployment == d.Name && r.Comparison != nil {
				d.WhatIf.concluded(r.Comparison)
			}
		}
	}
	return data
}

func (c *compared) whatIf(candidate *Deployment) *WhatIf {
	w := &WhatIf{
		Figures: []replay.Figure{}, Notes: []string{}, Settings: candidate.Settings, Decided: candidate.Decided, Forecasts: candidate.Forecasts,
		Spans: map[string][]Span{}, Was: c.was.between(time.Time{}, time.Time{}), Would: c.would.between(time.Time{}, time.Time{}),
	}
	for _, column := range whatIfColumns {
		if runs := c.both.runs(column); len(runs) > 0 {
			w.Spans[column] = runs
		}
	}
	w.Was.LeftOut, w.Would.LeftOut = c.leftOut, c.leftOut
	return w
}

func (w *WhatIf) concluded(c *replay.Comparison) {
	w.Figures, w.Notes, w.Decisions, w.Different = c.Figures(), c.Notes, c.Decisions, c.Different
	if c.FirstDifferent != nil {
		w.FirstDifferentMs = c.FirstDifferent.UnixMilli()
	}
	w.Followed = c.Candidate.Followed
	if c.Candidate.Parted != nil {
		w.PartedMs = c.Candidate.Parted.UnixMilli()
	}
}
