package connector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tidemark.dev/pkg/model"
)

// Pools is a fleet whose pools are read and set one at a time.
type Pools interface {
	// Pool reads a role's pool. It refuses when the pool must not be scaled now.
	Pool(ctx context.Context, configured *model.DeploymentConfigured, role model.Role) (Pool, error)
	// Set sets the pool to a number of replicas, if it still is as it was read:
	// else the error is ErrConflict.
	Set(ctx context.Context, configured *model.DeploymentConfigured, role model.Role, pool Pool, replicas int) error
}

// Pool is a role's pool as it was read.
type Pool struct {
	// Set is the number of replicas that it is set to.
	Set int
	// Running is how many there are, ready or not, or nil where that is not known.
	Running *int
	// Version is what a write is conditioned on.
	Version string
}

// Steps bounds the work on one order. All of it stays below the time after
// which a consumer group takes a member that handles nothing for dead.
type Steps struct {
	// Attempts bounds the tries of one write.
	Attempts uint
	// FirstPause and LongestPause bound the pauses between them, which double.
	FirstPause, LongestPause time.Duration
	// Confirm is how long replicas may take to go, before those that replace
	// them within a budget are asked for.
	Confirm time.Duration
}

// DefaultSteps returns the bounds of an actuator that is told nothing.
func DefaultSteps() Steps {
	return Steps{Attempts: 5, FirstPause: 100 * time.Millisecond, LongestPause: 2 * time.Second, Confirm: 20 * time.Second}
}

// Apply carries an order out on pools. All of them are looked at before the
// first is written: where a budget binds the roles together, the unchanged ones
// count as well. Decreases come before increases; where a budget of GPUs
// binds the roles together, increases wait until what was decreased is gone, and
// are refused while what was taken away before still fills the budget. So
// the GPUs that are asked for never exceed the larger of what they were and
// what they will be, whatever fails in between. What was done before a failure
// is in the error.
func (s Steps) Apply(ctx context.Context, pools Pools, order Order) error {
	roles := order.Configured.Spec.Topology.Roles()
	read := map[model.Role]Pool{}
	for _, role := range roles {
		change, changed := order.Changes.Get(role)
		if !changed {
			desired, _ := order.Decision.Desired.Get(role)
			change = model.Change{From: desired, To: desired}
		}
		if changed || order.Configured.Spec.Budget.MaxGPUs != model.Unbounded {
			pool, err := s.look(ctx, pools, order, role, change)
			if err != nil {
				return err
			}
			read[role] = pool
		}
	}
	if err := room(order, read); err != nil {
		return err
	}
	var done []string
	for _, decreases := range []bool{true, false} {
		for _, role := range roles {
			change, changed := order.Changes.Get(role)
			if !changed || (change.To < change.From) != decreases {
				continue
			}
			if err := s.step(ctx, pools, order, role, change, read[role]); err != nil {
				return halfway(done, fmt.Errorf("scale %s from %d to %d: %w", role, change.From, change.To, err))
			}
			done = append(done, fmt.Sprintf("%s went from %d to %d", role, change.From, change.To))
		}
		if decreases && len(done) > 0 && bound(order) {
			if err := s.confirm(ctx, pools, order); err != nil {
				return halfway(done, err)
			}
		}
	}
	return nil
}

// room refuses increases for which the budget has no room yet, because replicas
// are still there that an earlier order took away. They may drain for minutes, so
// that nobody waits: the next decision comes soon enough. What this order takes
// away is waited for.
func room(order Order, read map[model.Role]Pool) error {
	if !bound(order) {
		return nil
	}
	spec := &order.Configured.Spec
	gpus := 0
	var going []string
	for _, role := range spec.Topology.Roles() {
		limits, _ := spec.Roles.Get(role)
		pool := read[role]
		change, changed := order.Changes.Get(role)
		replicas := pool.Set
		if changed {
			replicas = change.To
		}
		if decreases := changed && change.To < change.From; !decreases && pool.Running != nil && *pool.Running > pool.Set {
			replicas += *pool.Running - pool.Set
			going = append(going, fmt.Sprintf("%s is set to %d and still has %d", role, pool.Set, *pool.Running))
		}
		gpus += replicas * limits.GPUsPerReplica
	}
	if most := spec.Budget.MaxGPUs; len(going) > 0 && gpus > most {
		return Refuse(model.RejectedNotReady, "the budget of %d GPUs has no room yet: %s", most, strings.Join(going, ", "))
	}
	return nil
}

