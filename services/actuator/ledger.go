package actuator

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// remembered bounds the decisions per deployment whose outcome is remembered.
// Older ones fall under the rule that a decision must be newer than the last
// one handled.
const remembered = 1024

// ledger is the projection of the actuations topic: what was done, by this
// actuator or another. It is what survives a restart, and what fences out an
// older actuator.
type ledger struct {
	log    events.Log
	topic  string
	logger *slog.Logger

	mu          sync.Mutex
	deployments map[string]*account
	// next is the position after the last record that is in the ledger.
	next map[int32]int64
}

// account is the ledger of one deployment.
type account struct {
	// newest is the newest decision that was begun or has an outcome.
	newest sequence
	// outcomes holds the IDs of decisions with an outcome, order their age.
	outcomes map[string]bool
	order    []string
	// begun holds, by their IDs, the decisions that were begun and have no outcome.
	begun map[string]*model.Actuation
	// set is what each role was set to by the newest change of it.
	set model.PerRole[int]
	// unsettled is the newest change that the fleet has not reached yet.
	unsettled *unsettled
	// proposed holds the decisions that wait for an approval.
	proposed map[string]*model.ScalingProposed
	// changes are the newest changes that were begun, each once, whatever became of
	// them.
	changes []begunChange
}

// begunChange is a change that was begun, and may have been made.
type begunChange struct {
	decisionID string
	at         time.Time
	roles      model.PerRole[model.Change]
}

// sequence orders the decisions of a deployment.
type sequence struct {
	observedAt time.Time
	decisionID string
}

// unsettled is a change that the fleet has not reached yet.
type unsettled struct {
	*model.ScalingApplied
	// lookAt is when the fleet is looked at next, by the wall clock.
	lookAt time.Time
}

// history is what the gate has to know of a deployment's ledger.
type history struct {
	newest sequence
	// frozen is the freeze that the deployment is under, or nil.
	frozen *model.ScalingFrozen
	// window is the freeze window that is open, or nil.
	window      *model.FreezeWindow
	windowSince time.Time
	// begun is what was begun of this decision, where nothing says how that ended:
	// an actuator stopped in the middle of it.
	begun *model.Actuation
	// proposed is what was proposed of this decision, which waits for an approval, or
	// nil.
	proposed *model.ScalingProposed
	// changes are those of other decisions that were begun.
	changes []begunChange
}

// changedSince returns by how many replicas each role was changed after an instant
// on the deployment's clock, up and down added together.
func (h *history) changedSince(at time.Time) model.PerRole[int] {
	var sum model.PerRole[int]
	for _, change := range h.changes {
		if !change.at.After(at) {
			continue
		}
		for _, role := range model.AllRoles {
			if c, is := change.roles.Get(role); is {
				before, _ := sum.Get(role)
				sum.Set(role, before+size(c))
			}
		}
	}
	return sum
}

func newLedger(log events.Log, topics events.Topics, logger *slog.Logger) *ledger {
	return &ledger{
		log: log, topic: topics.Name(events.TopicActuations), logger: logger,
		deployments: map[string]*account{}, next: map[int32]int64{},
	}
}

// catchUp returns once the ledger holds all that was in the topic when it was
// called.
func (l *ledger) catchUp(ctx context.Context) error {
	for record, err := range l.log.Read(ctx, l.topic, events.Range{From: l.position()}) {
		if err != nil {
			return fmt.Errorf("read actuations: %w", err)
		}
		l.fold(record)
	}
	return nil
}

// follow keeps up with the topic until the context is done.
func (l *ledger) follow(ctx context.Context) error {
	for record, err := range l.log.Follow(ctx, l.topic, events.Range{From: l.position()}) {
		if err != nil {
			return fmt.Errorf("follow actuations: %w", err)
		}
		l.fold(record)
	}
	return ctx.Err()
}

func (l *ledger) position() events.Bound {
	l.mu.Lock()
	defer l.mu.Unlock()
	return events.Bound{Positions: maps.Clone(l.next)}
}

