package actuator

import (
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
}

func refuse(reason model.Rejection, format string, args ...any) verdict {
	return verdict{reason: reason, detail: fmt.Sprintf(format, args...)}
}

// gate decides whether a decision may be acted on. It is pure: the deployment
// as the actuator sees it in the log, the decision, what was handled before and
// the present instant on the deployment's clock are arguments. configured is nil
// when the log knows no such deployment, or not any more.
//
// The order of the checks is the order of the reasons' authority: whether the
// deployment may be touched at all comes before whether this decision is fit.
func gate(configured *model.DeploymentConfigured, decision *model.ScalingDecision, lastHandled, now time.Time) verdict {
	if decision.Mode != model.Active || decision.Action == model.Hold {
		return verdict{}
	}
	switch {
	case configured == nil:
		return refuse(model.RejectedNotActive, "deployment %s is not configured", decision.Deployment)
	case configured.Spec.Mode() != model.Active:
		return refuse(model.RejectedNotActive, "deployment %s is %s since revision %d", decision.Deployment, configured.Spec.Mode(), configured.Revision)
	case decision.Epoch != configured.Epoch:
		return refuse(model.RejectedStaleEpoch, "decision is of epoch %d, the deployment is in epoch %d", decision.Epoch, configured.Epoch)
	case now.After(decision.ValidUntil):
		return refuse(model.RejectedExpired, "decision was valid until %s, it is %s", decision.ValidUntil.Format(time.RFC3339), now.Format(time.RFC3339))
	case !decision.ObservedAt.After(lastHandled):
		return refuse(model.RejectedSuperseded, "a decision of %s was handled already, this one is of %s", lastHandled.Format(time.RFC3339), decision.ObservedAt.Format(time.RFC3339))
	}
	return bounds(&configured.Spec, decision)
}

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
