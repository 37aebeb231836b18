package sim

import (
	"container/heap"
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
)

// Fleet is a simulated fleet at an instant of simulated time, which starts at
// 0 and passes in Advance alone.
type Fleet struct {
	topology model.Topology
	pools    []*pool // in the order of the topology
	workload Workload

	now       time.Duration
	next      Request // the request that arrives next, if more
	more      bool
	exhausted bool
	failure   error

	events events
	spare  []*sequence // finished ones, to use again

	inFlight int
	totals   Totals
	traffic  traffic
	finished func(Finished) // nil if nobody asks
}

// New returns a fleet at the origin of simulated time, with the replicas of its
// configuration ready.
func New(config Config, workload Workload) (*Fleet, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure simulated fleet: %w", err)
	}
	f := &Fleet{topology: config.Topology, workload: workload, traffic: traffic{longest: config.TrafficWindow}, finished: config.Finished}
	if f.traffic.longest == 0 {
		f.traffic.longest = DefaultTrafficWindow
	}
	for rank, role := range config.Topology.Roles() {
		c, _ := config.Roles.Get(role)
		p := &pool{role: role, rank: rank, config: c, cost: c.Engine.Timing.picoseconds(), desired: c.Replicas}
		for range c.Replicas {
			p.open(p.place(0))
		}
		f.pools = append(f.pools, p)
	}
	return f, nil
}

// Now returns the present instant.
func (f *Fleet) Now() time.Duration { return f.now }

// Done reports whether the workload is exhausted and every request is answered.
func (f *Fleet) Done() bool { return f.exhausted && f.inFlight == 0 }

// Advance lets simulated time pass until an instant, which is not before the
// present. Everything that happens up to it, itself included, has happened
// when Advance returns. It fails if the workload does, and for good.
func (f *Fleet) Advance(to time.Duration) error {
	if f.failure != nil {
		return f.failure
	}
	if to < f.now {
		return fmt.Errorf("advance fleet: %v is before the present, %v", to, f.now)
	}
	for {
		if err := f.peek(); err != nil {
			f.failure = fmt.Errorf("advance fleet: %w", err)
			return f.failure
		}
		switch {
		case f.more && f.next.At <= to && (len(f.events) == 0 || f.next.At <= f.events[0].next):
			f.now = f.next.At
			f.more = false
			f.arrive(f.next, nil)
		case len(f.events) > 0 && f.events[0].next <= to:
			f.now = f.events[0].next
			f.happen(f.events[0])
		default:
			f.now = to
			f.traffic.forget(f.now)
			return nil
		}
	}
}

// peek makes next the request that arrives next.
func (f *Fleet) peek() error {
	if f.more || f.exhausted {
		return nil
	}
	r, ok, err := f.workload.Next()
	switch {
	case err != nil:
		return err
	case !ok:
		f.exhausted = true
		return nil
	case r.At < f.next.At:
		return fmt.Errorf("request at %v comes after one at %v: want requests in order of arrival", r.At, f.next.At)
	case r.At > maxAt:
		return fmt.Errorf("request at %v is too far from the origin, want at most %v", r.At, maxAt)
	case r.ISL < 1 || r.OSL < 1:
		return fmt.Errorf("request at %v has %d prompt and %d output tokens, want at least 1 of each", r.At, r.ISL, r.OSL)
	}
	f.next, f.more = r, true
	return nil
}

// arrive takes a request in at the router.
func (f *Fleet) arrive(r Request, answer *Answer) {
	f.totals.Arrived++
	f.traffic.arrived(f.now, r.ISL)
	for _, p := range f.pools {
		if r.ISL > maxLimit || r.OSL > maxLimit || p.need(r.ISL, r.OSL) > p.config.Engine.MaxKVTokens {
			f.totals.Rejected++
			answer.reject()
			return
		}
	}
	f.inFlight++
	var s *sequence
	if n := len(f.spare); n > 0 {
		s, f.spare = f.spare[n-1], f.spare[:n-1]
	} else {
		s = new(sequence)
	}
	*s = sequence{arrived: f.now, isl: r.ISL, osl: r.OSL, answer: answer}
	if f.topology != model.TopologyDecode {
		f.route(f.pools[0], s)
		return
	}
	// The prefill elsewhere has made the first token.
	s.computed, s.firstToken = s.isl, f.now
	s.answer.start(f.now)
	f.proceed(s)
}

// prefilled notes the first token of a sequence and sends it on.
func (f *Fleet) prefilled(s *sequence) {
	s.firstToken = f.now
	s.answer.start(f.now)
	f.traffic.started(f.now, f.now-s.arrived)
	f.proceed(s)
}

// proceed brings a sequence with a first token to where the others are made.
func (f *Fleet) proceed(s *sequence) {
	switch {
	case s.osl == 1 || f.topology == model.TopologyPrefill:
		f.complete(s)
	case f.topology != model.TopologyAggregated:
		f.route(f.pools[len(f.pools)-1], s)
	}
}

