package sim

import (
	"slices"
	"time"

	"tidemark.dev/pkg/model"
)

// pool is the replicas of one role. What it is set to is
// desired = pending + len(starting) + len(ready).
type pool struct {
	role   model.Role
	rank   int // the place of the role in the topology
	config RoleConfig
	cost   picoseconds

	desired int
	pending int // cannot be placed for want of quota
	created int // replicas placed so far; each gets its number once

	// In the order of their numbers.
	starting []*engine
	ready    []*engine
	draining []*engine

	waiting fifo[*sequence] // at the router: no replica is ready

	heldS     float64 // replica seconds of placed replicas until accounted
	accounted time.Duration
}

// need is the KV cache that a sequence takes at most. The last token is never
// read, so that it is never stored; on a prefill engine no token is.
func (p *pool) need(isl, osl int) int {
	if p.role == model.Prefill {
		return isl
	}
	return isl + osl - 1
}

func (p *pool) placed() int { return len(p.starting) + len(p.ready) + len(p.draining) }

// account adds the replica time up to now. It comes before every change of the
// number of placed replicas.
func (p *pool) account(now time.Duration) {
	p.heldS += p.heldSince(now)
	p.accounted = now
}

// heldSince returns the replica seconds from the last account to now.
func (p *pool) heldSince(now time.Duration) float64 {
	return float64(p.placed()) * (now - p.accounted).Seconds()
}

// place adds a replica that becomes ready at an instant.
func (p *pool) place(readyAt time.Duration) *engine {
	e := &engine{
		pool: p, number: p.created, limits: p.config.Engine, cost: p.cost,
		readyAt: readyAt, idleSince: readyAt, index: -1,
	}
	p.created++
	p.starting = append(p.starting, e)
	return e
}

// open makes a starting replica ready.
func (p *pool) open(e *engine) {
	p.starting = remove(p.starting, e)
	// Replicas that were placed earlier became ready earlier, or now.
	p.ready = append(p.ready, e)
	e.ready = true
}

// leastLoaded returns the engine that gets the next request, or nil.
func (p *pool) leastLoaded() *engine {
	var least *engine
	for _, e := range p.ready {
		if least == nil || e.load < least.load {
			least = e
		}
	}
	return least
}

func remove(from []*engine, e *engine) []*engine {
	i := slices.Index(from, e)
	return slices.Delete(from, i, i+1)
}

func last(of []*engine) *engine { return of[len(of)-1] }
