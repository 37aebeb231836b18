package actuator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/connector/connectortest"
)

// world is a log, a fleet in memory, and the actuators at work on them. It lives
// in a bubble of virtual time.
type world struct {
	testing.TB
	log    events.Log
	topics events.Topics
	fleet  *connectortest.Fleet
}

func newWorld(t *testing.T) *world {
	t.Helper()
	log, err := drivers.OpenURL(t.Context(), "memory://")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, log: log, topics: events.Topics{Prefix: "test."}, fleet: connectortest.NewFleet()}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// configure publishes a revision, and puts the fleet there at the first.
func (w *world) configure(name string, revision, epoch int, active bool, change ...func(*model.Deployment)) {
	w.Helper()
	spec := activeSpec(name)
	spec.Advisory = !active
	for _, c := range change {
		c(&spec)
	}
	if revision == 1 {
		for _, role := range spec.Topology.Roles() {
			w.fleet.Put(name, role, spec.Source.Simulated.InitialReplicas(&spec, role))
		}
	}
	publish(w, w.log, w.topics, &model.DeploymentConfigured{
		Deployment: name, Revision: revision, Epoch: epoch, Spec: spec, ChangedBy: "test", Reason: "test",
	}, time.Now())
}

// decide publishes a decision of this instant that sets prefill.
func (w *world) decide(name string, epoch, from, to int) events.Event {
	w.Helper()
	decision := activeDecision(name, time.Now().UTC(), both(from, 4), both(to, 4))
	decision.Epoch = epoch
	return publish(w, w.log, w.topics, decision, time.Time{})
}

// settled lets everything come to rest, and some time pass.
func (w *world) settled() {
	w.Helper()
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

// facts returns the actuations of a deployment in their order.
func (w *world) facts(name string) []any {
	w.Helper()
	var facts []any
	for record, err := range w.log.Read(w.Context(), w.topics.Name(events.TopicActuations), events.Range{Key: name}) {
		if err != nil {
			w.Fatal(err)
		}
		event, err := record.Event()
		if err != nil {
			w.Fatal(err)
		}
		fact, err := event.Fact()
		if err != nil {
			w.Fatal(err)
		}
		facts = append(facts, fact)
	}
	return facts
}

// outcomes returns what the actuations say, in one word each.
func (w *world) outcomes(name string) []string {
	w.Helper()
	var words []string
	for _, fact := range w.facts(name) {
		switch fact := fact.(type) {
		case *model.ScalingProposed:
			words = append(words, "proposed")
		case *model.ScalingStarted:
			words = append(words, "started")
		case *model.ScalingApplied:
			words = append(words, "applied")
		case *model.ScalingSettled:
			words = append(words, "settled")
		case *model.ScalingFailed:
			words = append(words, "failed: "+fact.Error)
		case *model.ScalingRejected:
			words = append(words, string(fact.Reason))
		}
	}
	return words
}

func (w *world) want(name string, outcomes ...string) {
	w.Helper()
	if got := w.outcomes(name); !slices.Equal(got, outcomes) {
		w.Errorf("the actuations of %s are %q, want %q", name, got, outcomes)
	}
}

func (w *world) prefill(name string) int {
	set := w.fleet.SetTo(name)
	return *set.Prefill
}

// running is an actuator at work.
type running struct {
	*Actuator
	view *connectortest.View
	stop func()
}

// start starts an actuator. What it stops with is an error, unless it was asked to.
func (w *world) start(by string, change ...func(*connectortest.View)) *running {
	w.Helper()
	return w.startOn(by, w.log, change...)
}

func (w *world) startOn(by string, log events.Log, change ...func(*connectortest.View)) *running {
	w.Helper()
	view := &connectortest.View{Fleet: w.fleet, By: by, Steps: connector.DefaultSteps()}
	for _, c := range change {
		c(view)
	}
	worker := newWorker(DefaultConfig(), log, w.topics, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	worker.connectors = func(*model.Deployment) (connector.Connector, error) { return view, nil }
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() { ended <- worker.Run(ctx, func() { close(ready) }) }()
	<-ready
	stopped := false
	r := &running{Actuator: worker.Actuator, view: view, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			w.Errorf("actuator %s ended with %v", by, err)
		}
	}}
	w.Cleanup(r.stop)
	return r
}

