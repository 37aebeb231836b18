// Package connector is what the actuator asks of the code that changes fleets,
// and the way in which replicas are changed pool by pool.
//
// A connector judges no decision: it is handed an order that passed the gate, and
// asks for permission again right before each write. It records nothing: what
// it returns says what became of the order.
package connector

import (
	"context"
	"errors"
	"fmt"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// Connector carries orders out on fleets of one kind. Connectors are the only
// code of Tidemark that can change a fleet.
type Connector interface {
	// Name is written into every actuation.
	Name() string
	// Apply carries an order out and verifies it. It returns a *Refusal when
	// nothing was written and nothing must be.
	Apply(ctx context.Context, order Order) error
	// Ready returns how many replicas of each role serve now. A role of which
	// that is not known is left out.
	Ready(ctx context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error)
}

// Explainer is a connector that can say why a role does not reach its target.
type Explainer interface {
	// Explain returns one line for a person, or nothing where nothing is known.
	Explain(ctx context.Context, configured *model.DeploymentConfigured, role model.Role) string
}

// Order is a decision to be carried out.
type Order struct {
	Configured *model.DeploymentConfigured
	Event      events.Event
	Decision   *model.ScalingDecision
	// Changes are the roles to be set, to absolute numbers.
	Changes model.PerRole[model.Change]
	// Permit asks the gate again, by the log as it is now. Without its consent
	// nothing may be written; its error is returned as it is. What a write is
	// conditioned on has to be read before: that is what keeps an older number
	// from being written after a newer one.
	Permit func(context.Context) error
}

// Refusal says that an order must not be carried out. It is recorded as a
// ScalingRejected and never tried again.
type Refusal struct {
	Reason model.Rejection
	Detail string
	// Cause is the answer that led to it, or nil.
	Cause error
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Reason, r.Detail) }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// Refuse returns a refusal.
func Refuse(reason model.Rejection, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// RefusalOf returns the refusal within an error, if there is one.
func RefusalOf(err error) (*Refusal, bool) { return errors.AsType[*Refusal](err) }

// The classes of errors after which a step is tried again. An error of neither
// is final.
var (
	// ErrConflict: the pool changed since it was read. It is read again.
	ErrConflict = errors.New("conflict")
	// ErrTransient: it may pass, as a throttled request or a lost connection.
	ErrTransient = errors.New("transient")
)
