package planner

import "tidemark.dev/pkg/model"

// proposeLoad proposes what the state of the engines asks for.
func (d *decision) proposeLoad() {
	switch engines := d.obs.Engines; {
	case !d.spec.Load.Enabled:
		d.loadReason(model.ReasonDisabled)
	case !d.obs.Loops.Load:
		d.loadReason(model.ReasonNotDue)
	case !d.known:
		d.loadReason(model.ReasonNoFleetData)
	case engines == nil || engines.Status != model.Measured:
		d.loadReason(model.ReasonNoFPMData)
	case !d.reconciled(engines.Samples):
		d.loadReason(model.ReasonWorkerCountMismatch)
	default:
		for i := range d.roles {
			r := &d.roles[i]
			r.load = d.proposeForRole(r, engines.Samples)
		}
	}
}

func (d *decision) loadReason(reason model.Reason) {
	for i := range d.roles {
		d.roles[i].load.reason = reason
	}
}

// reconciled says whether the samples are those of the fleet: every ready
// replica of a role reports, none that is not ready does, and each with as many
// data-parallel ranks. A role that none reports for is not judged here.
func (d *decision) reconciled(samples []model.EngineSample) bool {
	s := &d.state.scratch
	if s.ranks == nil {
		s.ranks = map[string]int{}
	}
	ranks := s.ranks
	for i := range d.roles {
		r := &d.roles[i]
		clear(ranks)
		for i := range samples {
			if samples[i].Role == r.role {
				ranks[samples[i].Worker]++
			}
		}
		if len(ranks) == 0 {
			continue
		}
		if len(ranks) != r.ready {
			return false
		}
		each := 0
		for _, n := range ranks { // any order: all must be equal
			if each == 0 {
				each = n
			}
			if n != each {
				return false
			}
		}
	}
	return true
}

// judge is what a target's rule asks of the engines of a role.
type judge interface {
	// over says whether there is too much load, if the load of each engine were
	// grown by k.
	over(k float64) bool
	// safe says whether each engine could take its load grown by k.
	safe(k float64) bool
}

// proposeForRole proposes a number of replicas for one role from the samples
// of its engines, as many as are ready.
func (d *decision) proposeForRole(r *roleDecision, samples []model.EngineSample) proposal {
	j, reason := d.judgeOf(r, samples)
	settled := r.ready == r.desired
	if j == nil {
		if !settled && reason != model.ReasonNoFPMData {
			reason = model.ReasonScalingInProgress
		}
		return proposal{reason: reason}
	}
	proposed := d.rule(r, j)
	if settled {
		return proposed
	}
	// A change is under way, and what the engines say now is not what they will
	// say then. But replicas that cannot be placed must not freeze the fleet,
	// nor hold a quota for ever.
	if r.pending > 0 && r.desired > r.ready {
		switch {
		case proposed.replicas < r.ready:
			return proposed
		case proposed.replicas == r.ready && r.ready >= r.spec.MinReplicas && j.safe(1):
			return proposal{replicas: r.ready, made: true, reason: model.ReasonScaleDown}
		}
	}
	return proposal{reason: model.ReasonScalingInProgress}
}

// rule proposes from the engines that are ready. Up goes to the smallest number
// that is no longer over, down to the smallest that is safe; neither further
// than max_step, which is 1 for targets without a model.
func (d *decision) rule(r *roleDecision, j judge) proposal {
	n, least, step := r.ready, r.spec.MinReplicas, d.spec.Load.MaxStep
	if d.spec.Target != model.TargetSLA {
		step = 1
	}
	if j.over(1) {
		m := n + 1
		for m < n+step && j.over(growth(n, m)) {
			m++
		}
		return proposal{replicas: m, made: true, reason: model.ReasonScaleUp}
	}
	if n <= max(least, 1) {
		return proposal{replicas: n, made: true, reason: model.ReasonNoChange}
	}
	for m := max(least, 1, n-step); m < n; m++ {
		if j.safe(growth(n, m)) {
			return proposal{replicas: m, made: true, reason: model.ReasonScaleDown}
		}
	}
	kept := proposal{replicas: n, made: true, reason: model.ReasonNoChange}
	if d.spec.Target == model.TargetSLA {
		kept.reason = model.ReasonRefused
	}
	return kept
}

// growth is the factor by which the load of an engine grows when n become m.
func growth(n, m int) float64 { return float64(n) / float64(m) }

// grown returns tokens grown by k, in whole tokens.
func grown(tokens int, k float64) int { return int(min(float64(tokens)*k, model.MaxFigure)) }

// judgeOf returns the rule of the target for a role, or the reason why there is
// none.
func (d *decision) judgeOf(r *roleDecision, samples []model.EngineSample) (judge, model.Reason) {
	loads := d.state.scratch.loads[:0]
	for i := range samples {
		if samples[i].Role != r.role {
			continue
		}
		load, known := loadOf(r.role, &samples[i])
		if !known {
			return nil, model.ReasonNoFPMData
		}
		loads = append(loads, load)
	}
	d.state.scratch.loads = loads
	if len(loads) == 0 {
		return nil, model.ReasonNoFPMData
	}
	if r.ready == 0 {
		return nil, model.ReasonInsufficientData
	}
	if d.spec.Target == model.TargetSLA {
		return d.slaJudge(r, loads)
	}
	return d.thresholdJudge(r, loads)
}

// engineLoad is the load of one engine, in tokens: what its role is judged by.
type engineLoad struct {
	queuedPrefill int
	// scheduledKV and queuedKV are the KV tokens of requests that decode.
	scheduledKV, queuedKV int
}

// loadOf returns the load of a sample, and whether all of it is known.
func loadOf(role model.Role, s *model.EngineSample) (engineLoad, bool) {
	var load engineLoad
	known := true
	read := func(to *int, from *int) {
		if from == nil {
			known = false
			return
		}
		*to = *from
	}
	if role != model.Decode {
		read(&load.queuedPrefill, s.Queued.PrefillTokens)
	}
	if role != model.Prefill {
		read(&load.scheduledKV, s.Scheduled.DecodeKVTokens)
		read(&load.queuedKV, s.Queued.DecodeKVTokens)
	}
	return load, known
}
