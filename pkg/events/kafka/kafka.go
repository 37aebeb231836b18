// Package kafka is the log in production: Apache Kafka, or whatever speaks its
// protocol from version 3.6 on.
//
// Publishing goes through Watermill's publisher for Kafka, idempotent and
// acknowledged by all replicas in sync. A publication of several messages is
// not one transaction: after an error some of them may be in the log. Nor does
// Kafka know an ID twice: what is published again is there again, and consumers
// drop it by its ID.
//
// Keys are partitioned by murmur2, as Java's and librdkafka's producers can do
// and do by default, so an event of a deployment lands in the same partition
// whoever publishes it. Consumer groups share partitions cooperatively: those
// that stay with a member go on while others move.
//
// Positions are Kafka's offsets. They rise, and have gaps where compaction took
// something out or a transaction left its marks.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	watermillkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/internal/stream"
)

// Options tune a log, as they tune the embedded ones.
type Options = stream.Options

// Log is an events.Log on a cluster.
type Log struct {
	config  Config
	options Options
	sarama  *sarama.Config
	client  sarama.Client
	admin   sarama.ClusterAdmin

	// open ends when the subscribers have: it is what readers live by.
	open context.Context
	shut context.CancelFunc

	// publishing is held for reading while a publication is on its way.
	publishing sync.RWMutex
	producer   func() (*watermillkafka.Publisher, error)
	produced   *watermillkafka.Publisher

	members stream.Members

	mu     sync.Mutex
	topics map[string]bool
}

var _ events.Log = (*Log)(nil)

// Open connects to a cluster.
func Open(ctx context.Context, config Config, options Options) (*Log, error) {
	settings, err := config.client()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	client, err := sarama.NewClient(config.Brokers, settings)
	if err != nil {
		return nil, fmt.Errorf("connect to kafka at %v: %w", config.Brokers, err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to kafka at %v: %w", config.Brokers, err), client.Close())
	}
	l := &Log{
		config: config, options: options.WithDefaults(), sarama: settings, client: client, admin: admin,
		topics: map[string]bool{},
	}
	l.open, l.shut = context.WithCancel(context.Background())
	// Who only reads needs no producer, and may not be allowed to have one.
	l.producer = sync.OnceValues(func() (*watermillkafka.Publisher, error) {
		var err error
		l.produced, err = watermillkafka.NewPublisher(watermillkafka.PublisherConfig{
			Brokers: config.Brokers, Marshaler: marshaler{}, OverwriteSaramaConfig: settings,
		}, watermill.NewSlogLogger(l.options.Logger))
		return l.produced, err
	})
	return l, nil
}

// Publisher returns the log's publisher. Its Close does nothing: the log closes it.
func (l *Log) Publisher() message.Publisher { return publisher{log: l} }

type publisher struct{ log *Log }

func (publisher) Close() error { return nil }

func (p publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	p.log.publishing.RLock()
	defer p.log.publishing.RUnlock()
	if p.log.open.Err() != nil {
		return fmt.Errorf("append to %s: %w", topic, stream.ErrClosed)
	}
	if err := p.log.ensure(topic); err != nil {
		return fmt.Errorf("append to %s: %w", topic, err)
	}
	producer, err := p.log.producer()
	if err != nil {
		return fmt.Errorf("append to %s: %w", topic, err)
	}
	if err := producer.Publish(topic, messages...); err != nil {
		return fmt.Errorf("append to %s: %w", topic, classify(err))
	}
	return nil
}

// classify tells the errors of the cluster apart: what no repetition mends, and
// what ends the process because somebody has to change the cluster.
func classify(err error) error {
	switch {
	case errors.Is(err, sarama.ErrMessageSizeTooLarge), errors.Is(err, sarama.ErrInvalidMessage), errors.Is(err, sarama.ErrInvalidMessageSize), errors.Is(err, sarama.ErrInvalidRecord):
		return events.Permanent(err)
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrClusterAuthorizationFailed), errors.Is(err, sarama.ErrGroupAuthorizationFailed):
		return events.Fatal(fmt.Errorf("the cluster's access rules do not allow it: %w", err))
	}
	return err
}

// ensure makes a topic that does not exist, if that is allowed.
func (l *Log) ensure(topic string) error {
	exists, err := l.exists(topic)
	switch {
	case exists || err != nil:
		return err
	case !l.config.Create:
		return fmt.Errorf("topic %s does not exist: tidemark doctor --fix makes the topics", topic)
	}
	return l.create(topic, tableEntry(topic))
}

// exists reports whether a topic exists. It remembers those that do.
func (l *Log) exists(topic string) (bool, error) {
	l.mu.Lock()
	known := l.topics[topic]
	l.mu.Unlock()
	if known {
		return true, nil
	}
	var described []*sarama.TopicMetadata
	err := l.again(func() (err error) {
		described, err = l.admin.DescribeTopics([]string{topic})
		return err
	}, func() { _, _ = l.client.RefreshController() }) // it is the controller that is asked
	if err != nil {
		return false, fmt.Errorf("look for topic %s: %w", topic, err)
	}
	for _, found := range described {
		switch {
		case errors.Is(found.Err, sarama.ErrUnknownTopicOrPartition):
			return false, nil
		case !errors.Is(found.Err, sarama.ErrNoError):
			return false, fmt.Errorf("look for topic %s: %w", topic, classify(found.Err))
		}
	}
	l.mu.Lock()
	l.topics[topic] = true
	l.mu.Unlock()
	return true, nil
}

