package engines

import (
	"math"
	"time"

	"tidemark.dev/pkg/model"
)

// reading is what one scrape says of one data-parallel rank of an engine. What
// the engine does not export is nil.
type reading struct {
	at time.Time

	// Of the moment.
	running, waiting     *float64 // requests
	handover             *float64 // requests on their way from a prefill engine to a decode engine
	prefilling, decoding *float64 // running requests, where they are told apart
	prefillTokens        *float64 // of the last iteration
	kvTokens             *float64 // in use
	kvCapacity           *float64 // as the engine says
	iterationS           *float64 // of the last iteration

	// Since the engine began.
	promptTokens      *float64 // computed
	iterations, busyS *float64 // and the seconds that they took
	latencySumS       *float64 // between tokens
	latencies         *float64
	promptSum         *float64 // of the tokens of requests
	prompts           *float64 // requests
}

// sample makes a sample of what a rank says now and said at the scrape before,
// which is nil where there was none. What cannot be known is left out.
func (now *reading) sample(role model.Role, before *reading) model.EngineSample {
	if before != nil && now.restarted(before) {
		before = nil
	}
	s := model.EngineSample{Role: role, WallTimeS: now.wallTime(role, before)}
	queue := plus(now.waiting, now.handover)
	queueTokens := times(queue, ratio(now.promptSum, now.prompts))
	if role == model.Decode {
		s.Queued.DecodeRequests, s.Queued.DecodeKVTokens = count(queue), count(queueTokens)
	} else {
		s.Queued.PrefillRequests, s.Queued.PrefillTokens = count(queue), count(queueTokens)
		s.Scheduled.PrefillTokens = count(either(now.prefillTokens, now.perIteration(before)))
	}
	switch role {
	case model.Prefill:
		s.Scheduled.PrefillRequests = count(either(now.prefilling, now.running))
	case model.Decode:
		s.Scheduled.DecodeRequests, s.Scheduled.DecodeKVTokens = count(either(now.decoding, now.running)), count(now.kvTokens)
	case model.Aggregated:
		s.Scheduled.PrefillRequests = count(now.prefilling)
		s.Scheduled.DecodeRequests, s.Scheduled.DecodeKVTokens = count(either(now.decoding, now.running)), count(now.kvTokens)
		// What waits at such an engine is prompts, also after a preemption.
		s.Queued.DecodeRequests, s.Queued.DecodeKVTokens = new(0), new(0)
	}
	return s
}

// restarted reports whether a counter went back: the engine began again.
func (now *reading) restarted(before *reading) bool {
	for _, counter := range [...]struct{ now, before *float64 }{
		{now.promptTokens, before.promptTokens},
		{now.iterations, before.iterations},
		{now.busyS, before.busyS},
		{now.latencySumS, before.latencySumS},
		{now.latencies, before.latencies},
		{now.prompts, before.prompts},
	} {
		if counter.now != nil && counter.before != nil && *counter.now < *counter.before {
			return true
		}
	}
	return false
}

// perIteration returns the prompt tokens of the mean iteration since the scrape
// before: none where no prompt was computed, and unknown where the engine does
// not say how many iterations it made.
func (now *reading) perIteration(before *reading) *float64 {
	if before == nil {
		return nil
	}
	tokens := minus(now.promptTokens, before.promptTokens)
	if tokens != nil && *tokens == 0 {
		return tokens
	}
	return ratio(tokens, minus(now.iterations, before.iterations))
}

// idle reports whether nothing ran at both scrapes and nothing was computed
// between them.
func (now *reading) idle(before *reading) bool {
	zero := func(value *float64) bool { return value != nil && *value == 0 }
	return zero(plus(now.running, now.waiting)) && zero(plus(before.running, before.waiting)) &&
		zero(minus(now.promptTokens, before.promptTokens)) && (now.latencies == nil || zero(minus(now.latencies, before.latencies)))
}

// wallTime returns the duration of the mean iteration since the scrape before: 0
// for an engine that was idle, and unknown where the engine does not tell.
func (now *reading) wallTime(role model.Role, before *reading) *float64 {
	switch {
	case before == nil:
		return nil
	case now.idle(before):
		return new(0.0)
	case now.iterationS != nil:
		return now.iterationS
	}
	iterations := minus(now.iterations, before.iterations)
	if busy := ratio(minus(now.busyS, before.busyS), iterations); busy != nil {
		return busy
	}
	if role != model.Prefill {
		// Each decoding request makes one token in each iteration.
		return ratio(minus(now.latencySumS, before.latencySumS), minus(now.latencies, before.latencies))
	}
	// An engine that was at work at both scrapes was so between them.
	if busy := func(r *reading) bool { p := plus(r.running, r.waiting); return p != nil && *p > 0 }; busy(now) && busy(before) {
		return ratio(new(now.at.Sub(before.at).Seconds()), iterations)
	}
	return nil
}

// The arithmetic of what may not be known: a result is known where both sides
// are and it is a number that can be.

func either(a, b *float64) *float64 {
	if a != nil {
		return a
	}
	return b
}

// plus adds b where there is one: an engine without such a queue has none in it.
func plus(a, b *float64) *float64 {
	if a == nil || b == nil {
		return a
	}
	return new(*a + *b)
}

func minus(a, b *float64) *float64 {
	if a == nil || b == nil {
		return nil
	}
	return new(*a - *b)
}

func times(a, b *float64) *float64 {
	switch {
	case a != nil && *a == 0:
		return a // nothing, whatever the length of one
	case a == nil || b == nil:
		return nil
	}
	return new(*a * *b)
}

func ratio(a, b *float64) *float64 {
	if a == nil || b == nil || !(*b > 0) || !(*a >= 0) {
		return nil
	}
	return new(*a / *b)
}

// count rounds to a whole number.
func count(value *float64) *int {
	if value == nil || !(*value >= 0 && *value <= math.MaxInt32*1024) {
		return nil
	}
	return new(int(math.Round(*value)))
}
