// Package observed knows the replicas that the collector saw last. It is how
// connectors that cannot look at a fleet themselves learn what is ready.
package observed

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// Fleets holds the newest observation of each fleet.
type Fleets struct {
	mu     sync.Mutex
	latest map[string]*model.Observation
}

// New returns fleets of which none was observed yet.
func New() *Fleets { return &Fleets{latest: map[string]*model.Observation{}} }

// Follow keeps up with the observations from now on, until the context is done.
func (f *Fleets) Follow(ctx context.Context, log events.Log, topic string, logger *slog.Logger) error {
	ends, err := log.Ends(ctx, topic)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", topic, err)
	}
	for record, err := range log.Follow(ctx, topic, events.Range{From: events.Bound{Positions: ends}}) {
		if err != nil {
			return fmt.Errorf("follow %s: %w", topic, err)
		}
		if err := f.observe(record); err != nil {
			logger.Debug("observation is left out", "partition", record.Partition, "position", record.Position, "error", err)
		}
	}
	return ctx.Err()
}

func (f *Fleets) observe(record events.Record) error {
	event, err := record.Event()
	if err != nil {
		return err
	}
	fact, err := event.Fact()
	if err != nil {
		return err
	}
	if observation, ok := fact.(*model.Observation); ok {
		f.mu.Lock()
		f.latest[observation.Deployment] = observation
		f.mu.Unlock()
	}
	return nil
}

// Ready returns what the newest observation of a fleet counts. A role that it
// did not measure is left out.
func (f *Fleets) Ready(deployment string) model.PerRole[int] {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ready model.PerRole[int]
	observation := f.latest[deployment]
	if observation == nil || observation.Fleet == nil || observation.Fleet.Status != model.Measured {
		return ready
	}
	for _, role := range model.AllRoles {
		if replicas, ok := observation.Fleet.Roles.Get(role); ok {
			ready.Set(role, replicas.Ready)
		}
	}
	return ready
}
