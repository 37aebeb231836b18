// Package connectortest holds a fleet in memory for tests: pools with versions,
// as an API server keeps them, every write on record, and faults on demand.
package connectortest

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
)

// Write is one write that the fleet took.
type Write struct {
	Deployment string
	Role       model.Role
	From, To   int
	// By is the name of the view through which it came.
	By string
	// Decision is the decision that it carried out.
	Decision *model.ScalingDecision
}

// Fleet is the fleets of all deployments.
type Fleet struct {
	mu     sync.Mutex
	pools  map[poolKey]*pool
	writes []Write
	// OnWrite is called after every write with what all roles of the deployment
	// are set to. It is set before the fleet is used.
	OnWrite func(Write, model.PerRole[int])
}

type poolKey struct {
	deployment string
	role       model.Role
}

type pool struct {
	set, running int
	version      int
}

// NewFleet returns a fleet without pools.
func NewFleet() *Fleet { return &Fleet{pools: map[poolKey]*pool{}} }

// Put sets a pool, as somebody else would: all of it is ready at once.
func (f *Fleet) Put(deployment string, role model.Role, replicas int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := poolKey{deployment, role}
	if f.pools[key] == nil {
		f.pools[key] = &pool{}
	}
	f.pools[key].set, f.pools[key].running = replicas, replicas
	f.pools[key].version++
}

// Run sets how many replicas of a pool there are, whatever it is set to.
func (f *Fleet) Run(deployment string, role model.Role, replicas int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pools[poolKey{deployment, role}].running = replicas
}

// Writes returns the writes so far.
func (f *Fleet) Writes() []Write {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Write(nil), f.writes...)
}

// SetTo returns what the roles of a deployment are set to.
func (f *Fleet) SetTo(deployment string) model.PerRole[int] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set(deployment)
}

func (f *Fleet) set(deployment string) model.PerRole[int] {
	var set model.PerRole[int]
	for _, role := range model.AllRoles {
		if p := f.pools[poolKey{deployment, role}]; p != nil {
			set.Set(role, p.set)
		}
	}
	return set
}

// View is a connector's way to the fleet.
type View struct {
	*Fleet
	// By names the view in the record of writes.
	By    string
	Steps connector.Steps
	// Linger keeps replicas running that were set away: Run takes them.
	Linger bool
	// BeforeRead, BeforeWrite and AfterWrite may wait, or fail.
	BeforeRead  func(context.Context, model.Role) error
	BeforeWrite func(context.Context, model.Role) error
	AfterWrite  func(context.Context, model.Role) error
}

var (
	_ connector.Connector = (*View)(nil)
	_ connector.Pools     = (*View)(nil)
)

// Name is the connector's name.
func (v *View) Name() string { return "test" }

// Apply goes step by step.
func (v *View) Apply(ctx context.Context, order connector.Order) error {
	return v.Steps.Apply(context.WithValue(ctx, decisionKey{}, order.Decision), v, order)
}

type decisionKey struct{}

func maybe(ctx context.Context, role model.Role, fault func(context.Context, model.Role) error) error {
	if fault == nil {
		return nil
	}
	return fault(ctx, role)
}

// Pool reads a pool.
func (v *View) Pool(ctx context.Context, configured *model.DeploymentConfigured, role model.Role) (connector.Pool, error) {
	if err := maybe(ctx, role, v.BeforeRead); err != nil {
		return connector.Pool{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.pools[poolKey{configured.Deployment, role}]
	if p == nil {
		return connector.Pool{}, connector.Refuse(model.RejectedNotReady, "pool %s is not there", role)
	}
	return connector.Pool{Set: p.set, Running: new(p.running), Version: strconv.Itoa(p.version)}, nil
}

// Set writes a pool, if its version is the one that was read.
func (v *View) Set(ctx context.Context, configured *model.DeploymentConfigured, role model.Role, read connector.Pool, replicas int) error {
	if err := maybe(ctx, role, v.BeforeWrite); err != nil {
		return err
	}
	decision, _ := ctx.Value(decisionKey{}).(*model.ScalingDecision)
	write := Write{Deployment: configured.Deployment, Role: role, To: replicas, By: v.By, Decision: decision}
	if err := v.write(write, read); err != nil {
		return err
	}
	return maybe(ctx, role, v.AfterWrite)
}

func (v *View) write(write Write, read connector.Pool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.pools[poolKey{write.Deployment, write.Role}]
	if now := strconv.Itoa(p.version); now != read.Version {
		return fmt.Errorf("pool %s is at version %s, not %s: %w", write.Role, now, read.Version, connector.ErrConflict)
	}
	write.From, p.set = p.set, write.To
	p.version++
	if !v.Linger || write.To > p.running {
		p.running = write.To
	}
	v.writes = append(v.writes, write)
	if v.OnWrite != nil {
		v.OnWrite(write, v.set(write.Deployment))
	}
	return nil
}

// Ready returns what runs.
func (v *View) Ready(_ context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var ready model.PerRole[int]
	for _, role := range model.AllRoles {
		if p := v.pools[poolKey{configured.Deployment, role}]; p != nil {
			ready.Set(role, p.running)
		}
	}
	return ready, nil
}
