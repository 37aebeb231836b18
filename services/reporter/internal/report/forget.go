package report

import (
	"slices"
	"time"
)

// seen returns the instants of the oldest and the newest observation or decision.
func (d *deployment) seen() (oldest, newest time.Time) {
	for _, t := range [...]*track{d.evidence, d.decisions} {
		n := len(t.buckets)
		if n == 0 {
			continue
		}
		if first := t.buckets[0].first; oldest.IsZero() || first.Before(oldest) {
			oldest = first
		}
		if last := t.buckets[n-1].last; last.After(newest) {
			newest = last
		}
	}
	return oldest, newest
}

// Forget drops what was seen of a deployment longer than history before its
// newest fact. What was forgotten in time keeps buckets narrow: a builder that
// follows the log shows its last day as finely as one that has just read it.
func (b *Builder) Forget(history time.Duration) {
	for _, d := range b.deployments {
		_, newest := d.seen()
		before := newest.Add(-history)
		for _, t := range [...]*track{d.fleet, d.traffic, d.load, d.evidence, d.decisions, d.forecasts} {
			t.forget(before)
		}
		for name, e := range d.engines {
			if e.forget(before); len(e.buckets) == 0 {
				delete(d.engines, name)
			}
		}
		d.ledger.forget(before)
		d.complaints.forget(before)
		d.actuations = slices.DeleteFunc(d.actuations, func(a Actuation) bool {
			old := a.AtMs < before.UnixMilli()
			if old {
				delete(d.actuationIDs, a.ID)
			}
			return old
		})
		// Of modes and revisions, the one that held at the bound is kept.
		d.modes = since(d.modes, before, func(m ModeChange) int64 { return m.AtMs })
		d.revisions = since(d.revisions, before, func(s Setting) int64 { return s.AtMs })
	}
}

func since[T any](all []T, before time.Time, at func(T) int64) []T {
	first := 0
	for i, one := range all {
		if at(one) <= before.UnixMilli() {
			first = i
		}
	}
	return slices.Delete(all, 0, first)
}

func (t *track) forget(before time.Time) {
	n, _ := slices.BinarySearchFunc(t.buckets, before, func(b bucket, at time.Time) int { return b.last.Compare(at) })
	t.buckets = slices.Delete(t.buckets, 0, n)
}

// forget drops old decisions, and what only they had in common.
func (l *ledger) forget(before time.Time) {
	n, _ := slices.BinarySearchFunc(l.entries, before, func(e entry, at time.Time) int { return e.at.Compare(at) })
	if n == 0 {
		return
	}
	l.entries = slices.Delete(l.entries, 0, n)
	l.renumber()
}
