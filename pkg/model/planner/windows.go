package planner

import (
	"time"

	"tidemark.dev/pkg/model"
)

// window holds the latest raw proposals of a role: the numbers after the floor,
// before any constraint corrected them. Corrected numbers never enter: else a
// window would hold up its own echo.
type window []rawProposal

type rawProposal struct {
	At       time.Time `json:"at"`
	Replicas int       `json:"replicas"`
}

// younger says whether a proposal of an instant still counts now.
func younger(at, now time.Time, windowS float64) bool {
	return now.Sub(at) < time.Duration(windowS*float64(time.Second))
}

// remember adds the role's number to its window, and forgets what is too old
// for either direction.
func (d *decision) remember(r *roleDecision) {
	longest := max(d.spec.Behavior.ScaleUpWindowS, d.spec.Behavior.ScaleDownWindowS)
	if longest == 0 {
		return
	}
	seen, _ := d.state.proposed.Get(r.role)
	old := 0
	for old < len(seen) && !younger(seen[old].At, d.now, longest) {
		old++
	}
	d.state.proposed.Set(r.role, append(seen[old:], rawProposal{At: d.now, Replicas: r.target}))
}

// stabilize holds a change back that was not wanted for the whole of its
// window: down goes only to the highest proposal of the window, up to the
// lowest. It never turns one direction into the other.
func (d *decision) stabilize(r *roleDecision) {
	seen, _ := d.state.proposed.Get(r.role)
	to, b := r.target, r.desired
	switch {
	case to < b:
		for _, p := range seen {
			if younger(p.At, d.now, d.spec.Behavior.ScaleDownWindowS) {
				to = max(to, min(p.Replicas, b))
			}
		}
		d.move(r, model.StageStabilization, to, model.ReasonScaleDownWindow)
	case to > b:
		for _, p := range seen {
			if younger(p.At, d.now, d.spec.Behavior.ScaleUpWindowS) {
				to = min(to, max(p.Replicas, b))
			}
		}
		d.move(r, model.StageStabilization, to, model.ReasonScaleUpWindow)
	}
}
