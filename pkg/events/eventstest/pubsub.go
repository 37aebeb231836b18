package eventstest

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"tidemark.dev/pkg/events"
)

// RunPubSubSuite runs Watermill's suite over a log: several times at once, as
// STRESS_TEST_COUNT says.
func RunPubSubSuite(t *testing.T, log events.Log) {
	features := tests.Features{
		ConsumerGroups:  true,
		GuaranteedOrder: true,
		Persistent:      true,
		// Subscribers without a group of their own share one here; that a new
		// group begins at the oldest message is in RunLogSuite.
		NewSubscriberReceivesOldMessages: false,
	}
	members := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		t.Helper()
		subscriber, err := log.Subscriber(group)
		if err != nil {
			t.Fatal(err)
		}
		return log.Publisher(), subscriber
	}
	alone := func(t *testing.T) (message.Publisher, message.Subscriber) {
		t.Helper()
		return members(t, "test")
	}
	tests.TestPubSubStressTest(t, features, alone, members)
}
