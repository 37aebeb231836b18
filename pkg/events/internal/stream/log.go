package stream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
)

// partition is the only one.
const partition = 0

// pageSize is the number of entries that are read at a time.
const pageSize = 256

// ErrClosed is the error of a log that was closed.
var ErrClosed = errors.New("the log is closed")

// Options tune a log. Zero fields have the defaults of DefaultOptions.
type Options struct {
	// Logger is told what goes wrong behind the scenes.
	Logger *slog.Logger
	// LeaseTTL is the time after which a group's member that fell silent is
	// replaced.
	LeaseTTL time.Duration
	// CloseGrace is how long a subscription that ends waits for the
	// acknowledgement of the message in hand.
	CloseGrace time.Duration
	// NackPause is the time until a message is delivered again.
	NackPause time.Duration
}

// DefaultOptions returns the defaults. The lease outlives some heartbeats, which
// come at a quarter of it; the grace is shorter than a router waits for its
// handlers.
func DefaultOptions() Options {
	return Options{
		Logger:   slog.New(slog.DiscardHandler),
		LeaseTTL: 2 * time.Second, CloseGrace: 3 * time.Second, NackPause: 100 * time.Millisecond,
	}
}

// WithDefaults returns the options with the defaults for those that are zero.
func (o Options) WithDefaults() Options {
	defaults := DefaultOptions()
	if o.Logger == nil {
		o.Logger = defaults.Logger
	}
	if o.LeaseTTL == 0 {
		o.LeaseTTL = defaults.LeaseTTL
	}
	if o.CloseGrace == 0 {
		o.CloseGrace = defaults.CloseGrace
	}
	if o.NackPause == 0 {
		o.NackPause = defaults.NackPause
	}
	return o
}

// Log is an events.Log over a store.
type Log struct {
	store   Store
	options Options
	tide    *tide

	// open ends when the subscribers have: it is what readers live by.
	open     context.Context
	shut     context.CancelFunc
	watching sync.WaitGroup
	members  Members
}

var _ events.Log = (*Log)(nil)

// New returns a log over a store, which it owns from then on.
func New(store Store, options Options) *Log {
	l := &Log{store: store, options: options.WithDefaults(), tide: newTide()}
	l.open, l.shut = context.WithCancel(context.Background())
	if shared, ok := store.(Shared); ok {
		l.watching.Go(func() { l.tide.watch(l.open, shared, store, l.options.Logger) })
	}
	return l
}

// Publisher returns the log's publisher. Its Close does nothing: the log closes it.
func (l *Log) Publisher() message.Publisher { return publisher{log: l} }

type publisher struct{ log *Log }

func (p publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	entries := make([]Entry, len(messages))
	for i, msg := range messages {
		entries[i] = Entry{ID: events.MessageID(msg), Key: events.MessageKey(msg), Headers: msg.Metadata, Payload: msg.Payload}
	}
	end, err := p.log.store.Append(topic, entries)
	if err != nil {
		return fmt.Errorf("append to %s: %w", topic, err)
	}
	p.log.tide.rise(topic, end)
	return nil
}

func (publisher) Close() error { return nil }

// Ends returns the end of the topic's partition.
func (l *Log) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	end, exists, err := l.store.End(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("find the end of %s: %w", topic, err)
	}
	if !exists {
		return map[int32]int64{}, nil
	}
	return map[int32]int64{partition: end}, nil
}

// Positions returns the group's position in the topic's partition.
func (l *Log) Positions(ctx context.Context, topic, group string) (map[int32]int64, error) {
	position, err := l.store.Position(ctx, topic, group)
	if err != nil {
		return nil, fmt.Errorf("find the position of %s in %s: %w", group, topic, err)
	}
	if position == 0 {
		return map[int32]int64{}, nil
	}
	return map[int32]int64{partition: position}, nil
}

