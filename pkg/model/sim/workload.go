package sim

import "time"

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

// Requests is a workload in memory.
type Requests struct {
	list []Request
	next int
}

// NewRequests returns a workload of the given requests, which it neither
// copies nor changes.
func NewRequests(list []Request) *Requests { return &Requests{list: list} }

// Next implements Workload.
func (r *Requests) Next() (Request, bool, error) {
	if r.next == len(r.list) {
		return Request{}, false, nil
	}
	r.next++
	return r.list[r.next-1], true, nil
}
