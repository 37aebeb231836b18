package actuator

import (
	"testing"
	"time"

	"tidemark.dev/pkg/model"
)

// TestOpenWindow: a window is open from its beginning, which is in it, to its end,
// which is not, by the wall clock of its zone: also where that is set forward or back.
func TestOpenWindow(t *testing.T) {
	weekend := model.FreezeWindow{Cron: "0 22 * * FRI", DurationS: 56 * 3600, TimeZone: "Europe/Berlin"}
	night := model.FreezeWindow{Cron: "30 2 * * *", DurationS: 1800, TimeZone: "Europe/Berlin"}
	for _, c := range []struct {
		window model.FreezeWindow
		at     string
		since  string // none: it is not open
	}{
		{weekend, "2026-11-27T20:59:59.999999999Z", ""},
		{weekend, "2026-11-27T21:00:00Z", "2026-11-27T21:00:00Z"}, // 22:00 in winter
		{weekend, "2026-11-29T12:00:00Z", "2026-11-27T21:00:00Z"},
		{weekend, "2026-11-30T04:59:59Z", "2026-11-27T21:00:00Z"},
		{weekend, "2026-11-30T05:00:00Z", ""},
		{weekend, "2026-07-03T20:00:00Z", "2026-07-03T20:00:00Z"}, // 22:00 in summer
		{night, "2026-11-27T01:30:00Z", "2026-11-27T01:30:00Z"},
		{night, "2026-11-27T02:00:00Z", ""},
		// On 2026-03-29 there is no 02:30, on 2026-10-25 there are two.
		{night, "2026-03-29T00:59:59Z", ""},
		{night, "2026-03-29T01:29:59Z", ""},
		{night, "2026-03-29T01:30:00Z", "2026-03-29T01:30:00Z"}, // when 02:30 would have been
		{night, "2026-03-29T02:00:00Z", ""},
		{night, "2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z"},
		{night, "2026-10-25T01:15:00Z", ""},
		{night, "2026-10-25T01:45:00Z", "2026-10-25T01:30:00Z"},
		// Open while clocks change, a window lasts as long as it says.
		{model.FreezeWindow{Cron: "0 1 * * *", DurationS: 7200, TimeZone: "Europe/Berlin"}, "2026-03-29T01:59:59Z", "2026-03-29T00:00:00Z"},
		{model.FreezeWindow{Cron: "0 1 * * *", DurationS: 7200, TimeZone: "Europe/Berlin"}, "2026-10-25T01:00:00Z", ""},
		{model.FreezeWindow{Cron: "0 22 * * FRI", DurationS: 56 * 3600, TimeZone: "Europe/Berlin"}, "2026-03-29T03:59:59Z", "2026-03-27T21:00:00Z"},
		{model.FreezeWindow{Cron: "15 2 * * *", DurationS: 3600, TimeZone: "Australia/Lord_Howe"}, "2026-10-03T15:45:00Z", "2026-10-03T15:45:00Z"}, // by half an hour
		{model.FreezeWindow{Cron: "30 2 * * *", DurationS: 1800, TimeZone: "America/New_York"}, "2026-03-08T07:45:00Z", "2026-03-08T07:30:00Z"},
		{model.FreezeWindow{Cron: "0 8 * * *", DurationS: 3600, TimeZone: "Pacific/Kiritimati"}, "2026-11-22T18:30:00Z", "2026-11-22T18:00:00Z"},
		{model.FreezeWindow{Cron: "0 8 * * *", DurationS: 3600, TimeZone: "Pacific/Pago_Pago"}, "2026-11-23T19:30:00Z", "2026-11-23T19:00:00Z"},
		{model.FreezeWindow{Cron: "0 0 29 2 *", DurationS: 86400, TimeZone: "UTC"}, "2028-02-29T12:00:00Z", "2028-02-29T00:00:00Z"},
		// Windows that overlap have no gap between them.
		{model.FreezeWindow{Cron: "0 * * * *", DurationS: 5400, TimeZone: "UTC"}, "2026-11-27T12:59:59Z", "2026-11-27T12:00:00Z"},
		// What cannot be read stops all the same.
		{model.FreezeWindow{Cron: "0 0 1 1 *", DurationS: 1, TimeZone: "Mars/Olympus"}, "2026-11-27T12:00:00Z", "2026-11-27T12:00:00Z"},
		{model.FreezeWindow{Cron: "whenever", DurationS: 1, TimeZone: "UTC"}, "2026-11-27T12:00:00Z", "2026-11-27T12:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339Nano, c.at)
		if err != nil {
			t.Fatal(err)
		}
		limits := model.Limits{FreezeWindows: []model.FreezeWindow{{Cron: "0 0 1 1 *", DurationS: 1, TimeZone: "UTC"}, c.window}}
		window, since := OpenWindow(&limits, at)
		got := ""
		if window != nil {
			got = since.UTC().Format(time.RFC3339)
		}
		if got != c.since {
			t.Errorf("%v at %s is open since %q, want %q", c.window, c.at, got, c.since)
		}
	}
}

func TestCheckZones(t *testing.T) {
	limits := model.Limits{FreezeWindows: []model.FreezeWindow{{TimeZone: "Europe/Berlin"}, {TimeZone: "UTC"}}}
	if err := CheckZones(&limits); err != nil {
		t.Error(err)
	}
	limits.FreezeWindows[1].TimeZone = "Mars/Olympus"
	if err := CheckZones(&limits); err == nil || err.Error() != `limits.freeze_windows[1].time_zone: is "Mars/Olympus", which is no IANA time zone` {
		t.Errorf("error is %v", err)
	}
}
