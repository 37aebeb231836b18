package kafka_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

const patience = 60 * time.Second

// site is a cluster, and topics of one test on it.
type site struct {
	*testing.T
	brokers string
	log     events.Log
	topics  events.Topics
	id      string
}

func newSite(t *testing.T, partitions int) *site {
	t.Helper()
	s := &site{T: t, brokers: cluster(t), id: strings.ToLower(cryptorand())}
	s.topics = events.Topics{Prefix: "test-" + s.id + "."}
	s.log = s.open(partitions)
	return s
}

func cryptorand() string { return rand.Text()[:8] }

func (s *site) open(partitions int) events.Log {
	s.Helper()
	log, err := open(s.Context(), fmt.Sprintf("kafka://%s?create=true&partitions=%d", s.brokers, partitions))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := log.Close(); err != nil {
			s.Error(err)
		}
	})
	return log
}

// foreign returns a client that is not ours.
func (s *site) foreign(options ...kgo.Opt) *kgo.Client {
	s.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(s.brokers, ",")...)}, options...)...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(client.Close)
	return client
}

func (s *site) read(log events.Log, topic string, r events.Range) []events.Record {
	s.Helper()
	var records []events.Record
	for record, err := range log.Read(s.Context(), topic, r) {
		if err != nil {
			s.Fatal(err)
		}
		records = append(records, record)
	}
	return records
}

func (s *site) publish(topic string, messages ...*message.Message) {
	s.Helper()
	if err := s.log.Publisher().Publish(topic, messages...); err != nil {
		s.Fatal(err)
	}
}

func observation(deployment string, n int) events.Event {
	sealed, err := events.Seal(&model.Observation{
		Deployment: deployment, ConfigRevision: 1, Loops: model.Loops{Load: true},
		ObservedAt: time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC).Add(time.Duration(n) * 5 * time.Second),
	}, events.About{Source: "/tidemark/collector"})
	if err != nil {
		panic(err)
	}
	return sealed
}

