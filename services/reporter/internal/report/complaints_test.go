package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
)

// TestComplaints: what sources said is counted by what differs in more than
// figures, the last ones are kept, and a range shows what may have been in it.
func TestComplaints(t *testing.T) {
	c := complaints{}
	at := func(minute int) time.Time { return midnight.Add(time.Duration(minute) * time.Minute) }
	c.hear(at(0), "traffic", model.Measured, "")
	c.hear(at(1), "traffic", model.Stale, "the newest sample is 35.2 s old")
	c.hear(at(2), "traffic", model.Stale, "the newest sample is 40.1 s old")
	c.hear(at(2), "engines", model.Stale, "the newest sample is 40.1 s old")
	c.hear(at(9), "traffic", model.Failed, "the server answered 503"+strings.Repeat("\u00e9", maxComplaintBytes))
	got := c.between(time.Time{}, time.Time{})
	if len(got) != 3 || got[0].Class != model.Failed || len(got[0].Error) > maxComplaintBytes+4 || !strings.HasSuffix(got[0].Error, "\u00e9…") {
		t.Fatalf("complaints are %+v", got)
	}
	want := Complaint{"traffic", model.Stale, "the newest sample is 40.1 s old", 2, at(1).UnixMilli(), at(2).UnixMilli()}
	if got[1] != want {
		t.Errorf("complaint is %+v, want %+v", got[1], want)
	}
	for _, r := range []struct{ from, to, want int }{{0, 1, 0}, {0, 2, 1}, {2, 9, 2}, {3, 10, 1}, {10, 20, 0}} {
		if got := c.between(at(r.from), at(r.to)); len(got) != r.want {
			t.Errorf("minutes %d to %d have %+v", r.from, r.to, got)
		}
	}
	for i := range 3 * maxComplaints {
		c.hear(at(20+i), "fleet", model.Failed, fmt.Sprintf("the object %s is gone", strings.Repeat("x", i)))
	}
	if got := c.between(time.Time{}, time.Time{}); len(got) != maxComplaints || got[0].LastMs != at(19+3*maxComplaints).UnixMilli() || got[maxComplaints-1].Source != "fleet" {
		t.Errorf("%d complaints are kept", len(got))
	}
	if c.forget(at(19 + 3*maxComplaints)); len(c) != 1 {
		t.Errorf("%d complaints are left", len(c))
	}
}
