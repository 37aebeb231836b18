package events_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

var topics = events.Topics{Prefix: events.DefaultPrefix}

func openMemory(t testing.TB) events.Log {
	t.Helper()
	log, err := drivers.Open(context.Background(), "memory://", drivers.Options{NackPause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

func publish(t testing.TB, log events.Log, topic string, messages ...*message.Message) {
	t.Helper()
	if err := log.Publisher().Publish(topics.Name(topic), messages...); err != nil {
		t.Fatal(err)
	}
}

// written keeps what is logged, for a test to read.
type written struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

// routed is a running router whose handler was given.
type routed struct {
	log      events.Log
	router   *events.Router
	registry *prometheus.Registry
	logs     *written
	ended    chan error
	cancel   context.CancelFunc
}

func route(t *testing.T, log events.Log, topic string, handle message.NoPublishHandlerFunc) *routed {
	t.Helper()
	r := &routed{log: log, registry: prometheus.NewRegistry(), logs: &written{}, ended: make(chan error, 1)}
	config := events.RouterConfig{Service: "decider", Log: log, Topics: topics, Logger: slog.New(slog.NewTextHandler(r.logs, nil)), Registerer: r.registry}
	if _, err := events.NewRouter(config); err != nil {
		t.Fatal(err)
	}
	router, err := events.NewRouter(config) // shares the metrics of the first
	if err != nil {
		t.Fatal(err)
	}
	subscriber, err := log.Subscriber("decider")
	if err != nil {
		t.Fatal(err)
	}
	router.AddConsumerHandler("decide", topics.Name(topic), subscriber, handle)
	ctx, cancel := context.WithCancel(context.Background())
	r.router, r.cancel = router, cancel
	go func() { r.ended <- router.Run(ctx) }()
	t.Cleanup(cancel)
	<-router.Running()
	return r
}

func (r *routed) wait(t *testing.T, handled <-chan string, want string) {
	t.Helper()
	select {
	case got := <-handled:
		if got != want {
			t.Fatalf("handled %s, want %s", got, want)
		}
	case err := <-r.ended:
		t.Fatalf("router ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatalf("%s was not handled", want)
	}
}

func (r *routed) stop(t *testing.T) {
	t.Helper()
	if err := r.router.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-r.ended; err != nil {
		t.Fatalf("a router that was closed ended with %v", err)
	}
}

func (r *routed) counts(t *testing.T, want string) {
	t.Helper()
	if err := testutil.GatherAndCompare(r.registry, strings.NewReader(want),
		"tidemark_events_handled_total", "tidemark_events_retries_total", "tidemark_events_dead_letters_total"); err != nil {
		t.Error(err)
	}
}

func deadLetters(t *testing.T, log events.Log) (letters []*model.DeadLetter, sealed []events.Event) {
	t.Helper()
	for record, err := range log.Read(t.Context(), topics.Name(events.TopicDeadLetters), events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		event, err := record.Event()
		if err != nil {
			t.Fatal(err)
		}
		fact, err := event.Fact()
		if err != nil {
			t.Fatal(err)
		}
		letter, ok := fact.(*model.DeadLetter)
		if !ok {
			t.Fatalf("the dead letters hold a %T", fact)
		}
		letters, sealed = append(letters, letter), append(sealed, event)
	}
	return letters, sealed
}

func explode() { panic("index out of the fleet") }

func TestWhatCannotBeHandledGoesToTheDeadLetters(t *testing.T) {
	log, handled := openMemory(t), make(chan string, 10)
	attempts := 0
	r := route(t, log, events.TopicObservations, func(msg *message.Message) error {
		switch string(msg.Payload) {
		case "permanent":
			return fmt.Errorf("decide: %w", events.Permanent(errors.New("no such role\nat all")))
		case "panic":
			explode()
		case "transient":
			if attempts++; attempts < 3 {
				return errors.New("the file is busy")
			}
		}
		handled <- string(msg.Payload)
		return nil
	})
	for _, payload := range []string{"first", "permanent", "panic", "transient", "last"} {
		event := events.Event{
			ID: payload, Type: "t.v1", Source: "/s", PartitionKey: "chat-70b", CorrelationID: "story", TraceParent: trace, Data: []byte(payload),
		}
		publish(t, log, events.TopicObservations, event.Message())
	}
	r.wait(t, handled, "first")
	r.wait(t, handled, "transient")
	r.wait(t, handled, "last")
	r.stop(t)
	letters, sealed := deadLetters(t, log)
	if len(letters) != 2 {
		t.Fatalf("there are %d dead letters, want 2", len(letters))
	}
	headers := events.Event{ID: "permanent", Type: "t.v1", Source: "/s", PartitionKey: "chat-70b", CorrelationID: "story", TraceParent: trace}.Message().Metadata
	if diff := cmp.Diff(&model.DeadLetter{
		Topic: "tidemark.observations", Partition: 0, Position: 1, Key: "chat-70b", Service: "decider",
		Reason: "decide: no such role; at all", Metadata: headers, Payload: []byte("permanent"),
	}, letters[0]); diff != "" {
		t.Errorf("dead letter (-want +got):\n%s", diff)
	}
	if e := sealed[0]; e.ID != events.DeadLetterID("decider", "tidemark.observations", 0, 1) || e.Source != "/tidemark/decider" ||
		e.CausationID != "permanent" || e.CorrelationID != "story" || e.TraceParent != trace || e.PartitionKey != "chat-70b" {
		t.Errorf("dead letter is in the event %+v", e)
	}
	if reason := letters[1].Reason; !strings.HasPrefix(reason, "panic: index out of the fleet (at events_test.explode, router_test.go:") {
		t.Errorf("reason of a panic is %q", reason)
	}
	if !strings.Contains(r.logs.String(), `msg="message went to the dead letters"`) {
		t.Errorf("logs do not tell of the dead letters:\n%s", r.logs)
	}
	r.counts(t, `
		# HELP tidemark_events_dead_letters_total Messages that could not be handled and went to the dead letters.
		# TYPE tidemark_events_dead_letters_total counter
		tidemark_events_dead_letters_total{service="decider"} 2
		# HELP tidemark_events_handled_total Messages handled, by whether they were acknowledged (ack) or will be delivered again (nack).
		# TYPE tidemark_events_handled_total counter
		tidemark_events_handled_total{handler="decide",outcome="ack",service="decider"} 5
		# HELP tidemark_events_retries_total Attempts to handle a message that failed with a transient error and were followed by another.
		# TYPE tidemark_events_retries_total counter
		tidemark_events_retries_total{service="decider"} 2
	`)
}

// deaf is a log that takes no dead letters until it is told to.
type deaf struct {
	events.Log
	refusals chan error
}

func (d deaf) Publisher() message.Publisher { return deafPublisher{d.Log.Publisher(), d.refusals} }

type deafPublisher struct {
	message.Publisher
	refusals chan error
}

func (d deafPublisher) Publish(topic string, messages ...*message.Message) error {
	if topic == topics.Name(events.TopicDeadLetters) {
		select {
		case err := <-d.refusals:
			return err
		default:
		}
	}
	return d.Publisher.Publish(topic, messages...)
}

func TestMessageWithoutADeadLetterIsDeliveredAgain(t *testing.T) {
	log, handled := deaf{openMemory(t), make(chan error, 2)}, make(chan string, 10)
	log.refusals <- errors.New("disk full")
	log.refusals <- errors.New("disk full")
	r := route(t, log, events.TopicObservations, func(msg *message.Message) error {
		handled <- string(msg.Payload)
		return events.Permanent(errors.New("no such role"))
	})
	publish(t, log, events.TopicObservations, message.NewMessage("1", []byte("bad")), message.NewMessage("2", []byte("bad too")))
	for _, want := range []string{"bad", "bad", "bad", "bad too"} {
		r.wait(t, handled, want)
	}
	r.stop(t)
	if letters, _ := deadLetters(t, log); len(letters) != 2 {
		t.Errorf("there are %d dead letters, want 2", len(letters))
	}
}

// A message may be larger than a letter can be: the letter then says so, and
// does without its bytes.
func TestMessageTooLargeForALetter(t *testing.T) {
	log, handled := deaf{openMemory(t), make(chan error, 1)}, make(chan string, 10)
	log.refusals <- events.Permanent(errors.New("too large"))
	r := route(t, log, events.TopicObservations, func(msg *message.Message) error {
		handled <- string(msg.Payload)
		return events.Permanent(errors.New("no such role"))
	})
	large := message.NewMessage("1", []byte("large"))
	large.Metadata["ce_partitionkey"] = "no \xff text"
	publish(t, log, events.TopicObservations, large)
	r.wait(t, handled, "large")
	r.stop(t)
	letters, _ := deadLetters(t, log)
	if len(letters) != 1 || len(letters[0].Payload) != 0 || letters[0].Reason != "no such role (its 5 bytes are left out: too large)" {
		t.Fatalf("dead letters are %+v", letters)
	}
	if letters[0].Key != "no \uFFFD text" {
		t.Errorf("key of the letter is %q", letters[0].Key)
	}
}

func TestDeadLettersOfDeadLettersStayWhereTheyAre(t *testing.T) {
	log, handled := openMemory(t), make(chan string, 10)
	r := route(t, log, events.TopicDeadLetters, func(msg *message.Message) error {
		handled <- string(msg.Payload)
		return events.Permanent(errors.New("unreadable"))
	})
	publish(t, log, events.TopicDeadLetters, message.NewMessage("1", []byte("one")), message.NewMessage("2", []byte("two")))
	r.wait(t, handled, "one")
	r.wait(t, handled, "two")
	r.stop(t)
	if ends, err := log.Ends(t.Context(), topics.Name(events.TopicDeadLetters)); err != nil || ends[0] != 2 {
		t.Errorf("the dead letters end at %v (%v), want 2", ends, err)
	}
}

func TestFatalErrorEndsRunAndKeepsTheMessage(t *testing.T) {
	log, broken := openMemory(t), errors.New("state and log disagree")
	r := route(t, log, events.TopicObservations, func(*message.Message) error { return events.Fatal(broken) })
	publish(t, log, events.TopicObservations, message.NewMessage("1", []byte("one")))
	if err := <-r.ended; !errors.Is(err, broken) || !errors.Is(err, events.ErrFatal) {
		t.Fatalf("Run returned %v", err)
	}
	handled := make(chan string, 10)
	next := route(t, log, events.TopicObservations, func(msg *message.Message) error {
		handled <- string(msg.Payload)
		return nil
	})
	next.wait(t, handled, "one")
	next.stop(t)
	if letters, _ := deadLetters(t, log); len(letters) != 0 {
		t.Errorf("there are %d dead letters, want none", len(letters))
	}
}

func TestStoppingIsNoReasonForADeadLetter(t *testing.T) {
	log, handled := openMemory(t), make(chan string, 10)
	r := route(t, log, events.TopicObservations, func(msg *message.Message) error {
		handled <- string(msg.Payload)
		<-msg.Context().Done()
		return msg.Context().Err()
	})
	publish(t, log, events.TopicObservations, message.NewMessage("1", []byte("one")))
	r.wait(t, handled, "one")
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Fatalf("a router whose context ended returned %v", err)
	}
	next := route(t, log, events.TopicObservations, func(msg *message.Message) error {
		handled <- string(msg.Payload)
		return nil
	})
	next.wait(t, handled, "one")
	next.stop(t)
	if letters, _ := deadLetters(t, log); len(letters) != 0 {
		t.Errorf("there are %d dead letters, want none", len(letters))
	}
}

func TestMessageInHandIsFinishedWhenTheServiceStops(t *testing.T) {
	log, handled := openMemory(t), make(chan string, 10)
	r := route(t, log, events.TopicObservations, func(msg *message.Message) error {
		handled <- string(msg.Payload)
		<-msg.Context().Done() // the service stops, and what is begun is finished
		return nil
	})
	publish(t, log, events.TopicObservations, message.NewMessage("1", []byte("one")), message.NewMessage("2", []byte("two")))
	r.wait(t, handled, "one")
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	next := route(t, log, events.TopicObservations, func(msg *message.Message) error {
		handled <- string(msg.Payload)
		return nil
	})
	next.wait(t, handled, "two")
	next.stop(t)
}

func TestTransientErrorsAreTriedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, handled := openMemory(t), make(chan string, 10)
		attempts, began := 0, time.Now()
		r := route(t, log, events.TopicObservations, func(msg *message.Message) error {
			if string(msg.Payload) == "one" {
				attempts++
				return fmt.Errorf("attempt %d: the fleet does not answer", attempts)
			}
			handled <- string(msg.Payload)
			return nil
		})
		publish(t, log, events.TopicObservations, message.NewMessage("1", []byte("one")), message.NewMessage("2", []byte("two")))
		if got := <-handled; got != "two" {
			t.Fatalf("handled %s, want two", got)
		}
		// A minute is what a consumer group grants a member.
		if took := time.Since(began); took < time.Second || took > 45*time.Second {
			t.Errorf("the message was tried for %v", took)
		}
		r.stop(t)
		letters, _ := deadLetters(t, log)
		if len(letters) != 1 || letters[0].Reason != fmt.Sprintf("attempt %d: the fleet does not answer", attempts) || attempts < 4 {
			t.Errorf("after %d attempts the dead letters are %+v", attempts, letters)
		}
	})
}

func TestRunEndsWithAnErrorWhenItsSubscriptionsEnd(t *testing.T) {
	log := openMemory(t)
	r := route(t, log, events.TopicObservations, func(*message.Message) error { return nil })
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-r.ended; err == nil {
		t.Error("Run returned nil, and nobody asked it to end")
	}
}