// partitions returns the partitions of a topic, none if it does not exist.
func (l *Log) partitions(topic string) ([]int32, error) {
	exists, err := l.exists(topic)
	if err != nil || !exists {
		return nil, err
	}
	partitions, err := l.client.Partitions(topic)
	if err != nil {
		return nil, fmt.Errorf("list the partitions of %s: %w", topic, err)
	}
	return partitions, nil
}

// Ends returns the end of each partition of a topic.
func (l *Log) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	if err := l.usable(ctx); err != nil {
		return nil, fmt.Errorf("find the end of %s: %w", topic, err)
	}
	partitions, err := l.partitions(topic)
	if err != nil {
		return nil, err
	}
	return l.offsets(topic, partitions, sarama.OffsetNewest)
}

// Positions returns the committed offsets of a group.
func (l *Log) Positions(ctx context.Context, topic, group string) (map[int32]int64, error) {
	if err := l.usable(ctx); err != nil {
		return nil, fmt.Errorf("find the position of %s in %s: %w", group, topic, err)
	}
	partitions, err := l.partitions(topic)
	if err != nil || len(partitions) == 0 {
		return map[int32]int64{}, err
	}
	response, err := l.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: partitions})
	if errors.Is(err, sarama.ErrGroupIDNotFound) {
		return map[int32]int64{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the position of %s in %s: %w", group, topic, classify(err))
	}
	positions := map[int32]int64{}
	for _, partition := range partitions {
		// A partition without a committed offset has -1.
		if block := response.GetBlock(topic, partition); block != nil && errors.Is(block.Err, sarama.ErrNoError) && block.Offset >= 0 {
			positions[partition] = block.Offset
		}
	}
	return positions, nil
}

// offsets asks the leaders of partitions for their oldest or newest offset, or
// the first at an instant in milliseconds: -1 where there is none.
func (l *Log) offsets(topic string, partitions []int32, at int64) (map[int32]int64, error) {
	var found map[int32]int64
	err := l.again(func() (err error) {
		found, err = l.listOffsets(topic, partitions, at)
		return err
	}, func() { _ = l.client.RefreshMetadata(topic) })
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, classify(err))
	}
	return found, nil
}

// askFor is how long the cluster is asked for what one of its brokers knows: it
// takes up to 9 s until a broker that is gone has a successor.
const askFor = 20 * time.Second

// again asks the cluster something, and asks again while brokers come and go, or
// leaders move. Between two attempts it looks up anew whom to ask; what is still
// wrong then shows in the next answer.
func (l *Log) again(ask func() error, lookUp func()) error {
	for began := time.Now(); ; {
		err := ask()
		if err == nil || !moving(err) || time.Since(began) > askFor {
			return err
		}
		if sleep(l.open, fetchPause); l.open.Err() != nil {
			return stream.ErrClosed
		}
		lookUp()
	}
}

func (l *Log) listOffsets(topic string, partitions []int32, at int64) (map[int32]int64, error) {
	found := make(map[int32]int64, len(partitions))
	if len(partitions) == 0 {
		return found, nil
	}
	asked := make(map[int32]int64, len(partitions))
	for _, partition := range partitions {
		asked[partition] = at
	}
	answers, err := l.admin.ListOffsets(map[string]map[int32]int64{topic: asked}, nil)
	if err != nil {
		return nil, err
	}
	for _, partition := range partitions {
		answer := answers[topic][partition]
		switch {
		case answer == nil:
			return nil, fmt.Errorf("partition %d is missing from the answer", partition)
		case answer.Err != nil && !errors.Is(answer.Err, sarama.ErrNoError):
			return nil, fmt.Errorf("partition %d: %w", partition, answer.Err)
		}
		found[partition] = answer.Offset
	}
	return found, nil
}

// moving reports whether an error is one that ends by itself: a leader is being
// chosen, or a broker starts again.
func moving(err error) bool {
	for _, passing := range [...]error{
		sarama.ErrNotLeaderForPartition, sarama.ErrLeaderNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrUnknownTopicOrPartition,
		sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch, sarama.ErrOffsetNotAvailable, sarama.ErrBrokerNotAvailable,
		sarama.ErrRequestTimedOut, sarama.ErrOutOfBrokers, sarama.ErrNotConnected, sarama.ErrKafkaStorageError, io.EOF,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// usable returns why nothing can be asked of the log any more.
func (l *Log) usable(ctx context.Context) error {
	if l.open.Err() != nil {
		return stream.ErrClosed
	}
	return ctx.Err()
}

// Subscriber returns a member of a consumer group.
func (l *Log) Subscriber(group string) (message.Subscriber, error) {
	return l.members.Join(group, func(ctx context.Context, topic string, out chan *message.Message) {
		l.deliver(ctx, topic, group, out)
	})
}

// Close ends subscribers and readers, waits for publications on their way, and
// then releases the connections.
func (l *Log) Close() error {
	if !l.members.Close() {
		return nil
	}
	l.shut()
	l.publishing.Lock()
	defer l.publishing.Unlock()
	var errs []error
	if l.produced != nil {
		errs = append(errs, l.produced.Close())
	}
	// The administrator's client is the log's.
	if err := l.client.Close(); err != nil && !errors.Is(err, sarama.ErrClosedClient) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the log: %w", err)
	}
	return nil
}

// sleep waits, or less if the context ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