// A consumer that knows CloudEvents and not us reads the binary mode, to the
// letter; and a key is in the partition that others put it in.
func TestRecordsAreCloudEvents(t *testing.T) {
	s := newSite(t, 12)
	topic := s.topics.Name(events.TopicObservations)
	event := observation("chat-70b", 1)
	event.CausationID, event.TraceParent = "cause", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	s.publish(topic, event.Message())
	// franz-go partitions as Java does.
	client := s.foreign(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(topic))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := client.ProduceSync(ctx, &kgo.Record{Key: []byte("chat-70b"), Value: []byte("foreign")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var seen []*kgo.Record
	for len(seen) < 2 {
		fetched := client.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, fetched.Records()...)
	}
	ours := seen[0]
	want := []kgo.RecordHeader{
		{Key: "ce_causationid", Value: []byte("cause")},
		{Key: "ce_id", Value: []byte(event.ID)},
		{Key: "ce_partitionkey", Value: []byte("chat-70b")},
		{Key: "ce_source", Value: []byte("/tidemark/collector")},
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_subject", Value: []byte("chat-70b")},
		{Key: "ce_time", Value: []byte("2026-11-23T20:00:05Z")},
		{Key: "ce_traceparent", Value: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")},
		{Key: "ce_type", Value: []byte("dev.tidemark.observation.v1")},
		{Key: "content-type", Value: []byte("application/json")},
	}
	if diff := cmp.Diff(want, ours.Headers); diff != "" {
		t.Errorf("headers differ (-want +got):\n%s", diff)
	}
	if string(ours.Key) != "chat-70b" || string(ours.Value) != string(event.Data) {
		t.Errorf("record is %q with %q", ours.Key, ours.Value)
	}
	if ours.Partition != seen[1].Partition {
		t.Errorf("we put the key into partition %d, another client into %d", ours.Partition, seen[1].Partition)
	}
}

// The structured mode is accepted from whoever publishes it.
func TestStructuredEventsAreRead(t *testing.T) {
	s := newSite(t, 3)
	topic := s.topics.Name(events.TopicObservations)
	event := observation("chat-70b", 1)
	s.publish(topic, observation("chat-70b", 0).Message())
	value := fmt.Sprintf(`{"specversion": "1.0", "id": %q, "type": %q, "source": "/elsewhere", "subject": "chat-70b", "data": %s}`, event.ID, event.Type, event.Data)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.foreign().ProduceSync(ctx, &kgo.Record{
		Topic: topic, Key: []byte("chat-70b"), Value: []byte(value),
		Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json; charset=UTF-8")}},
	}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	records := s.read(s.log, topic, events.Range{})
	if len(records) != 2 {
		t.Fatalf("%d records are read, want 2", len(records))
	}
	got, err := records[1].Event()
	if err != nil {
		t.Fatal(err)
	}
	fact, err := got.Fact()
	if err != nil {
		t.Fatal(err)
	}
	want, err := event.Fact()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, fact); diff != "" || got.PartitionKey != "chat-70b" || got.Source != "/elsewhere" {
		t.Errorf("event is %+v, and its fact differs:\n%s", got, diff)
	}
}

// A range of a topic of many partitions is read by key, position and partition.
func TestManyPartitions(t *testing.T) {
	const partitions, keys, each = 6, 20, 30
	s := newSite(t, partitions)
	topic := s.topics.Name(events.TopicObservations)
	for n := range each {
		for k := range keys {
			s.publish(topic, observation("fleet-"+strconv.Itoa(k), n).Message())
		}
	}
	all := s.read(s.log, topic, events.Range{})
	if len(all) != keys*each {
		t.Fatalf("%d records are read, want %d", len(all), keys*each)
	}
	byKey, byPartition := map[string][]events.Record{}, map[int32][]events.Record{}
	for _, record := range all {
		byKey[record.Key] = append(byKey[record.Key], record)
		byPartition[record.Partition] = append(byPartition[record.Partition], record)
	}
	if len(byPartition) < 3 {
		t.Fatalf("%d keys are in %d partitions", keys, len(byPartition))
	}
	ends, err := s.log.Ends(t.Context(), topic)
	if err != nil || len(ends) != partitions {
		t.Fatalf("ends are %v (%v), want those of %d partitions", ends, err, partitions)
	}
	for key, records := range byKey {
		for n, record := range records {
			if want := observation(key, n).ID; record.Headers["ce_id"] != want || record.Partition != records[0].Partition {
				t.Fatalf("record %d of %s is %s in partition %d", n, key, record.Headers["ce_id"], record.Partition)
			}
		}
		if diff := cmp.Diff(records, s.read(s.log, topic, events.Range{Key: key})); diff != "" {
			t.Errorf("reading %s alone differs:\n%s", key, diff)
		}
	}
	for partition, records := range byPartition {
		if ends[partition] != int64(len(records)) {
			t.Errorf("partition %d ends at %d and holds %d", partition, ends[partition], len(records))
		}
		if diff := cmp.Diff(records[2:], s.read(s.log, topic, events.Range{
			Partitions: []int32{partition}, From: events.Bound{Positions: map[int32]int64{partition: 2}},
		})); diff != "" {
			t.Errorf("reading partition %d from 2 differs:\n%s", partition, diff)
		}
		followed := 0
		for record, err := range s.log.Follow(t.Context(), topic, events.Range{Partitions: []int32{partition}}) {
			if err != nil {
				t.Fatal(err)
			}
			if record.Partition != partition || record.Position != int64(followed) {
				t.Fatalf("following partition %d gave %+v", partition, record.Origin)
			}
			if followed++; followed == len(records) {
				break
			}
		}
	}
}

// The marks of transactions are positions without a record, also at the end.
func TestReadEndsAtTheMarksOfTransactions(t *testing.T) {
	s := newSite(t, 1)
	topic := s.topics.Name(events.TopicObservations)
	s.publish(topic, observation("chat-70b", 0).Message())
	client := s.foreign(kgo.TransactionalID("test-"+s.id), kgo.DefaultProduceTopic(topic))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Key: []byte("chat-70b"), Value: []byte("in a transaction")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	// The mark comes a little after the answer, and has a position.
	for ends := map[int32]int64{}; ends[0] != 3; {
		var err error
		if ends, err = s.log.Ends(ctx, topic); err != nil {
			t.Fatalf("ends are %v (%v), want 3: the mark has a position", ends, err)
		}
	}
	if records := s.read(s.log, topic, events.Range{}); len(records) != 2 || string(records[1].Payload) != "in a transaction" {
		t.Errorf("%d records are read, want 2", len(records))
	}
}

// What retention has taken is left out, and does not hold the reader up.
func TestReadBeginsWhereTheTopicDoes(t *testing.T) {
	s := newSite(t, 1)
	topic := s.topics.Name(events.TopicObservations)
	for n := range 10 {
		s.publish(topic, observation("chat-70b", n).Message())
	}
	admin, err := sarama.NewClusterAdmin(strings.Split(s.brokers, ","), sarama.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.DeleteRecords(topic, map[int32]int64{0: 4}); err != nil {
		t.Fatal(err)
	}
	for _, from := range []events.Bound{{}, {Positions: map[int32]int64{0: 1}}} {
		records := s.read(s.log, topic, events.Range{From: from})
		if len(records) != 6 || records[0].Position != 4 {
			t.Errorf("from %+v, %d records are read, want 6 from position 4", from, len(records))
		}
	}
	for record, err := range s.log.Follow(t.Context(), topic, events.Range{From: events.Bound{Positions: map[int32]int64{0: 1}}}) {
		if err != nil || record.Position != 4 {
			t.Errorf("following begins at %d (%v), want 4", record.Position, err)
		}
		break
	}
}

// Members that join and leave share the partitions: every message is delivered,
// each key in order, and what stays with a member is not interrupted.
func TestMembersShareThePartitions(t *testing.T) {
	const partitions, keys, each = 6, 24, 60
	s := newSite(t, partitions)
	topic := s.topics.Name(events.TopicObservations)
	var mu sync.Mutex
	first := map[string][]string{} // per key: the IDs, in the order of their first delivery
	seen, holders, busy := map[string]bool{}, map[int32]int{}, map[string]int{}
	// join adds a member, and returns what ends it.
	join := func(number int) (leave func()) {
		subscriber, err := s.open(partitions).Subscriber("readers-" + s.id)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := subscriber.Subscribe(context.Background(), topic)
		if err != nil {
			t.Fatal(err)
		}
		var working sync.WaitGroup
		working.Go(func() {
			for msg := range messages {
				working.Go(func() {
					origin, _ := events.OriginOf(msg)
					mu.Lock()
					busy[fmt.Sprint(number, origin.Partition)]++
					if busy[fmt.Sprint(number, origin.Partition)] > 1 {
						t.Errorf("member %d has two messages of partition %d in hand", number, origin.Partition)
					}
					if !seen[msg.UUID] {
						seen[msg.UUID] = true
						first[origin.Key] = append(first[origin.Key], msg.UUID)
					}
					holders[origin.Partition] = number
					busy[fmt.Sprint(number, origin.Partition)]--
					mu.Unlock()
					msg.Ack()
				})
			}
		})
		return func() {
			if err := subscriber.Close(); err != nil {
				t.Error(err)
			}
			working.Wait()
		}
	}
	published := 0
	publish := func(n int) {
		for range n {
			for k := range keys {
				s.publish(topic, observation("fleet-"+strconv.Itoa(k), published).Message())
			}
			published++
		}
	}
	members := func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Compact(slices.Sorted(maps.Values(holders)))
	}
	// until publishes until the partitions are with so many members.
	until := func(n int) {
		deadline := time.Now().Add(patience)
		for len(members()) != n {
			if time.Now().After(deadline) {
				t.Fatalf("members %v have partitions, want %d of them", members(), n)
			}
			publish(1)
		}
	}
	publish(each / 4)
	leave0 := join(0)
	until(1)
	leave1 := join(1)
	until(2)
	leave2 := join(2)
	until(3)
	leave0()
	mu.Lock()
	clear(holders)
	mu.Unlock()
	until(2)
	leave2()
	mu.Lock()
	clear(holders)
	mu.Unlock()
	publish(1)
	until(1)
	deadline := time.Now().Add(patience)
	for done := false; !done; {
		mu.Lock()
		done = len(seen) == keys*published
		mu.Unlock()
		if !done && time.Now().After(deadline) {
			t.Fatalf("%d messages were delivered, want %d", len(seen), keys*published)
		}
		time.Sleep(10 * time.Millisecond) // polled: members have nothing that tells
	}
	leave1()
	for k := range keys {
		key := "fleet-" + strconv.Itoa(k)
		for n, id := range first[key] {
			if id != observation(key, n).ID {
				t.Fatalf("message %d of %s was delivered out of order", n, key)
			}
		}
	}
}

// Whatever bytes come in, they become dead letters, and what is good is handled.
func TestNothingStallsAPartition(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 500
	}
	s := newSite(t, 3)
	topic := s.topics.Name(events.TopicObservations)
	s.publish(topic, observation("chat-70b", 0).Message())
	client := s.foreign(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(1_000_000))
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	random := mathrand.New(mathrand.NewPCG(1, 2))
	noise := func(most int) []byte {
		bytes := make([]byte, random.IntN(most))
		for i := range bytes {
			bytes[i] = byte(random.Uint32())
		}
		return bytes
	}
	record := func(event events.Event, change func(*kgo.Record)) *kgo.Record {
		r := &kgo.Record{Key: []byte(event.PartitionKey), Value: event.Data}
		for name, value := range event.Message().Metadata {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
		change(r)
		return r
	}
	setHeader := func(r *kgo.Record, name, value string) {
		for i := range r.Headers {
			if r.Headers[i].Key == name {
				r.Headers[i].Value = []byte(value)
			}
		}
	}
	var bad []*kgo.Record
	for i := range n {
		event := observation("fleet-"+strconv.Itoa(i%7), i)
		switch i % 5 {
		case 0:
			bad = append(bad, &kgo.Record{Key: noise(20), Value: noise(2000), Headers: []kgo.RecordHeader{{Key: string(noise(9)), Value: noise(50)}}})
		case 1:
			bad = append(bad, record(event, func(r *kgo.Record) { r.Value = r.Value[:random.IntN(len(r.Value))] }))
		case 2:
			bad = append(bad, record(event, func(r *kgo.Record) { setHeader(r, "ce_type", "dev.tidemark.unheard-of.v1") }))
		case 3:
			bad = append(bad, record(event, func(r *kgo.Record) { setHeader(r, "ce_type", "dev.tidemark.observation.v99") }))
		case 4:
			bad = append(bad, &kgo.Record{Key: noise(20), Value: noise(300), Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}})
		}
	}
	// As large as a topic takes: its letter is larger.
	large := make([]byte, 990_000)
	for i := range large {
		large[i] = byte(random.Uint32())
	}
	bad = append(bad, &kgo.Record{Value: large})
	good := 1
	for i, r := range bad {
		client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if i%100 == 0 {
			client.Produce(ctx, record(observation("chat-70b", good), func(*kgo.Record) {}), nil)
			good++
		}
	}
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	router, err := events.NewRouter(events.RouterConfig{
		Service: "trial", Log: s.log, Topics: s.topics, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	subscriber, err := s.log.Subscriber("trial-" + s.id)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var handled []string
	router.AddConsumerHandler("handle", topic, subscriber, func(msg *message.Message) error {
		event, err := events.EventOf(msg)
		if err != nil {
			return err
		}
		if _, err := event.Fact(); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		handled = append(handled, event.ID)
		return nil
	})
	running := make(chan error, 1)
	go func() { running <- router.Run(ctx) }()
	letters := map[string]bool{}
	for letter, err := range s.log.Follow(ctx, s.topics.Name(events.TopicDeadLetters), events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		event, err := letter.Event()
		if err != nil {
			t.Fatal(err)
		}
		fact, err := event.Fact()
		if err != nil {
			t.Fatal(err)
		}
		if dead, ok := fact.(*model.DeadLetter); !ok || dead.Reason == "" || dead.Topic != topic {
			t.Fatalf("dead letter is %+v", fact)
		}
		if letters[event.ID] = true; len(letters) == len(bad) {
			break
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		done := len(handled) >= good
		mu.Unlock()
		if done {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d good events were handled", len(handled), good)
		}
	}
	if err := router.Close(); err != nil {
		t.Error(err)
	}
	if err := <-running; err != nil {
		t.Error(err)
	}
	if len(letters) != len(bad) || len(handled) != good {
		t.Errorf("%d dead letters and %d handled, want %d and %d", len(letters), len(handled), len(bad), good)
	}
	t.Logf("%d dead letters, %d handled", len(letters), len(handled))
}
