package actuator

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/model"
)

func only(role model.Role, from, to int) (one model.PerRole[model.Change]) {
	one.Set(role, model.Change{From: from, To: to})
	return one
}

func TestLimit(t *testing.T) {
	ago := func(d time.Duration, from, to int) begunChange {
		return begunChange{"earlier", noon.Add(-d), only(model.Decode, from, to)}
	}
	pace := model.Limits{MaxChangeReplicas: 3, ChangeIntervalS: 300}
	most := model.Limits{MaxReplicas: 8}
	none := model.PerRole[model.Change]{}
	cases := []struct {
		name    string
		limits  model.Limits
		wanted  model.PerRole[model.Change]
		past    []begunChange
		allowed model.PerRole[model.Change]
		held    string
	}{
		{"none", model.Limits{}, only(model.Decode, 4, 12), nil, only(model.Decode, 4, 12), ""},
		{"that leave the change alone", pace, only(model.Decode, 4, 7), nil, only(model.Decode, 4, 7), ""},
		{"up, in steps", pace, only(model.Decode, 4, 12), nil, only(model.Decode, 4, 7), "role decode goes to 7 instead of 12: it changed by 0 in the last 5m0s, and limits.max_change_replicas is 3"},
		{"down, in steps", pace, only(model.Decode, 9, 1), nil, only(model.Decode, 9, 6), "role decode goes to 6 instead of 1"},
		{"the rest of a step", pace, only(model.Decode, 6, 12), []begunChange{ago(time.Minute, 4, 6)}, only(model.Decode, 6, 7), "role decode goes to 7 instead of 12: it changed by 2"},
		{"nothing is left of the step", pace, only(model.Decode, 7, 8), []begunChange{ago(time.Minute, 4, 7)}, none, "role decode goes to 7 instead of 8"},
		{"more than the limit was changed under another one", pace, only(model.Decode, 9, 8), []begunChange{ago(time.Minute, 4, 9)}, none, "role decode goes to 9 instead of 8"},
		{"what is past counts no more", pace, only(model.Decode, 7, 10), []begunChange{ago(5*time.Minute, 4, 7)}, only(model.Decode, 7, 10), ""},
		{"another role's changes", pace, only(model.Prefill, 2, 5), []begunChange{ago(time.Minute, 4, 7)}, only(model.Prefill, 2, 5), ""},
		{"up to max_replicas", most, only(model.Decode, 4, 12), nil, only(model.Decode, 4, 8), "role decode goes to 8 instead of 12: limits.max_replicas is 8"},
		{"at max_replicas", most, only(model.Decode, 8, 12), nil, none, "role decode goes to 8 instead of 12"},
		{"above max_replicas: nothing is taken away", most, only(model.Decode, 10, 12), nil, none, "role decode goes to 10 instead of 12"},
		{"towards max_replicas", most, only(model.Decode, 12, 10), nil, only(model.Decode, 12, 10), ""},
		{
			"of one of two roles",
			model.Limits{MaxReplicas: 5},
			both(model.Change{From: 2, To: 3}, model.Change{From: 4, To: 6}), nil,
			both(model.Change{From: 2, To: 3}, model.Change{From: 4, To: 5}), "role decode goes to 5 instead of 6",
		},
		// 4 prefill at 2 GPUs and 8 decode at 1 fill the budget of 16.
		{
			"an increase waits for the room that a decrease would make", pace, both(model.Change{From: 4, To: 6}, model.Change{From: 8, To: 4}), nil,
			both(model.Change{From: 4, To: 5}, model.Change{From: 8, To: 5}), "role prefill goes to 5: what was to make room for more was held back, and max_gpus is 16",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			spec := activeSpec("chat")
			spec.Limits = c.limits
			desired := both(2, 4)
			for _, role := range model.AllRoles {
				if change, changes := c.wanted.Get(role); changes {
					desired.Set(role, change.From)
				}
			}
			allowed, held := limit(&spec, desired, c.wanted, history{changes: c.past}, noon)
			if diff := cmp.Diff(c.allowed, allowed); diff != "" {
				t.Errorf("-want +allowed:\n%s", diff)
			}
			if (c.held == "") != (held == "") || !strings.Contains(held, c.held) {
				t.Errorf("it says %q, want %q", held, c.held)
			}
		})
	}
}

// TestLargeChangeIsDoneInSteps: a decision that is larger than the limit is carried
// out over the decisions that follow, through restarts, and never faster than the
// limit.
func TestLargeChangeIsDoneInSteps(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("chat", 1, 1, true, func(d *model.Deployment) {
			d.Limits = model.Limits{MaxChangeReplicas: 1, ChangeIntervalS: 60}
		})
		actuator := w.start("one")
		began := time.Now()
		for n := 0; w.prefill("chat") < 6; n++ {
			w.decide("chat", 1, w.prefill("chat"), 6)
			w.settled()
			if n%7 == 6 { // what was done is read back from the log
				actuator.stop()
				actuator = w.start("another")
			}
			if most := 3 + int(time.Since(began)/time.Minute); w.prefill("chat") > most {
				t.Fatalf("prefill is set to %d after %v, want at most %d", w.prefill("chat"), time.Since(began), most)
			}
			if time.Since(began) > 10*time.Minute {
				t.Fatalf("prefill is set to %d after %v", w.prefill("chat"), time.Since(began))
			}
		}
		limited, rejected := 0, 0
		for _, fact := range w.facts("chat") {
			switch fact := fact.(type) {
			case *model.ScalingApplied:
				if fact.Limited != "" {
					limited++
				}
			case *model.ScalingRejected:
				if fact.Reason != model.RejectedLimited {
					t.Errorf("rejected: %s: %s", fact.Reason, fact.Detail)
				}
				rejected++
			}
		}
		if limited != 3 || rejected == 0 {
			t.Errorf("%d steps say that they are limited, want 3; %d were rejected", limited, rejected)
		}
	})
}

// TestBegunChangeIsFinishedAsItWasBegun: an actuator that stops in the middle leaves
// the numbers that it began with, whatever limits leave room for later.
func TestBegunChangeIsFinishedAsItWasBegun(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("chat", 1, 1, true, func(d *model.Deployment) {
			d.Limits = model.Limits{MaxChangeReplicas: 1, ChangeIntervalS: 10}
		})
		decision := activeDecision("chat", time.Now().UTC(), both(2, 4), both(6, 4))
		event := publish(w, w.log, w.topics, decision, time.Time{})
		publish(w, w.log, w.topics, &model.ScalingStarted{Actuation: model.Actuation{
			Deployment: "chat", DecisionID: event.ID, Epoch: 1, ObservedAt: decision.ObservedAt, OccurredAt: decision.ObservedAt,
			Connector: "test", Roles: only(model.Prefill, 2, 3), Limited: "role prefill goes to 3 instead of 6: of the test",
		}}, time.Time{})
		time.Sleep(20 * time.Second)
		w.start("one")
		w.settled()
		w.want("chat", "started", "applied", "settled")
		if got := w.prefill("chat"); got != 3 {
			w.Errorf("prefill is set to %d, want 3, as it was begun", got)
		}
	})
}
