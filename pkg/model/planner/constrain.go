package planner

import "tidemark.dev/pkg/model"

// constrain applies the constraints in their order. Bounds and budget hold
// whether or not anything was proposed: a fleet that is outside of them is
// moved towards them.
func (d *decision) constrain() {
	if !d.known {
		return
	}
	for i := range d.roles {
		r := &d.roles[i]
		d.stabilize(r)
		d.limitStep(r)
		d.bound(r)
	}
	d.keepBudget()
}

// limitStep limits a change to max_step of the loop whose number it is. Lifting
// to min_replicas is exempt, and what is over max_replicas is cut at once.
func (d *decision) limitStep(r *roleDecision) {
	b := r.desired
	if r.target > b {
		d.move(r, model.StageStep, min(r.target, max(b+r.step, r.spec.MinReplicas)), model.ReasonStepLimit)
	} else if r.target < b {
		d.move(r, model.StageStep, max(r.target, min(b-r.step, r.spec.MaxReplicas)), model.ReasonStepLimit)
	}
}

func (d *decision) bound(r *roleDecision) {
	d.move(r, model.StageBounds, max(r.target, r.spec.MinReplicas), model.ReasonMinReplicas)
	d.move(r, model.StageBounds, min(r.target, r.spec.MaxReplicas), model.ReasonMaxReplicas)
}
