package stream

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
)

const (
	// acquireEvery is how often a member asks for a lease that another holds.
	acquireEvery = 50 * time.Millisecond
	// commitEvery is the shortest time between two commits of a position. So a
	// message that is acknowledged on its own is committed before the next one
	// is delivered, and a crash under load repeats what was handled in this time.
	commitEvery = 20 * time.Millisecond
	// storePause is the time until a store that failed is asked again.
	storePause = 100 * time.Millisecond
)

// deliver delivers a topic's messages to a member of a group, one at a time: the
// next one comes after the last was acknowledged. Each carries its origin in its
// context, which ends with the acknowledgement, the subscription, or the member's
// turn to deliver.
func (l *Log) deliver(ctx context.Context, topic, group string, out chan *message.Message) {
	n := &subscription{
		store: l.store, tide: l.tide, options: l.options, topic: topic, group: group, out: out,
		logger: l.options.Logger.With("topic", topic, "group", group),
	}
	n.run(ctx)
}

// subscription delivers one topic to one member of a group. All of it happens
// in one goroutine.
type subscription struct {
	store        Store
	tide         *tide
	options      Options
	logger       *slog.Logger
	topic, group string
	out          chan *message.Message

	// While the lease is held: next is the position after the last message
	// acknowledged, held when it was last committed and the lease renewed, and
	// committed what was committed then. due fires when it should be again, and
	// end ends the turn, which lost does for good.
	lease           Lease
	next, committed int64
	held            time.Time
	due             *time.Timer
	lost            bool
	end             context.CancelFunc
}

// run takes its turns as the group's holder until the context is done.
func (n *subscription) run(ctx context.Context) {
	for ctx.Err() == nil {
		lease, position, held, err := n.store.Acquire(ctx, n.topic, n.group, n.options.LeaseTTL)
		if err != nil && ctx.Err() == nil {
			n.logger.Warn("lease cannot be taken, trying again", "error", err)
		}
		if err == nil && held {
			n.lease, n.next, n.committed = lease, position, position
			n.turn(ctx)
			continue
		}
		sleep(ctx, acquireEvery)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// turn delivers messages while the lease is held and the context is not done.
func (n *subscription) turn(ctx context.Context) {
	ctx, n.end = context.WithCancel(ctx)
	defer n.end()
	n.lost, n.held = false, time.Now()
	n.due = time.NewTimer(n.heartbeat())
	defer n.due.Stop()
	for ctx.Err() == nil {
		page, err := n.store.Scan(ctx, n.topic, n.next, everything, "", pageSize)
		switch {
		case err != nil && ctx.Err() == nil:
			n.logger.Warn("messages cannot be read, trying again", "position", n.next, "error", err)
			wait(ctx, n, time.After(storePause))
		case len(page) == 0:
			n.commitPending()
			wait(ctx, n, n.tide.above(n.topic, n.next))
		}
		for _, entry := range page {
			if !n.deliver(ctx, entry) {
				break
			}
		}
	}
	if err := n.store.Release(context.WithoutCancel(ctx), n.lease, n.next); err != nil && !errors.Is(err, ErrFenced) {
		n.logger.Warn("lease is not released, and ends by itself", "position", n.next, "error", err)
	}
}

// heartbeat is the time between two renewals of the lease.
func (n *subscription) heartbeat() time.Duration { return n.options.LeaseTTL / 4 }

// hold commits the position and renews the lease. If that is not possible, or
// has not been for as long as the lease lasts, the turn is over.
func (n *subscription) hold() {
	if n.lost {
		return
	}
	n.due.Reset(n.heartbeat())
	// A position is worth committing although the subscription ends.
	err := n.store.Hold(context.Background(), n.lease, n.next, n.options.LeaseTTL)
	switch {
	case err == nil:
		n.held, n.committed = time.Now(), n.next
	case errors.Is(err, ErrFenced):
		n.logger.Warn("another member of the group delivers now", "position", n.next)
		n.lost = true
		n.end()
	default:
		n.logger.Warn("position is not committed, trying again", "position", n.next, "error", err)
		if time.Since(n.held) > n.options.LeaseTTL {
			n.lost = true
			n.end()
		}
	}
}

// commitPending commits the position, if it has moved.
func (n *subscription) commitPending() {
	if n.next != n.committed {
		n.hold()
	}
}

// acknowledged moves the position beyond a message, and commits it now or soon.
func (n *subscription) acknowledged(entry Entry) {
	n.next = entry.Position + 1
	if since := time.Since(n.held); since < commitEvery {
		n.due.Reset(commitEvery - since)
		return
	}
	n.hold()
}

// wait waits for a channel or the end of the context, and meanwhile keeps the lease.
func wait[T any](ctx context.Context, n *subscription, until <-chan T) {
	for {
		select {
		case <-until:
			return
		case <-ctx.Done():
			return
		case <-n.due.C:
			n.hold()
		}
	}
}

// offer hands a message out, and reports whether somebody took it.
func (n *subscription) offer(ctx context.Context, msg *message.Message) bool {
	for {
		select {
		case n.out <- msg:
			return true
		case <-ctx.Done():
			return false
		case <-n.due.C:
			n.hold()
		}
	}
}

// settle waits for the acknowledgement of a message, and reports whether it was
// positive. After the end of the context it waits no longer than the grace.
func (n *subscription) settle(ctx context.Context, msg *message.Message) bool {
	ended := ctx.Done()
	var grace <-chan time.Time
	for {
		select {
		case <-msg.Acked():
			return true
		case <-msg.Nacked():
			return false
		case <-ended:
			ended, grace = nil, time.After(n.options.CloseGrace)
		case <-grace:
			n.logger.Warn("message in hand was not acknowledged in time, and will be delivered again", "id", msg.UUID, "grace", n.options.CloseGrace)
			return false
		case <-n.due.C:
			n.hold()
		}
	}
}

// deliver delivers a message until it is acknowledged, and reports whether it was.
func (n *subscription) deliver(ctx context.Context, entry Entry) bool {
	for {
		msg := message.NewMessage(entry.ID, entry.Payload)
		// A handler may write to the metadata; the next delivery is as the first was.
		if entry.Headers != nil {
			msg.Metadata = maps.Clone(entry.Headers)
		}
		inHand, done := context.WithCancel(events.WithOrigin(ctx, origin(n.topic, entry)))
		msg.SetContext(inHand)
		acked := n.offer(ctx, msg) && n.settle(ctx, msg)
		done()
		if acked {
			n.acknowledged(entry)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		wait(ctx, n, time.After(n.options.NackPause))
	}
}
