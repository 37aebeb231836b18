package sim

import (
	"strconv"
	"time"

	"tidemark.dev/pkg/model"
)

// Replicas counts the replicas of one role.
type Replicas struct {
	// Ready replicas take requests.
	Ready int
	// Desired is what the role is set to: Ready + Starting + Pending.
	Desired int
	// Pending replicas cannot be placed for want of quota.
	Pending int
	// Starting replicas are placed and not ready yet.
	Starting int
	// Draining replicas finish what they have begun, and are gone then.
	Draining int
	// Waiting counts the requests at the router while no replica is ready.
	Waiting int
}

// Inventory returns the replicas of every role of the topology.
func (f *Fleet) Inventory() model.PerRole[Replicas] {
	var inventory model.PerRole[Replicas]
	for _, p := range f.pools {
		inventory.Set(p.role, Replicas{
			Ready: len(p.ready), Desired: p.desired, Pending: p.pending,
			Starting: len(p.starting), Draining: len(p.draining), Waiting: p.waiting.len(),
		})
	}
	return inventory
}

// Sample is the state of one engine, as its forward-pass metrics tell it.
type Sample struct {
	Role model.Role
	// Worker names the replica, as in prefill-0. A name is never used again.
	Worker string
	// DPRank is 0: engines are not data-parallel.
	DPRank int
	// AgeS is how long the engine has been ready.
	AgeS float64
	// WallTimeS is the duration of the newest iteration that has ended, and
	// Scheduled its batch: the prompt tokens that it computed, and the KV
	// tokens that its decoding sequences read. Both are zero, a heartbeat, if
	// the engine has been idle since, for a second or more, and before its
	// first iteration has ended.
	WallTimeS float64
	Scheduled Load
	// Queued is what waits at the engine at present, not admitted.
	Queued Load
}

// Load is the work in one state of an engine. Engines of role decode count
// their queue as decode requests, with the KV tokens of the prompts.
type Load struct {
	PrefillRequests, PrefillTokens, DecodeRequests, DecodeKVTokens int
}

// Engines returns one sample for each ready engine, in the order of roles and
// replica numbers.
func (f *Fleet) Engines() []Sample {
	var samples []Sample
	for _, p := range f.pools {
		for _, e := range p.ready {
			samples = append(samples, e.sample(f.now))
		}
	}
	return samples
}

// name is the engine's, which is never used again.
func (e *engine) name() string { return string(e.pool.role) + "-" + strconv.Itoa(e.number) }

func (e *engine) sample(now time.Duration) Sample {
	newest := e.last
	switch {
	case e.run.iterations == 0 && now-e.idleSince >= heartbeat:
		newest = iteration{}
	case e.run.iterations > 0:
		if j := e.run.completed(now); j > 0 {
			newest = e.iteration(j)
		}
	}
	s := Sample{
		Role:      e.pool.role,
		Worker:    e.name(),
		AgeS:      (now - e.readyAt).Seconds(),
		WallTimeS: newest.wall.Seconds(),
		Scheduled: Load{
			PrefillRequests: newest.prompts, PrefillTokens: newest.promptTokens,
			DecodeRequests: newest.sequences, DecodeKVTokens: newest.kvTokens,
		},
	}
	if e.pool.role == model.Decode {
		s.Queued = Load{DecodeRequests: e.waiting.len(), DecodeKVTokens: e.waitingTokens}
	} else {
		s.Queued = Load{PrefillRequests: e.waiting.len(), PrefillTokens: e.waitingTokens}
	}
	return s
}

// Totals counts since the origin of simulated time. Arrived equals Completed +
// Rejected + InFlight.
type Totals struct {
	Arrived, Completed, Rejected int
	// InFlight requests are at the router or at an engine.
	InFlight int
	// GPUSeconds is the time for which the GPUs of each role were held, from
	// placing a replica until it is gone.
	GPUSeconds model.PerRole[float64]
}

// Totals returns what was counted up to the present.
func (f *Fleet) Totals() Totals {
	totals := f.totals
	for _, p := range f.pools {
		totals.InFlight += p.waiting.len()
		for _, engines := range [...][]*engine{p.ready, p.draining} {
			for _, e := range engines {
				totals.InFlight += e.waiting.len() + len(e.prefilling) + len(e.decoding)
			}
		}
		totals.GPUSeconds.Set(p.role, (p.heldS+p.heldSince(f.now))*float64(p.config.GPUsPerReplica))
	}
	return totals
}
