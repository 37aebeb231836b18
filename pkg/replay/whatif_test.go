package replay_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
	"tidemark.dev/pkg/replay/replaytest"
)

func whatIf(t *testing.T, options replay.Options, change func(*model.Deployment)) *replay.Comparison {
	t.Helper()
	spec := replaytest.Spec("chat")
	change(&spec)
	options.Candidates = map[string]*model.Deployment{"chat": &spec}
	result := verify(t, lived(t, "chat", "embed"), options)
	want(t, result)
	if len(result.Deployments) != 1 || result.Deployments[0].Comparison == nil {
		t.Fatalf("no comparison of the one candidate: %+v", result.Deployments)
	}
	return result.Deployments[0].Comparison
}

// TestCandidateLikeTheRecorded decides the same, from the start and from the
// middle, where it has learned what the recorded one had.
func TestCandidateLikeTheRecorded(t *testing.T) {
	for _, options := range []replay.Options{{}, {From: at(120)}} {
		c := whatIf(t, options, func(*model.Deployment) {})
		if c.Different != 0 || c.FirstDifferent != nil || *c.Recorded.GPUHours != *c.Candidate.GPUHours {
			t.Errorf("candidate differs: %+v", c)
		}
	}
}

// TestCandidateThatHolds has figures that can be told by hand: with room for one
// replica of each role only, every target is one.
func TestCandidateThatHolds(t *testing.T) {
	// Between two ticks without evidence, at which every target is what was last known.
	c := whatIf(t, replay.Options{From: at(8), To: at(40)}, func(spec *model.Deployment) {
		for _, role := range spec.Topology.Roles() {
			r, _ := spec.Roles.Get(role)
			r.MaxReplicas = 1
			spec.Roles.Set(role, r)
		}
		spec.Load.IntervalS = 10
	})
	hours := 31 * 5 / 3600.0
	k := c.Candidate
	prefill, _ := k.ReplicaHours.Get(model.Prefill)
	atMin, _ := k.AtMin.Get(model.Prefill)
	atMax, _ := k.AtMax.Get(model.Decode)
	for name, figure := range map[string][2]float64{
		"hours": {k.Hours, hours}, "replica-hours": {prefill, hours}, "GPU-hours": {*k.GPUHours, 4 * hours}, "hours at min": {atMin, hours}, "hours at max": {atMax, hours},
	} {
		if math.Abs(figure[0]-figure[1]) > 1e-9 {
			t.Errorf("%s are %v, want %v", name, figure[0], figure[1])
		}
	}
	if peak, _ := k.Peak.Get(model.Decode); peak != 1 || k.TargetChanges != 0 {
		t.Errorf("peak is %d and there are %d changes, want 1 and 0", peak, k.TargetChanges)
	}
	// Two replicas of each role stood there while it was advisory.
	if k.Parted == nil || !k.Parted.Equal(replaytest.Begin.Add(45*time.Second)) || *k.Followed >= 1 {
		t.Errorf("parted at %v, followed %v", k.Parted, *k.Followed)
	}
	notes := strings.Join(c.Notes, "\n")
	for _, want := range []string{"the load loop was due every 5 s and stays so", "another fleet from 2026-11-23T00:00:45Z on"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes lack %q:\n%s", want, notes)
		}
	}
}

// TestVisit is given every decision, once and in order.
func TestVisit(t *testing.T) {
	spec, last, n := replaytest.Spec("chat"), time.Time{}, 0
	result := verify(t, lived(t, "chat"), replay.Options{
		From: at(30), To: at(60), Candidates: map[string]*model.Deployment{"chat": &spec},
		Visit: func(v replay.Visited) {
			n++
			if !v.Observation.ObservedAt.After(last) || v.Candidate == nil || v.Decision.ObservationID != v.ObservationID || v.Configured.Revision != v.Observation.ConfigRevision {
				t.Errorf("visited %+v", v)
			}
			last = v.Observation.ObservedAt
		},
	})
	want(t, result)
	if n != 30 || result.Observations != 30 {
		t.Errorf("%d visits of %d observations, want 30", n, result.Observations)
	}
}
