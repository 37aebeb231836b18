package collector

import (
	"time"

	"tidemark.dev/pkg/model"
)

// schedule says when a deployment is observed. Ticks are aligned: each loop is
// due at the instants, on the deployment's clock, that are whole multiples of
// its interval since the Unix epoch. So two collectors in a hand-over name the
// same instants, and a tick that serves both loops is one observation.
type schedule struct {
	// load and throughput are the intervals of the loops; 0 for one that is off.
	load, throughput time.Duration
}

// scheduleOf returns the schedule of a deployment. The load loop is due also
// when it is switched off, if the throughput loop's models are trained by its
// samples.
func scheduleOf(spec *model.Deployment) schedule {
	s := schedule{load: seconds(spec.Load.IntervalS)}
	if spec.Throughput.Enabled {
		s.throughput = seconds(spec.Throughput.IntervalS)
	}
	return s
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// next returns the first tick after an instant and the loops that it serves.
func (s schedule) next(after time.Time) (time.Time, model.Loops) {
	due := time.Time{}
	for _, interval := range [...]time.Duration{s.load, s.throughput} {
		if interval > 0 {
			if tick := following(after, interval); due.IsZero() || tick.Before(due) {
				due = tick
			}
		}
	}
	return due, model.Loops{Load: isMultiple(due, s.load), Throughput: isMultiple(due, s.throughput)}
}

// following returns the first multiple of an interval after an instant.
func following(after time.Time, interval time.Duration) time.Time {
	n := after.UnixNano()
	return time.Unix(0, n-modulo(n, int64(interval))+int64(interval)).UTC()
}

func isMultiple(t time.Time, interval time.Duration) bool {
	return interval > 0 && modulo(t.UnixNano(), int64(interval)) == 0
}

// modulo is the remainder that is not negative.
func modulo(n, d int64) int64 { return ((n % d) + d) % d }

// late returns the tick to observe now: the first after last, or, when the one
// that follows it has come as well, the newest that has come. It counts the ticks
// left out: a missed tick is never filled in later.
func (s schedule) late(last, now time.Time) (due time.Time, loops model.Loops, skipped int) {
	due, loops = s.next(last)
	for {
		following, itsLoops := s.next(due)
		if following.After(now) {
			return due, loops, skipped
		}
		due, loops = following, itsLoops
		skipped++
	}
}
