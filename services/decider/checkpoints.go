package decider

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// checkpoints indexes the checkpoints topic: for each deployment and day the
// newest, which is what compaction keeps. States stay in the log and are read
// when they are needed.
type checkpoints struct {
	log   events.Log
	topic string

	mu    sync.Mutex
	byKey map[string]map[string]checkpointAt
}

// checkpointAt says what a checkpoint covers and where it is.
type checkpointAt struct {
	covers events.Origin
	origin events.Origin
}

// add indexes one record. A decider that stops after another has taken its
// place checkpoints what it had last, which is behind the other's.
func (c *checkpoints) add(record events.Record) error {
	checkpoint, err := checkpointOf(record)
	if err != nil {
		return err
	}
	covers := events.Origin{Topic: checkpoint.Topic, Partition: checkpoint.Partition, Position: checkpoint.Position}
	c.mu.Lock()
	defer c.mu.Unlock()
	days := c.byKey[checkpoint.Deployment]
	if days == nil {
		days = map[string]checkpointAt{}
		c.byKey[checkpoint.Deployment] = days
	}
	if known, ok := days[record.Key]; ok && samePartition(known.covers, covers) && known.covers.Position > covers.Position {
		return nil
	}
	days[record.Key] = checkpointAt{covers: covers, origin: record.Origin}
	return nil
}

func samePartition(a, b events.Origin) bool { return a.Topic == b.Topic && a.Partition == b.Partition }

// before returns the newest checkpoint of a deployment that covers nothing at
// or after an origin and is fit for use; nil if there is none.
func (c *checkpoints) before(ctx context.Context, deployment string, origin events.Origin, fit func(*model.Checkpoint) bool) (*model.Checkpoint, error) {
	c.mu.Lock()
	var candidates []checkpointAt
	for _, at := range c.byKey[deployment] {
		if samePartition(at.covers, origin) && at.covers.Position < origin.Position {
			candidates = append(candidates, at)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(candidates, func(a, b checkpointAt) int { return cmp.Compare(b.covers.Position, a.covers.Position) })
	for _, at := range candidates {
		checkpoint, err := c.read(ctx, at.origin)
		if err != nil {
			return nil, fmt.Errorf("read checkpoint of %s at position %d: %w", deployment, at.origin.Position, err)
		}
		if checkpoint != nil && fit(checkpoint) {
			return checkpoint, nil
		}
	}
	return nil, nil
}

// read reads one checkpoint; nil if compaction has removed it.
func (c *checkpoints) read(ctx context.Context, at events.Origin) (*model.Checkpoint, error) {
	for record, err := range c.log.Read(ctx, c.topic, events.Range{
		From: events.Bound{Positions: map[int32]int64{at.Partition: at.Position}},
		To:   events.Bound{Positions: map[int32]int64{at.Partition: at.Position + 1}},

		Partitions: []int32{at.Partition},
	}) {
		if err != nil {
			return nil, err
		}
		if record.Position == at.Position {
			return checkpointOf(record)
		}
	}
	return nil, nil
}

// load reads the topic whole. What it returns follows the topic from there until
// the context is done.
func (c *checkpoints) load(ctx context.Context, logger *slog.Logger) (follow func() error, err error) {
	next := map[int32]int64{}
	index := func(record events.Record) {
		next[record.Partition] = record.Position + 1
		if err := c.add(record); err != nil {
			logger.Warn("checkpoint is left out", "partition", record.Partition, "position", record.Position, "error", err)
		}
	}
	for record, err := range c.log.Read(ctx, c.topic, events.Range{}) {
		if err != nil {
			return nil, fmt.Errorf("read checkpoints: %w", err)
		}
		index(record)
	}
	return func() error {
		for record, err := range c.log.Follow(ctx, c.topic, events.Range{From: events.Bound{Positions: next}}) {
			if err != nil {
				return fmt.Errorf("follow checkpoints: %w", err)
			}
			index(record)
		}
		return ctx.Err()
	}, nil
}

func checkpointOf(record events.Record) (*model.Checkpoint, error) {
	event, err := record.Event()
	if err != nil {
		return nil, err
	}
	return events.As[*model.Checkpoint](event)
}
