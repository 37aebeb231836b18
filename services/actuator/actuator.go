// Package actuator carries decisions out, and only those that may be: it is the
// one writer of Tidemark.
//
// While no deployment is active the actuator is not subscribed to decisions at
// all. While some are, every decision passes the gate: the deployment is active
// in the actuator's own view of the log and in the decision, the epoch is the
// present one, the decision has not expired and none newer was handled. What
// it did, and what it refused, is in the log before the decision is acknowledged.
package actuator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// Source is the source of the actuator's events.
const Source = "/tidemark/actuator"

// Config configures an actuator.
type Config struct {
	// SettleEvery is how often the fleet is looked at for changes that it has
	// not reached yet.
	SettleEvery time.Duration
	// SettleDeadline is how long, on the deployment's clock, a change may take
	// before it is recorded as failed.
	SettleDeadline time.Duration
	// RevisionWait bounds the wait for a configuration revision that a
	// decision names and the actuator has not seen yet.
	RevisionWait time.Duration
}

// DefaultConfig returns the configuration of an actuator that is told nothing.
// The deadline is twice what the slowest cold starts of large models take.
func DefaultConfig() Config {
	return Config{SettleEvery: time.Second, SettleDeadline: 30 * time.Minute, RevisionWait: 10 * time.Second}
}

// Actuator carries decisions out.
type Actuator struct {
	config      Config
	log         events.Log
	topics      events.Topics
	logger      *slog.Logger
	metrics     *metrics
	deployments *events.DeploymentTable
	ledger      *ledger
	connectors  func(*model.Deployment) (Connector, error)
	now         func() time.Time
}

// Run works until the context is done.
func (a *Actuator) Run(ctx context.Context, ready func()) error {
	if err := a.deployments.Start(ctx); err != nil {
		return err
	}
	follow, err := a.load(ctx)
	if err != nil {
		return err
	}
	working, ctx := errgroup.WithContext(ctx)
	working.Go(follow)
	working.Go(func() error { return a.settle(ctx) })
	working.Go(func() error { return a.subscribeWhileActive(ctx) })
	ready()
	return working.Wait()
}

// load folds the actuations into the ledger. What it returns follows them.
func (a *Actuator) load(ctx context.Context) (follow func() error, err error) {
	topic := a.topics.Name(events.TopicActuations)
	next := map[int32]int64{}
	fold := func(record events.Record) {
		next[record.Partition] = record.Position + 1
		event, err := record.Event()
		if err == nil {
			err = a.ledger.add(event)
		}
		if err != nil {
			a.logger.Warn("actuation is left out", "partition", record.Partition, "position", record.Position, "error", err)
		}
	}
	for record, err := range a.log.Read(ctx, topic, events.Range{}) {
		if err != nil {
			return nil, fmt.Errorf("read actuations: %w", err)
		}
		fold(record)
	}
	return func() error {
		for record, err := range a.log.Follow(ctx, topic, events.Range{From: events.Bound{Positions: next}}) {
			if err != nil {
				return fmt.Errorf("follow actuations: %w", err)
			}
			fold(record)
		}
		return ctx.Err()
	}, nil
}

