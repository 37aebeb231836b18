// Package stream is the embedded log: Watermill's publisher and subscriber, and
// the readers, over a store of entries. What differs between the embedded
// drivers is the store and nothing else.
//
// A topic is one partition, numbered 0, and its positions are consecutive from
// 0. A consumer group has one holder per topic at a time: its members compete
// for a lease, which the holder renews and which ends when it does not. A
// holder that lost its lease can no longer move the group's position.
//
// Publishing is idempotent by ID: an entry with an ID that its topic holds
// already is not appended again, whatever it holds; the first one stands. What
// is handled twice after a crash so appears once in the log.
//
// The package does not decode events: bytes that nobody can read are delivered
// as they are.
package stream

import (
	"context"
	"errors"
	"time"
)

// Entry is a message in a topic.
type Entry struct {
	// Position is the store's to give.
	Position int64
	// ID is unique in its topic, unless it is empty.
	ID  string
	Key string
	// AppendedAt is the store's to give. It never falls from one entry of a
	// topic to the next.
	AppendedAt time.Time
	Headers    map[string]string
	Payload    []byte
}

// Lease is the right to deliver a topic to a consumer group.
type Lease struct {
	Topic, Group string
	// Epoch counts the leases of the group on the topic: an older one is void.
	Epoch int64
}

// ErrFenced is the error of a lease that another has followed.
var ErrFenced = errors.New("the lease was lost to another member of the group")

// Store keeps topics and the positions of consumer groups. It is safe for use
// by several goroutines. What it is given and what it returns is not shared.
type Store interface {
	// Append appends entries to a topic, all of them or none, and leaves out
	// those whose ID is in the topic. It returns the end of the topic.
	Append(topic string, entries []Entry) (end int64, err error)

	// Scan returns the first entries of a topic at positions in [from, to), at
	// most limit of them, and fewer if they are large; none if there is none.
	// With a key, it returns only that key's.
	Scan(ctx context.Context, topic string, from, to int64, key string, limit int) ([]Entry, error)

	// End returns the position of the next entry of a topic, and whether the
	// topic exists.
	End(ctx context.Context, topic string) (end int64, exists bool, err error)

	// Ends returns the end of every topic.
	Ends(ctx context.Context) (map[string]int64, error)

	// Find returns the position of the first entry that was appended at an
	// instant or later, or the end of the topic.
	Find(ctx context.Context, topic string, at time.Time) (int64, error)

	// Position returns the position of a group on a topic, 0 if it has none.
	Position(ctx context.Context, topic, group string) (int64, error)

	// Acquire takes the lease of a group on a topic for a time, unless
	// somebody holds it, and returns the position to go on from.
	Acquire(ctx context.Context, topic, group string, ttl time.Duration) (lease Lease, position int64, held bool, err error)

	// Hold moves the group's position and renews the lease. Its error is
	// ErrFenced when the lease is void.
	Hold(ctx context.Context, lease Lease, position int64, ttl time.Duration) error

	// Release moves the group's position and ends the lease.
	Release(ctx context.Context, lease Lease, position int64) error

	Close() error
}

// Shared is a store that other processes append to.
type Shared interface {
	// Version changes when anything in the store did. It costs little, and is
	// asked for many times a second.
	Version() (int64, error)
}