func inTime(t *testing.T, body func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { body(newWorld(t)) })
}

// counting is a log that counts the subscriptions that there are, by topic.
type counting struct {
	events.Log
	mu         sync.Mutex
	open, ever map[string]int
}

type countingSubscriber struct {
	message.Subscriber
	log *counting
	own []string
}

func (c *counting) Subscriber(group string) (message.Subscriber, error) {
	s, err := c.Log.Subscriber(group)
	return &countingSubscriber{Subscriber: s, log: c}, err
}

func (s *countingSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.own = append(s.own, topic)
	s.log.open[topic]++
	s.log.ever[topic]++
	return s.Subscriber.Subscribe(ctx, topic)
}

func (s *countingSubscriber) Close() error {
	s.log.mu.Lock()
	for _, topic := range s.own {
		s.log.open[topic]--
	}
	s.own = nil
	s.log.mu.Unlock()
	return s.Subscriber.Close()
}

// TestSubscriptionExistsOnlyWhileActive: while no deployment is active the
// actuator has no subscription at all, to decisions or to approvals of some.
func TestSubscriptionExistsOnlyWhileActive(t *testing.T) {
	inTime(t, func(w *world) {
		log := &counting{Log: w.log, open: map[string]int{}, ever: map[string]int{}}
		w.configure("a", 1, 0, false)
		w.configure("b", 1, 0, false)
		actuator := w.startOn("one", log)
		expect := func(open int, when string) {
			w.Helper()
			w.settled()
			log.mu.Lock()
			defer log.mu.Unlock()
			for _, topic := range []string{"test.decisions", "test.approvals"} {
				if log.open[topic] != open {
					w.Errorf("%d subscriptions to %s %s, want %d", log.open[topic], topic, when, open)
				}
			}
			if len(log.open) > 2 {
				w.Errorf("subscriptions are %v", log.open)
			}
			if got := int(testutil.ToFloat64(actuator.metrics.subscribed)); got != open {
				w.Errorf("the metric says %d %s", got, when)
			}
		}
		expect(0, "while all is advisory")
		for i := range 20 {
			w.decide("a", i%3, 2, 3) // forged
		}
		expect(0, "whatever decisions say")
		w.want("a")
		w.configure("a", 2, 1, true)
		expect(1, "while a is active")
		w.configure("b", 2, 1, true)
		expect(1, "while both are")
		w.configure("a", 3, 1, false)
		expect(1, "while b is")
		publish(w, w.log, w.topics, &model.DeploymentRetired{Deployment: "b", Revision: 3}, time.Now())
		expect(0, "after b is retired")
		w.configure("a", 4, 2, true)
		expect(1, "after a is active again")
		w.configure("a", 5, 2, false)
		expect(0, "at the end")
		if n := log.ever["test.decisions"]; n != 2 {
			w.Errorf("subscribed %d times, want 2", n)
		}
		if n := len(w.fleet.Writes()); n != 0 {
			w.Errorf("%d writes, want none", n)
		}
	})
}

func TestDecisionIsCarriedOutAndSettled(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("chat", 1, 1, true)
		actuator := w.start("one")
		decision := w.decide("chat", 1, 2, 3)
		w.settled()
		w.want("chat", "started", "applied", "settled")
		if got := w.prefill("chat"); got != 3 {
			w.Errorf("prefill is set to %d, want 3", got)
		}
		// The very decision again, as a log that delivers at least once may bring it.
		msg := decision.Message()
		msg.SetContext(w.Context())
		if err := actuator.Handle(msg); err != nil {
			w.Error(err)
		}
		w.want("chat", "started", "applied", "settled")
	})
}

