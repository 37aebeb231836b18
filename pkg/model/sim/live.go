package sim

import (
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
)

// Answer follows one request that was submitted. The fleet fills it in as
// simulated time passes.
type Answer struct {
	ArrivedAt time.Duration
	// Rejected says that no engine could ever hold the request.
	Rejected bool
	// Started and Finished say that the first and the last token are made, and
	// when they were.
	Started, Finished        bool
	FirstTokenAt, FinishedAt time.Duration
}

// The methods of a nil Answer do nothing: nobody follows the request.

func (a *Answer) reject() {
	if a != nil {
		a.Rejected = true
	}
}

func (a *Answer) start(now time.Duration) {
	if a != nil {
		a.Started, a.FirstTokenAt = true, now
	}
}

func (a *Answer) finish(now time.Duration) {
	if a != nil {
		a.Finished, a.FinishedAt = true, now
	}
}

// Submit takes a request in at the present instant, beside those of the
// workload, and returns the answer to follow.
func (f *Fleet) Submit(isl, osl int) (*Answer, error) {
	if isl < 1 || osl < 1 {
		return nil, fmt.Errorf("submit request: %d prompt and %d output tokens, want at least 1 of each", isl, osl)
	}
	answer := &Answer{ArrivedAt: f.now}
	f.arrive(Request{At: f.now, ISL: isl, OSL: osl}, answer)
	return answer, nil
}

// NextEvent returns the instant at which something happens next in the engines
// if nothing arrives until then, and whether anything does.
func (f *Fleet) NextEvent() (time.Duration, bool) {
	if len(f.events) == 0 {
		return 0, false
	}
	return f.events[0].next, true
}

// Progress is what one engine has in hand at present, and made since it got
// ready.
type Progress struct {
	Role   model.Role
	Worker string
	// Running sequences are admitted; their KV tokens are in the cache.
	Running, KVTokens int
	// Iterations have ended, and took Busy in all.
	Iterations int
	Busy       time.Duration
}

// Progress returns the progress of each ready engine, in the order of roles and
// replica numbers.
func (f *Fleet) Progress() []Progress {
	var all []Progress
	for _, p := range f.pools {
		for _, e := range p.ready {
			all = append(all, e.progress(f.now))
		}
	}
	return all
}

func (e *engine) progress(now time.Duration) Progress {
	completed := e.run.completed(now)
	p := Progress{
		Role: e.pool.role, Worker: e.name(),
		Running: len(e.prefilling) + len(e.decoding), KVTokens: e.kv + completed*len(e.decoding),
		Iterations: e.iterations + completed, Busy: e.busy,
	}
	for _, s := range e.prefilling {
		p.KVTokens += s.computed
	}
	if completed > 0 {
		p.Busy += e.run.after(completed) - e.run.start
	}
	return p
}
