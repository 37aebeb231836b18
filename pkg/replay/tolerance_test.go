package replay_test

import (
	"bytes"
	"regexp"
	"strconv"
	"testing"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
)

var (
	figure    = regexp.MustCompile(`[0-9]+\.[0-9]+`)
	estimates = regexp.MustCompile(`"estimates":\{[^}]*\}`)
	link      = regexp.MustCompile(`"previous_digest":"sha256:[0-9a-f]+"`)
	target    = regexp.MustCompile(`"target":\{[^}]*\}`)
)

// elsewhere makes the log that of a decider whose arithmetic rounds otherwise:
// every figure of the estimates is off by a share, and every link is that of what
// stands before it.
func elsewhere(e *edited, share float64) (changed int) {
	decisions := e.decisions()
	for i := range decisions {
		was := decisions[i].Payload
		decisions[i].Payload = estimates.ReplaceAllFunc(was, func(inside []byte) []byte {
			return figure.ReplaceAllFunc(inside, func(text []byte) []byte {
				v, err := strconv.ParseFloat(string(text), 64)
				if err != nil {
					panic(err)
				}
				return strconv.AppendFloat(nil, v*(1+share), 'f', -1, 64)
			})
		})
		if !bytes.Equal(was, decisions[i].Payload) {
			changed++
		}
	}
	relink(e)
	return changed
}

func relink(e *edited) {
	decisions := e.decisions()
	for i := 1; i < len(decisions); i++ {
		decisions[i].Payload = link.ReplaceAll(decisions[i].Payload, []byte(`"previous_digest":"`+model.Digest(decisions[i-1].Payload)+`"`))
	}
}

// TestTolerance: what rounds otherwise is alike within a tolerance, and nothing
// else that differs is.
func TestTolerance(t *testing.T) {
	log := lived(t, "chat")
	e := edit(t, log)
	changed := elsewhere(e, 1e-6)
	if changed == 0 || changed == ticks {
		t.Fatalf("%d of %d decisions have other figures, want some and not all", changed, ticks)
	}
	for _, r := range []struct {
		tolerance    float64
		alike, other int
	}{{0, 0, changed}, {1e-7, 0, changed}, {1e-5, changed, 0}, {replay.MaxTolerance, changed, 0}} {
		result := verify(t, e, replay.Options{Tolerance: r.tolerance})
		d := result.Deployments[0]
		if d.Alike != r.alike || d.Differing != r.other || d.Same != ticks-changed || result.Clean() != (r.other == 0) || (result.First == nil) != (r.other == 0) || d.Broken != 0 {
			t.Errorf("within %v: counts are %+v, first difference %+v", r.tolerance, d, result.First)
		}
		if r.other > 0 && (!result.First.Within(1e-5) || result.First.Within(1e-7)) {
			t.Errorf("first difference is %+v", result.First)
		}
	}

	// A target is no figure, however near it is.
	decision := &e.decisions()[100]
	decision.Payload = target.ReplaceAll(decision.Payload, []byte(`"target":{"aggregated":1000}`))
	relink(e)
	result := verify(t, e, replay.Options{Tolerance: replay.MaxTolerance})
	want(t, result, "differs "+idOf(*decision))
	if result.First == nil || result.First.Within(1e9) || result.First.DecisionID != idOf(*decision) {
		t.Errorf("first difference is %+v", result.First)
	}
}

func TestFieldWithin(t *testing.T) {
	for _, r := range []struct {
		recorded, now string
		want          bool
	}{
		{"1.5", "1.5000001", true},
		{"1.5", "1.6", false},
		{"-1.5", "1.5", false},
		{"2", "2.0000001", true},
		{"1000", "1001", false}, // replicas
		{"1e3", "1000.5", true},
		{"0", "1e-9", false},
		{`"1.5"`, "1.5", false},
		{"", "1.5", false},
		{"null", "1.5", false},
	} {
		if got := (replay.Field{Recorded: r.recorded, Now: r.now}).Within(0.001); got != r.want {
			t.Errorf("%s and %s are within it: %v", r.recorded, r.now, got)
		}
	}
}
