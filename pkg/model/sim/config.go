package sim

import (
	"errors"
	"fmt"
	"math"
	"time"

	"tidemark.dev/pkg/model"
)

// DefaultTrafficWindow is the longest window that a fleet answers for where its
// configuration names none.
const DefaultTrafficWindow = time.Hour

// Config describes a fleet.
type Config struct {
	Topology model.Topology
	// Roles configures the roles of the topology, and no others.
	Roles model.PerRole[RoleConfig]
	// TrafficWindow is the longest window that Traffic can be asked for, and
	// so how long latencies are remembered. 0 means DefaultTrafficWindow.
	TrafficWindow time.Duration
	// Finished, if it is set, is told of every request that is answered, in the
	// order in which they are.
	Finished func(Finished)
}

// Finished is a request that was answered.
type Finished struct {
	Request
	// FirstTokenAt and FinishedAt are when its first and its last token were made. In
	// topology decode the first token is made elsewhere, as the request arrives.
	FirstTokenAt, FinishedAt time.Duration
}

// TTFT returns the time to first token.
func (f *Finished) TTFT() time.Duration { return f.FirstTokenAt - f.At }

// ITL returns the inter-token latency, the time from the first to the last token
// by the number of tokens after the first, and whether there are any. A prefill
// fleet makes the first token alone.
func (f *Finished) ITL() (time.Duration, bool) {
	if f.OSL < 2 || f.FinishedAt == f.FirstTokenAt {
		return 0, false
	}
	return (f.FinishedAt - f.FirstTokenAt) / time.Duration(f.OSL-1), true
}

// RoleConfig describes the pool of one role.
type RoleConfig struct {
	// Replicas are ready at the origin of simulated time.
	Replicas int
	// Quota is the number of replicas that can be placed, draining ones
	// included; those beyond it stay pending. Without it all can.
	Quota *int
	// GPUsPerReplica counts for the GPU time.
	GPUsPerReplica int
	// ColdStart is the time from placing a replica to its being ready.
	ColdStart time.Duration
	Engine    Engine
}

// Engine holds the limits and the speed of one engine.
type Engine struct {
	// MaxNumBatchedTokens bounds the tokens of one iteration: one for each
	// decoding sequence, and the chunks of prompts.
	MaxNumBatchedTokens int
	// MaxNumSeqs bounds the sequences that run at once.
	MaxNumSeqs int
	// MaxKVTokens is the capacity of the KV cache.
	MaxKVTokens int
	Timing      Timing
}

// Timing gives the duration of one engine iteration in seconds:
//
//	BaseS + PerPrefillTokenS·p + PerPrefillTokenSquaredS·q + PerSequenceS·b + PerKVTokenS·kv
//
// where p is the number of prompt tokens computed, b the number of decoding
// sequences, and kv the KV tokens that those read, the new ones included. A
// chunk of a prompt from token s to token e adds e²−s² to q, so that a prompt
// costs the same attention in one piece or in many.
//
// Each coefficient is rounded to the picosecond.
type Timing struct {
	BaseS                   float64
	PerPrefillTokenS        float64
	PerPrefillTokenSquaredS float64
	PerSequenceS            float64
	PerKVTokenS             float64
}

const (
	// maxLimit bounds the limits of an engine, so that squares of them fit in
	// an int64.
	maxLimit = 1 << 30
	// maxReplicas bounds the memory that a scaling can ask for.
	maxReplicas = 10_000
	// maxIterationS bounds the longest iteration, and maxRun the iterations
	// planned at once, so that a run's picoseconds fit in an int64: 4096 ×
	// 1000 s is 4.1e18 ps.
	maxIterationS = 1000
	maxRun        = 4096
	// minBaseS makes time pass with every iteration.
	minBaseS = 1e-6
)

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var problems []error
	fail := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.Topology.Roles()) == 0 {
		fail("topology %q does not exist", string(c.Topology))
	}
	if c.TrafficWindow < 0 {
		fail("traffic window is %v, want a positive one, or 0 for %v", c.TrafficWindow, DefaultTrafficWindow)
	}
	wanted := map[model.Role]bool{}
	for _, role := range c.Topology.Roles() {
		wanted[role] = true
	}
	for _, role := range model.AllRoles {
		config, ok := c.Roles.Get(role)
		switch {
		case ok && !wanted[role]:
			fail("role %s is configured, and topology %s has none", role, c.Topology)
		case !ok && wanted[role]:
			fail("role %s of topology %s is not configured", role, c.Topology)
		case ok:
			if err := config.validate(); err != nil {
				fail("role %s: %w", role, err)
			}
		}
	}
	return errors.Join(problems...)
}

