package model

import "time"

// Rejection says why the actuator did not act on a decision.
type Rejection string

// The rejections.
const (
	// RejectedNotActive: the deployment is advisory, here or in the decision.
	RejectedNotActive Rejection = "not_active"
	// RejectedStaleEpoch: the decision belongs to another activation.
	RejectedStaleEpoch Rejection = "stale_epoch"
	// RejectedExpired: the decision's valid_until has passed.
	RejectedExpired Rejection = "expired"
	// RejectedNotYetValid: the decision is of an instant that has not come.
	RejectedNotYetValid Rejection = "not_yet_valid"
	// RejectedSuperseded: a newer decision was handled already.
	RejectedSuperseded Rejection = "superseded"
	// RejectedDrift: the fleet is not where the decision saw it.
	RejectedDrift Rejection = "drift"
	// RejectedNotReady: the target cannot be scaled now.
	RejectedNotReady Rejection = "not_ready"
	// RejectedConflict: somebody else changed the target meanwhile.
	RejectedConflict Rejection = "conflict"
	// RejectedFrozen: somebody froze the deployment, or all of them, or a freeze
	// window is open.
	RejectedFrozen Rejection = "frozen"
	// RejectedNotApproved: nobody approved the decision while it was valid.
	RejectedNotApproved Rejection = "not_approved"
	// RejectedLimited: the actuator's own limits leave nothing of the change to be
	// done now.
	RejectedLimited Rejection = "limited"
	// RejectedOutOfBounds: the target lies outside the deployment's bounds.
	RejectedOutOfBounds Rejection = "out_of_bounds"
)

// Change is a change of one role's replicas.
type Change struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// Actuation is what every actuation event carries.
type Actuation struct {
	Deployment string `json:"deployment"`
	DecisionID string `json:"decision_id"`
	Epoch      int    `json:"epoch"`
	// ObservedAt is the decision's: it orders the actuations of a deployment.
	ObservedAt time.Time `json:"observed_at"`
	// OccurredAt is when it was done, on the deployment's clock.
	OccurredAt time.Time       `json:"occurred_at"`
	Connector  string          `json:"connector"`
	Roles      PerRole[Change] `json:"roles,omitzero"`
	// Limited says in one line what the actuator's limits held back of the
	// decision, if they did.
	Limited string `json:"limited,omitempty"`
	// ApprovedBy is who approved the decision, where that is required.
	ApprovedBy string `json:"approved_by,omitzero"`
}

// ScalingProposed records that a decision passed the gate and waits for an approval.
type ScalingProposed struct {
	Actuation
	// ValidUntil is when the wait ends, on the deployment's clock.
	ValidUntil time.Time `json:"valid_until"`
}

// DecisionApproved lets a decision be carried out, if it still may be. Of several the
// first one stands.
type DecisionApproved struct {
	Deployment string    `json:"deployment"`
	DecisionID string    `json:"decision_id"`
	OccurredAt time.Time `json:"occurred_at"`
	ApprovedBy string    `json:"approved_by"`
	Reason     string    `json:"reason,omitempty"`
}

// ScalingStarted records that an actuator is about to write. It is in the log
// before the first write, so that an actuator that is behind the times learns
// that it is, and what was begun and never finished can be told.
type ScalingStarted struct{ Actuation }

// ScalingApplied records that the replicas were set and verified.
type ScalingApplied struct{ Actuation }

// ScalingRejected records that a decision was not acted on, and why.
type ScalingRejected struct {
	Actuation
	Reason Rejection `json:"reason"`
	// Detail is one line for a person.
	Detail string `json:"detail,omitempty"`
}

// ScalingFailed records an attempt that did not succeed.
type ScalingFailed struct {
	Actuation
	Error   string `json:"error"`
	Attempt int    `json:"attempt"`
}

// ScalingSettled records that the fleet reached the target.
type ScalingSettled struct {
	Actuation
	// SettleS is how long it took, in seconds since the change was applied.
	SettleS float64 `json:"settle_s"`
}

// DeploymentConfigured is one revision of a deployment: its whole
// configuration, and who changed it and why.
type DeploymentConfigured struct {
	Deployment string     `json:"deployment"`
	Revision   int        `json:"revision"`
	Epoch      int        `json:"epoch"`
	Spec       Deployment `json:"spec"`
	ChangedBy  string     `json:"changed_by"`
	Reason     string     `json:"reason"`
}

// DeploymentRetired ends a deployment.
type DeploymentRetired struct {
	Deployment string `json:"deployment"`
	Revision   int    `json:"revision"`
	ChangedBy  string `json:"changed_by"`
	Reason     string `json:"reason"`
}

// ScalingFrozen stops the actuator: nothing is written to a deployment, or to
// any, whatever its mode, until ScalingThawed. It is the kill switch.
type ScalingFrozen struct {
	// Deployment is empty for all deployments, those to come included.
	Deployment string    `json:"deployment,omitzero"`
	OccurredAt time.Time `json:"occurred_at"`
	ChangedBy  string    `json:"changed_by"`
	Reason     string    `json:"reason"`
}

// ScalingThawed ends a freeze of the same scope: that of a deployment, or that
// of all.
type ScalingThawed struct {
	Deployment string    `json:"deployment,omitzero"`
	OccurredAt time.Time `json:"occurred_at"`
	ChangedBy  string    `json:"changed_by"`
	Reason     string    `json:"reason"`
}

// Checkpoint is a decider's state of one deployment and the position in the
// observations that it covers.
type Checkpoint struct {
	Deployment string `json:"deployment"`
	// Topic, Partition and Position name the last observation that is in the state.
	Topic          string    `json:"topic"`
	Partition      int32     `json:"partition"`
	Position       int64     `json:"position"`
	ObservedAt     time.Time `json:"observed_at"`
	ConfigRevision int       `json:"config_revision"`
	PlannerVersion string    `json:"planner_version"`
	// State is the planner's own encoding.
	State []byte `json:"state"`
}

// DeadLetter is a message that could not be handled, with its origin, its
// bytes and the reason.
type DeadLetter struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Position  int64             `json:"position"`
	Key       string            `json:"key,omitempty"`
	Service   string            `json:"service"`
	Reason    string            `json:"reason"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Payload   []byte            `json:"payload"`
}
