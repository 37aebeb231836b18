package events

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Log is an event log, as every driver provides it. A log is safe for use by
// several goroutines, and a durable one by several processes.
//
// Order is kept per topic and key, and nothing else is ordered. Delivery is at
// least once; events carry deterministic IDs, by which consumers drop
// duplicates.
type Log interface {
	// Publisher returns the log's publisher. Publish returns when the messages
	// are in the log. The embedded logs take all of them or none; on Kafka some
	// may be in the log after an error. The log owns and closes it.
	Publisher() message.Publisher

	// Subscriber returns a subscriber of a consumer group. The group's
	// position is durable and starts at the oldest message; its members share
	// the partitions of a topic. Acknowledging a message moves the position;
	// a negative acknowledgement delivers it again. The caller closes it.
	Subscriber(group string) (message.Subscriber, error)

	// Read reads a range of a topic in the order of each partition and stops
	// at its end: by default the end as it was when the reading began. It
	// uses no consumer group and commits nothing. An error is the last thing
	// that it yields; a context that ends before the range does is one.
	Read(ctx context.Context, topic string, r Range) iter.Seq2[Record, error]

	// Follow reads a range like Read, and then goes on with what is appended
	// until the context is done, at which it ends without an error. The range's
	// upper bound is ignored.
	Follow(ctx context.Context, topic string, r Range) iter.Seq2[Record, error]

	// Ends returns the end of each partition of a topic: the position that the
	// next message will have. The map is empty for a topic that does not exist.
	Ends(ctx context.Context, topic string) (map[int32]int64, error)

	// Positions returns the committed position of a consumer group in each
	// partition of a topic: the first message that it has not acknowledged.
	// Partitions in which it has acknowledged nothing are left out.
	Positions(ctx context.Context, topic, group string) (map[int32]int64, error)

	// Close releases the log. Subscribers and readers end first.
	Close() error
}

// Origin says where in the log a message is.
type Origin struct {
	Topic     string
	Partition int32
	// Position counts the messages of a partition, from 0. Positions rise, and
	// those of consecutive messages are consecutive, but for gaps that Kafka
	// leaves where compaction took a message or a transaction ended.
	Position int64
	// Key is the key that the message was partitioned by.
	Key string
	// AppendedAt is when the log took the message in, by the log's clock.
	AppendedAt time.Time
}

// Record is a message as it stands in the log, decoded or not.
type Record struct {
	Origin
	// Headers are the message's metadata: on Kafka the record's headers.
	Headers map[string]string
	Payload []byte
}

// Range selects records of a topic. The zero Range is everything there is.
type Range struct {
	// From is the first record, To the first one that is out.
	From, To Bound
	// Key keeps the records of one key; empty keeps all.
	Key string
	// Partitions are the ones to read; empty reads all.
	Partitions []int32
}

// Includes reports whether a partition is in the range.
func (r Range) Includes(partition int32) bool {
	return len(r.Partitions) == 0 || slices.Contains(r.Partitions, partition)
}

// Bound is a place in a topic: a position for each partition, or an instant by
// the log's clock. The zero Bound is open: the start, or the present end. A
// partition that Positions does not name is read from its start, or to its end.
type Bound struct {
	Positions map[int32]int64
	Time      time.Time
}

type originKey struct{}

// WithOrigin returns a context that carries a message's origin. Drivers put it
// on the context of every message that they deliver.
func WithOrigin(ctx context.Context, origin Origin) context.Context {
	return context.WithValue(ctx, originKey{}, origin)
}

// OriginOf returns where a delivered message stands in the log.
func OriginOf(msg *message.Message) (Origin, bool) {
	origin, ok := msg.Context().Value(originKey{}).(Origin)
	return origin, ok
}
