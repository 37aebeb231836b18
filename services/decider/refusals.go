package decider

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// refusals indexes the dead letters of observations. An observation that was
// refused when it was handled is in no state, and has to stay out of one that is
// restored: what it lacked then, a configuration revision, may be in the log by
// now.
type refusals struct {
	log    events.Log
	topics events.Topics

	mu     sync.Mutex
	next   map[int32]int64
	places map[place]struct{}
}

// place is where an observation stands in the observations topic.
type place struct {
	partition int32
	position  int64
}

func newRefusals(log events.Log, topics events.Topics) *refusals {
	return &refusals{log: log, topics: topics, next: map[int32]int64{}, places: map[place]struct{}{}}
}

// catchUp reads the dead letters that were written since it was last called.
func (r *refusals) catchUp(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	topic, observations := r.topics.Name(events.TopicDeadLetters), r.topics.Name(events.TopicObservations)
	for record, err := range r.log.Read(ctx, topic, events.Range{From: events.Bound{Positions: r.next}}) {
		if err != nil {
			return fmt.Errorf("read dead letters: %w", err)
		}
		r.next[record.Partition] = record.Position + 1
		event, err := record.Event()
		if err != nil {
			continue
		}
		letter, err := events.As[*model.DeadLetter](event)
		if err == nil && letter.Service == "decider" && letter.Topic == observations {
			r.places[place{letter.Partition, letter.Position}] = struct{}{}
		}
	}
	return nil
}

// has reports whether the observation at a place went to the dead letters.
func (r *refusals) has(at events.Origin) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.places[place{at.Partition, at.Position}]
	return ok
}

// clockSkew bounds how far the clocks of a log's brokers are apart.
const clockSkew = 5 * time.Minute

// decided returns the observations of a deployment, from an instant of the log on,
// that have a decision. One with a dead letter can have one as well: it was handled
// once more, or its decision came into the log late.
func (r *refusals) decided(ctx context.Context, deployment string, since time.Time) (map[string]bool, error) {
	decided := map[string]bool{}
	for record, err := range r.log.Read(ctx, r.topics.Name(events.TopicDecisions), events.Range{
		From: events.Bound{Time: since.Add(-clockSkew)}, Key: deployment,
	}) {
		if err != nil {
			return nil, fmt.Errorf("read decisions: %w", err)
		}
		if event, err := record.Event(); err == nil && event.Subject == deployment {
			decided[event.CausationID] = true
		}
	}
	return decided, nil
}
