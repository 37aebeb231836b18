// Package actuator carries decisions out, and only those that may be: it is the
// one writer of Tidemark.
//
// While no deployment is active the actuator is not subscribed to decisions at
// all. While some are, every decision passes the gate: the deployment is active
// in the actuator's own view of the log and in the decision, the epoch is the
// present one, the decision has not expired and none newer was begun. The gate
// is asked again right before each write, by the log as it is then. That
// something will be written is in the log before it is; what was done, and what
// was refused, before the decision is acknowledged.
package actuator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/kubernetes"
)

// Source is the source of the actuator's events.
const Source = "/tidemark/actuator"

// stopGrace is how long work goes on after its message's subscription ended. It
// stays below the time that the log waits for messages in hand.
const stopGrace = 2 * time.Second

// Config configures an actuator.
type Config struct {
	// SettleEvery is how often the fleet is looked at for changes that it has
	// not reached yet.
	SettleEvery time.Duration
	// SettleDeadline is how long, on the deployment's clock, a change may take
	// before it is recorded as failed.
	SettleDeadline time.Duration
	// ViewTimeout bounds the reading of the log up to its end, without which
	// nothing is acted on.
	ViewTimeout time.Duration
	// ApplyTimeout bounds the work on one decision. It stays below the time
	// after which a consumer group takes a member that handles nothing for dead.
	ApplyTimeout time.Duration
	// Kubernetes says how the API server is reached, should a deployment need it.
	Kubernetes kubernetes.Config
}

// DefaultConfig returns the configuration of an actuator that is told nothing.
// The deadline is twice what the slowest cold starts of large models take.
func DefaultConfig() Config {
	return Config{
		SettleEvery: time.Second, SettleDeadline: 30 * time.Minute,
		ViewTimeout: 10 * time.Second, ApplyTimeout: 45 * time.Second,
		Kubernetes: kubernetes.DefaultConfig(),
	}
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
	approvals   *approvals
	connectors  func(*model.Deployment) (connector.Connector, error)
	now         func() time.Time
}

// Run works until the context is done.
func (a *Actuator) Run(ctx context.Context, ready func()) error {
	if err := a.deployments.Start(ctx); err != nil {
		return err
	}
	if err := a.ledger.catchUp(ctx); err != nil {
		return err
	}
	if err := a.approvals.catchUp(ctx); err != nil {
		return err
	}
	working, ctx := errgroup.WithContext(ctx)
	working.Go(func() error { return a.ledger.follow(ctx) })
	working.Go(func() error { return a.settle(ctx) })
	working.Go(func() error { return a.subscribeWhileActive(ctx) })
	working.Go(func() error { return a.showLimits(ctx) })
	working.Go(func() error { return a.endWaits(ctx) })
	ready()
	return working.Wait()
}

