// Package simulated carries decisions out on simulated fleets. Such a fleet is a
// function of its configuration and of the actuations in the log, so that the
// record of a change is the change: the connector writes nothing of its own.
package simulated

import (
	"context"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/observed"
)

// Connector answers for the simulated fleets from the log.
type Connector struct {
	// SetTo returns what a role was last set to by an actuation.
	SetTo  func(deployment string, role model.Role) (int, bool)
	Fleets *observed.Fleets
}

// Name returns the connector's name in actuations.
func (c *Connector) Name() string { return "simulated" }

// Apply checks that the order fits the fleet. The actuation that records it
// makes the change.
func (c *Connector) Apply(ctx context.Context, order connector.Order) error {
	for _, role := range order.Configured.Spec.Topology.Roles() {
		change, changed := order.Changes.Get(role)
		if set := c.desired(order.Configured, role); changed && set != change.From && set != change.To {
			return connector.Refuse(model.RejectedDrift, "role %s is set to %d, the decision saw %d", role, set, change.From)
		}
	}
	return order.Permit(ctx)
}

// desired returns what a role was last set to, or started with.
func (c *Connector) desired(configured *model.DeploymentConfigured, role model.Role) int {
	if set, ok := c.SetTo(configured.Deployment, role); ok {
		return set
	}
	return configured.Spec.Source.Simulated.InitialReplicas(&configured.Spec, role)
}

// Ready returns what the newest observation of the fleet counts.
func (c *Connector) Ready(_ context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error) {
	return c.Fleets.Ready(configured.Deployment), nil
}
