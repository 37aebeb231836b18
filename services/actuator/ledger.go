package actuator

import (
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
	mu          sync.Mutex
	deployments map[string]*account
	appended    chan struct{}
}

// account is the ledger of one deployment.
type account struct {
	// lastHandled is the observed_at of the newest decision with an outcome.
	lastHandled time.Time
	// outcomes holds the IDs of decisions with an outcome, order their age.
	outcomes map[string]bool
	order    []string
	// set is what each role was set to by the newest change of it.
	set model.PerRole[int]
	// unsettled is the newest change that the fleet has not reached yet.
	unsettled *model.ScalingApplied
}

func newLedger() *ledger {
	return &ledger{deployments: map[string]*account{}, appended: make(chan struct{}, 1)}
}

// add folds one actuation event.
func (l *ledger) add(event events.Event) error {
	fact, err := event.Fact()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch fact := fact.(type) {
	case *model.ScalingApplied:
		a := l.outcome(&fact.Actuation)
		for _, role := range model.AllRoles {
			if change, ok := fact.Roles.Get(role); ok {
				a.set.Set(role, change.To)
			}
		}
		if a.unsettled == nil || !fact.ObservedAt.Before(a.unsettled.ObservedAt) {
			a.unsettled = fact
		}
	case *model.ScalingRejected:
		l.outcome(&fact.Actuation)
	case *model.ScalingFailed:
		a := l.outcome(&fact.Actuation)
		a.settle(fact.DecisionID)
	case *model.ScalingSettled:
		l.account(fact.Deployment).settle(fact.DecisionID)
	}
	select {
	case l.appended <- struct{}{}:
	default:
	}
	return nil
}

func (a *account) settle(decisionID string) {
	if a.unsettled != nil && a.unsettled.DecisionID == decisionID {
		a.unsettled = nil
	}
}

func (l *ledger) account(deployment string) *account {
	a := l.deployments[deployment]
	if a == nil {
		a = &account{outcomes: map[string]bool{}}
		l.deployments[deployment] = a
	}
	return a
}

func (l *ledger) outcome(done *model.Actuation) *account {
	a := l.account(done.Deployment)
	if done.ObservedAt.After(a.lastHandled) {
		a.lastHandled = done.ObservedAt
	}
	if !a.outcomes[done.DecisionID] {
		a.outcomes[done.DecisionID] = true
		if a.order = append(a.order, done.DecisionID); len(a.order) > remembered {
			delete(a.outcomes, a.order[0])
			a.order = a.order[1:]
		}
	}
	return a
}

// lastHandled returns the instant of the newest decision with an outcome, and
// whether this decision has one.
func (l *ledger) handled(deployment, decisionID string) (last time.Time, already bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(deployment)
	return a.lastHandled, a.outcomes[decisionID]
}

// setTo returns what a role was last set to, and whether it ever was.
func (l *ledger) setTo(deployment string, role model.Role) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.account(deployment).set.Get(role)
}

// unsettled returns the changes that have not been reached yet.
func (l *ledger) unsettled() []*model.ScalingApplied {
	l.mu.Lock()
	defer l.mu.Unlock()
	var open []*model.ScalingApplied
	for _, a := range l.deployments {
		if a.unsettled != nil {
			open = append(open, a.unsettled)
		}
	}
	return open
}