// halfway says what was done before an error. The order is then neither refused
// nor carried out, whatever the error is.
func halfway(done []string, err error) error {
	if len(done) == 0 {
		return err
	}
	return fmt.Errorf("%s; then %s", strings.Join(done, ", "), err.Error())
}

// bound reports whether increases of an order have to wait for its decreases.
func bound(order Order) bool {
	if order.Configured.Spec.Budget.MaxGPUs == model.Unbounded {
		return false
	}
	for _, role := range model.AllRoles {
		if change, changed := order.Changes.Get(role); changed && change.To > change.From {
			return true
		}
	}
	return false
}

// look reads a pool and checks that it is where the decision saw it, or where
// the decision wants it.
func (s Steps) look(ctx context.Context, pools Pools, order Order, role model.Role, change model.Change) (Pool, error) {
	pool, err := Retry(ctx, s, func() (Pool, error) { return pools.Pool(ctx, order.Configured, role) })
	if err != nil {
		return pool, fmt.Errorf("read %s: %w", role, err)
	}
	if pool.Set != change.From && pool.Set != change.To {
		return pool, Refuse(model.RejectedDrift, "role %s is set to %d, the decision saw %d", role, pool.Set, change.From)
	}
	return pool, nil
}

// step sets one pool, from what was read of it, and reads back that it is set.
func (s Steps) step(ctx context.Context, pools Pools, order Order, role model.Role, change model.Change, pool Pool) error {
	read := true
	_, err := Retry(ctx, s, func() (struct{}, error) {
		if !read {
			var err error
			if pool, err = s.look(ctx, pools, order, role, change); err != nil {
				return struct{}{}, Final(err)
			}
		}
		read = false
		if pool.Set == change.To {
			return struct{}{}, nil
		}
		if err := order.Permit(ctx); err != nil {
			return struct{}{}, Final(err)
		}
		return struct{}{}, pools.Set(ctx, order.Configured, role, pool, change.To)
	})
	if errors.Is(err, ErrConflict) {
		return Refuse(model.RejectedConflict, "%v, at each of %d attempts", err, s.Attempts)
	}
	if err != nil {
		return err
	}
	pool, err = Retry(ctx, s, func() (Pool, error) { return pools.Pool(ctx, order.Configured, role) })
	switch {
	case err != nil:
		return fmt.Errorf("verify: %w", err)
	case pool.Set != change.To:
		return fmt.Errorf("verify: it was set to %d and is set to %d; somebody else sets it too", change.To, pool.Set)
	}
	return nil
}

// confirm waits until the replicas that an order takes away are gone.
func (s Steps) confirm(ctx context.Context, pools Pools, order Order) error {
	waiting, cancel := context.WithTimeout(ctx, s.Confirm)
	defer cancel()
	for _, role := range order.Configured.Spec.Topology.Roles() {
		change, changed := order.Changes.Get(role)
		if !changed || change.To > change.From {
			continue
		}
		for {
			pool, err := Retry(waiting, s, func() (Pool, error) { return pools.Pool(waiting, order.Configured, role) })
			if err == nil && (pool.Running == nil || *pool.Running <= change.To) {
				break
			}
			if err != nil && waiting.Err() == nil {
				return fmt.Errorf("read %s: %w", role, err)
			}
			select {
			case <-waiting.Done():
				return fmt.Errorf("nothing else was scaled: %s still runs more than %d after %v, and the budget of GPUs has no room for both", role, change.To, s.Confirm)
			case <-time.After(s.FirstPause):
			}
		}
	}
	return nil
}

// Final keeps what was tried in vain within an attempt from being tried anew.
func Final(err error) error {
	if err == nil {
		return nil
	}
	return backoff.Permanent(err)
}

// Retry tries again after conflicts and errors that may pass.
func Retry[T any](ctx context.Context, s Steps, try func() (T, error)) (T, error) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.Multiplier = s.FirstPause, s.LongestPause, 2
	return backoff.Retry(ctx, func() (T, error) {
		result, err := try()
		if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrTransient) {
			err = Final(err)
		}
		return result, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(s.Attempts))
}
