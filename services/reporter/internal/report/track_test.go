package report

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/reporttest"
)

// TestThinningKeepsExtremes holds that however often buckets merge, a series
// shows every extreme of every stretch, sums and counts stay, and what was not
// measured stays a gap.
func TestThinningKeepsExtremes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	const ticks, limit = 20_000, 64
	thick, thin := newTrack(ticks, "v"), newTrack(limit, "v")
	highest, lowest, sum := math.Inf(-1), math.Inf(1), 0.0
	at := midnight
	missing := 0
	for i := range ticks {
		at = at.Add(time.Duration(1+r.IntN(9)) * time.Second)
		v := r.NormFloat64()
		switch {
		case i == 9_999:
			v = 1e6 // A spike of one tick.
		case i == 12_345:
			v = -1e6
		case r.IntN(50) == 0:
			v = none
			missing++
		}
		if v == v {
			highest, lowest, sum = max(highest, v), min(lowest, v), sum+v
		}
		for _, track := range []*track{thick, thin} {
			if !track.add(at, []float64{v}) {
				t.Fatalf("tick %d is dropped", i)
			}
		}
	}
	if n := len(thin.buckets); n > limit || n < limit/2 {
		t.Errorf("%d buckets, want %d to %d", n, limit/2, limit)
	}
	got, n := thin.total("v")
	if n != ticks-missing || math.Abs(got-sum) > 1e-6*math.Abs(sum)+1e-3 {
		t.Errorf("total is %v of %d, want %v of %d", got, n, sum, ticks-missing)
	}
	values := thin.series("v").Values["v"]
	if slices.Max(known(values)) != highest || slices.Min(known(values)) != lowest {
		t.Errorf("extremes are %v and %v, want %v and %v", slices.Min(known(values)), slices.Max(known(values)), lowest, highest)
	}
	// Bucket by bucket, against the ticks themselves.
	next := 0
	for _, b := range thin.buckets {
		lo, hi := math.Inf(1), math.Inf(-1)
		for ; next < len(thick.buckets) && !thick.buckets[next].first.After(b.last); next++ {
			if c := thick.buckets[next].cells[0]; c.n > 0 {
				lo, hi = min(lo, c.lo), max(hi, c.hi)
			}
		}
		if b.cells[0].lo != lo || b.cells[0].hi != hi {
			t.Fatalf("bucket at %v has %v to %v, want %v to %v", b.first, b.cells[0].lo, b.cells[0].hi, lo, hi)
		}
	}
}

func known(values Values) []float64 {
	return slices.DeleteFunc(slices.Clone(values), math.IsNaN)
}

