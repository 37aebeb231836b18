// Package web serves what the reporter shows: the page of the recent past, which
// goes on while it is looked at, and the status API. Everything is read-only, and
// a projection of the log.
package web

import (
	"context"
	"sync"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/report"
)

const (
	// maxRecent bounds the decisions of a deployment that are kept whole.
	maxRecent = 500
	// forgetEvery is how many facts are added between two times of forgetting.
	forgetEvery = 2000
	// margin is how much longer facts are kept than they are shown.
	margin = time.Hour
)

// Live is the recent past of every deployment, as it goes on. Its methods may be
// called by several goroutines.
type Live struct {
	history time.Duration

	mu      sync.Mutex
	builder *report.Builder
	recent  map[string][]Decision
	added   int
	version uint64
	changed chan struct{}
}

// Decision is a decision with the ID of its event.
type Decision struct {
	ID       string                 `json:"id"`
	Decision *model.ScalingDecision `json:"decision"`
}

// NewLive returns a past that is empty, and reaches back that far.
func NewLive(history time.Duration) *Live {
	return &Live{history: history, builder: report.NewBuilder(), recent: map[string][]Decision{}, changed: make(chan struct{})}
}

// Add folds one fact; the id is that of its event.
func (l *Live) Add(id string, fact any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.builder.Add(id, fact)
	if d, ok := fact.(*model.ScalingDecision); ok {
		recent := l.recent[d.Deployment]
		if n := len(recent); n == 0 || d.ObservedAt.After(recent[n-1].Decision.ObservedAt) {
			if n == 2*maxRecent {
				recent = append([]Decision(nil), recent[maxRecent:]...)
			}
			l.recent[d.Deployment] = append(recent, Decision{id, d})
		}
	}
	if l.added++; l.added%forgetEvery == 0 {
		l.builder.Forget(l.history + margin)
	}
	l.version++
	close(l.changed)
	l.changed = make(chan struct{})
}

// Data returns what a report of the recent past shows.
func (l *Live) Data(options report.Options) report.Data {
	if options.Last == 0 || options.Last > l.history {
		options.Last = l.history
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.builder.Build(options)
}

// Recent returns the newest decisions of a deployment, the newest last.
func (l *Live) Recent(deployment string) []Decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	recent := l.recent[deployment]
	recent = recent[max(0, len(recent)-maxRecent):]
	return recent[:len(recent):len(recent)]
}

// wait returns once something was added after a version, or with the context's
// error.
func (l *Live) wait(ctx context.Context, version uint64) (uint64, error) {
	for {
		l.mu.Lock()
		now, changed := l.version, l.changed
		l.mu.Unlock()
		if now != version {
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}
