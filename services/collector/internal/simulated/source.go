// Package simulated observes simulated fleets. Such a fleet is a function of
// its configuration and of the actuations in the log: a collector that restarts
// finds it where it was.
package simulated

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
)

// Source is one simulated fleet.
type Source struct {
	fleet     *sim.Fleet
	spec      *model.Deployment
	startedAt time.Time
	logger    *slog.Logger
	cancel    context.CancelFunc
	followed  chan struct{}

	mu      sync.Mutex
	pending []*model.ScalingApplied
}

// Open builds the fleet of a deployment and follows the actuations from their
// start: those of the past are part of what the fleet is.
func Open(ctx context.Context, log events.Log, topics events.Topics, configured *model.DeploymentConfigured, logger *slog.Logger) (*Source, error) {
	spec := &configured.Spec
	simulated := spec.Source.Simulated
	if simulated.StartedAt == nil {
		return nil, fmt.Errorf("source.simulated.started_at of %s is missing; tidemark apply sets it", configured.Deployment)
	}
	fleet, err := openFleet(spec)
	if err != nil {
		return nil, err
	}
	s := &Source{
		fleet: fleet, spec: spec, startedAt: *simulated.StartedAt,
		logger: logger.With("deployment", configured.Deployment), followed: make(chan struct{}),
	}
	topic := topics.Name(events.TopicActuations)
	next := map[int32]int64{}
	for record, err := range log.Read(ctx, topic, events.Range{Key: configured.Deployment}) {
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", topic, err)
		}
		next[record.Partition] = record.Position + 1
		s.take(record)
	}
	following, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	go func() {
		defer close(s.followed)
		for record, err := range log.Follow(following, topic, events.Range{From: events.Bound{Positions: next}, Key: configured.Deployment}) {
			if err != nil {
				if following.Err() == nil {
					s.logger.Error("the simulated fleet no longer follows the actuations", "error", err)
				}
				return
			}
			s.take(record)
		}
	}()
	return s, nil
}

func openFleet(spec *model.Deployment) (*sim.Fleet, error) {
	config, err := sim.ConfigOf(spec)
	if err != nil {
		return nil, err
	}
	var trace []sim.Request
	if path := spec.Source.Simulated.Trace; path != "" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		if trace, err = sim.LoadTrace(file, path); err != nil {
			return nil, err
		}
	}
	workload, err := sim.WorkloadOf(spec, trace)
	if err != nil {
		return nil, err
	}
	return sim.New(config, workload)
}

// take queues a change of the fleet.
func (s *Source) take(record events.Record) {
	event, err := record.Event()
	if err != nil {
		return // It is in nobody's hands here: the actuator wrote it, or it is foreign.
	}
	if applied, err := events.As[*model.ScalingApplied](event); err == nil {
		s.mu.Lock()
		s.pending = append(s.pending, applied)
		s.mu.Unlock()
	}
}

// due returns the changes that happened up to an instant, in the order in which
// they did, and keeps the others.
func (s *Source) due(at time.Time) []*model.ScalingApplied {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due, later []*model.ScalingApplied
	for _, applied := range s.pending {
		if applied.OccurredAt.After(at) {
			later = append(later, applied)
		} else {
			due = append(due, applied)
		}
	}
	s.pending = later
	slices.SortStableFunc(due, func(a, b *model.ScalingApplied) int { return a.OccurredAt.Compare(b.OccurredAt) })
	return due
}

// Observe lets the fleet live up to the observation's instant and says what is
// seen of it. A change whose record comes late is applied at the present.
func (s *Source) Observe(_ context.Context, observation *model.Observation) {
	if err := s.advance(observation.ObservedAt); err != nil {
		observation.Fleet = &model.FleetObservation{Status: model.Failed, Error: err.Error()}
		observation.Engines = &model.EnginesObservation{Status: model.Failed, Error: err.Error()}
		observation.Traffic = &model.TrafficObservation{Status: model.Failed, Error: err.Error()}
		return
	}
	s.fleet.Observe(s.spec, observation)
}

func (s *Source) advance(at time.Time) error {
	for _, applied := range s.due(at) {
		if since := applied.OccurredAt.Sub(s.startedAt); since > s.fleet.Now() {
			if err := s.fleet.Advance(since); err != nil {
				return err
			}
		}
		for _, role := range model.AllRoles {
			if change, ok := applied.Roles.Get(role); ok {
				if err := s.fleet.Scale(role, change.To); err != nil {
					return err
				}
			}
		}
	}
	return s.fleet.Advance(at.Sub(s.startedAt))
}

// Close stops following.
func (s *Source) Close() {
	s.cancel()
	<-s.followed
}