func TestSeriesShowsGaps(t *testing.T) {
	track := newTrack(100, "v", "w")
	for _, tick := range []struct {
		after time.Duration
		v, w  float64
	}{{0, 1, 5}, {5 * time.Second, 2, none}, {10 * time.Second, none, none}, {15 * time.Second, 3, none}, {time.Hour, 4, none}, {time.Hour, 9, 9}, {time.Hour - time.Second, 9, 9}} {
		track.add(midnight.Add(tick.after), []float64{tick.v, tick.w})
	}
	got, err := json.Marshal(track.series("v", "w"))
	if err != nil {
		t.Fatal(err)
	}
	// A row without figures stands between 15 s and the hour; what is not later is dropped.
	want := `{"start_ms":1795392000000,"steps_ms":[0,5000,5000,5000,5000,3580000],"values":{"v":[1,2,null,3,null,4],"w":[5,null,null,null,null,null]}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if track.series("v") == nil || newTrack(10, "v").series("v") != nil {
		t.Error("a series without figures is there")
	}
}

// TestForgetting holds that a builder that follows a log and forgets shows its
// last hours as one that has read only those, in bounded memory.
func TestForgetting(t *testing.T) {
	facts := day("chat-70b", 1, 12*time.Hour)
	const history = 6 * time.Hour
	following := NewBuilder()
	for i, f := range facts {
		following.Add(f.ID, f.Fact)
		if i%500 == 0 {
			following.Forget(history + time.Hour)
		}
	}
	late := NewBuilder()
	for _, f := range facts {
		at := midnight.Add(24 * time.Hour)
		switch fact := f.Fact.(type) {
		case *model.Observation:
			at = fact.ObservedAt
		case *model.ScalingDecision:
			at = fact.ObservedAt
		}
		if !at.Before(midnight.Add(16*time.Hour + 30*time.Minute)) {
			late.Add(f.ID, f.Fact)
		}
	}
	got, want := following.Build(Options{Last: history}).Deployments[0], late.Build(Options{Last: history}).Deployments[0]
	if got.Summary.Decisions != want.Summary.Decisions || len(got.Decisions.IDs) != len(want.Decisions.IDs) {
		t.Errorf("%d decisions, %d listed; want %d and %d", got.Summary.Decisions, len(got.Decisions.IDs), want.Summary.Decisions, len(want.Decisions.IDs))
	}
	if got.FromMs != want.FromMs || got.ToMs != want.ToMs {
		t.Errorf("from %d to %d, want %d to %d", got.FromMs, got.ToMs, want.FromMs, want.ToMs)
	}
	// Both are as fine: a builder that never forgot has merged neighbours.
	whole := fold(facts).Build(Options{Last: history}).Deployments[0]
	if n, least := len(got.Fleet.StepsMs), 2*len(whole.Fleet.StepsMs); n < least || n != len(want.Fleet.StepsMs) {
		t.Errorf("the fleet has %d rows, want %d, and at least %d", n, len(want.Fleet.StepsMs), least)
	}
	d := following.deployments["chat-70b"]
	if n := len(d.ledger.entries); n > 5_500 {
		t.Errorf("%d decisions are kept of 7 hours", n)
	}
	if n := len(d.ledger.shapes.values); n > 1_000 {
		t.Errorf("%d shapes are kept", n)
	}
}

// TestResume holds that what a page has, and what is cut for it, make the whole.
func TestResume(t *testing.T) {
	facts := day("chat-70b", 1, 12*time.Hour)
	b := NewBuilder()
	for _, f := range facts[:20_000] {
		b.Add(f.ID, f.Fact)
	}
	before := b.Build(Options{Live: "/stream"}).Deployments[0]
	for _, f := range facts[20_000:20_100] {
		b.Add(f.ID, f.Fact)
	}
	whole := b.Build(Options{Live: "/stream"}).Deployments[0]
	cut := b.Build(Options{Live: "/stream", Resume: map[string]int64{"chat-70b": before.ResumeMs}}).Deployments[0]
	if cut.Fleet.StartMs < before.ResumeMs || len(cut.Fleet.StepsMs) > 300 {
		t.Errorf("the cut has %d rows from %d", len(cut.Fleet.StepsMs), cut.Fleet.StartMs)
	}
	kept := 0
	for i, at := 0, before.Decisions.StartMs; i < len(before.Decisions.IDs); i++ {
		if at += before.Decisions.StepsMs[i]; at < cut.Decisions.StartMs {
			kept++
		}
	}
	if joined := append(slices.Clone(before.Decisions.IDs[:kept]), cut.Decisions.IDs...); !slices.Equal(joined, whole.Decisions.IDs) {
		t.Errorf("%d decisions and %d make not the %d of the whole", kept, len(cut.Decisions.IDs), len(whole.Decisions.IDs))
	}
	size := func(v any) int {
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return len(out)
	}
	if c, w := size(cut), size(whole); c > w/10 {
		t.Errorf("the cut has %d bytes of %d", c, w)
	}
	if last := cut.Summary; last.Decisions != whole.Summary.Decisions {
		t.Errorf("the cut counts %d decisions, want %d", last.Decisions, whole.Summary.Decisions)
	}
}

// TestRepetitionsAndOrder holds that a fact that is delivered again counts once,
// and that kinds of facts may be read one after the other.
func TestRepetitionsAndOrder(t *testing.T) {
	facts := day("chat-70b", 1, 30*time.Minute)[:1500]
	build := func(facts []reporttest.Fact) string {
		out, err := json.Marshal(fold(facts).Build(Options{}))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	var twice []reporttest.Fact
	for _, f := range facts {
		twice = append(twice, f, f)
	}
	kind := func(f reporttest.Fact) int {
		switch f.Fact.(type) {
		case *model.DeploymentConfigured:
			return 0
		case *model.ScalingDecision:
			return 1
		case *model.Observation:
			return 2
		}
		return 3
	}
	sorted := slices.Clone(facts)
	slices.SortStableFunc(sorted, func(a, b reporttest.Fact) int { return kind(a) - kind(b) })
	want := build(facts)
	for name, other := range map[string][]reporttest.Fact{"twice": twice, "again": append(slices.Clone(facts), facts...), "by kind": sorted} {
		if build(other) != want {
			t.Errorf("%s: the report differs", name)
		}
	}
}