// showLimits keeps the metrics of what holds the actuator back: freezes, which come
// by the log and by the clock, the room that limits leave, and what waits for an
// approval.
func (a *Actuator) showLimits(ctx context.Context) error {
	shown := map[string]bool{}
	for {
		changed := a.deployments.Changed()
		waiting := map[string]int{}
		for _, proposed := range a.ledger.proposals() {
			waiting[proposed.Deployment]++
		}
		gone := shown
		shown = map[string]bool{}
		for _, configured := range a.deployments.All() {
			name, limits := configured.Deployment, &configured.Spec.Limits
			shown[name] = true
			delete(gone, name)
			now := configured.Spec.Clock().At(a.now())
			_, frozen := a.deployments.Frozen(name)
			window, _ := OpenWindow(limits, now)
			a.metrics.frozen.WithLabelValues(name).Set(truth(frozen || window != nil))
			if configured.Spec.Approval == model.ApprovalRequired {
				a.metrics.waiting.WithLabelValues(name).Set(float64(waiting[name]))
			} else {
				a.metrics.waiting.DeleteLabelValues(name)
			}
			if limits.MaxChangeReplicas == 0 {
				a.metrics.room.DeletePartialMatch(prometheus.Labels{"deployment": name})
				continue
			}
			past, _ := a.ledger.of(name, "")
			used := past.changedSince(now.Add(-limits.ChangeInterval()))
			for _, role := range configured.Spec.Topology.Roles() {
				n, _ := used.Get(role)
				a.metrics.room.WithLabelValues(name, string(role)).Set(float64(max(limits.MaxChangeReplicas-n, 0)))
			}
		}
		for name := range gone {
			a.metrics.frozen.DeleteLabelValues(name)
			a.metrics.waiting.DeleteLabelValues(name)
			a.metrics.room.DeletePartialMatch(prometheus.Labels{"deployment": name})
		}
		// What depends on the clock is shown within a second.
		tick := time.NewTimer(time.Second)
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		}
		tick.Stop()
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
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
		if err := a.consume(ctx); err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
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
	subscriber, err := a.log.Subscriber(a.topics.Group("actuator"))
	if err != nil {
		return err
	}
	// A subscriber of its own: a group's member has one topic.
	approving, err := a.log.Subscriber(a.topics.Group("actuator"))
	if err != nil {
		return err
	}
	router, err := events.NewRouter(events.RouterConfig{Service: "actuator", Log: a.log, Topics: a.topics, Logger: a.logger, Registerer: a.metrics.registerer})
	if err != nil {
		return err
	}
	router.AddConsumerHandler("actuate", topic, subscriber, a.Handle)
	router.AddConsumerHandler("approve", a.topics.Name(events.TopicApprovals), approving, a.Approve)
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
	return a.carryOut(msg.Context(), event)
}

// carryOut carries a decision out, or records why not.
func (a *Actuator) carryOut(ctx context.Context, event events.Event) error {
	decision, err := events.As[*model.ScalingDecision](event)
	if err != nil {
		return err
	}
	if !asks(decision) {
		return nil
	}
	view, err := a.view(ctx, event, decision)
	if err != nil {
		return err
	}
	if view.handled {
		return nil
	}
	record := a.actuation(event, decision, &view)
	if !view.pass {
		err = connector.Refuse(view.reason, "%s", view.detail)
		if view.past.begun != nil {
			err = fmt.Errorf("it was begun and interrupted, and is not finished: %w", err)
		}
		return a.outcome(event, record, err, view.past.begun != nil)
	}
	if view.awaits() {
		return a.propose(event, decision, view, record)
	}
	record.ApprovedBy = view.approvedBy
	return a.apply(ctx, event, decision, view, record)
}

// view is what the gate says of a decision, by the log as it is.
type view struct {
	verdict
	configured *model.DeploymentConfigured
	past       history
	handled    bool
	// approvedBy is who approved the decision, where that is required.
	approvedBy string
}

// view reads the deployments and the actuations up to the ends that they have
// now: the gate must not obey a view from before a switch to advisory, or before
// what another actuator did.
func (a *Actuator) view(ctx context.Context, event events.Event, decision *model.ScalingDecision) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, a.config.ViewTimeout)
	defer cancel()
	if err := a.deployments.CatchUp(ctx); err != nil {
		return view{}, err
	}
	if err := a.ledger.catchUp(ctx); err != nil {
		return view{}, err
	}
	var seen view
	now := a.now()
	if configured, known := a.deployments.Current(decision.Deployment); known {
		seen.configured, now = configured, configured.Spec.Clock().At(now)
	}
	seen.past, seen.handled = a.ledger.of(decision.Deployment, event.ID)
	seen.past.frozen, _ = a.deployments.Frozen(decision.Deployment)
	if seen.configured != nil {
		seen.past.window, seen.past.windowSince = OpenWindow(&seen.configured.Spec.Limits, now)
	}
	if seen.configured != nil && seen.configured.Spec.Approval == model.ApprovalRequired {
		if err := a.approvals.catchUp(ctx); err != nil {
			return view{}, err
		}
		if approved := a.approvals.of(decision.Deployment, event.ID); approved != nil {
			seen.approvedBy = approved.ApprovedBy
		}
	}
	seen.verdict = gate(seen.configured, decision, event.ID, seen.past, now)
	return seen, nil
}

