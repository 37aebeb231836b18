package collector

import (
	"time"

	"tidemark.dev/pkg/model"
)

// late returns the tick to observe now: the first after last, or, when the one
// that follows it has come as well, the newest that has come. It counts the ticks
// left out: a missed tick is never filled in later.
func late(schedule model.Schedule, last, now time.Time) (due time.Time, loops model.Loops, skipped int) {
	due, loops = schedule.Next(last)
	for {
		following, itsLoops := schedule.Next(due)
		if following.After(now) {
			return due, loops, skipped
		}
		due, loops = following, itsLoops
		skipped++
	}
}