func (c RoleConfig) validate() error {
	var problems []error
	fail := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, n := range [...]struct {
		name        string
		value       int
		least, most int
	}{
		{"replicas", c.Replicas, 0, maxReplicas},
		{"GPUs per replica", c.GPUsPerReplica, 0, maxLimit},
		{"max_num_seqs", c.Engine.MaxNumSeqs, 1, maxLimit},
		{"max_num_batched_tokens", c.Engine.MaxNumBatchedTokens, 1, maxLimit},
		{"max_kv_tokens", c.Engine.MaxKVTokens, 1, maxLimit},
	} {
		if n.value < n.least || n.value > n.most {
			fail("%s is %d, want %d to %d", n.name, n.value, n.least, n.most)
		}
	}
	if c.Quota != nil && *c.Quota < c.Replicas {
		fail("quota is %d, which cannot hold the %d replicas at the origin", *c.Quota, c.Replicas)
	}
	if c.ColdStart < 0 || c.ColdStart > maxAt {
		fail("cold start is %v, want 0 to %v", c.ColdStart, maxAt)
	}
	if c.Engine.MaxNumBatchedTokens < c.Engine.MaxNumSeqs {
		fail("max_num_batched_tokens is %d, want at least max_num_seqs, %d: each sequence may decode a token",
			c.Engine.MaxNumBatchedTokens, c.Engine.MaxNumSeqs)
	}
	t := c.Engine.Timing
	for _, coefficient := range [...]struct {
		name  string
		value float64
	}{
		{"per prefill token", t.PerPrefillTokenS},
		{"per squared prefill token", t.PerPrefillTokenSquaredS},
		{"per sequence", t.PerSequenceS},
		{"per KV token", t.PerKVTokenS},
	} {
		if !(coefficient.value >= 0) {
			fail("time %s is %v s, want a number that is not negative", coefficient.name, coefficient.value)
		}
	}
	if !(t.BaseS >= minBaseS) {
		fail("base time of an iteration is %v s, want at least %v s", t.BaseS, minBaseS)
	}
	if worst := c.Engine.worstIterationS(); !(worst <= maxIterationS) {
		fail("the longest iteration takes %.0f s, want at most %d s", worst, maxIterationS)
	}
	return errors.Join(problems...)
}

// worstIterationS bounds the duration of any iteration within the limits. A
// chunk of n tokens of a prompt that fits the cache adds n·(2s+n) to the
// squares, which is less than 2·n·max_kv_tokens.
func (e Engine) worstIterationS() float64 {
	t, kv, batched := e.Timing, float64(e.MaxKVTokens), float64(e.MaxNumBatchedTokens)
	return t.BaseS + t.PerPrefillTokenS*batched + t.PerPrefillTokenSquaredS*2*batched*kv +
		t.PerSequenceS*float64(e.MaxNumSeqs) + t.PerKVTokenS*kv
}

// picoseconds is a Timing in whole picoseconds.
type picoseconds struct {
	base, prefillToken, prefillTokenSquared, sequence, kvToken int64
}

const picosecondsPerNanosecond = 1000

func (t Timing) picoseconds() picoseconds {
	whole := func(seconds float64) int64 { return int64(math.Round(seconds * 1e12)) }
	return picoseconds{
		base:                whole(t.BaseS),
		prefillToken:        whole(t.PerPrefillTokenS),
		prefillTokenSquared: whole(t.PerPrefillTokenSquaredS),
		sequence:            whole(t.PerSequenceS),
		kvToken:             whole(t.PerKVTokenS),
	}
}
