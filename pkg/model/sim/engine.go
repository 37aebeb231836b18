package sim

import (
	"container/heap"
	"sort"
	"time"

	"tidemark.dev/pkg/model"
)

// heartbeat is how long an engine is idle before it says so, like engines that
// publish forward-pass metrics: until then its last iteration is the newest
// thing known of it.
const heartbeat = time.Second

// sequence is a request on its way through the fleet.
type sequence struct {
	arrived    time.Duration
	firstToken time.Duration
	isl, osl   int
	computed   int // prompt tokens whose KV exists
	chunk      int // of them to compute in the iteration under way
	finish     int // the engine's iteration that makes the last token
	answer     *Answer
}

// engine is one replica. Its decoding sequences all advance by one token in
// each iteration, so that only their number and their sums are kept:
//
//   - kv is the sum of isl + tokens decoded here over the decoding sequences,
//   - a sequence that joined after iteration n finishes at n + osl − 1, since
//     the prefill made its first token,
//
// both as of iteration made, the last before the run under way.
type engine struct {
	pool   *pool
	number int
	limits Engine
	cost   picoseconds

	ready    bool          // was ready; it may be draining by now
	draining bool          // takes no more requests
	readyAt  time.Duration // when it becomes, or became, ready

	waiting       fifo[*sequence] // routed here, not admitted
	waitingTokens int             // their prompt tokens
	prefilling    []*sequence     // admitted, in order; prompt not complete
	decoding      byFinish
	reserved      int // KV tokens promised to admitted sequences
	load          int // what the router compares

	made int // iterations with a decoding sequence
	kv   int // KV tokens of the decoding sequences

	iterations int           // of the runs before the one under way
	busy       time.Duration // and the time that they took

	run       run
	last      iteration     // the newest iteration before the run
	idleSince time.Duration // while there is no run

	next  time.Duration // its event: when it gets ready, or its run ends
	index int           // in the event queue, -1 outside
}

// run is a series of iterations of one batch. With j ≥ 1, iteration j takes
// fixed + growth·j picoseconds. The zero run has no iterations: the engine is
// idle.
type run struct {
	start         time.Duration
	iterations    int
	fixed, growth int64
	prompts       int // chunks of prompts; a run that has any is one iteration
	promptTokens  int
}

// after returns the instant at which iteration j ends; 0 is the start.
func (r *run) after(j int) time.Duration {
	n := int64(j)
	ps := n*r.fixed + n*(n+1)/2*r.growth
	return r.start + time.Duration((ps+picosecondsPerNanosecond/2)/picosecondsPerNanosecond)
}

// completed returns how many iterations have ended at an instant within the run.
func (r *run) completed(now time.Duration) int {
	return sort.Search(r.iterations, func(j int) bool { return r.after(j+1) > now })
}

// cut shortens the run to end with the first iteration that ends at or after now.
func (r *run) cut(now time.Duration) {
	r.iterations = min(r.iterations, 1+sort.Search(r.iterations, func(j int) bool { return r.after(j+1) >= now }))
}

// iteration is what an engine says of one iteration.
type iteration struct {
	wall                  time.Duration
	prompts, promptTokens int
	sequences, kvTokens   int
}

// iteration describes iteration j of the run under way.
func (e *engine) iteration(j int) iteration {
	it := iteration{
		wall:         e.run.after(j) - e.run.after(j-1),
		prompts:      e.run.prompts,
		promptTokens: e.run.promptTokens,
		sequences:    len(e.decoding),
	}
	it.kvTokens = e.kv + j*it.sequences
	return it
}

func (e *engine) empty() bool {
	return e.waiting.len() == 0 && len(e.prefilling) == 0 && len(e.decoding) == 0
}

// enqueue takes a sequence from the router.
//
// Only the first one to wait cuts the run: where others wait already, either
// they did when the run was planned, and then the head does not fit before the
// run ends with a finish; or the first of them has cut it.
func (e *engine) enqueue(s *sequence, now time.Duration) {
	e.waiting.push(s)
	e.waitingTokens += s.isl
	e.load += s.isl
	switch {
	case e.run.iterations == 0:
		e.plan(now)
	case e.waiting.len() == 1:
		e.run.cut(now)
	}
}

