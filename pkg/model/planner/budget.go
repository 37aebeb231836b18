package planner

import "tidemark.dev/pkg/model"

// keepBudget keeps the GPUs of all roles together within the budget.
func (d *decision) keepBudget() {
	budget := d.spec.Budget
	if budget.MaxGPUs == model.Unbounded && budget.MinGPUs == model.Unbounded {
		return
	}
	if limit := budget.MaxGPUs; limit != model.Unbounded {
		if d.total(func(r *roleDecision) int { return r.spec.MinReplicas }) > limit {
			// A configuration like this is refused; an older log may hold one. It is
			// no reason to end with no replica at all.
			d.warn(model.WarningBudgetInfeasible)
			for i := range d.roles {
				r := &d.roles[i]
				d.move(r, model.StageBudget, r.desired, model.ReasonGPUBudget)
			}
			return
		}
		if d.totalTarget() > limit {
			d.fit(limit)
		}
	}
	if budget.MinGPUs != model.Unbounded && d.totalTarget() < budget.MinGPUs {
		d.guard()
	}
}

// total sums the GPUs of a number of replicas of each role.
func (d *decision) total(replicas func(*roleDecision) int) int {
	sum := 0
	for i := range d.roles {
		sum += replicas(&d.roles[i]) * d.roles[i].spec.GPUsPerReplica
	}
	return sum
}

func (d *decision) totalTarget() int {
	return d.total(func(r *roleDecision) int { return r.target })
}

func (d *decision) totalDesired() int {
	return d.total(func(r *roleDecision) int { return r.desired })
}

// fit brings the targets under the budget's upper bound, in which the minimum
// replicas of all roles fit.
func (d *decision) fit(limit int) {
	reason := model.ReasonGPUBudget
	if d.totalDesired() > limit {
		reason = model.ReasonBudgetReconcile
	}
	if len(d.roles) == 1 {
		r := &d.roles[0]
		d.move(r, model.StageBudget, max(r.spec.MinReplicas, limit/r.spec.GPUsPerReplica), reason)
		return
	}
	p, q := &d.roles[0], &d.roles[1]
	toP, toQ := fitPair(p, q, limit, d.totalTarget())
	if d.totalDesired() <= limit {
		toP, toQ = keepPair(p, q, limit, toP, toQ)
	}
	d.move(p, model.StageBudget, toP, reason)
	d.move(q, model.StageBudget, toQ, reason)
}

// fitPair shrinks the first role, prefill, in proportion, leaves the second
// role, decode, what remains, and neither less than its minimum nor more than
// it wanted. With 10 and 10 replicas of 1 GPU in 8 GPUs, each gets 4.
func fitPair(p, q *roleDecision, limit, total int) (toP, toQ int) {
	gp, gq := p.spec.GPUsPerReplica, q.spec.GPUsPerReplica
	share := int(float64(p.target) * (float64(limit) / float64(total)))
	toP = max(p.spec.MinReplicas, min((limit-q.spec.MinReplicas*gq)/gp, share))
	toQ = min(q.target, max(q.spec.MinReplicas, (limit-toP*gp)/gq))
	return toP, toQ
}

// keepPair gives a role back what fitPair took although nobody asked for less:
// where the fleet as it is set fits, no role pays for the growth of the other.
func keepPair(p, q *roleDecision, limit, toP, toQ int) (int, int) {
	gp, gq := p.spec.GPUsPerReplica, q.spec.GPUsPerReplica
	kept := func(r, other *roleDecision) int {
		return min(r.desired, r.target, (limit-other.spec.MinReplicas*other.spec.GPUsPerReplica)/r.spec.GPUsPerReplica)
	}
	if least := kept(p, q); toP < least {
		return least, min(q.target, (limit-least*gp)/gq)
	}
	if least := kept(q, p); toQ < least {
		return min(p.target, (limit-least*gq)/gp), least
	}
	return toP, toQ
}

// guard gives decreases back that would leave fewer GPUs than the budget's
// lower bound. It never asks for more than there is, and what lies over an
// upper bound stays cut.
func (d *decision) guard() {
	up, down, widest := false, false, 0
	for i := range d.roles {
		r := &d.roles[i]
		up, down = up || r.target > r.desired, down || r.target < r.desired
		widest = max(widest, r.spec.GPUsPerReplica)
	}
	limit := d.spec.Budget.MaxGPUs
	if up && down && limit != model.Unbounded && d.totalTarget() >= d.spec.Budget.MinGPUs-widest {
		// A rebalance between replicas of unlike size cannot meet the edge exactly.
		return
	}
	if !down || limit != model.Unbounded && d.totalDesired() > limit {
		return
	}
	back := func(r *roleDecision) int {
		if r.target < r.desired {
			return min(r.desired, r.spec.MaxReplicas)
		}
		return r.target
	}
	if limit != model.Unbounded && d.total(back) > limit {
		// The increases are not to be had without the decreases: everything is held.
		back = func(r *roleDecision) int { return min(max(r.desired, r.spec.MinReplicas), r.spec.MaxReplicas) }
		if d.total(back) > limit {
			return
		}
	}
	for i := range d.roles {
		r := &d.roles[i]
		d.move(r, model.StageBudget, back(r), model.ReasonBudgetGuard)
	}
}

// gpus counts the GPUs of what the fleet is set to and of the target; nil where
// they are unknown.
func (d *decision) gpus() *model.GPUs {
	for i := range d.roles {
		if _, seen := d.state.fleet.Get(d.roles[i].role); !seen || d.roles[i].spec.GPUsPerReplica == 0 {
			return nil
		}
	}
	return &model.GPUs{Current: d.totalDesired(), Target: d.totalTarget(), Min: d.spec.Budget.MinGPUs, Max: d.spec.Budget.MaxGPUs}
}
