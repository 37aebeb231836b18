package actuator

import (
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // Images have no zones of their own.

	"tidemark.dev/pkg/model"
)

// zones holds the zones that were loaded, by name: windows are asked about often, and
// a zone is read from a file.
var zones sync.Map

func zoneOf(name string) (*time.Location, error) {
	if zone, loaded := zones.Load(name); loaded {
		return zone.(*time.Location), nil //nolint:errcheck // nothing else is stored
	}
	zone, err := time.LoadLocation(name)
	if err == nil {
		zones.Store(name, zone)
	}
	return zone, err
}

// OpenWindow returns the first freeze window that is open at an instant on the
// deployment's clock, and since when; nil if none is. One whose zone is not known is
// open: what should stop writes fails closed.
func OpenWindow(limits *model.Limits, at time.Time) (*model.FreezeWindow, time.Time) {
	for i := range limits.FreezeWindows {
		window := &limits.FreezeWindows[i]
		zone, err := zoneOf(window.TimeZone)
		if err != nil {
			return window, at
		}
		if since, open := window.Open(at, zone); open {
			return window, since
		}
	}
	return nil, time.Time{}
}

// CheckZones returns an error that names a window whose zone is not known.
func CheckZones(limits *model.Limits) error {
	for i, window := range limits.FreezeWindows {
		if _, err := zoneOf(window.TimeZone); err != nil {
			return fmt.Errorf("limits.freeze_windows[%d].time_zone: is %q, which is no IANA time zone", i, window.TimeZone)
		}
	}
	return nil
}