// complete lets go of an answered request.
func (f *Fleet) complete(s *sequence) {
	f.totals.Completed++
	f.inFlight--
	decoded := s.osl - 1
	if f.topology == model.TopologyPrefill {
		decoded = 0
	}
	f.traffic.completed(f.now, s, decoded)
	if f.finished != nil {
		f.finished(Finished{Request{At: s.arrived, ISL: s.isl, OSL: s.osl}, s.firstToken, f.now})
	}
	s.answer.finish(f.now)
	s.answer = nil
	f.spare = append(f.spare, s)
}

// route hands a sequence to an engine of the pool, or keeps it at the router.
func (f *Fleet) route(p *pool, s *sequence) {
	e := p.leastLoaded()
	if e == nil {
		p.waiting.push(s)
		return
	}
	e.enqueue(s, f.now)
	f.schedule(e)
}

// happen lets the event of an engine happen, which is due now.
func (f *Fleet) happen(e *engine) {
	if !e.ready {
		f.open(e)
		return
	}
	e.finishRun(f)
	e.plan(f.now)
	f.schedule(e)
	if e.draining && e.empty() {
		f.retire(e)
	}
}

// schedule puts the end of the engine's run, if it has one, among the events.
func (f *Fleet) schedule(e *engine) {
	e.next = e.run.after(e.run.iterations)
	switch {
	case e.run.iterations == 0 && e.index >= 0:
		heap.Remove(&f.events, e.index)
	case e.run.iterations == 0:
	case e.index >= 0:
		heap.Fix(&f.events, e.index)
	default:
		heap.Push(&f.events, e)
	}
}

// Scale sets a role to a number of replicas, at the present instant.
func (f *Fleet) Scale(role model.Role, replicas int) error {
	p, err := f.pool(role)
	if err != nil {
		return fmt.Errorf("scale fleet: %w", err)
	}
	if replicas < 0 || replicas > maxReplicas {
		return fmt.Errorf("scale fleet: %d replicas of %s, want 0 to %d", replicas, role, maxReplicas)
	}
	p.desired = replicas
	f.reconcile(p)
	return nil
}

// SetQuota sets how many replicas of a role can be placed, at the present
// instant; nil means all. A smaller quota evicts nobody.
func (f *Fleet) SetQuota(role model.Role, quota *int) error {
	p, err := f.pool(role)
	if err != nil {
		return fmt.Errorf("set quota: %w", err)
	}
	if quota != nil && *quota < 0 {
		return fmt.Errorf("set quota: %d replicas of %s, want at least 0", *quota, role)
	}
	p.config.Quota = quota
	f.reconcile(p)
	return nil
}

// reconcile brings the pool to its desired number, as far as its quota allows.
func (f *Fleet) reconcile(p *pool) {
	p.account(f.now)
	for len(p.ready)+len(p.starting) > p.desired {
		if len(p.starting) > 0 {
			e := last(p.starting)
			p.starting = remove(p.starting, e)
			heap.Remove(&f.events, e.index)
			continue
		}
		e := last(p.ready)
		p.ready = remove(p.ready, e)
		p.draining = append(p.draining, e)
		e.draining = true
		for _, s := range e.surrender() {
			f.route(p, s)
		}
		if e.empty() {
			p.draining = remove(p.draining, e)
		}
	}
	p.pending = p.desired - len(p.ready) - len(p.starting)
	for p.pending > 0 && (p.config.Quota == nil || p.placed() < *p.config.Quota) {
		p.pending--
		e := p.place(f.now + p.config.ColdStart)
		if p.config.ColdStart == 0 {
			f.open(e)
			continue
		}
		e.next = e.readyAt
		heap.Push(&f.events, e)
	}
}

// open makes a replica ready, and hands it what waits at the router.
func (f *Fleet) open(e *engine) {
	if e.index >= 0 {
		heap.Remove(&f.events, e.index)
	}
	e.pool.open(e)
	for e.pool.waiting.len() > 0 {
		f.route(e.pool, e.pool.waiting.pop())
	}
}

// retire gives up a replica that has drained; its place may be wanted.
func (f *Fleet) retire(e *engine) {
	e.pool.account(f.now)
	e.pool.draining = remove(e.pool.draining, e)
	f.reconcile(e.pool)
}

func (f *Fleet) pool(role model.Role) (*pool, error) {
	for _, p := range f.pools {
		if p.role == role {
			return p, nil
		}
	}
	return nil, fmt.Errorf("role %q is not of topology %s", string(role), f.topology)
}

// events is a heap of engines, the one with the earliest event on top; at one
// instant those of the first role and of the lowest number come first.
type events []*engine

func (h events) Len() int { return len(h) }

func (h events) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.next != b.next {
		return a.next < b.next
	}
	if a.pool.rank != b.pool.rank {
		return a.pool.rank < b.pool.rank
	}
	return a.number < b.number
}

func (h events) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *events) Push(x any) {
	if e, ok := x.(*engine); ok {
		e.index = len(*h)
		*h = append(*h, e)
	}
}

// Pop implements heap.Interface.
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	e.index = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
