// Package simulated carries decisions out on simulated fleets. Such a fleet is a
// function of its configuration and of the actuations in the log, so that the
// record of a change is the change: the connector writes nothing of its own.
package simulated

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// Connector answers for the simulated fleets from the log.
type Connector struct {
	setTo func(deployment string, role model.Role) (int, bool)

	mu     sync.Mutex
	latest map[string]*model.Observation
}

// New returns a connector. setTo returns what a role was last set to by an
// actuation.
func New(setTo func(deployment string, role model.Role) (int, bool)) *Connector {
	return &Connector{setTo: setTo, latest: map[string]*model.Observation{}}
}

// Follow keeps up with the observations, by which the connector knows what is
// ready, until the context is done.
func (c *Connector) Follow(ctx context.Context, log events.Log, topic string, logger *slog.Logger) error {
	ends, err := log.Ends(ctx, topic)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", topic, err)
	}
	for record, err := range log.Follow(ctx, topic, events.Range{From: events.Bound{Positions: ends}}) {
		if err != nil {
			return fmt.Errorf("follow %s: %w", topic, err)
		}
		if err := c.observe(record); err != nil {
			logger.Debug("observation is left out", "partition", record.Partition, "position", record.Position, "error", err)
		}
	}
	return ctx.Err()
}

func (c *Connector) observe(record events.Record) error {
	event, err := record.Event()
	if err != nil {
		return err
	}
	fact, err := event.Fact()
	if err != nil {
		return err
	}
	if observation, ok := fact.(*model.Observation); ok {
		c.mu.Lock()
		c.latest[observation.Deployment] = observation
		c.mu.Unlock()
	}
	return nil
}

// Name returns the connector's name in actuations.
func (c *Connector) Name() string { return "simulated" }

// Desired returns what the roles were last set to, or started with.
func (c *Connector) Desired(_ context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error) {
	var desired model.PerRole[int]
	for _, role := range configured.Spec.Topology.Roles() {
		if set, ok := c.setTo(configured.Deployment, role); ok {
			desired.Set(role, set)
		} else if source := configured.Spec.Source; source != nil && source.Simulated != nil {
			desired.Set(role, source.Simulated.InitialReplicas(&configured.Spec, role))
		}
	}
	return desired, nil
}

// Ready returns what the newest observation of the fleet counts.
func (c *Connector) Ready(_ context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ready model.PerRole[int]
	observation := c.latest[configured.Deployment]
	if observation == nil || observation.Fleet == nil || observation.Fleet.Status != model.Measured {
		return ready, nil
	}
	for _, role := range model.AllRoles {
		if replicas, ok := observation.Fleet.Roles.Get(role); ok {
			ready.Set(role, replicas.Ready)
		}
	}
	return ready, nil
}

// Scale has nothing to write: the actuation that records the change makes it.
func (c *Connector) Scale(context.Context, *model.DeploymentConfigured, model.Role, model.Change) error {
	return nil
}
