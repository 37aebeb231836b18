package actuator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
)

// settleWorkers bounds the fleets that are looked at at once, settlePatience
// the pauses between two looks at one: they grow with the time that it takes, so
// that a settle time is known to within a twentieth.
const (
	settleWorkers  = 16
	settleShare    = 20
	settlePatience = 30 * time.Second
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
		looking := errgroup.Group{}
		looking.SetLimit(settleWorkers)
		for _, open := range a.ledger.unsettled() {
			if a.now().Before(open.lookAt) {
				continue
			}
			looking.Go(func() error {
				if err := a.settleOne(ctx, open); err != nil && ctx.Err() == nil {
					a.logger.Warn("settling is not known yet", "deployment", open.Deployment, "decision_id", open.DecisionID, "error", err)
				}
				return nil
			})
		}
		if err := looking.Wait(); err != nil {
			return err
		}
	}
}

// settlePause is the time until the fleets are looked at again. On a clock that
// runs faster than the wall's it is shorter by as much, so that settle times are
// as fine there.
func (a *Actuator) settlePause() time.Duration {
	fastest := 1.0
	for _, open := range a.ledger.unsettled() {
		if configured, known := a.deployments.Current(open.Deployment); known {
			fastest = max(fastest, configured.Spec.Clock().Speed)
		}
	}
	return max(time.Duration(float64(a.config.SettleEvery)/fastest), 5*time.Millisecond)
}

func (a *Actuator) settleOne(ctx context.Context, open *unsettled) error {
	applied := open.ScalingApplied
	configured, known := a.deployments.Current(applied.Deployment)
	if !known {
		return nil
	}
	clock := configured.Spec.Clock()
	elapsed := a.now().Sub(clock.Wall(applied.OccurredAt))
	open.lookAt = a.now().Add(min(elapsed/settleShare, settlePatience))
	through, err := a.connectors(&configured.Spec)
	if err != nil {
		return err
	}
	looking, cancel := context.WithTimeout(ctx, a.config.ViewTimeout)
	defer cancel()
	ready, err := through.Ready(looking, configured)
	now := clock.At(a.now()).UTC()
	took := now.Sub(applied.OccurredAt)
	record := applied.Actuation
	record.OccurredAt = now
	cause := events.Event{ID: applied.DecisionID}
	switch {
	case err == nil && len(short(applied, ready)) == 0:
		return a.record(cause, &model.ScalingSettled{Actuation: record, SettleS: took.Seconds()})
	case took > a.config.SettleDeadline:
		return a.record(cause, &model.ScalingFailed{
			// The first attempt was the change itself.
			Actuation: record, Attempt: 2, Error: a.unreached(looking, through, configured, applied, ready, err),
		})
	}
	return err
}

// unreached says in one line why a change was not reached in time.
func (a *Actuator) unreached(ctx context.Context, through connector.Connector, configured *model.DeploymentConfigured, applied *model.ScalingApplied, ready model.PerRole[int], err error) string {
	if err != nil {
		return fmt.Sprintf("whether the fleet reached the target in %v is not known: %v", a.config.SettleDeadline, err)
	}
	missing := short(applied, ready)
	reasons := make([]string, len(missing))
	for i, role := range missing {
		change, _ := applied.Roles.Get(role)
		reasons[i] = fmt.Sprintf("%s is to have %d ready, and that is not known of any", role, change.To)
		if now, known := ready.Get(role); known {
			reasons[i] = fmt.Sprintf("%s has %d of %d ready", role, now, change.To)
		}
		if explainer, ok := through.(connector.Explainer); ok {
			if why := explainer.Explain(ctx, configured, role); why != "" {
				reasons[i] += ": " + why
			}
		}
	}
	return fmt.Sprintf("the fleet did not reach the target in %v: %s", a.config.SettleDeadline, strings.Join(reasons, "; "))
}

// short returns the changed roles that do not have their target ready.
func short(applied *model.ScalingApplied, ready model.PerRole[int]) []model.Role {
	var missing []model.Role
	for _, role := range model.AllRoles {
		if change, changed := applied.Roles.Get(role); changed {
			if now, known := ready.Get(role); !known || now != change.To {
				missing = append(missing, role)
			}
		}
	}
	return missing
}