func TestSettlingIsTimedAndBounded(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("slow", 1, 1, true)
		w.configure("never", 1, 1, true)
		// Replicas take a while to come: the fleet here makes them run at once,
		// so what runs is put back by hand.
		w.fleet.OnWrite = nil
		actuator := w.start("one", func(v *connectortest.View) {
			v.AfterWrite = func(context.Context, model.Role) error {
				v.Run("slow", model.Prefill, 2)
				v.Run("never", model.Prefill, 2)
				return nil
			}
		})
		w.decide("slow", 1, 2, 3)
		w.decide("never", 1, 2, 3)
		time.Sleep(10 * time.Minute)
		w.fleet.Run("slow", model.Prefill, 3)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		w.want("slow", "started", "applied", "settled")
		w.want("never", "started", "applied", "failed: the fleet did not reach the target in 30m0s: prefill has 2 of 3 ready")
		if n := len(actuator.ledger.unsettled()); n != 0 {
			w.Errorf("%d changes are still waited for", n)
		}
		for _, fact := range w.facts("slow") {
			if settled, ok := fact.(*model.ScalingSettled); ok && (settled.SettleS < 600 || settled.SettleS > 630) {
				w.Errorf("settled after %v s, want 600 to a twentieth more", settled.SettleS)
			}
		}
	})
}

func TestRefusalsAreRecorded(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("other", 1, 1, true) // keeps the subscription open
		w.configure("chat", 1, 0, false)
		w.start("one")
		w.decide("chat", 1, 2, 3)
		w.settled()
		w.configure("chat", 2, 1, true)
		w.decide("chat", 7, 2, 3)
		w.settled()
		expired := activeDecision("chat", time.Now().UTC().Add(-time.Hour), both(2, 4), both(3, 4))
		publish(w, w.log, w.topics, expired, time.Time{})
		w.settled()
		w.decide("chat", 1, 3, 4) // the fleet has 2
		w.settled()
		w.decide("chat", 1, 2, 99)
		w.settled()
		w.want("chat", "not_active", "stale_epoch", "expired", "drift", "out_of_bounds")
		w.decide("chat", 1, 2, 3)
		older := activeDecision("chat", time.Now().UTC().Add(-time.Second), both(2, 4), both(1, 4))
		w.settled()
		publish(w, w.log, w.topics, older, time.Time{})
		w.settled()
		w.want("chat", "not_active", "stale_epoch", "expired", "drift", "out_of_bounds", "started", "applied", "settled", "superseded")
	})
}

// TestForgedInstantStopsNothing: a decision that had no say must not make those
// that come after it look old.
func TestForgedInstantStopsNothing(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("chat", 1, 3, true)
		w.start("one")
		for epoch := range 5 {
			forged := activeDecision("chat", time.Now().UTC().Add(1000*time.Hour), both(2, 4), both(6, 4))
			forged.Epoch, forged.PlannerVersion = epoch, fmt.Sprint("forged", epoch)
			publish(w, w.log, w.topics, forged, time.Time{})
		}
		w.settled()
		w.decide("chat", 3, 2, 3)
		w.settled()
		w.want("chat", "stale_epoch", "stale_epoch", "stale_epoch", "not_yet_valid", "stale_epoch", "started", "applied", "settled")
	})
}

// TestSwitchToAdvisoryStopsWhatIsUnderWay: the gate is asked right before each
// write, by the log as it is then.
func TestSwitchToAdvisoryStopsWhatIsUnderWay(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("chat", 1, 1, true)
		w.start("one", func(v *connectortest.View) {
			v.BeforeRead = func(context.Context, model.Role) error {
				if len(w.outcomes("chat")) == 0 {
					w.configure("chat", 2, 1, false)
				}
				return nil
			}
		})
		w.decide("chat", 1, 2, 3)
		w.settled()
		if n := len(w.fleet.Writes()); n != 0 {
			w.Errorf("%d writes after the switch, want none", n)
		}
		w.want("chat", "started", "not_active")
	})
}

