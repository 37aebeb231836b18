package actuator

import (
	"context"
	"errors"
	"fmt"

	"tidemark.dev/pkg/model"
)

// Connector reads and writes the replicas of fleets of one kind. It is the only
// code of Tidemark that can change a fleet.
type Connector interface {
	// Name is written into every actuation.
	Name() string
	// Desired returns what each role is set to now.
	Desired(ctx context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error)
	// Ready returns how many replicas of each role serve now. A role of which
	// that is not known is left out.
	Ready(ctx context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error)
	// Scale sets a role to an absolute number of replicas and verifies it. It
	// refuses with a *Refusal when the role is no longer at change.From.
	Scale(ctx context.Context, configured *model.DeploymentConfigured, role model.Role, change model.Change) error
}

// Refusal is a connector's word that a decision must not be carried out. It is
// recorded as a ScalingRejected and never retried.
type Refusal struct {
	Reason model.Rejection
	Detail string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Reason, r.Detail) }

// refusalOf returns the refusal within an error, if there is one.
func refusalOf(err error) (*Refusal, bool) {
	refusal := (*Refusal)(nil)
	return refusal, errors.As(err, &refusal)
}
