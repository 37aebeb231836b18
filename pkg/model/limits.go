package model

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Limits are the actuator's own. The decider does not know them: decisions say what
// should be done, and the actuator refuses, whole, what goes beyond them.
type Limits struct {
	// MaxReplicas is how far a role may rise; 0 is no limit.
	MaxReplicas int `json:"max_replicas,omitzero"`
	// MaxChangeReplicas is by how many replicas, up and down added together, a role
	// may change within ChangeIntervalS; 0 is no limit.
	MaxChangeReplicas int     `json:"max_change_replicas,omitzero"`
	ChangeIntervalS   float64 `json:"change_interval_s,omitzero"`
	// FreezeWindows are times in which nothing is written.
	FreezeWindows []FreezeWindow `json:"freeze_windows,omitempty"`
}

// FreezeWindow is a time that comes again and again.
type FreezeWindow struct {
	// Cron says when it begins: minute, hour, day of the month, month, day of the week.
	Cron      string  `json:"cron"`
	DurationS float64 `json:"duration_s"`
	// TimeZone is an IANA name; the default is UTC.
	TimeZone string `json:"time_zone"`
}

func (w *FreezeWindow) setDefaults() { w.TimeZone = "UTC" }

func (w FreezeWindow) String() string {
	return fmt.Sprintf("%q in %s, for %v", w.Cron, w.TimeZone, w.duration())
}

func (w FreezeWindow) duration() time.Duration { return seconds(w.DurationS) }

// cronFields are those of a crontab, without seconds and without @every, which
// would begin whenever it is asked.
const cronFields = cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow

func (w FreezeWindow) schedule() (cron.Schedule, bool) {
	schedule, err := cron.NewParser(cronFields).Parse(w.Cron)
	return schedule, err == nil && !strings.Contains(w.Cron, "=") // of a zone, which has a key of its own
}

// Open returns when a window that is open at an instant began, and whether it is
// open, on the wall clock of its zone. One that cannot be read is: what should stop
// writes fails closed.
func (w FreezeWindow) Open(at time.Time, zone *time.Location) (since time.Time, open bool) {
	schedule, ok := w.schedule()
	if !ok {
		return at, true
	}
	// The parser leaves the zone to the instant that it is asked about.
	begins := schedule.Next(at.Add(-w.duration()).In(zone))
	return begins, !begins.IsZero() && !begins.After(at)
}

// ChangeInterval is the time over which MaxChangeReplicas counts.
func (l *Limits) ChangeInterval() time.Duration { return seconds(l.ChangeIntervalS) }

// The bounds of what the actuator remembers, and of a window's search.
const (
	mostChangeIntervalS = 86400
	mostFreezeS         = 31 * 86400
)

// zoneName is what names of zones look like. Whether there is one of a name, who has
// the zones says.
var zoneName = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*)*$`)

// someDay is one before a leap year's end: a window that never begins after it
// never does.
var someDay = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)

func (d *Deployment) checkLimits(c *checks) {
	l := &d.Limits
	c.atLeast("limits.max_replicas", float64(l.MaxReplicas), 0)
	for _, role := range d.Topology.Roles() {
		if spec, given := d.Roles.Get(role); given && l.MaxReplicas > 0 && l.MaxReplicas < spec.MinReplicas {
			c.fail("limits.max_replicas", "is %d, less than min_replicas of %s, which is %d", l.MaxReplicas, role, spec.MinReplicas)
		}
	}
	c.atLeast("limits.max_change_replicas", float64(l.MaxChangeReplicas), 0)
	switch {
	case l.MaxChangeReplicas > 0 && !(l.ChangeIntervalS > 0 && l.ChangeIntervalS <= mostChangeIntervalS):
		c.fail("limits.change_interval_s", "is %v, want more than 0 and at most %d: the time over which max_change_replicas counts", l.ChangeIntervalS, mostChangeIntervalS)
	case l.MaxChangeReplicas == 0 && l.ChangeIntervalS != 0:
		c.fail("limits.change_interval_s", "is given without max_change_replicas")
	}
	// A decision beyond the limit is refused whole. One that always would be is
	// no protection, but a fleet that stands still.
	for _, loop := range [...]struct {
		path    string
		enabled bool
		step    int
	}{{"load.max_step", d.Load.Enabled, d.Load.MaxStep}, {"throughput.max_step", d.Throughput.Enabled, d.Throughput.MaxStep}} {
		if loop.enabled && l.MaxChangeReplicas > 0 && l.MaxChangeReplicas < loop.step {
			c.fail("limits.max_change_replicas", "is %d, and %s is %d: a decision of that size could never be carried out", l.MaxChangeReplicas, loop.path, loop.step)
		}
	}
	for i, w := range l.FreezeWindows {
		path := fmt.Sprintf("limits.freeze_windows[%d]", i)
		if !(w.DurationS > 0 && w.DurationS <= mostFreezeS) {
			c.fail(path+".duration_s", "is %v, want more than 0 and at most %d", w.DurationS, mostFreezeS)
		}
		switch schedule, ok := w.schedule(); {
		case !ok:
			c.fail(path+".cron", "is %q, want five fields such as 0 22 * * FRI: minute, hour, day of the month, month, day of the week", w.Cron)
		case schedule.Next(someDay).IsZero():
			c.fail(path+".cron", "is %q, which never comes", w.Cron)
		}
		if !zoneName.MatchString(w.TimeZone) || w.TimeZone == "Local" {
			c.fail(path+".time_zone", "is %q, want an IANA name such as Europe/Berlin", w.TimeZone)
		}
	}
}