// surrender empties the queue, to be routed again.
func (e *engine) surrender() []*sequence {
	queued := append([]*sequence(nil), e.waiting.all()...)
	e.waiting.drop(len(queued))
	e.load -= e.waitingTokens
	e.waitingTokens = 0
	return queued
}

// plan admits what fits and begins the next run.
func (e *engine) plan(now time.Duration) {
	if e.run.iterations == 0 && now-e.idleSince >= heartbeat {
		e.last = iteration{} // the heartbeat came in between
	}
	budget := e.limits.MaxNumBatchedTokens - len(e.decoding)
	prompts, tokens, squares := 0, 0, int64(0)
	compute := func(s *sequence) {
		s.chunk = min(budget, s.isl-s.computed)
		if s.chunk == 0 {
			return
		}
		budget -= s.chunk
		prompts++
		tokens += s.chunk
		from, to := int64(s.computed), int64(s.computed+s.chunk)
		squares += to*to - from*from
	}
	for _, s := range e.prefilling {
		compute(s)
	}
	for e.waiting.len() > 0 && len(e.prefilling)+len(e.decoding) < e.limits.MaxNumSeqs {
		s := e.waiting.all()[0]
		prefilled := s.computed == s.isl
		need := e.pool.need(s.isl, s.osl)
		if e.reserved+need > e.limits.MaxKVTokens || !prefilled && budget == 0 {
			break
		}
		e.waiting.pop()
		e.waitingTokens -= s.isl
		e.reserved += need
		if prefilled {
			e.decode(s)
		} else {
			compute(s)
			e.prefilling = append(e.prefilling, s)
		}
	}
	sequences := int64(len(e.decoding))
	e.run = run{
		start:        now,
		fixed:        e.cost.base + e.cost.sequence*sequences + e.cost.kvToken*int64(e.kv),
		growth:       e.cost.kvToken * sequences,
		prompts:      prompts,
		promptTokens: tokens,
	}
	switch {
	case tokens > 0:
		e.run.iterations = 1
		e.run.fixed += e.cost.prefillToken*int64(tokens) + e.cost.prefillTokenSquared*squares
	case sequences > 0:
		e.run.iterations = min(e.decoding[0].finish-e.made, maxRun)
	default:
		e.idleSince = now
	}
}

// decode lets a sequence whose prompt is computed join the batch.
func (e *engine) decode(s *sequence) {
	s.finish = e.made + s.osl - 1
	e.kv += s.isl
	heap.Push(&e.decoding, s)
}

// finishRun accounts for the run that ends now, and tells the fleet of each
// sequence that has made its last or its first token.
func (e *engine) finishRun(f *Fleet) {
	e.last = e.iteration(e.run.iterations)
	e.iterations += e.run.iterations
	e.busy += e.run.after(e.run.iterations) - e.run.start
	if len(e.decoding) > 0 {
		e.made += e.run.iterations
		e.kv += e.run.iterations * len(e.decoding)
	}
	for len(e.decoding) > 0 && e.decoding[0].finish == e.made {
		s := e.decoding[0]
		heap.Pop(&e.decoding)
		e.kv -= s.isl + s.osl - 1
		e.reserved -= e.pool.need(s.isl, s.osl)
		e.load -= s.isl
		f.complete(s)
	}
	incomplete := e.prefilling[:0]
	for _, s := range e.prefilling {
		s.computed += s.chunk
		if e.pool.role == model.Prefill {
			e.load -= s.chunk
		}
		switch {
		case s.computed < s.isl:
			incomplete = append(incomplete, s)
			continue
		case e.pool.role == model.Prefill:
			e.reserved -= e.pool.need(s.isl, s.osl)
		case s.osl == 1:
			e.reserved -= e.pool.need(s.isl, s.osl)
			e.load -= s.isl
		default:
			e.decode(s)
		}
		f.prefilled(s)
	}
	clear(e.prefilling[len(incomplete):])
	e.prefilling = incomplete
}

// byFinish is a heap of sequences, the first to finish on top.
type byFinish []*sequence

func (h byFinish) Len() int           { return len(h) }
func (h byFinish) Less(i, j int) bool { return h[i].finish < h[j].finish }
func (h byFinish) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *byFinish) Push(x any) {
	if s, ok := x.(*sequence); ok {
		*h = append(*h, s)
	}
}

// Pop implements heap.Interface.
func (h *byFinish) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