// fold adds a record, unless it is in the ledger already: several readers may be
// at work, each of which reads a partition in order.
func (l *ledger) fold(record events.Record) {
	event, err := record.Event()
	var fact any
	if err == nil {
		fact, err = event.Fact()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if record.Position < l.next[record.Partition] {
		return
	}
	l.next[record.Partition] = record.Position + 1
	if err != nil {
		l.logger.Warn("actuation is left out", "partition", record.Partition, "position", record.Position, "error", err)
		return
	}
	l.add(fact)
}

// note folds a fact that was just published: the next decision must see it,
// whether or not the log has brought it back yet. Folding it again changes
// nothing.
func (l *ledger) note(fact any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(fact)
}

func (l *ledger) add(fact any) {
	switch fact := fact.(type) {
	case *model.ScalingProposed:
		// It has no outcome, and does not make those before it old: each may be
		// approved as long as it is valid.
		if a := l.account(fact.Deployment); !a.outcomes[fact.DecisionID] && a.begun[fact.DecisionID] == nil {
			a.proposed[fact.DecisionID] = fact
		}
	case *model.ScalingStarted:
		a := l.account(fact.Deployment)
		delete(a.proposed, fact.DecisionID)
		a.advance(&fact.Actuation)
		a.change(&fact.Actuation)
		if !a.outcomes[fact.DecisionID] && a.begun[fact.DecisionID] == nil {
			a.begun[fact.DecisionID] = &fact.Actuation
		}
	case *model.ScalingApplied:
		a := l.account(fact.Deployment)
		a.change(&fact.Actuation)
		if !a.outcome(&fact.Actuation) {
			return
		}
		for _, role := range model.AllRoles {
			if change, ok := fact.Roles.Get(role); ok {
				a.set.Set(role, change.To)
			}
		}
		if a.unsettled == nil || !fact.ObservedAt.Before(a.unsettled.ObservedAt) {
			a.unsettled = &unsettled{ScalingApplied: fact}
		}
	case *model.ScalingRejected:
		a := l.account(fact.Deployment)
		switch fact.Reason {
		case model.RejectedNotActive, model.RejectedStaleEpoch, model.RejectedNotYetValid, model.RejectedNotApproved:
			// Such a decision had no say, and so none about which is the newest:
			// else one with a forged instant would stop all that come after it.
			a.remember(fact.DecisionID)
		default:
			a.outcome(&fact.Actuation)
		}
	case *model.ScalingFailed:
		a := l.account(fact.Deployment)
		a.outcome(&fact.Actuation)
		a.settle(fact.DecisionID)
	case *model.ScalingSettled:
		l.account(fact.Deployment).settle(fact.DecisionID)
	}
}

func (l *ledger) account(deployment string) *account {
	a := l.deployments[deployment]
	if a == nil {
		a = &account{outcomes: map[string]bool{}, begun: map[string]*model.Actuation{}, proposed: map[string]*model.ScalingProposed{}}
		l.deployments[deployment] = a
	}
	return a
}

// outcome takes note of what became of a decision. It reports whether that is
// new.
func (a *account) outcome(done *model.Actuation) bool {
	a.advance(done)
	return a.remember(done.DecisionID)
}

// advance makes a decision the newest, if it is.
func (a *account) advance(done *model.Actuation) {
	if done.ObservedAt.After(a.newest.observedAt) {
		a.newest = sequence{done.ObservedAt, done.DecisionID}
	}
}

// change takes note of a change that was begun.
func (a *account) change(begun *model.Actuation) {
	if slices.ContainsFunc(a.changes, func(c begunChange) bool { return c.decisionID == begun.DecisionID }) {
		return
	}
	if a.changes = append(a.changes, begunChange{begun.DecisionID, begun.OccurredAt, begun.Roles}); len(a.changes) > remembered {
		a.changes = a.changes[1:]
	}
}

// remember notes that a decision has an outcome, and reports whether that is new.
func (a *account) remember(decisionID string) bool {
	delete(a.begun, decisionID)
	delete(a.proposed, decisionID)
	if a.outcomes[decisionID] {
		return false
	}
	a.outcomes[decisionID] = true
	if a.order = append(a.order, decisionID); len(a.order) > remembered {
		delete(a.outcomes, a.order[0])
		a.order = a.order[1:]
	}
	return true
}

func (a *account) settle(decisionID string) {
	if a.unsettled != nil && a.unsettled.DecisionID == decisionID {
		a.unsettled = nil
	}
}

// of returns what the gate has to know about a decision's past, and whether the
// decision has an outcome already.
func (l *ledger) of(deployment, decisionID string) (past history, handled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(deployment)
	past = history{newest: a.newest, begun: a.begun[decisionID], proposed: a.proposed[decisionID]}
	for _, change := range a.changes {
		if change.decisionID != decisionID {
			past.changes = append(past.changes, change)
		}
	}
	return past, a.outcomes[decisionID]
}

// proposals returns the decisions that wait for an approval, the oldest first.
func (l *ledger) proposals() []*model.ScalingProposed {
	l.mu.Lock()
	defer l.mu.Unlock()
	var waiting []*model.ScalingProposed
	for _, a := range l.deployments {
		waiting = slices.AppendSeq(waiting, maps.Values(a.proposed))
	}
	slices.SortFunc(waiting, func(a, b *model.ScalingProposed) int {
		return cmp.Or(a.ObservedAt.Compare(b.ObservedAt), cmp.Compare(a.DecisionID, b.DecisionID))
	})
	return waiting
}

// setTo returns what a role was last set to, and whether it ever was.
func (l *ledger) setTo(deployment string, role model.Role) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.account(deployment).set.Get(role)
}

// unsettled returns the changes that have not been reached yet.
func (l *ledger) unsettled() []*unsettled {
	l.mu.Lock()
	defer l.mu.Unlock()
	var open []*unsettled
	for _, a := range l.deployments {
		if a.unsettled != nil {
			open = append(open, a.unsettled)
		}
	}
	return open
}
