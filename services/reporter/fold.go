package reporter

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// reported are the topics that a report is a projection of; followed are those
// that are followed, of which the last is in the metrics only.
var (
	reported = []string{events.TopicDeployments, events.TopicObservations, events.TopicDecisions, events.TopicActuations}
	followed = append(slices.Clone(reported), events.TopicDeadLetters)
)

// load folds all that the log holds. What it returns follows the topics from
// there.
func (r *Reporter) load(ctx context.Context) (follow []func() error, err error) {
	began, facts := r.now(), 0
	ends := map[string]map[int32]int64{}
	for _, name := range followed {
		topic := r.topics.Name(name)
		if ends[topic], err = r.log.Ends(ctx, topic); err != nil {
			return nil, fmt.Errorf("find the end of %s: %w", topic, err)
		}
	}
	for record, err := range merged(ctx, r.log, ends, r.topics) {
		if err != nil {
			return nil, err
		}
		r.fold(ctx, record)
		facts++
	}
	r.logger.Info("the log is read", "events", facts, "seconds", r.now().Sub(began).Seconds())
	for _, name := range followed {
		topic := r.topics.Name(name)
		follow = append(follow, func() error {
			for record, err := range r.log.Follow(ctx, topic, events.Range{From: events.Bound{Positions: ends[topic]}}) {
				if err != nil {
					return fmt.Errorf("follow %s: %w", topic, err)
				}
				r.fold(ctx, record)
			}
			return ctx.Err()
		})
	}
	return follow, nil
}

// merged reads the followed topics up to their ends, side by side in the order
// in which the log took their records in.
func merged(ctx context.Context, log events.Log, ends map[string]map[int32]int64, topics events.Topics) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		type head struct {
			topic  string
			record events.Record
			next   func() (events.Record, error, bool)
		}
		var heads []head
		for _, name := range followed {
			topic := topics.Name(name)
			for _, partition := range slices.Sorted(maps.Keys(ends[topic])) {
				next, stop := iter.Pull2(log.Read(ctx, topic, events.Range{To: events.Bound{Positions: ends[topic]}, Partitions: []int32{partition}}))
				defer stop()
				heads = append(heads, head{topic: topic, next: next})
			}
		}
		advance := func(i int) error {
			record, err, more := heads[i].next()
			if err != nil {
				return fmt.Errorf("read %s: %w", heads[i].topic, err)
			}
			if heads[i].record = record; !more {
				heads[i].next = nil
			}
			return nil
		}
		for i := range heads {
			if err := advance(i); err != nil {
				yield(events.Record{}, err)
				return
			}
		}
		for {
			first := -1
			for i := range heads {
				if heads[i].next != nil && (first < 0 || heads[i].record.AppendedAt.Before(heads[first].record.AppendedAt)) {
					first = i
				}
			}
			if first < 0 || !yield(heads[first].record, nil) {
				return
			}
			if err := advance(first); err != nil {
				yield(events.Record{}, err)
				return
			}
		}
	}
}

// fold folds a record into what the reporter shows.
func (r *Reporter) fold(ctx context.Context, record events.Record) {
	event, err := record.Event()
	if err == nil {
		var fact any
		if fact, err = event.Fact(); err == nil {
			switch f := fact.(type) {
			case *model.Observation:
				r.know(ctx, f.Deployment, f.ConfigRevision)
			case *model.ScalingDecision:
				r.know(ctx, f.Deployment, f.ConfigRevision)
			}
			r.metrics.Add(event.ID, fact)
			r.live.Add(event.ID, fact)
			return
		}
	}
	r.logger.Debug("event is left out of the metrics", "topic", record.Topic, "partition", record.Partition, "position", record.Position, "error", err)
}

// patience bounds the wait for a revision that a fact names and the table of
// deployments does not have yet: the topics are not ordered among each other.
const patience = 5 * time.Second

// know makes sure that a revision is folded before the facts that name it.
func (r *Reporter) know(ctx context.Context, deployment string, revision int) {
	key := revisionOf{deployment, revision}
	if _, known := r.known.Load(key); known {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	configured, err := r.deployments.WaitRevision(ctx, deployment, revision)
	if err != nil {
		r.logger.Warn("facts name a revision that is not in the log; they are not held against its limits", "deployment", deployment, "revision", revision)
	} else {
		r.metrics.Add("", configured)
		r.live.Add("", configured)
	}
	r.known.Store(key, struct{}{})
}

type revisionOf struct {
	deployment string
	revision   int
}
