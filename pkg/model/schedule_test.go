package model_test

import (
	"testing"
	"time"

	"tidemark.dev/pkg/model"
)

func TestScheduleIsAligned(t *testing.T) {
	at := func(clock string) time.Time {
		instant, err := time.Parse(time.RFC3339Nano, "2026-11-23T"+clock+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return instant
	}
	d := model.DefaultDeployment() // 5 s and 180 s
	both, loadOnly := d.Schedule(), d.Schedule()
	loadOnly.Throughput = 0
	d.Load.Enabled = false
	for _, c := range []struct {
		name        string
		schedule    model.Schedule
		after, want string
		loops       model.Loops
	}{
		{"the next multiple", both, "20:00:01", "20:00:05", model.Loops{Load: true}},
		{"after a tick, the one that follows", both, "20:00:05", "20:00:10", model.Loops{Load: true}},
		{"just before one", both, "20:00:09.999999999", "20:00:10", model.Loops{Load: true}},
		{"a tick of both loops", both, "20:02:58", "20:03:00", model.Loops{Load: true, Throughput: true}},
		{"without a throughput loop", loadOnly, "20:02:58", "20:03:00", model.Loops{Load: true}},
		{"a load loop that is off is observed", d.Schedule(), "20:00:01", "20:00:05", model.Loops{Load: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if due, loops := c.schedule.Next(at(c.after)); !due.Equal(at(c.want)) || loops != c.loops {
				t.Errorf("the next tick after %s is at %v with %+v, want %s with %+v", c.after, due, loops, c.want, c.loops)
			}
		})
	}
	before := time.Unix(-7, 0)
	if due, _ := both.Next(before); !due.Equal(time.Unix(-5, 0)) {
		t.Errorf("before 1970, the next tick after %v is at %v", before, due)
	}
}
