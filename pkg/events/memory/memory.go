// Package memory is the log of tests: topics in the memory of one process, with
// the behaviour of the embedded log and nothing of its durability.
package memory

import (
	"context"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"tidemark.dev/pkg/events/internal/stream"
)

// Open returns an empty log.
func Open(options stream.Options) *stream.Log {
	return stream.New(&store{topics: map[string]*topic{}, groups: map[member]*position{}}, options)
}

type store struct {
	mu     sync.RWMutex
	topics map[string]*topic
	groups map[member]*position
	closed bool
}

type topic struct {
	entries []stream.Entry
	ids     map[string]struct{}
}

type member struct{ topic, group string }

// position is where a group stands on a topic, and until when it is leased.
type position struct {
	next  int64
	epoch int64
	until time.Time
}

// Append appends entries.
func (s *store) Append(name string, entries []stream.Entry) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, stream.ErrClosed
	}
	t := s.topics[name]
	if t == nil {
		t = &topic{ids: map[string]struct{}{}}
		s.topics[name] = t
	}
	now := time.Now().UTC()
	if n := len(t.entries); n > 0 && now.Before(t.entries[n-1].AppendedAt) {
		now = t.entries[n-1].AppendedAt
	}
	for _, entry := range entries {
		if entry.ID != "" {
			if _, there := t.ids[entry.ID]; there {
				continue
			}
			t.ids[entry.ID] = struct{}{}
		}
		entry = detached(entry)
		entry.Position, entry.AppendedAt = int64(len(t.entries)), now
		t.entries = append(t.entries, entry)
	}
	return int64(len(t.entries)), nil
}

// detached returns an entry that shares no memory with another.
func detached(entry stream.Entry) stream.Entry {
	entry.Headers, entry.Payload = maps.Clone(entry.Headers), slices.Clone(entry.Payload)
	return entry
}

// Scan returns entries of a range.
func (s *store) Scan(ctx context.Context, name string, from, to int64, key string, limit int) ([]stream.Entry, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	t := s.topics[name]
	if t == nil {
		return nil, nil
	}
	var page []stream.Entry
	for i := max(from, 0); i < min(to, int64(len(t.entries))) && len(page) < limit; i++ {
		if entry := t.entries[i]; key == "" || entry.Key == key {
			page = append(page, detached(entry))
		}
	}
	return page, nil
}

func (s *store) usable(ctx context.Context) error {
	if s.closed {
		return stream.ErrClosed
	}
	return ctx.Err()
}

// End returns the end of a topic.
func (s *store) End(ctx context.Context, name string) (int64, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.topics[name]
	if t == nil {
		return 0, false, s.usable(ctx)
	}
	return int64(len(t.entries)), true, s.usable(ctx)
}

// Ends returns the end of every topic.
func (s *store) Ends(ctx context.Context) (map[string]int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ends := map[string]int64{}
	for name, t := range s.topics {
		ends[name] = int64(len(t.entries))
	}
	return ends, s.usable(ctx)
}

// Find returns the position of an instant.
func (s *store) Find(ctx context.Context, name string, at time.Time) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.topics[name]
	if t == nil {
		return 0, s.usable(ctx)
	}
	i := sort.Search(len(t.entries), func(i int) bool { return !t.entries[i].AppendedAt.Before(at) })
	return int64(i), s.usable(ctx)
}

// Position returns the position of a group.
func (s *store) Position(_ context.Context, topic, group string) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, stream.ErrClosed
	}
	if p := s.groups[member{topic, group}]; p != nil {
		return p.next, nil
	}
	return 0, nil
}

// Acquire takes a lease.
func (s *store) Acquire(ctx context.Context, topic, group string, ttl time.Duration) (stream.Lease, int64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return stream.Lease{}, 0, false, err
	}
	m := member{topic, group}
	p := s.groups[m]
	if p == nil {
		p = &position{}
		s.groups[m] = p
	}
	now := time.Now()
	if now.Before(p.until) {
		return stream.Lease{}, 0, false, nil
	}
	p.epoch++
	p.until = now.Add(ttl)
	return stream.Lease{Topic: topic, Group: group, Epoch: p.epoch}, p.next, true, nil
}

// Hold moves a group's position and renews its lease.
func (s *store) Hold(_ context.Context, lease stream.Lease, next int64, ttl time.Duration) error {
	return s.move(lease, next, time.Now().Add(ttl))
}

// Release moves a group's position and ends its lease.
func (s *store) Release(_ context.Context, lease stream.Lease, next int64) error {
	return s.move(lease, next, time.Time{})
}

func (s *store) move(lease stream.Lease, next int64, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.groups[member{lease.Topic, lease.Group}]
	if p == nil || p.epoch != lease.Epoch {
		return stream.ErrFenced
	}
	p.next, p.until = next, until
	return nil
}

// Close forgets everything.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.topics = true, nil
	return nil
}
