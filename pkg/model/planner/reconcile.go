package planner

import "tidemark.dev/pkg/model"

// reconcile makes one number of the proposals: that of the load loop where
// there is one, else that of the throughput loop, else what the fleet is set
// to. Then the floor lifts it.
func (d *decision) reconcile() {
	for i := range d.roles {
		r := &d.roles[i]
		proposed := false
		switch {
		case r.load.made:
			proposed = true
			r.step = d.spec.Load.MaxStep
			d.move(r, model.StageLoad, r.load.replicas, r.load.reason)
		case r.throughput.made:
			proposed = true
			r.step = d.spec.Throughput.MaxStep
			d.move(r, model.StageThroughput, r.throughput.replicas, r.throughput.reason)
		}
		if d.known && d.lift(r) {
			proposed = true
			r.step = d.spec.Throughput.MaxStep
		}
		if proposed {
			d.remember(r)
		}
	}
}

// lift raises the role's number to its floor, and says whether it did.
func (d *decision) lift(r *roleDecision) bool {
	floor, set := d.state.floors.Get(r.role)
	if !set || !d.spec.Load.Enabled || floor <= r.target {
		return false
	}
	if r.load.reason == model.ReasonScaleDown {
		r.load.reason = model.ReasonCapped
	}
	d.move(r, model.StageFloor, floor, model.ReasonFloor)
	return true
}
