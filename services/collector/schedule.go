package collector

import (
	"hash/fnv"
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

// maxJitter bounds how long after its instant a tick is observed.
const maxJitter = 2 * time.Second

// jitter returns how long after their instants the ticks of a deployment are
// observed: up to a tenth of the shortest interval, the same for all of its
// ticks, and another for each deployment, so that thousands do not ask at once.
// The instant that an observation names is not moved. Nobody is asked of a
// simulated fleet, and it is observed at once.
func jitter(configured *model.DeploymentConfigured) time.Duration {
	spec := &configured.Spec
	if spec.Source == nil || !spec.Source.Real() {
		return 0
	}
	shortest := spec.Load.IntervalS
	if spec.Throughput.Enabled {
		shortest = min(shortest, spec.Throughput.IntervalS)
	}
	span := min(time.Duration(shortest*float64(time.Second))/10, maxJitter)
	if span <= 0 {
		return 0
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(configured.Deployment)) // a hash takes everything
	return time.Duration(hash.Sum64() % uint64(span))
}
