// Package fleets counts the replicas of fleets.
package fleets

import (
	"tidemark.dev/pkg/model"
)

// Static returns the inventory of a fleet that nothing changes: what the
// configuration says is ready and desired.
func Static(replicas model.PerRole[int]) *model.FleetObservation {
	observed := &model.FleetObservation{Status: model.Measured, AgeS: new(0.0)}
	for _, role := range model.AllRoles {
		if n, given := replicas.Get(role); given {
			observed.Roles.Set(role, model.RoleReplicas{Ready: n, Desired: n})
		}
	}
	return observed
}
