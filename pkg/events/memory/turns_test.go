package memory

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events/internal/stream"
)

// These tests are of package stream, which has no store of its own: what
// happens to consumer groups over time, in time that is not waited for.

// line is a member's way to a store that it shares, which may be cut.
type line struct {
	*store
	cut atomic.Bool
}

func (l *line) Hold(ctx context.Context, lease stream.Lease, position int64, ttl time.Duration) error {
	if l.cut.Load() {
		return errors.New("the disk does not answer")
	}
	return l.store.Hold(ctx, lease, position, ttl)
}

func (l *line) Close() error { return nil }

func shared(t *testing.T, payloads ...string) *store {
	t.Helper()
	s := &store{topics: map[string]*topic{}, groups: map[member]*position{}}
	var entries []stream.Entry
	for _, payload := range payloads {
		entries = append(entries, stream.Entry{ID: payload, Payload: []byte(payload)})
	}
	if _, err := s.Append("decisions", entries); err != nil {
		t.Fatal(err)
	}
	return s
}

func join(t *testing.T, store stream.Store) (*stream.Log, <-chan *message.Message) {
	t.Helper()
	log := stream.New(store, stream.Options{})
	subscriber, err := log.Subscriber("actuator")
	if err != nil {
		t.Fatal(err)
	}
	messages, err := subscriber.Subscribe(t.Context(), "decisions")
	if err != nil {
		t.Fatal(err)
	}
	return log, messages
}

func expect(t *testing.T, messages <-chan *message.Message, want string) *message.Message {
	t.Helper()
	msg := <-messages
	if got := string(msg.Payload); got != want {
		t.Fatalf("message is %s, want %s", got, want)
	}
	return msg
}

func TestMemberThatFallsSilentIsReplacedAndFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shared(t, "1", "2", "3")
		silent := &line{store: s}
		first, firsts := join(t, silent)
		inHand := expect(t, firsts, "1")
		second, seconds := join(t, &line{store: s})
		silent.cut.Store(true)
		began := time.Now()
		again := expect(t, seconds, "1")
		if took := time.Since(began); took > 2*time.Second+50*time.Millisecond {
			t.Errorf("taking over took %v", took)
		}
		<-inHand.Context().Done()
		again.Ack()
		expect(t, seconds, "2").Ack()
		silent.cut.Store(false)
		inHand.Ack() // too late: the position is the second member's
		synctest.Wait()
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
		expect(t, firsts, "3").Ack()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHolderKeepsItsTurnWithoutAcknowledging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shared(t, "1")
		first, firsts := join(t, &line{store: s})
		claim := expect(t, firsts, "1")
		second, seconds := join(t, &line{store: s})
		time.Sleep(time.Hour) // virtual
		synctest.Wait()
		select {
		case <-seconds:
			t.Error("the second member got a message while the first held the topic")
		case <-claim.Context().Done():
			t.Error("the first member lost its turn")
		default:
		}
		began := time.Now()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != stream.DefaultOptions().CloseGrace {
			t.Errorf("closing with a message in hand took %v, want the grace", took)
		}
		expect(t, seconds, "1").Ack()
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestNackPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, messages := join(t, shared(t, "1"))
		expect(t, messages, "1").Nack()
		began := time.Now()
		msg := expect(t, messages, "1")
		if took := time.Since(began); took != stream.DefaultOptions().NackPause {
			t.Errorf("a message came again after %v", took)
		}
		msg.Ack()
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
