package model

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Limits are the actuator's own. The decider does not know them: decisions say what
// should be done, and the actuator does as much of it as they leave room for.
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
// open, on the wall clock of its zone. A time that comes twice, since clocks are set
// back, begins it twice; one that is left out, since they are set forward, begins it
// when it would have come: a protection is never left out. A window that cannot be
// read is open: what should stop writes fails closed.
func (w FreezeWindow) Open(at time.Time, zone *time.Location) (since time.Time, open bool) {
	schedule, ok := w.schedule()
	if !ok {
		return at, true
	}
	// What clocks on the wall show is written as if it were UTC, which leaves no
	// time out: the parser passes over times that there are not.
	shown := at.UTC().Add(offset(at, zone))
	last := shown.Add(clockChange)
	for wall := schedule.Next(shown.Add(-w.duration() - clockChange)); !wall.IsZero() && !wall.After(last); wall = schedule.Next(wall) {
		for _, begins := range instants(wall, zone) {
			if !begins.After(at) && at.Before(begins.Add(w.duration())) {
				return begins, true
			}
		}
	}
	return time.Time{}, false
}

// clockChange is more than clocks are set by, and less than half of the time between
// two changes of them.
const clockChange = 6 * time.Hour

func offset(at time.Time, zone *time.Location) time.Duration {
	_, s := at.In(zone).Zone()
	return time.Duration(s) * time.Second
}

// instants returns when clocks on the wall show a time: once, or twice where they are
// set back over it; where they are set forward over it, when they would have.
func instants(wall time.Time, zone *time.Location) []time.Time {
	about := wall.Add(-offset(wall, zone))
	before := wall.Add(-offset(about.Add(-clockChange), zone))
	after := wall.Add(-offset(about.Add(clockChange), zone))
	shows := func(at time.Time) bool { return at.Add(offset(at, zone)).Equal(wall) }
	switch {
	case before.Equal(after), !shows(after):
		return []time.Time{before}
	case shows(before):
		return []time.Time{before, after}
	}
	return []time.Time{after}
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
