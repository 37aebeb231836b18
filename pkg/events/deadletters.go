package events

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"tidemark.dev/pkg/model"
)

// deadLetters publishes what the handler cannot handle, with its origin, its
// bytes and the reason, and acknowledges it, so that the messages behind it are
// handled. Only when that fails too is the message delivered again.
func (r *Router) deadLetters(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		produced, err := next(msg)
		if err == nil || errors.Is(err, ErrFatal) {
			return produced, err
		}
		if ctx.Err() != nil && !decided(err) {
			// Not the message is at fault: the service stops, or another has
			// taken its place.
			return nil, err
		}
		return nil, r.bury(msg, err)
	}
}

// bury publishes the dead letter of a message.
func (r *Router) bury(msg *message.Message, cause error) error {
	origin, ok := OriginOf(msg)
	if !ok {
		return Fatal(fmt.Errorf("message %s has no origin: the log's driver must set it", msg.UUID))
	}
	reason := reasonOf(cause)
	logger := r.config.Logger.With("service", r.config.Service, "topic", origin.Topic, "partition", origin.Partition, "position", origin.Position)
	if origin.Topic == r.config.Topics.Name(TopicDeadLetters) {
		// A dead letter about a dead letter would lead to the next one.
		logger.Error("dead letter cannot be handled, and stays where it is", "error", reason)
		return nil
	}
	letter := &model.DeadLetter{
		// A key may be any bytes, and JSON holds text: what is none is replaced here,
		// so that the letter's envelope and its data say the same.
		Topic: origin.Topic, Partition: origin.Partition, Position: origin.Position, Key: strings.ToValidUTF8(origin.Key, "\uFFFD"),
		Service: r.config.Service, Reason: reason, Metadata: msg.Metadata, Payload: msg.Payload,
	}
	err := r.send(letter, msg)
	if errors.Is(err, ErrPermanent) && len(letter.Payload) > 0 {
		// The message is larger than a letter can be. It stays where it is, which
		// the letter says.
		letter.Reason = fmt.Sprintf("%s (its %d bytes are left out: %v)", reason, len(letter.Payload), oneLine(err))
		letter.Payload = nil
		err = r.send(letter, msg)
	}
	if err != nil {
		return fmt.Errorf("publish the dead letter of a message that failed (%s): %w", reason, err)
	}
	r.metrics.deadLetters.WithLabelValues(r.config.Service).Inc()
	logger.Warn("message went to the dead letters", "id", msg.UUID, "error", reason)
	return nil
}

// send publishes a dead letter.
func (r *Router) send(letter *model.DeadLetter, about *message.Message) error {
	sealed, err := Seal(letter, About{
		Source: "/tidemark/" + r.config.Service, CausationID: about.Metadata[headerID],
		CorrelationID: about.Metadata[headerCorrelationID], TraceParent: about.Metadata[headerTraceParent], Time: time.Now(),
	})
	if err != nil {
		return Fatal(err)
	}
	return r.config.Log.Publisher().Publish(r.config.Topics.Name(TopicDeadLetters), sealed.Message())
}

// reasonOf says in one line why a message could not be handled.
func reasonOf(err error) string {
	var panicked middleware.RecoveredPanicError
	if errors.As(err, &panicked) {
		err = fmt.Errorf("panic: %v (at %s)", panicked.V, panicAt(panicked.Stacktrace))
	}
	return oneLine(err).Error()
}

// panicAt returns where a panic arose: the first frame above the panic that is
// not the runtime's, as "pkg.function, file.go:12". A stack has two lines for a
// frame, the function and, after a tab, the place.
func panicAt(stack string) string {
	lines := strings.Split(stack, "\n")
	above := false
	for i := 1; i+1 < len(lines); i += 2 {
		function, _, _ := cutLast(lines[i], "(")
		switch {
		case function == "panic":
			above = true
		case above && !strings.HasPrefix(function, "runtime."):
			place, _, _ := strings.Cut(strings.TrimSpace(lines[i+1]), " ")
			return path.Base(function) + ", " + path.Base(place)
		}
	}
	return "unknown place"
}
