package actuator

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

func about(id string, at time.Time) model.Actuation {
	return model.Actuation{
		Deployment: "chat", DecisionID: id, Epoch: 1, ObservedAt: at, OccurredAt: at.Add(time.Second), Connector: "test",
		Roles: model.PerRole[model.Change]{Decode: &model.Change{From: 4, To: 5}},
	}
}

func TestLedgerKnowsTheNewestDecision(t *testing.T) {
	later := noon.Add(5 * time.Second)
	rejected := func(reason model.Rejection) *model.ScalingRejected {
		return &model.ScalingRejected{Actuation: about("b", later), Reason: reason}
	}
	cases := []struct {
		name    string
		facts   []any
		newest  string
		handled string // of b
		begun   bool   // of b
	}{
		{"nothing yet", nil, "", "", false},
		{"a claim counts before its outcome", []any{&model.ScalingStarted{Actuation: about("b", later)}}, "b", "", true},
		{"an outcome ends a claim", []any{&model.ScalingStarted{Actuation: about("b", later)}, &model.ScalingApplied{Actuation: about("b", later)}}, "b", "b", false},
		{"a claim that comes back after its outcome", []any{&model.ScalingApplied{Actuation: about("b", later)}, &model.ScalingStarted{Actuation: about("b", later)}}, "b", "b", false},
		{"an older one changes nothing", []any{&model.ScalingApplied{Actuation: about("b", later)}, &model.ScalingApplied{Actuation: about("a", noon)}}, "b", "b", false},
		{"a failure", []any{&model.ScalingFailed{Actuation: about("b", later), Error: "e", Attempt: 1}}, "b", "b", false},
		{"drift", []any{rejected(model.RejectedDrift)}, "b", "b", false},
		{"an expired one", []any{rejected(model.RejectedExpired)}, "b", "b", false},
		{"one that had no say: not active", []any{&model.ScalingApplied{Actuation: about("a", noon)}, rejected(model.RejectedNotActive)}, "a", "b", false},
		{"one that had no say: stale epoch", []any{&model.ScalingApplied{Actuation: about("a", noon)}, rejected(model.RejectedStaleEpoch)}, "a", "b", false},
		{"one that had no say: from the future", []any{&model.ScalingApplied{Actuation: about("a", noon)}, rejected(model.RejectedNotYetValid)}, "a", "b", false},
		{"a claim that a newer one overtook", []any{&model.ScalingStarted{Actuation: about("b", later)}, &model.ScalingApplied{Actuation: about("c", later.Add(1))}}, "c", "", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			log, err := drivers.OpenURL(t.Context(), "memory://")
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			topics := events.Topics{}
			for _, fact := range c.facts {
				publish(t, log, topics, fact, time.Time{})
			}
			l := newLedger(log, topics, slog.New(slog.DiscardHandler))
			// Read twice, and noted as well, it says the same.
			for range 2 {
				if err := l.catchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
				for _, fact := range c.facts {
					l.note(fact)
				}
				past, handled := l.of("chat", "b")
				if past.newest.decisionID != c.newest || handled != (c.handled == "b") || (past.begun != nil) != c.begun {
					t.Fatalf("newest %q, handled %v, begun %v; want %q, %v, %v", past.newest.decisionID, handled, past.begun, c.newest, c.handled == "b", c.begun)
				}
			}
		})
	}
}

// TestLedgerForgetsOldOutcomes: its memory is bounded, and what it forgot is older
// than the newest decision, which is what the gate refuses it by.
func TestLedgerForgetsOldOutcomes(t *testing.T) {
	l := newLedger(nil, events.Topics{}, slog.New(slog.DiscardHandler))
	for i := range 3 * remembered {
		l.note(&model.ScalingApplied{Actuation: about(fmt.Sprint(i), noon.Add(time.Duration(i)*time.Second))})
	}
	if n := len(l.deployments["chat"].outcomes); n != remembered {
		t.Errorf("%d outcomes are remembered, want %d", n, remembered)
	}
	past, handled := l.of("chat", "0")
	if handled || !past.newest.observedAt.After(noon) {
		t.Errorf("the first decision is handled=%v, the newest is of %v", handled, past.newest.observedAt)
	}
}

// publish appends a fact to its topic.
func publish(t testing.TB, log events.Log, topics events.Topics, fact any, at time.Time) events.Event {
	t.Helper()
	event, err := events.Seal(fact, events.About{Source: "/tidemark/test", Time: at})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := events.TopicOf(event)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Publisher().Publish(topics.Name(topic), event.Message()); err != nil {
		t.Fatal(err)
	}
	return event
}
