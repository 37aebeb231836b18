package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// checkpointAt says what a checkpoint covers and where it stands. Its state is
// read when it is needed.
type checkpointAt struct {
	covers     place
	observedAt int64
	key        string
	origin     place
}

// readCheckpoints indexes the checkpoints of this version of the planner.
func (r *run) readCheckpoints(ctx context.Context) error {
	topic, observations := r.topics.Name(events.TopicCheckpoints), r.topics.Name(events.TopicObservations)
	for record, err := range r.log.Read(ctx, topic, events.Range{}) {
		if err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		event, err := record.Event()
		if err != nil {
			continue // A checkpoint that cannot be read is one that is not there.
		}
		var c struct {
			Deployment     string    `json:"deployment"`
			Topic          string    `json:"topic"`
			Partition      int32     `json:"partition"`
			Position       int64     `json:"position"`
			ObservedAt     time.Time `json:"observed_at"`
			PlannerVersion string    `json:"planner_version"`
		}
		d := r.deployments[event.Subject]
		if d == nil || event.Type != events.TypeCheckpoint || json.Unmarshal(event.Data, &c) != nil ||
			c.PlannerVersion != planner.Version || c.Topic != observations || c.Deployment != d.name {
			continue
		}
		d.checkpoints = append(d.checkpoints, checkpointAt{
			covers: place{c.Partition, c.Position}, observedAt: c.ObservedAt.UnixNano(),
			key: record.Key, origin: place{record.Partition, record.Position},
		})
	}
	for _, d := range r.deployments {
		slices.SortStableFunc(d.checkpoints, func(a, b checkpointAt) int { return compare(a.observedAt, b.observedAt) })
	}
	return nil
}

// before returns the newest checkpoint from before an instant.
func (d *deployment) before(at int64) (checkpointAt, bool) {
	n, _ := slices.BinarySearchFunc(d.checkpoints, at, func(c checkpointAt, at int64) int { return compare(c.observedAt, at) })
	if n == 0 {
		return checkpointAt{}, false
	}
	return d.checkpoints[n-1], true
}

// restore returns the state of a checkpoint.
func (r *run) restore(ctx context.Context, c checkpointAt) (*planner.State, error) {
	record, found, err := readOne(ctx, r.log, r.topics.Name(events.TopicCheckpoints), c.key, c.origin)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("checkpoint at position %d is gone", c.origin.position)
	}
	event, err := record.Event()
	if err != nil {
		return nil, err
	}
	checkpoint, err := events.As[*model.Checkpoint](event)
	if err != nil {
		return nil, err
	}
	return planner.UnmarshalState(checkpoint.State)
}

// readRefused notes the observations that the decider sent to the dead letters:
// they have no decision, and are in no state.
func (r *run) readRefused(ctx context.Context) error {
	topic, observations := r.topics.Name(events.TopicDeadLetters), r.topics.Name(events.TopicObservations)
	for record, err := range r.log.Read(ctx, topic, events.Range{}) {
		if err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		event, err := record.Event()
		if err != nil {
			continue
		}
		letter, err := events.As[*model.DeadLetter](event)
		if err == nil && letter.Service == "decider" && letter.Topic == observations {
			r.refused[place{letter.Partition, letter.Position}] = true
		}
	}
	return nil
}
