package actuator

import (
	"context"
	"fmt"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// settle looks at the fleets whose changes have not been reached yet, and
// records when they are, or that they were not in time.
func (a *Actuator) settle(ctx context.Context) error {
	for {
		pause := time.NewTimer(a.settlePause())
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
		for _, applied := range a.ledger.unsettled() {
			if err := a.settleOne(ctx, applied); err != nil && ctx.Err() == nil {
				a.logger.Warn("settling is not known yet", "deployment", applied.Deployment, "decision_id", applied.DecisionID, "error", err)
			}
		}
	}
}

// settlePause is the time until the fleets are looked at again. On a clock that
// runs faster than the wall's it is shorter by as much, so that settle times are
// as fine there.
func (a *Actuator) settlePause() time.Duration {
	fastest := 1.0
	for _, applied := range a.ledger.unsettled() {
		if configured, known := a.deployments.Current(applied.Deployment); known {
			fastest = max(fastest, configured.Spec.Clock().Speed)
		}
	}
	return max(time.Duration(float64(a.config.SettleEvery)/fastest), 5*time.Millisecond)
}

func (a *Actuator) settleOne(ctx context.Context, applied *model.ScalingApplied) error {
	configured, known := a.deployments.Current(applied.Deployment)
	if !known {
		return nil
	}
	connector, err := a.connectors(&configured.Spec)
	if err != nil {
		return err
	}
	ready, err := connector.Ready(ctx, configured)
	if err != nil {
		return err
	}
	now := configured.Spec.Clock().At(a.now()).UTC()
	took := now.Sub(applied.OccurredAt)
	cause := events.Event{ID: applied.DecisionID}
	record := applied.Actuation
	record.OccurredAt = now
	if reached(applied, ready) {
		return a.record(cause, &model.ScalingSettled{Actuation: record, SettleS: took.Seconds()})
	}
	if took > a.config.SettleDeadline {
		return a.record(cause, &model.ScalingFailed{
			// The first attempt was the change itself.
			Actuation: record, Attempt: 2,
			Error: fmt.Sprintf("the fleet did not reach the target in %v", a.config.SettleDeadline),
		})
	}
	return nil
}

// reached reports whether every changed role has its target ready.
func reached(applied *model.ScalingApplied, ready model.PerRole[int]) bool {
	for _, role := range model.AllRoles {
		if change, changed := applied.Roles.Get(role); changed {
			if now, known := ready.Get(role); !known || now != change.To {
				return false
			}
		}
	}
	return true
}
