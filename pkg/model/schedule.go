package model

import "time"

// Schedule says when a deployment is observed. Ticks are aligned: each loop is
// due at the instants, on the deployment's clock, that are whole multiples of
// its interval since the Unix epoch. So two collectors in a hand-over name the
// same instants, and a tick that serves both loops is one observation.
type Schedule struct {
	// Load and Throughput are the intervals of the loops; 0 for one that is off.
	Load, Throughput time.Duration
}

// Schedule returns the schedule of a deployment. The load loop is due also when
// it is switched off: its samples train the models of the throughput loop.
func (d *Deployment) Schedule() Schedule {
	s := Schedule{Load: seconds(d.Load.IntervalS)}
	if d.Throughput.Enabled {
		s.Throughput = seconds(d.Throughput.IntervalS)
	}
	return s
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Next returns the first tick after an instant and the loops that it serves.
func (s Schedule) Next(after time.Time) (time.Time, Loops) {
	due := time.Time{}
	for _, interval := range [...]time.Duration{s.Load, s.Throughput} {
		if interval > 0 {
			if tick := following(after, interval); due.IsZero() || tick.Before(due) {
				due = tick
			}
		}
	}
	return due, Loops{Load: isMultiple(due, s.Load), Throughput: isMultiple(due, s.Throughput)}
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
