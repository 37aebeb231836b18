package events_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
)

// The lag is what the group has not acknowledged, and goes with its last member.
func TestMeasuredLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		memory, err := drivers.OpenURL(t.Context(), "memory://")
		if err != nil {
			t.Fatal(err)
		}
		log, err := events.Measure(memory, slog.New(slog.DiscardHandler), registry)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go log.Watch(ctx, time.Second)
		for range 5 {
			publish(t, log, "observations", message.NewMessage("", []byte("x")))
		}
		subscriber, err := log.Subscriber("decider")
		if err != nil {
			t.Fatal(err)
		}
		messages, err := subscriber.Subscribe(ctx, topics.Name("observations"))
		if err != nil {
			t.Fatal(err)
		}
		want := func(what, lag string) {
			t.Helper()
			time.Sleep(2 * time.Second) // virtual: two looks
			text := ""
			if lag != "" {
				text = "# HELP tidemark_events_consumer_lag_messages Messages that a consumer group has not acknowledged yet. Every member reports the whole group's; a partition in which it never acknowledged one is left out.\n" +
					"# TYPE tidemark_events_consumer_lag_messages gauge\n" +
					`tidemark_events_consumer_lag_messages{group="decider",partition="0",topic="tidemark.observations"} ` + lag + "\n"
			}
			if err := testutil.GatherAndCompare(registry, strings.NewReader(text), "tidemark_events_consumer_lag_messages"); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		want("before anything is acknowledged", "")
		for range 2 {
			(<-messages).Ack()
		}
		want("after two of five", "3")
		publish(t, log, "observations", message.NewMessage("", []byte("x")))
		want("after one more", "4")
		if err := subscriber.Close(); err != nil {
			t.Fatal(err)
		}
		want("after the member left", "")
		if n := testutil.CollectAndCount(registry, "tidemark_events_publish_seconds"); n != 1 {
			t.Errorf("publishing is measured in %d series, want 1", n)
		}
		// Here, and not after: the log's clockwork would go on for ever.
		cancel()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
}

// failing is a log that takes nothing.
type failing struct{ events.Log }

func (failing) Publisher() message.Publisher { return failing{} }

func (failing) Publish(string, ...*message.Message) error { return errors.New("the log is full") }

func (failing) Close() error { return nil }

func TestMeasuredFailures(t *testing.T) {
	registry := prometheus.NewRegistry()
	log, err := events.Measure(failing{}, slog.New(slog.DiscardHandler), registry)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Publisher().Publish("observations", message.NewMessage("", nil)); err == nil {
		t.Error("a failure is kept back")
	}
	const want = "# HELP tidemark_events_publish_failures_total Publications that the log did not take.\n" +
		"# TYPE tidemark_events_publish_failures_total counter\ntidemark_events_publish_failures_total{topic=\"observations\"} 1\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "tidemark_events_publish_failures_total", "tidemark_events_publish_seconds"); err != nil {
		t.Error(err)
	}
}