// TestFreezeStopsWhatIsUnderWay: the kill switch acts between two writes of one
// order, survives a restart, and ends by its own scope alone.
func TestFreezeStopsWhatIsUnderWay(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("chat", 1, 1, true)
		freeze := func(name string) {
			publish(w, w.log, w.topics, &model.ScalingFrozen{Deployment: name, OccurredAt: time.Now(), ChangedBy: "ops", Reason: "incident"}, time.Time{})
		}
		thaw := func(name string) {
			publish(w, w.log, w.topics, &model.ScalingThawed{Deployment: name, OccurredAt: time.Now(), ChangedBy: "ops", Reason: "over"}, time.Time{})
		}
		first := w.start("one", func(v *connectortest.View) {
			v.AfterWrite = func(context.Context, model.Role) error { freeze(""); return nil }
		})
		publish(w, w.log, w.topics, activeDecision("chat", time.Now().UTC(), both(2, 4), both(3, 2)), time.Time{})
		w.settled()
		w.want("chat", "started", "failed: decode went from 4 to 2; then scale prefill from 2 to 3: frozen: ops froze all deployments at 2000-01-01T00:00:00Z: incident")
		first.stop()
		second := w.start("two")
		try := func(outcomes ...string) {
			w.Helper()
			before := len(w.outcomes("chat"))
			from := w.prefill("chat")
			publish(w, w.log, w.topics, activeDecision("chat", time.Now().UTC(), both(from, 2), both(from+1, 2)), time.Time{})
			w.settled()
			if got := w.outcomes("chat")[before:]; !slices.Equal(got, outcomes) {
				w.Errorf("the actuations are %q, want %q", got, outcomes)
			}
		}
		try("frozen")
		freeze("chat")
		thaw("")
		w.settled()
		try("frozen")
		thaw("chat")
		w.settled()
		if testutil.ToFloat64(second.metrics.frozen) != 0 {
			w.Error("chat is still frozen, the metric says")
		}
		try("started", "applied", "settled")
		freeze("other")
		try("started", "applied", "settled")
	})
}

// TestLimits: what the actuator allows itself is counted from the log, and so over a
// restart, and shows in its metrics; a freeze window stops it by the clock.
func TestLimits(t *testing.T) {
	inTime(t, func(w *world) {
		limit := func(s *model.Deployment) {
			s.Behavior.DecisionTTLS = 60
			s.Limits = model.Limits{
				MaxReplicas: 5, MaxChangeReplicas: 2, ChangeIntervalS: 120,
				FreezeWindows: []model.FreezeWindow{{Cron: "10 * * * *", DurationS: 300, TimeZone: "UTC"}},
			}
			s.Load.MaxStep, s.Throughput.MaxStep = 2, 2
		}
		w.configure("chat", 1, 1, true, limit)
		first := w.start("one")
		try := func(to int, outcomes ...string) {
			w.Helper()
			before := len(w.outcomes("chat"))
			w.decide("chat", 1, w.prefill("chat"), to)
			w.settled()
			if got := w.outcomes("chat")[before:]; !slices.Equal(got, outcomes) {
				w.Errorf("to %d: the actuations are %q, want %q", to, got, outcomes)
			}
		}
		room := func(r *running) float64 { return testutil.ToFloat64(r.metrics.room.WithLabelValues("chat", "prefill")) }
		done := []string{"started", "applied", "settled"}
		w.settled()
		if room(first) != 2 {
			w.Errorf("room is %v, want 2", room(first))
		}
		try(3, done...)
		try(1, done...) // by one of two: down counts like up
		first.stop()
		second := w.start("two")
		try(5, "limited")
		if room(second) != 0 {
			w.Errorf("room is %v, want 0", room(second))
		}
		time.Sleep(2 * time.Minute)
		try(5, done...) // by two of three
		time.Sleep(2 * time.Minute)
		try(6, done...) // by one of two: max_replicas
		try(6, "limited")
		if got := w.prefill("chat"); got != 5 {
			w.Errorf("prefill is set to %d, want 5", got)
		}
		if got := testutil.ToFloat64(second.metrics.limited); got != 2 {
			w.Errorf("%v are counted as limited, want 2", got)
		}
		time.Sleep(10*time.Minute - time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) + time.Second)
		synctest.Wait()
		if testutil.ToFloat64(second.metrics.frozen) != 1 {
			w.Error("a window is open, and the metric says that nothing is frozen")
		}
		try(4, "frozen")
		time.Sleep(5 * time.Minute)
		try(4, done...)
		if testutil.ToFloat64(second.metrics.frozen) != 0 {
			w.Error("no window is open, and the metric says that one is")
		}
		w.configure("chat", 2, 1, true)
		w.settled()
		if n := testutil.CollectAndCount(second.metrics.room); n != 0 {
			w.Errorf("%d series of a room that nothing limits", n)
		}
	})
}

