package forwardpass

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"tidemark.dev/pkg/model"
)

// maxRanks bounds what is kept, whatever is sent.
const maxRanks = 100_000

// forgetAfter is how many times the age at which a rank is stale it is
// remembered: one that comes back within it is no new engine.
const forgetAfter = 10

// rank names one data-parallel rank of an engine.
type rank struct {
	role   model.Role
	worker string
	number int
}

// last is what is kept of a rank.
type last struct {
	message   message
	at, since time.Time
}

// Store keeps the newest message of each rank. It is safe for use by several
// goroutines.
type Store struct {
	maxAge time.Duration

	mu      sync.Mutex
	ranks   map[rank]last
	refused map[model.Role]error
}

// NewStore returns a store in which a message is stale after an age.
func NewStore(maxAge time.Duration) *Store {
	return &Store{maxAge: maxAge, ranks: map[rank]last{}, refused: map[model.Role]error{}}
}

// Take takes a message of a role that came from somewhere. One that cannot be
// read changes nothing but what Samples says where there is nothing else.
func (s *Store) Take(role model.Role, from string, data []byte, now time.Time) error {
	m, err := decode(data)
	return s.take(role, from, []message{m}, err, now)
}

// TakeAll takes messages that stand one after another: all of them or none.
// Nothing but the messages says of whom they are.
func (s *Store) TakeAll(role model.Role, data []byte, now time.Time) error {
	all, err := decodeAll(data)
	for _, m := range all {
		if m.WorkerID == "" {
			err = errors.New("a message lacks worker_id")
		}
	}
	return s.take(role, "", all, err, now)
}

func (s *Store) take(role model.Role, from string, all []message, err error, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.refused[role] = err
		return err
	}
	for _, m := range all {
		if m.WorkerID == "" {
			m.WorkerID = from // some engines leave it out, and are told apart by where they are
		}
		key := rank{role, m.WorkerID, m.DPRank}
		known, ok := s.ranks[key]
		if !ok {
			if len(s.ranks) >= maxRanks {
				continue
			}
			known.since = now
		}
		s.ranks[key] = last{message: m, at: now, since: known.since}
	}
	return nil
}

// Seen is what a store holds at an instant.
type Seen struct {
	// Samples are of the messages that are not stale, in the order of roles,
	// workers and ranks; Oldest is the age of the oldest of them.
	Samples []model.EngineSample
	Oldest  time.Duration
	// Stale counts the ranks that were silent for too long, of which Newest is the
	// age of the newest message.
	Stale  int
	Newest time.Duration
	// Refused is why the last message that was not taken was not.
	Refused error
}

// At returns what the store holds of a role at an instant.
func (s *Store) At(role model.Role, now time.Time) Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := Seen{Refused: s.refused[role]}
	for key, entry := range s.ranks {
		if key.role != role {
			continue
		}
		age := max(now.Sub(entry.at), 0)
		switch {
		case age > forgetAfter*s.maxAge:
			delete(s.ranks, key)
		case age > s.maxAge:
			if seen.Stale == 0 || age < seen.Newest {
				seen.Newest = age
			}
			seen.Stale++
		default:
			seen.Oldest = max(seen.Oldest, age)
			sample := entry.message.sample(role)
			sample.AgeS = new(max(now.Sub(entry.since), 0).Seconds())
			seen.Samples = append(seen.Samples, sample)
		}
	}
	slices.SortFunc(seen.Samples, func(a, b model.EngineSample) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.DPRank, b.DPRank))
	})
	return seen
}
