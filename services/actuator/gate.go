package actuator

import (
	"cmp"
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
)

// verdict is what the gate says of a decision.
type verdict struct {
	// pass lets the decision through to the connector.
	pass bool
	// reason is why it does not pass; empty when there is nothing to act on and
	// nothing to record: an advisory decision, or one that changes nothing.
	reason model.Rejection
	detail string
	// changes is what may be done of a decision that passes, limited what was
	// held back of it, in one line.
	changes model.PerRole[model.Change]
	limited string
}

func refuse(reason model.Rejection, format string, args ...any) verdict {
	return verdict{reason: reason, detail: fmt.Sprintf(format, args...)}
}

// asks reports whether a decision asks to be acted on at all.
func asks(decision *model.ScalingDecision) bool {
	return decision.Mode == model.Active && decision.Action != model.Hold
}

// gate decides whether a decision may be acted on. It is pure: the deployment
// as the actuator sees it in the log, the decision and its ID, what the ledger
// says of the deployment and the present instant on its clock are arguments.
// configured is nil when the log knows no such deployment, or not any more.
//
// The order of the checks is the order of the reasons' authority: whether the
// deployment may be touched at all comes before whether this decision is fit.
// Nothing is taken from the decision that the log or the configuration says
// too: a decision that was put into the log by hand gets no further.
func gate(configured *model.DeploymentConfigured, decision *model.ScalingDecision, id string, past history, now time.Time) verdict {
	if !asks(decision) {
		return verdict{}
	}
	if configured == nil {
		return refuse(model.RejectedNotActive, "deployment %s is not configured", decision.Deployment)
	}
	ttl := time.Duration(configured.Spec.Behavior.DecisionTTLS * float64(time.Second))
	until := validUntil(&configured.Spec, decision)
	newest := past.newest
	switch {
	case configured.Spec.Mode() != model.Active:
		return refuse(model.RejectedNotActive, "deployment %s is %s since revision %d", decision.Deployment, configured.Spec.Mode(), configured.Revision)
	case decision.Epoch != configured.Epoch:
		return refuse(model.RejectedStaleEpoch, "decision is of epoch %d, the deployment is in epoch %d", decision.Epoch, configured.Epoch)
	case past.frozen != nil:
		return refuse(model.RejectedFrozen, "%s froze %s at %s: %s", past.frozen.ChangedBy, cmp.Or(past.frozen.Deployment, "all deployments"), instant(past.frozen.OccurredAt), past.frozen.Reason)
	case past.window != nil:
		return refuse(model.RejectedFrozen, "the freeze window %v is open since %s", past.window, instant(past.windowSince))
	case decision.ObservedAt.Sub(now) > ttl:
		// Clocks may differ, by less than a decision lives.
		return refuse(model.RejectedNotYetValid, "decision is of %s, it is %s", instant(decision.ObservedAt), instant(now))
	case now.After(until):
		return refuse(model.RejectedExpired, "decision was valid until %s, it is %s", instant(until), instant(now))
	case newest.observedAt.After(decision.ObservedAt), newest.observedAt.Equal(decision.ObservedAt) && newest.decisionID != id:
		return refuse(model.RejectedSuperseded, "a decision of %s was handled already, this one is of %s", instant(newest.observedAt), instant(decision.ObservedAt))
	}
	if within := bounds(&configured.Spec, decision); !within.pass {
		return within
	}
	if past.begun != nil {
		// It was limited when it was begun, and is finished as it was begun.
		return verdict{pass: true, changes: past.begun.Roles, limited: past.begun.Limited}
	}
	wanted := changes(decision)
	if past.proposed != nil {
		// What somebody approves is what they were shown, also where there is more
		// room by now.
		wanted = past.proposed.Roles
	}
	allowed, held := limit(&configured.Spec, decision.Desired, wanted, past, now)
	if held == "" && past.proposed != nil {
		held = past.proposed.Limited
	}
	if allowed.Empty() {
		return refuse(model.RejectedLimited, "%s", held)
	}
	return verdict{pass: true, changes: allowed, limited: held}
}

// validUntil is how long a decision may be acted on: as long as it says, and no
// longer than the configuration gives it now.
func validUntil(spec *model.Deployment, decision *model.ScalingDecision) time.Time {
	until := decision.ObservedAt.Add(time.Duration(spec.Behavior.DecisionTTLS * float64(time.Second)))
	if decision.ValidUntil.Before(until) {
		return decision.ValidUntil
	}
	return until
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// bounds checks the target against the deployment's own limits: a decision
// moves replicas into them, or leaves them where they are.
func bounds(spec *model.Deployment, decision *model.ScalingDecision) verdict {
	total, before := 0, 0
	for _, role := range spec.Topology.Roles() {
		limits, _ := spec.Roles.Get(role)
		target, hasTarget := decision.Target.Get(role)
		desired, hasDesired := decision.Desired.Get(role)
		if !hasTarget || !hasDesired {
			return refuse(model.RejectedOutOfBounds, "the decision names no target for role %s", role)
		}
		total += target * limits.GPUsPerReplica
		before += desired * limits.GPUsPerReplica
		if target < limits.MinReplicas && target < desired {
			return refuse(model.RejectedOutOfBounds, "role %s would fall to %d, and min_replicas is %d", role, target, limits.MinReplicas)
		}
		if target > limits.MaxReplicas && target > desired {
			return refuse(model.RejectedOutOfBounds, "role %s would rise to %d, and max_replicas is %d", role, target, limits.MaxReplicas)
		}
	}
	if most := spec.Budget.MaxGPUs; most != model.Unbounded && total > most && total > before {
		return refuse(model.RejectedOutOfBounds, "the target takes %d GPUs, and max_gpus is %d", total, most)
	}
	return verdict{pass: true}
}

// changes returns what a decision changes: the roles whose target is not what
// the fleet is set to.
func changes(decision *model.ScalingDecision) model.PerRole[model.Change] {
	var changed model.PerRole[model.Change]
	for _, role := range model.AllRoles {
		target, hasTarget := decision.Target.Get(role)
		desired, hasDesired := decision.Desired.Get(role)
		if hasTarget && hasDesired && target != desired {
			changed.Set(role, model.Change{From: desired, To: target})
		}
	}
	return changed
}
