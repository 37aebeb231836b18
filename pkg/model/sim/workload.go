package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Request is one request of a workload.
type Request struct {
	// At is the instant of arrival, counted from the origin of simulated time.
	At time.Duration
	// ISL and OSL are the lengths of the prompt and of the output in tokens,
	// each at least 1.
	ISL, OSL int
}

// Workload yields requests in the order of their arrival.
type Workload interface {
	// Next returns the next request, or false after the last one.
	Next() (Request, bool, error)
}

// maxAt bounds the instants of a workload, a century, so that the end of what
// follows from a request can be told too.
const maxAt = 100 * 365 * 24 * time.Hour

// NewRequests returns a workload of requests in memory, which it neither
// copies nor changes.
func NewRequests(list []Request) Workload { return &requests{list: list} }

type requests struct {
	list []Request
	next int
}

func (r *requests) Next() (Request, bool, error) {
	if r.next == len(r.list) {
		return Request{}, false, nil
	}
	r.next++
	return r.list[r.next-1], true, nil
}

// Limit returns the requests of a workload that arrive before an instant.
func Limit(of Workload, before time.Duration) Workload { return &limited{of, before} }

type limited struct {
	of     Workload
	before time.Duration
}

func (l *limited) Next() (Request, bool, error) {
	r, ok, err := l.of.Next()
	if err != nil || !ok || r.At >= l.before {
		return Request{}, false, err
	}
	return r, true, nil
}

// multiplySlot is the time within which a repeated request is spread. It is
// short against the minutes in which a load changes, and long enough for the
// copies not to come as one burst.
const multiplySlot = 10 * time.Second

// Multiply returns a workload with the rate of another one times a factor, its
// course and its lengths unchanged. Each request is repeated in the slot of ten
// seconds in which it arrived, the copies at random instants of the slot; of
// the fractional part of the factor, that share of the requests gets one copy
// more, or, under 1, is all that is kept.
func Multiply(of Workload, factor float64, seed uint64) (Workload, error) {
	if !(factor > 0 && factor <= maxFactor) {
		return nil, fmt.Errorf("multiply workload: factor is %v, want more than 0 and at most %d", factor, maxFactor)
	}
	if factor == 1 {
		return of, nil
	}
	return &multiplied{of: of, factor: factor, random: rand.New(rand.NewPCG(seed, streamCopies))}, nil
}

// maxFactor bounds the memory of one slot.
const maxFactor = 10_000

type multiplied struct {
	of     Workload
	factor float64
	random *rand.Rand

	slot      []Request // in order, the next one at head
	head      int
	held      Request // the first request of a later slot, if has
	has       bool
	exhausted bool
}

func (m *multiplied) Next() (Request, bool, error) {
	for m.head == len(m.slot) {
		if m.exhausted {
			return Request{}, false, nil
		}
		if err := m.fill(); err != nil {
			return Request{}, false, err
		}
	}
	m.head++
	return m.slot[m.head-1], true, nil
}

// fill reads the next slot in which a request arrives.
func (m *multiplied) fill() error {
	m.slot, m.head = m.slot[:0], 0
	var end time.Duration
	for {
		if !m.has {
			r, ok, err := m.of.Next()
			if err != nil {
				return err
			}
			if !ok {
				m.exhausted = true
				break
			}
			m.held, m.has = r, true
		}
		if end == 0 {
			end = (m.held.At/multiplySlot + 1) * multiplySlot
		}
		if m.held.At >= end {
			break
		}
		m.has = false
		copies := int(m.factor)
		if m.random.Float64() < m.factor-float64(copies) {
			copies++
		}
		for i := range copies {
			r := m.held
			if i > 0 {
				r.At = end - multiplySlot + time.Duration(m.random.Int64N(int64(multiplySlot)))
			}
			m.slot = append(m.slot, r)
		}
	}
	slices.SortStableFunc(m.slot, func(a, b Request) int { return cmp.Compare(a.At, b.At) })
	return nil
}

// The streams of random numbers, one for each use, so that a change in one of
// them leaves the others as they are.
const (
	streamArrivals = iota + 1
	streamBursts
	streamLengths
	streamCopies
	streamSlots
)