// TestApproval: a decision waits until somebody approves it, whoever is at work by
// then, or until its time is over.
func TestApproval(t *testing.T) {
	asks := func(s *model.Deployment) { s.Approval = model.ApprovalRequired }
	approve := func(w *world, name string, decision events.Event) {
		w.Helper()
		publish(w, w.log, w.topics, &model.DecisionApproved{Deployment: name, DecisionID: decision.ID, OccurredAt: time.Now().UTC(), ApprovedBy: "ops"}, time.Time{})
	}
	inTime(t, func(w *world) {
		w.configure("chat", 1, 1, true, asks)
		first := w.start("one")
		decision := w.decide("chat", 1, 2, 3)
		w.settled()
		w.want("chat", "proposed")
		if n := testutil.ToFloat64(first.metrics.waiting.WithLabelValues("chat")); n != 1 {
			w.Errorf("%v decisions wait, says the metric", n)
		}
		// A newer one waits beside it.
		w.decide("chat", 1, 2, 4)
		w.settled()
		first.stop()
		approve(w, "chat", decision)
		second := w.start("two")
		w.settled()
		w.want("chat", "proposed", "proposed", "started", "applied", "settled")
		for _, fact := range w.facts("chat")[2:] {
			if by := reflect.ValueOf(fact).Elem().FieldByName("ApprovedBy").String(); by != "ops" {
				w.Errorf("%T is approved by %q", fact, by)
			}
		}
		approve(w, "chat", decision) // again, by nobody new
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.want("chat", "proposed", "proposed", "started", "applied", "settled", "not_approved")
		if n := testutil.ToFloat64(second.metrics.waiting.WithLabelValues("chat")); n != 0 {
			w.Errorf("%v decisions wait, says the metric", n)
		}
		if n := w.prefill("chat"); n != 3 {
			w.Errorf("prefill is set to %d, want 3", n)
		}
	})
	for name, c := range map[string]struct {
		do   func(w *world)
		want []string
	}{
		"before the decision was seen": {func(w *world) {
			decision := w.decide("chat", 1, 2, 3)
			approve(w, "chat", decision)
			w.start("one")
			w.settled()
		}, []string{"started", "applied", "settled"}},
		"too late": {func(w *world) {
			w.start("one")
			decision := w.decide("chat", 1, 2, 3)
			time.Sleep(time.Minute + 2*time.Second)
			approve(w, "chat", decision)
			w.settled()
		}, []string{"proposed", "not_approved"}},
		"too late, while no actuator was there": {func(w *world) {
			decision := w.decide("chat", 1, 2, 3)
			approve(w, "chat", decision)
			time.Sleep(time.Minute + 2*time.Second)
			w.start("one")
			w.settled()
		}, []string{"expired"}},
		"under another activation": {func(w *world) {
			w.start("one")
			decision := w.decide("chat", 1, 2, 3)
			w.settled()
			w.configure("chat", 2, 1, false, asks)
			w.configure("chat", 3, 2, true, asks)
			approve(w, "chat", decision)
			w.settled()
		}, []string{"proposed", "stale_epoch"}},
		"of another deployment's decision": {func(w *world) {
			w.configure("embed", 1, 1, true, asks)
			w.start("one")
			decision := w.decide("chat", 1, 2, 3)
			approve(w, "embed", decision)
			w.settled()
		}, []string{"proposed"}},
		"of another deployment's decision, and then of the right one": {func(w *world) {
			w.configure("embed", 1, 1, true, asks)
			w.start("one")
			decision := w.decide("chat", 1, 2, 3)
			// By somebody else: an event's ID is of who approved which decision.
			publish(w, w.log, w.topics, &model.DecisionApproved{Deployment: "embed", DecisionID: decision.ID, OccurredAt: time.Now().UTC(), ApprovedBy: "a program"}, time.Time{})
			w.settled()
			approve(w, "chat", decision)
			w.settled()
		}, []string{"proposed", "started", "applied", "settled"}},
		"of what limits left of it, before they were widened": {func(w *world) {
			w.configure("chat", 2, 1, true, asks, func(s *model.Deployment) { s.Limits.MaxReplicas = 4 })
			w.start("one")
			decision := w.decide("chat", 1, 2, 5)
			w.settled()
			w.configure("chat", 3, 1, true, asks)
			approve(w, "chat", decision)
			w.settled()
			if got := w.prefill("chat"); got != 4 {
				w.Errorf("prefill is set to %d, want 4, as was proposed and approved", got)
			}
		}, []string{"proposed", "started", "applied", "settled"}},
		"never, since it was made advisory": {func(w *world) {
			w.start("one")
			w.decide("chat", 1, 2, 3)
			w.settled()
			w.configure("chat", 2, 1, false, asks)
			w.settled()
		}, []string{"proposed", "not_active"}},
		"in time, while no actuator was there until it was too late": {func(w *world) {
			first := w.start("one")
			decision := w.decide("chat", 1, 2, 3)
			w.settled()
			first.stop()
			approve(w, "chat", decision)
			time.Sleep(time.Hour)
			w.start("two")
			w.settled()
			for record, err := range w.log.Read(w.Context(), w.topics.Name(events.TopicDeadLetters), events.Range{}) {
				w.Errorf("a dead letter: %s %v", record.Payload, err)
			}
		}, []string{"proposed", "expired"}},
		"of a newer one: the older waits no more": {func(w *world) {
			w.start("one")
			w.decide("chat", 1, 2, 3)
			time.Sleep(5 * time.Second)
			newer := w.decide("chat", 1, 2, 4)
			w.settled()
			approve(w, "chat", newer)
			w.settled()
		}, []string{"proposed", "proposed", "started", "applied", "settled", "superseded"}},
		"of an older decision than the one that was carried out": {func(w *world) {
			w.start("one")
			older := w.decide("chat", 1, 2, 3)
			time.Sleep(5 * time.Second)
			newer := w.decide("chat", 1, 2, 4)
			w.settled()
			approve(w, "chat", newer)
			w.settled()
			approve(w, "chat", older)
			w.settled()
		}, []string{"proposed", "proposed", "started", "applied", "settled", "superseded"}},
		"of an advisory deployment": {func(w *world) {
			w.configure("embed", 1, 1, true)
			w.configure("chat", 2, 1, false, asks)
			w.start("one")
			decision := activeDecision("chat", time.Now().UTC(), both(2, 4), both(3, 4))
			decision.Mode, decision.Epoch = model.Advisory, 1
			approve(w, "chat", publish(w, w.log, w.topics, decision, time.Time{}))
			w.settled()
		}, nil},
		"required while the change is made": {func(w *world) {
			w.configure("chat", 2, 1, true)
			w.start("one", func(v *connectortest.View) {
				v.AfterWrite = func(context.Context, model.Role) error { w.configure("chat", 3, 1, true, asks); return nil }
			})
			publish(w, w.log, w.topics, activeDecision("chat", time.Now().UTC(), both(2, 4), both(3, 2)), time.Time{})
			w.settled()
		}, []string{"started", "failed: decode went from 4 to 2; then scale prefill from 2 to 3: not_approved: approval is required since revision 3, and nobody approved it"}},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(w *world) {
				w.configure("chat", 1, 1, true, asks)
				c.do(w)
				// That a wait ends, and that the fleet settles, come in any order.
				got := w.outcomes("chat")
				if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(c.want))) {
					w.Errorf("the actuations are %q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestRestartFences: a new process knows from the log what was handled.
func TestRestartFences(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("chat", 1, 1, true)
		first := w.start("one")
		old := activeDecision("chat", time.Now().UTC(), both(3, 4), both(2, 4))
		time.Sleep(time.Second)
		w.decide("chat", 1, 2, 3)
		w.settled()
		first.stop()
		w.start("two")
		publish(w, w.log, w.topics, old, time.Time{})
		w.settled()
		w.want("chat", "started", "applied", "settled", "superseded")
		if got := w.prefill("chat"); got != 3 {
			w.Errorf("prefill is set to %d, want 3", got)
		}
	})
}

// TestInterruptedOrderIsFinishedOrReported stops an actuator between the two
// writes of a rebalancing, and starts another: in time it finishes the pair,
// too late it says what is not done.
func TestInterruptedOrderIsFinishedOrReported(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause time.Duration
		want  []string
		sets  [2]int
	}{
		{"in time", 5 * time.Second, []string{"started", "applied", "settled"}, [2]int{3, 2}},
		{"too late", 2 * time.Minute, []string{"started", "failed: it was begun and interrupted, and is not finished: expired"}, [2]int{2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTime(t, func(w *world) {
				w.configure("chat", 1, 1, true)
				first := w.start("one", func(v *connectortest.View) {
					v.BeforeWrite = func(ctx context.Context, role model.Role) error {
						if role == model.Prefill {
							<-ctx.Done() // until the process stops
						}
						return ctx.Err()
					}
				})
				publish(w, w.log, w.topics, activeDecision("chat", time.Now().UTC(), both(2, 4), both(3, 2)), time.Time{})
				time.Sleep(time.Second)
				first.stop()
				w.want("chat", "started")
				time.Sleep(c.pause)
				w.start("two")
				w.settled()
				got := w.outcomes("chat")
				if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
					w.Errorf("the actuations are %q, want %q", got, c.want)
				}
				if set := w.fleet.SetTo("chat"); *set.Prefill != c.sets[0] || *set.Decode != c.sets[1] {
					w.Errorf("the fleet is set to %d and %d, want %v", *set.Prefill, *set.Decode, c.sets)
				}
			})
		})
	}
}

