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
	approved map[approvable]*model.DecisionApproved
	// order holds what was approved, the oldest first: it bounds the memory.
	order []approvable
	next  map[int32]int64
}

// approvable is what an approval is about. One that names another deployment than the
// decision's is about nothing, and stands in the way of no other.
type approvable struct{ deployment, decisionID string }

// rememberedApprovals bounds the approvals that are remembered: far more than there
// are decisions that are still valid.
const rememberedApprovals = 16384

func newApprovals(log events.Log, topics events.Topics) *approvals {
	return &approvals{log: log, topic: topics.Name(events.TopicApprovals), approved: map[approvable]*model.DecisionApproved{}, next: map[int32]int64{}}
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
	about := approvable{approved.Deployment, approved.DecisionID}
	if a.approved[about] != nil {
		return
	}
	a.approved[about] = approved
	if a.order = append(a.order, about); len(a.order) > rememberedApprovals {
		delete(a.approved, a.order[0])
		a.order = a.order[1:]
	}
}

// of returns the approval of a decision, or nil.
func (a *approvals) of(deployment, decisionID string) *model.DecisionApproved {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.approved[approvable{deployment, decisionID}]
}

// awaits reports whether a decision that passed the gate waits for an approval. One
// that was begun had it.
func (v *view) awaits() bool {
	return v.pass && v.configured.Spec.Approval == model.ApprovalRequired && v.approvedBy == "" && v.past.begun == nil
}

// propose records that a decision waits for an approval. The decision is done with
// for now: the approval brings it back.
func (a *Actuator) propose(event events.Event, decision *model.ScalingDecision, seen view, record model.Actuation) error {
	if seen.past.proposed != nil {
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
// much as decisions are valid, on the wall's clock. The approval may be older itself.
func (a *Actuator) decision(ctx context.Context, approved *model.DecisionApproved) (found events.Event, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.config.ViewTimeout)
	defer cancel()
	since := time.Time{}
	if err := a.deployments.CatchUp(ctx); err != nil {
		return events.Event{}, false, err
	}
	if configured, known := a.deployments.Current(approved.Deployment); known && configured.Spec.Clock() == (model.Clock{}) {
		ttl := time.Duration(configured.Spec.Behavior.DecisionTTLS * float64(time.Second))
		since = approved.OccurredAt.Add(-ttl - approvalSkew)
		if now := a.now(); since.After(now.Add(-ttl - approvalSkew)) {
			since = now.Add(-ttl - approvalSkew)
		}
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

// endWaits rejects the proposed decisions that wait in vain: those that nobody
// approved while they were valid, and those that an approval could not let through any
// more.
func (a *Actuator) endWaits(ctx context.Context) error {
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
			configured, known := a.deployments.Current(proposed.Deployment)
			if known {
				now = configured.Spec.Clock().At(now)
			}
			past, _ := a.ledger.of(proposed.Deployment, proposed.DecisionID)
			refusal := vain(configured, proposed, past.newest, a.approvals.of(proposed.Deployment, proposed.DecisionID), now)
			if refusal == nil {
				continue
			}
			record := proposed.Actuation
			record.OccurredAt = now.UTC()
			if err := a.outcome(events.Event{ID: proposed.DecisionID}, record, refusal, false); err != nil && ctx.Err() == nil {
				a.logger.Warn("a decision that waits in vain is not rejected yet", "deployment", proposed.Deployment, "decision_id", proposed.DecisionID, "error", err)
			}
		}
	}
}

// vain returns why a proposed decision waits in vain, or nil. Each of the reasons is
// one for which the gate refuses it too, so what is rejected here is not carried out
// elsewhere meanwhile.
func vain(configured *model.DeploymentConfigured, proposed *model.ScalingProposed, newest sequence, approved *model.DecisionApproved, now time.Time) *connector.Refusal {
	switch {
	case configured == nil:
		return connector.Refuse(model.RejectedNotActive, "deployment %s is not configured any more", proposed.Deployment)
	case configured.Spec.Mode() != model.Active:
		return connector.Refuse(model.RejectedNotActive, "deployment %s is %s since revision %d", proposed.Deployment, configured.Spec.Mode(), configured.Revision)
	case proposed.Epoch != configured.Epoch:
		return connector.Refuse(model.RejectedStaleEpoch, "decision is of epoch %d, the deployment is in epoch %d", proposed.Epoch, configured.Epoch)
	case newest.observedAt.After(proposed.ObservedAt):
		return connector.Refuse(model.RejectedSuperseded, "a decision of %s was handled already, this one is of %s", instant(newest.observedAt), instant(proposed.ObservedAt))
	case !now.After(proposed.ValidUntil):
		return nil
	case approved != nil:
		return connector.Refuse(model.RejectedExpired, "%s approved it, and it was not begun while it was valid, until %s", approved.ApprovedBy, instant(proposed.ValidUntil))
	}
	return connector.Refuse(model.RejectedNotApproved, "nobody approved it until %s", instant(proposed.ValidUntil))
}