// actuation fills in what every record about a decision carries.
func (a *Actuator) actuation(event events.Event, decision *model.ScalingDecision, seen *view) model.Actuation {
	record := model.Actuation{
		Deployment: decision.Deployment, DecisionID: event.ID, Epoch: decision.Epoch,
		ObservedAt: decision.ObservedAt, OccurredAt: a.now().UTC(), Roles: changes(decision),
	}
	if seen.configured != nil {
		record.OccurredAt = seen.configured.Spec.Clock().At(a.now()).UTC()
	}
	if seen.pass {
		record.Roles, record.Limited = seen.changes, seen.limited
	}
	return record
}

// apply hands a decision that passed the gate to the connector.
func (a *Actuator) apply(ctx context.Context, event events.Event, decision *model.ScalingDecision, seen view, record model.Actuation) error {
	configured := seen.configured
	through, err := a.connectors(&configured.Spec)
	if err != nil {
		return a.outcome(event, record, connector.Refuse(model.RejectedNotReady, "%v", err), seen.past.begun != nil)
	}
	record.Connector = through.Name()
	begun := seen.past.begun != nil
	permit := func(ctx context.Context) error {
		if !begun {
			started := &model.ScalingStarted{Actuation: record}
			if err := a.record(event, started); err != nil {
				return err
			}
			begun = true
		}
		again, err := a.view(ctx, event, decision)
		switch {
		case err != nil:
			return err
		case !again.pass:
			return connector.Refuse(again.reason, "%s", again.detail)
		case again.configured.Spec.Approval == model.ApprovalRequired && again.approvedBy == "":
			return connector.Refuse(model.RejectedNotApproved, "approval is required since revision %d, and nobody approved it", again.configured.Revision)
		case !reflect.DeepEqual(again.configured.Spec.Actuator, configured.Spec.Actuator):
			return connector.Refuse(model.RejectedConflict, "the deployment's actuator was configured anew, by revision %d", again.configured.Revision)
		}
		return nil
	}
	// What is begun when the process is asked to stop has a moment to be finished.
	working, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.ApplyTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	err = through.Apply(working, connector.Order{Configured: configured, Event: event, Decision: decision, Changes: record.Roles, Permit: permit})
	if err != nil && working.Err() != nil && ctx.Err() != nil {
		// There was no time: whoever comes next finishes this, or says why not.
		return fmt.Errorf("carry decision %s out: %w", event.ID, err)
	}
	if err != nil {
		return a.outcome(event, record, err, seen.past.begun != nil)
	}
	record.OccurredAt = configured.Spec.Clock().At(a.now()).UTC()
	a.logger.Info("scaled", "deployment", record.Deployment, "decision_id", record.DecisionID, "action", decision.Action, "limited", record.Limited)
	return a.record(event, &model.ScalingApplied{Actuation: record})
}

// outcome records an error: a refusal as a rejection, any other as a failure,
// and a refusal of what was begun before as a failure too, for some of it may
// be done.
func (a *Actuator) outcome(event events.Event, record model.Actuation, err error, begun bool) error {
	if refusal, ok := connector.RefusalOf(err); ok && !begun {
		a.logger.Warn("decision rejected", "deployment", record.Deployment, "decision_id", record.DecisionID, "reason", refusal.Reason, "detail", refusal.Detail)
		return a.record(event, &model.ScalingRejected{Actuation: record, Reason: refusal.Reason, Detail: refusal.Detail})
	}
	a.logger.Error("scaling failed", "deployment", record.Deployment, "decision_id", record.DecisionID, "error", err)
	return a.record(event, &model.ScalingFailed{Actuation: record, Error: err.Error(), Attempt: 1})
}

// record publishes an actuation event.
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
	a.ledger.note(fact)
	return nil
}