// deaf is a log that tells nothing of a topic by itself: who asks is answered.
type deaf struct {
	events.Log
	topic string
}

func (d deaf) Follow(ctx context.Context, topic string, r events.Range) iter.Seq2[events.Record, error] {
	if topic != d.topic {
		return d.Log.Follow(ctx, topic, r)
	}
	return func(func(events.Record, error) bool) { <-ctx.Done() }
}

// TestNeverAnOlderNumberAfterANewerOne runs two actuators that both get every
// decision, in any order, while each of their steps may take so long that the
// other has long gone on, as after a partition of the network. Whatever they
// do, what is written last of any two decisions is the newer one's: one of them
// is told of nothing that the other does, and has to ask.
func TestNeverAnOlderNumberAfterANewerOne(t *testing.T) {
	overtaken := 0
	for seed := range uint64(150) {
		inTime(t, func(w *world) {
			var mu sync.Mutex
			source := rand.New(rand.NewPCG(seed, 17))
			random := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return source.IntN(n)
			}
			w.configure("chat", 1, 1, true)
			slow := func(v *connectortest.View) {
				pause := func(context.Context, model.Role) error {
					time.Sleep(time.Duration(random(4)*random(4)*random(4)) * 100 * time.Millisecond)
					return nil
				}
				v.BeforeRead, v.BeforeWrite, v.AfterWrite = pause, pause, pause
			}
			actuators := []*running{w.start("one", slow), w.startOn("two", deaf{w.log, "test.actuations"}, slow)}
			// Few numbers, so that an old decision often finds the fleet as it saw it.
			var handling []chan struct{}
			for n := range 6 {
				from := 1 + random(3)
				decision := activeDecision("chat", time.Now().UTC(), both(from, 4), both(1+(from+random(2))%3, 4))
				event, err := events.Seal(decision, events.About{Source: "/tidemark/test"})
				if err != nil {
					w.Fatal(err)
				}
				for _, a := range actuators {
					delay := time.Duration(random(6000)) * time.Millisecond
					done := make(chan struct{})
					handling = append(handling, done)
					go func() {
						defer close(done)
						time.Sleep(delay)
						msg := event.Message()
						msg.SetContext(w.Context())
						if err := a.Handle(msg); err != nil {
							w.Errorf("seed %d: decision %d: %v", seed, n, err)
						}
					}()
				}
				time.Sleep(time.Duration(1+random(2000)) * time.Millisecond)
			}
			for _, done := range handling {
				<-done
			}
			var newest time.Time
			for _, write := range w.fleet.Writes() {
				if write.Decision.ObservedAt.Before(newest) {
					w.Errorf("seed %d: %s wrote %d, by a decision of %v, after one of %v", seed, write.By, write.To, write.Decision.ObservedAt, newest)
				}
				newest = write.Decision.ObservedAt
			}
			for _, outcome := range w.outcomes("chat") {
				if outcome == string(model.RejectedSuperseded) {
					overtaken++
				}
			}
		})
	}
	if overtaken == 0 {
		t.Error("no decision was ever overtaken: the delays are too short to mean anything")
	}
	t.Logf("%d decisions were overtaken", overtaken)
}

