package actuator

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
)

// approvals is the projection of the approvals topic: who approved which decision.
type approvals struct {
	log   events.Log
	topic string

	mu       sync.Mutex
	approved map[string]*model.DecisionApproved
	// order holds the IDs of the decisions, the oldest first: it bounds the memory.
	order []string
	next  map[int32]int64
}

// rememberedApprovals bounds the approvals that are remembered: far more than there
// are decisions that are still valid.
const rememberedApprovals = 16384

func newApprovals(log events.Log, topics events.Topics) *approvals {
	return &approvals{log: log, topic: topics.Name(events.TopicApprovals), approved: map[string]*model.DecisionApproved{}, next: map[int32]int64{}}
}

// catchUp returns once the projection holds all that was in the topic when it was
// called. What cannot be decoded approves nothing.
func (a *approvals) catchUp(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for record, err := range a.log.Read(ctx, a.topic, events.Range{From: events.Bound{Positions: maps.Clone(a.next)}}) {
		if err != nil {
			return fmt.Errorf("read approvals: %w", err)
		}
		a.next[record.Partition] = record.Position + 1
		if event, err := record.Event(); err == nil {
			if approved, err := events.As[*model.DecisionApproved](event); err == nil {
				a.add(approved)
			}
		}
	}
	return nil
}

func (a *approvals) add(approved *model.DecisionApproved) {
	if a.approved[approved.DecisionID] != nil {
		return
	}
	a.approved[approved.DecisionID] = approved
	if a.order = append(a.order, approved.DecisionID); len(a.order) > rememberedApprovals {
		delete(a.approved, a.order[0])
		a.order = a.order[1:]
	}
}

// of returns the approval of a decision, or nil.
func (a *approvals) of(deployment, decisionID string) *model.DecisionApproved {
	a.mu.Lock()
	defer a.mu.Unlock()
	if approved := a.approved[decisionID]; approved != nil && approved.Deployment == deployment {
		return approved
	}
	return nil
}

// awaits reports whether a decision that passed the gate waits for an approval. One
// that was begun had it.
func (v *view) awaits() bool {
	return v.pass && v.configured.Spec.Approval == model.ApprovalRequired && v.approvedBy == "" && v.past.begun == nil
}

// propose records that a decision waits for an approval. The decision is done with
// for now: the approval brings it back.
func (a *Actuator) propose(event events.Event, decision *model.ScalingDecision, seen view, record model.Actuation) error {
	if seen.past.proposed {
		return nil
	}
	a.logger.Info("decision waits for an approval", "deployment", record.Deployment, "decision_id", record.DecisionID, "action", decision.Action)
	return a.record(event, &model.ScalingProposed{Actuation: record, ValidUntil: validUntil(&seen.configured.Spec, decision)})
}

// Approve carries out the decision that an approval is about, if it may be.
func (a *Actuator) Approve(msg *message.Message) error {
	event, err := events.EventOf(msg)
	if err != nil {
		return err
	}
	approved, err := events.As[*model.DecisionApproved](event)
	if err != nil {
		return err
	}
	ctx := msg.Context()
	decision, found, err := a.decision(ctx, approved)
	if err != nil {
		return err
	}
	if !found {
		return events.Permanent(fmt.Errorf("%s approved decision %s of %s, and the log holds no such decision", approved.ApprovedBy, approved.DecisionID, approved.Deployment))
	}
	return a.carryOut(ctx, decision)
}

// approvalSkew bounds how far apart the clocks of those who approve, of the decider
// and of the log are.
const approvalSkew = 5 * time.Minute

// decision reads the decision that an approval is about. It was made before, by as
// much as decisions are valid, on the wall's clock.
func (a *Actuator) decision(ctx context.Context, approved *model.DecisionApproved) (found events.Event, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.config.ViewTimeout)
	defer cancel()
	since := time.Time{}
	if err := a.deployments.CatchUp(ctx); err != nil {
		return events.Event{}, false, err
	}
	if configured, known := a.deployments.Current(approved.Deployment); known && configured.Spec.Clock() == (model.Clock{}) {
		ttl := time.Duration(configured.Spec.Behavior.DecisionTTLS * float64(time.Second))
		since = a.now().Add(-ttl - approvalSkew)
	}
	topic := a.topics.Name(events.TopicDecisions)
	for record, err := range a.log.Read(ctx, topic, events.Range{From: events.Bound{Time: since}, Key: approved.Deployment}) {
		if err != nil {
			return events.Event{}, false, fmt.Errorf("read decisions: %w", err)
		}
		if event, err := record.Event(); err == nil && event.ID == approved.DecisionID {
			return event, true, nil
		}
	}
	return events.Event{}, false, nil
}

// refuseUnapproved rejects the decisions that nobody approved while they were valid.
func (a *Actuator) refuseUnapproved(ctx context.Context) error {
	for {
		pause := time.NewTimer(a.config.SettleEvery)
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
		for _, proposed := range a.ledger.proposals() {
			now := a.now()
			if configured, known := a.deployments.Current(proposed.Deployment); known {
				now = configured.Spec.Clock().At(now)
			}
			if !now.After(proposed.ValidUntil) {
				continue
			}
			record := proposed.Actuation
			record.OccurredAt = now.UTC()
			refusal := connector.Refuse(model.RejectedNotApproved, "nobody approved it until %s", instant(proposed.ValidUntil))
			if err := a.outcome(events.Event{ID: proposed.DecisionID}, record, refusal, false); err != nil && ctx.Err() == nil {
				a.logger.Warn("an unapproved decision is not rejected yet", "deployment", proposed.Deployment, "decision_id", proposed.DecisionID, "error", err)
			}
		}
	}
}