// subscribeWhileActive keeps the subscription to decisions exactly while some
// deployment is active.
func (a *Actuator) subscribeWhileActive(ctx context.Context) error {
	for {
		changed := a.deployments.Changed()
		if !a.anyActive() {
			a.metrics.subscribed.Set(0)
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		a.logger.Info("subscribed to decisions: some deployment is active")
		a.metrics.subscribed.Set(1)
		if err := a.consume(ctx); err != nil {
			return err
		}
		a.logger.Info("unsubscribed from decisions: no deployment is active")
	}
}

func (a *Actuator) anyActive() bool {
	for _, configured := range a.deployments.All() {
		if configured.Spec.Mode() == model.Active {
			return true
		}
	}
	return false
}

// consume handles decisions until no deployment is active any more.
func (a *Actuator) consume(ctx context.Context) error {
	topic := a.topics.Name(events.TopicDecisions)
	subscriber, err := a.log.Subscriber("actuator")
	if err != nil {
		return err
	}
	router, err := events.NewRouter(events.RouterConfig{Service: "actuator", Log: a.log, Topics: a.topics, Logger: a.logger, Registerer: a.metrics.registerer})
	if err != nil {
		return err
	}
	router.AddConsumerHandler("actuate", topic, subscriber, a.Handle)
	working, running := errgroup.WithContext(ctx)
	working.Go(func() error { return router.Run(running) })
	working.Go(func() error {
		for {
			changed := a.deployments.Changed()
			if !a.anyActive() {
				return router.Close()
			}
			select {
			case <-changed:
			case <-running.Done():
				return nil
			}
		}
	})
	return working.Wait()
}

// Handle carries one decision out, or records why not.
func (a *Actuator) Handle(msg *message.Message) error {
	event, err := events.EventOf(msg)
	if err != nil {
		return err
	}
	fact, err := event.Fact()
	if err != nil {
		return err
	}
	decision, ok := fact.(*model.ScalingDecision)
	if !ok {
		return events.Permanent(fmt.Errorf("event %s is a %s; the actuator handles decisions", event.ID, event.Type))
	}
	ctx := msg.Context()
	configured, err := a.view(ctx, decision)
	if err != nil {
		return err
	}
	last, already := a.ledger.handled(decision.Deployment, event.ID)
	if already {
		return nil
	}
	record := a.actuation(event, decision, configured)
	judged := gate(configured, decision, last, record.OccurredAt)
	switch {
	case judged.pass:
		return a.apply(ctx, event, decision, configured, record)
	case judged.reason == "":
		return nil
	}
	return a.reject(event, record, judged.reason, judged.detail)
}

// view returns the deployment as the log has it, at least as new as the
// decision does. It is nil for a deployment that is not configured.
func (a *Actuator) view(ctx context.Context, decision *model.ScalingDecision) (*model.DeploymentConfigured, error) {
	wait, cancel := context.WithTimeout(ctx, a.config.RevisionWait)
	defer cancel()
	// The gate must not obey a view from before a switch to advisory: the
	// table is read up to the end that the topic has now.
	if err := a.deployments.CatchUp(wait); err != nil {
		return nil, fmt.Errorf("read deployments up to their end: %w", err)
	}
	configured, known := a.deployments.Current(decision.Deployment)
	if !known {
		return nil, nil
	}
	return configured, nil
}

// actuation fills in what every record about a decision carries.
func (a *Actuator) actuation(event events.Event, decision *model.ScalingDecision, configured *model.DeploymentConfigured) model.Actuation {
	record := model.Actuation{
		Deployment: decision.Deployment, DecisionID: event.ID, Epoch: decision.Epoch,
		ObservedAt: decision.ObservedAt, OccurredAt: a.now().UTC(),
	}
	if configured != nil {
		record.OccurredAt = configured.Spec.Clock().At(a.now()).UTC()
	}
	for _, role := range model.AllRoles {
		delta, ok := decision.Delta.Get(role)
		if desired, known := decision.Desired.Get(role); ok && known && delta != 0 {
			record.Roles.Set(role, model.Change{From: desired, To: desired + delta})
		}
	}
	return record
}

// apply writes the changed roles, decreases first, so that the GPUs in use
// never exceed what they were or will be.
func (a *Actuator) apply(ctx context.Context, event events.Event, decision *model.ScalingDecision, configured *model.DeploymentConfigured, record model.Actuation) error {
	connector, err := a.connectors(&configured.Spec)
	if err != nil {
		return a.reject(event, record, model.RejectedNotReady, err.Error())
	}
	record.Connector = connector.Name()
	desired, err := connector.Desired(ctx, configured)
	if err != nil {
		return a.outcome(event, record, err)
	}
	for _, role := range configured.Spec.Topology.Roles() {
		change, changed := record.Roles.Get(role)
		set, known := desired.Get(role)
		if changed && (!known || set != change.From && set != change.To) {
			return a.reject(event, record, model.RejectedDrift,
				fmt.Sprintf("role %s is set to %d, the decision saw %d", role, set, change.From))
		}
	}
	for _, decreases := range []bool{true, false} {
		for _, role := range configured.Spec.Topology.Roles() {
			change, changed := record.Roles.Get(role)
			set, _ := desired.Get(role)
			if !changed || (change.To < change.From) != decreases || set == change.To {
				continue
			}
			if err := connector.Scale(ctx, configured, role, change); err != nil {
				return a.outcome(event, record, fmt.Errorf("scale %s from %d to %d: %w", role, change.From, change.To, err))
			}
		}
	}
	a.logger.Info("scaled", "deployment", record.Deployment, "decision_id", record.DecisionID, "action", decision.Action)
	return a.record(event, &model.ScalingApplied{Actuation: record})
}

// outcome records a connector's error: a refusal as a rejection, any other as a failure.
func (a *Actuator) outcome(event events.Event, record model.Actuation, err error) error {
	if refusal, ok := refusalOf(err); ok {
		return a.reject(event, record, refusal.Reason, refusal.Detail)
	}
	a.logger.Error("scaling failed", "deployment", record.Deployment, "decision_id", record.DecisionID, "error", err)
	return a.record(event, &model.ScalingFailed{Actuation: record, Error: err.Error(), Attempt: 1})
}

func (a *Actuator) reject(event events.Event, record model.Actuation, reason model.Rejection, detail string) error {
	a.logger.Warn("decision rejected", "deployment", record.Deployment, "decision_id", record.DecisionID, "reason", reason, "detail", detail)
	return a.record(event, &model.ScalingRejected{Actuation: record, Reason: reason, Detail: detail})
}

// record publishes an actuation event and folds it into the ledger at once: the
// next decision must see it, whether or not the log has brought it back yet.
func (a *Actuator) record(cause events.Event, fact any) error {
	sealed, err := events.Seal(fact, events.About{
		Source: Source, CausationID: cause.ID, CorrelationID: cause.CorrelationID, TraceParent: cause.TraceParent,
	})
	if err != nil {
		return events.Permanent(err)
	}
	if err := a.log.Publisher().Publish(a.topics.Name(events.TopicActuations), sealed.Message()); err != nil {
		return fmt.Errorf("publish %s: %w", sealed.Type, err)
	}
	a.metrics.recorded(fact)
	return a.ledger.add(sealed)
}