// TestAdvisoryFleetGetsNoWrites is a storm: actuators that stop and start, lost
// and repeated and reordered decisions, forged modes and epochs, changes of
// bounds, and an active deployment beside that flaps. The advisory deployment
// must not be written, and the active one only while it is active.
func TestAdvisoryFleetGetsNoWrites(t *testing.T) {
	wrote := 0
	for seed := range uint64(40) {
		inTime(t, func(w *world) {
			random := rand.New(rand.NewPCG(seed, 3))
			active, epoch, revisions := false, 0, map[string]int{}
			w.fleet.OnWrite = func(write connectortest.Write, _ model.PerRole[int]) {
				if write.Deployment == "advisory" {
					w.Errorf("seed %d: a write to the advisory fleet: %+v", seed, write)
				}
				if !active {
					w.Errorf("seed %d: a write to the other fleet while it is advisory: %+v", seed, write)
				}
				wrote++
			}
			revise := func(name string, active bool, epoch int) {
				revisions[name]++
				w.configure(name, revisions[name], epoch, active, func(spec *model.Deployment) {
					spec.Behavior.DecisionTTLS = float64(1 + random.IntN(60))
				})
			}
			revise("advisory", false, 0)
			revise("flapping", false, 0)
			actuators := map[string]*running{}
			var old []events.Event
			for step := range 120 {
				switch random.IntN(8) {
				case 0:
					name := fmt.Sprint("actuator-", random.IntN(2))
					if a := actuators[name]; a != nil {
						a.stop()
						delete(actuators, name)
					} else {
						actuators[name] = w.start(name)
					}
				case 1:
					// Settled first: that is what "while" means.
					w.settled()
					if !active {
						epoch++
					}
					active = !active
					revise("flapping", active, epoch)
				case 2:
					revise("advisory", false, 0)
				case 3:
					if len(old) > 0 {
						again := old[random.IntN(len(old))]
						again.ID = fmt.Sprint("again-", step)
						if err := w.log.Publisher().Publish("test.decisions", again.Message()); err != nil {
							w.Fatal(err)
						}
					}
				case 4:
					w.fleet.Put("flapping", model.Prefill, 1+random.IntN(4))
				default:
					name := []string{"advisory", "flapping"}[random.IntN(2)]
					from := w.prefill(name)
					decision := activeDecision(name, time.Now().UTC(), both(from, 4), both(1+random.IntN(6), 4))
					decision.Epoch = max(0, epoch-random.IntN(3)+random.IntN(2))
					if name == "flapping" && random.IntN(2) == 0 {
						decision.Epoch = epoch
					}
					old = append(old, publish(w, w.log, w.topics, decision, time.Time{}))
				}
				time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
			}
		})
	}
	if wrote == 0 {
		t.Error("nothing was ever written: the storm shows nothing")
	}
	t.Logf("%d writes, all of them to the active fleet", wrote)
}

