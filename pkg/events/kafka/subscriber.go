package kafka

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
)

const (
	// rejoinPause is the time until a group that could not be joined is tried again.
	rejoinPause = 500 * time.Millisecond
	// leaveTimeout is how long a member that leaves waits for the cluster,
	// beside what the message in hand takes.
	leaveTimeout = 5 * time.Second
)

// deliver delivers the messages of the partitions that a group gives to this
// member: one at a time for each partition, the next one after the last was
// acknowledged. Each carries its origin in its context, which ends with the
// acknowledgement, the subscription, or the member's claim on the partition.
//
// Watermill's own subscriber for Kafka is not used. The context of its messages
// outlives the member's claim on the partition, a message that waits for its
// acknowledgement holds up a rebalance, and one that is acknowledged while the
// member leaves is not committed: see docs/adr.
func (l *Log) deliver(ctx context.Context, topic, group string, out chan *message.Message) {
	n := &subscription{
		log: l, topic: topic, group: group, out: out, inHand: map[int32]*message.Message{},
		logger: l.options.Logger.With("topic", topic, "group", group),
	}
	n.run(ctx)
}

// subscription delivers one topic to one member of a group. It is the group's
// handler; a claim is one partition, and has a goroutine of its own.
type subscription struct {
	log          *Log
	logger       *slog.Logger
	topic, group string
	out          chan *message.Message

	mu sync.Mutex
	// inHand are messages that a claim gave up waiting for: the partition
	// delivers nothing here until its handler has let go.
	inHand map[int32]*message.Message
}

var _ sarama.ConsumerGroupHandler = (*subscription)(nil)

// run is a member of the group until the context is done.
func (n *subscription) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := n.member(ctx); err != nil && ctx.Err() == nil {
			n.logger.Warn("not a member of the group for now, trying again", "error", err)
			sleep(ctx, rejoinPause)
		}
	}
}

// member joins the group and works in it until the context is done or there is
// an error.
func (n *subscription) member(ctx context.Context) error {
	if err := n.log.ensure(n.topic); err != nil {
		return err
	}
	// Settings of its own: the balance strategy in them keeps the state of one
	// member, and secrets may have been renewed.
	settings, err := n.log.config.client()
	if err != nil {
		return err
	}
	client, err := sarama.NewClient(n.log.config.Brokers, settings)
	if err != nil {
		return err
	}
	defer client.Close()
	// A request to join is answered when all members have joined, and does not
	// look at the context.
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(n.log.options.CloseGrace+leaveTimeout, func() { _ = client.Close() })
	})()
	group, err := sarama.NewConsumerGroupFromClient(n.group, client)
	if err != nil {
		return err
	}
	var telling sync.WaitGroup
	telling.Go(func() {
		for err := range group.Errors() {
			n.logger.Warn("member of the group has a problem", "error", err)
		}
	})
	for err == nil && ctx.Err() == nil {
		err = group.Consume(ctx, []string{n.topic}, n)
	}
	if closing := group.Close(); closing != nil && ctx.Err() == nil {
		err = errors.Join(err, closing)
	}
	telling.Wait()
	return classify(err)
}

// Setup has nothing to prepare.
func (n *subscription) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup has nothing to clean up.
func (n *subscription) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim delivers the messages of a partition while it is this member's.
func (n *subscription) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	ctx, cancel := context.WithCancel(session.Context())
	defer cancel()
	go n.endWithClaim(ctx, cancel, claim)
	n.logger.Debug("partition is delivered here", "partition", claim.Partition(), "from", claim.InitialOffset())
	defer n.logger.Debug("partition is not delivered here any more", "partition", claim.Partition())
	if !n.letGo(ctx, claim.Partition()) {
		return nil
	}
	for {
		select {
		case record, ok := <-claim.Messages():
			if !ok || !n.deliver(ctx, record) {
				return nil
			}
			session.MarkMessage(record, "")
		case <-ctx.Done():
			return nil
		}
	}
}

// endWithClaim ends the context of a claim when the claim ends. A cooperative
// rebalance says so by closing the claim's channels, and goes on with the
// session; that of messages cannot be looked at without taking one.
func (n *subscription) endWithClaim(ctx context.Context, cancel context.CancelFunc, claim sarama.ConsumerGroupClaim) {
	consumer, ok := claim.(interface {
		Errors() <-chan *sarama.ConsumerError
	})
	if !ok {
		return
	}
	for {
		select {
		case err, ok := <-consumer.Errors():
			if !ok {
				cancel()
				return
			}
			n.logger.Warn("partition cannot be read for now, trying again", "partition", err.Partition, "error", err.Err)
		case <-ctx.Done():
			return
		}
	}
}

// letGo waits until no earlier message of the partition is in hand, and reports
// whether the claim holds still.
func (n *subscription) letGo(ctx context.Context, partition int32) bool {
	n.mu.Lock()
	msg := n.inHand[partition]
	delete(n.inHand, partition)
	n.mu.Unlock()
	if msg == nil {
		return true
	}
	select {
	case <-msg.Acked():
		return true
	case <-msg.Nacked():
		return true
	case <-ctx.Done():
		n.mu.Lock()
		defer n.mu.Unlock()
		n.inHand[partition] = msg
		return false
	}
}

// deliver delivers a message until it is acknowledged, and reports whether it was.
func (n *subscription) deliver(ctx context.Context, m *sarama.ConsumerMessage) bool {
	record, uuid := recordOf(m.Topic, m.Partition, m.Offset, m.Timestamp, m.Key, m.Value, m.Headers)
	for {
		msg := delivery(record, uuid)
		inHand, done := context.WithCancel(events.WithOrigin(ctx, record.Origin))
		msg.SetContext(inHand)
		acked := n.offer(ctx, msg) && n.settle(ctx, msg)
		done()
		if acked {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		sleep(ctx, n.log.options.NackPause)
	}
}

// offer hands a message out, and reports whether somebody took it.
func (n *subscription) offer(ctx context.Context, msg *message.Message) bool {
	select {
	case n.out <- msg:
		return true
	case <-ctx.Done():
		return false
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
			ended, grace = nil, time.After(n.log.options.CloseGrace)
		case <-grace:
			origin, _ := events.OriginOf(msg)
			n.logger.Warn("message in hand was not acknowledged in time, and will be delivered again",
				"id", msg.UUID, "partition", origin.Partition, "position", origin.Position, "grace", n.log.options.CloseGrace)
			n.mu.Lock()
			n.inHand[origin.Partition] = msg
			n.mu.Unlock()
			return false
		}
	}
}
