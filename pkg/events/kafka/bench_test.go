package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
)

// The figures of the driver: on the broker in the process; with KAFKA_BROKERS on
// that cluster, and with TIDEMARK_KAFKA_LIBS on Apache Kafka.

func benchLog(b *testing.B, partitions int) (events.Log, string) {
	b.Helper()
	log, err := open(b.Context(), fmt.Sprintf("kafka://%s?create=true&partitions=%d", cluster(b), partitions))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := log.Close(); err != nil {
			b.Error(err)
		}
	})
	return log, "bench-" + strings.ToLower(cryptorand()) + "." + events.TopicObservations
}

func benchMessages(n, keys int) []*message.Message {
	messages := make([]*message.Message, n)
	for i := range messages {
		event := observation(fmt.Sprintf("fleet-%d", i%keys), i)
		event.Data = append(event.Data, strings.Repeat(" ", 1300-len(event.Data))...)
		messages[i] = event.Message()
	}
	return messages
}

func BenchmarkPublish(b *testing.B) {
	log, topic := benchLog(b, 1)
	msg := benchMessages(1, 1)[0]
	if err := log.Publisher().Publish(topic, msg); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := log.Publisher().Publish(topic, msg); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// filled is a topic that holds n messages.
func filled(b *testing.B, n, partitions int) (events.Log, string) {
	b.Helper()
	log, topic := benchLog(b, partitions)
	var publishing errgroup.Group
	for part := range slices.Chunk(benchMessages(n, 4*partitions), n/16) {
		publishing.Go(func() error { return log.Publisher().Publish(topic, part...) })
	}
	if err := publishing.Wait(); err != nil {
		b.Fatal(err)
	}
	return log, topic
}

func BenchmarkRead(b *testing.B) {
	const n = 16_000
	for _, partitions := range []int{1, 6, 12} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			log, topic := filled(b, n, partitions)
			b.ReportAllocs()
			for b.Loop() {
				read := 0
				for _, err := range log.Read(b.Context(), topic, events.Range{}) {
					if err != nil {
						b.Fatal(err)
					}
					read++
				}
				if read != n {
					b.Fatalf("%d messages were read, want %d", read, n)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func BenchmarkSubscribe(b *testing.B) {
	const n = 16_000
	for _, partitions := range []int{1, 6, 12} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			log, topic := filled(b, n, partitions)
			b.ReportAllocs()
			for round := 0; b.Loop(); round++ {
				// A new group begins at the oldest message.
				subscriber, err := log.Subscriber(fmt.Sprintf("%s-%d", topic, round))
				if err != nil {
					b.Fatal(err)
				}
				messages, err := subscriber.Subscribe(context.Background(), topic)
				if err != nil {
					b.Fatal(err)
				}
				for range n {
					(<-messages).Ack()
				}
				if err := subscriber.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