// TestWithoutAConnectorNothingIsDone: a deployment may be active and say nothing
// of what could act on it.
func TestWithoutAConnectorNothingIsDone(t *testing.T) {
	inTime(t, func(w *world) {
		w.configure("chat", 1, 1, true, func(spec *model.Deployment) { spec.Actuator = nil })
		worker := newWorker(DefaultConfig(), w.log, w.topics, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		msg := w.decide("chat", 1, 2, 3).Message()
		msg.SetContext(w.Context())
		if err := worker.Handle(msg); err != nil {
			w.Fatal(err)
		}
		w.want("chat", "not_ready")
	})
}

// TestWhatIsNoDecisionIsPermanent: it belongs in the dead letters.
func TestWhatIsNoDecisionIsPermanent(t *testing.T) {
	inTime(t, func(w *world) {
		worker := newWorker(DefaultConfig(), w.log, w.topics, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		applied, err := events.Seal(&model.ScalingApplied{Actuation: about("a", noon)}, events.About{Source: Source})
		if err != nil {
			w.Fatal(err)
		}
		for _, msg := range []*message.Message{applied.Message(), message.NewMessage("x", []byte("no event"))} {
			if err := worker.Handle(msg); !errors.Is(err, events.ErrPermanent) {
				w.Errorf("error is %v, want a permanent one", err)
			}
		}
	})
}
