package stream

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// pollEvery is how often a shared store is asked whether somebody else appended
// to it; pollQuiet, how often once nothing was appended for as long as quietAfter:
// most of the cost of asking is waking up. pollAgain is how long a store is left
// alone that failed to answer.
const (
	pollEvery  = 2 * time.Millisecond
	pollQuiet  = 10 * time.Millisecond
	quietAfter = time.Second
	pollAgain  = 100 * time.Millisecond
)

// tide tells those who wait at the end of a topic that it rose.
type tide struct {
	mu      sync.Mutex
	ends    map[string]int64
	waiting map[string]chan struct{}
	// rose is when a topic last did.
	rose time.Time
}

func newTide() *tide {
	return &tide{ends: map[string]int64{}, waiting: map[string]chan struct{}{}}
}

var risen = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// above returns a channel that is closed once the topic ends above a position.
// It may be closed before.
func (t *tide) above(topic string, position int64) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends[topic] > position {
		return risen
	}
	if t.waiting[topic] == nil {
		t.waiting[topic] = make(chan struct{})
	}
	return t.waiting[topic]
}

// rise notes the end of a topic.
func (t *tide) rise(topic string, end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if end <= t.ends[topic] {
		return
	}
	t.ends[topic], t.rose = end, time.Now()
	if waiting := t.waiting[topic]; waiting != nil {
		close(waiting)
		delete(t.waiting, topic)
	}
}

// pace returns the time until the next poll, and whether anybody waits for it.
func (t *tide) pace() (pause time.Duration, awaited bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.rose) > quietAfter {
		return pollQuiet, len(t.waiting) > 0
	}
	return pollEvery, len(t.waiting) > 0
}

// watch notes what other processes append, until the context is done.
func (t *tide) watch(ctx context.Context, shared Shared, store Store, logger *slog.Logger) {
	seen, pause := int64(-1), time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		next, awaited := t.pace()
		pause.Reset(next)
		if !awaited {
			continue
		}
		version, err := shared.Version()
		if err == nil && version == seen {
			continue
		}
		var ends map[string]int64
		if err == nil {
			ends, err = store.Ends(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			logger.Warn("log cannot be watched, trying again", "error", err)
			pause.Reset(pollAgain)
			continue
		}
		seen = version
		for topic, end := range ends {
			t.rise(topic, end)
		}
	}
}