// Read reads a range of a topic to its end.
func (l *Log) Read(ctx context.Context, topic string, r events.Range) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		from, to, err := l.bounds(ctx, topic, r)
		if err != nil {
			yield(events.Record{}, err)
			return
		}
		l.scan(ctx, topic, from, to, r.Key, yield)
	}
}

// Follow reads a range of a topic and goes on.
func (l *Log) Follow(ctx context.Context, topic string, r events.Range) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		// What the end is only matters for knowing what a scan has covered: the
		// key, or the choice of partitions, may leave everything out.
		next, end, err := l.bounds(ctx, topic, events.Range{From: r.From})
		if !r.Includes(partition) {
			next, end = everything, everything
		}
		for err == nil && ctx.Err() == nil {
			if next < end {
				if !l.scan(ctx, topic, next, end, r.Key, func(record events.Record, err error) bool {
					if err != nil && ctx.Err() != nil {
						return false
					}
					return yield(record, err)
				}) {
					return
				}
				next = end
			}
			select {
			case <-l.tide.above(topic, next):
			case <-ctx.Done():
				return
			case <-l.open.Done():
				yield(events.Record{}, fmt.Errorf("follow %s: %w", topic, ErrClosed))
				return
			}
			if end, _, err = l.store.End(ctx, topic); err != nil {
				err = fmt.Errorf("find the end of %s: %w", topic, err)
			}
		}
		if ctx.Err() == nil {
			yield(events.Record{}, err)
		}
	}
}

// scan yields the entries in [from, to) and reports whether it got to the end.
func (l *Log) scan(ctx context.Context, topic string, from, to int64, key string, yield func(events.Record, error) bool) bool {
	for from < to {
		page, err := l.store.Scan(ctx, topic, from, to, key, pageSize)
		if err != nil {
			yield(events.Record{}, fmt.Errorf("read %s from position %d: %w", topic, from, err))
			return false
		}
		for _, entry := range page {
			if !yield(record(topic, entry), nil) {
				return false
			}
			from = entry.Position + 1
		}
		if len(page) == 0 {
			return true
		}
	}
	return true
}

// bounds returns the positions of a range.
func (l *Log) bounds(ctx context.Context, topic string, r events.Range) (from, to int64, err error) {
	if !r.Includes(partition) {
		return 0, 0, nil
	}
	to, _, err = l.store.End(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("find the end of %s: %w", topic, err)
	}
	if from, err = l.bound(ctx, topic, r.From, 0); err != nil {
		return 0, 0, err
	}
	last, err := l.bound(ctx, topic, r.To, to)
	return from, min(to, last), err
}

func (l *Log) bound(ctx context.Context, topic string, bound events.Bound, open int64) (int64, error) {
	if position, ok := bound.Positions[partition]; ok {
		return position, nil
	}
	if bound.Time.IsZero() {
		return open, nil
	}
	position, err := l.store.Find(ctx, topic, bound.Time)
	if err != nil {
		return 0, fmt.Errorf("find %s in %s: %w", bound.Time.Format(time.RFC3339Nano), topic, err)
	}
	return position, nil
}

func origin(topic string, entry Entry) events.Origin {
	return events.Origin{Topic: topic, Partition: partition, Position: entry.Position, Key: entry.Key, AppendedAt: entry.AppendedAt}
}

func record(topic string, entry Entry) events.Record {
	return events.Record{Origin: origin(topic, entry), Headers: entry.Headers, Payload: entry.Payload}
}

// Subscriber returns a subscriber of a consumer group.
func (l *Log) Subscriber(group string) (message.Subscriber, error) {
	return l.members.Join(group, func(ctx context.Context, topic string, out chan *message.Message) {
		l.deliver(ctx, topic, group, out)
	})
}

// Close ends subscribers and readers, and then releases the store.
func (l *Log) Close() error {
	if !l.members.Close() {
		return nil
	}
	l.shut()
	l.watching.Wait()
	if err := l.store.Close(); err != nil {
		return fmt.Errorf("close the log: %w", err)
	}
	return nil
}

// everything is beyond the end of any topic.
const everything = math.MaxInt64
