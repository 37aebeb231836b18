// Package eventstest holds every driver of the log to the same behaviour:
// RunLogSuite is the contract of events.Log as tests, and RunPubSubSuite is
// Watermill's own suite for its publishers and subscribers.
//
// A driver's test package calls both, and Main from its TestMain: some tests
// start the test binary again, as the other process.
package eventstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
)

// patience bounds every wait of the suite. It is far beyond what any driver
// needs; who waits that long has failed.
const patience = 30 * time.Second

// Driver is what the suite is told of a driver.
type Driver struct {
	// URL names a log. It is empty, or holds nothing of the topics and groups
	// of a test, whose names no other test has.
	URL func(t *testing.T) string
	// Open opens a log by its URL.
	Open func(ctx context.Context, url string) (events.Log, error)
	// Kept logs are there when they are opened again, by any process.
	Kept bool
	// Idempotent logs do not append a second message with an ID that the topic
	// holds already.
	Idempotent bool
	// Break, where it can be done, makes entries of the topic that no publisher
	// makes: BrokenEntries of them, behind those that are there.
	Break func(t *testing.T, url, topic string)
}

// BrokenEntries is the number of entries that Driver.Break makes.
const BrokenEntries = 3

// RunLogSuite tests that a driver's logs keep the contract of events.Log.
func RunLogSuite(t *testing.T, driver Driver) {
	for _, test := range []struct {
		name string
		run  func(*trial)
		when bool
	}{
		{"publish and read back", publishAndRead, true},
		{"messages without an event", foreignMessages, true},
		{"broken entries", brokenEntries, driver.Break != nil},
		{"order of a key under concurrent publishers", orderOfKeys, true},
		{"publish is idempotent by ID", idempotentPublish, driver.Idempotent},
		{"a new group begins at the oldest message", newGroup, true},
		{"a group's position outlives its members", durablePosition, true},
		{"closing right after an acknowledgement commits it", closeCommits, true},
		{"a negative acknowledgement delivers again", nackRedelivers, true},
		{"a message in hand is finished at the end", messageInHand, true},
		{"a second member takes over", handOver, true},
		{"read a range", readRanges, true},
		{"read to the end as it was", readToEndAsItWas, true},
		{"large messages", largeMessages, true},
		{"read ends with its context", readEndsWithContext, true},
		{"follow", follow, true},
		{"restart", restart, driver.Kept},
		{"closed", closed, true},
		{"two processes", twoProcesses, driver.Kept},
		{"a publishing process is killed", killedPublisher, driver.Kept},
		{"a consuming process is killed", killedConsumer, driver.Kept},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.when {
				t.Skip("this driver does not do that")
			}
			t.Parallel()
			id := rand.Text()[:8]
			tr := &trial{T: t, driver: driver, url: driver.URL(t), topic: "tidemark.trial-" + id, id: id}
			tr.log = tr.open()
			test.run(tr)
		})
	}
}

// trial is one test with a log of its own, or with topics and groups of its own
// on one that others use.
type trial struct {
	*testing.T
	driver Driver
	url    string
	topic  string
	id     string
	log    events.Log
}

// open opens the trial's log, as another process would.
func (t *trial) open() events.Log {
	t.Helper()
	log, err := t.driver.Open(t.Context(), t.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Errorf("close the log: %v", err)
		}
	})
	return log
}

// other returns the log as another process sees it, where there are others.
func (t *trial) other() events.Log {
	if t.driver.Kept {
		return t.open()
	}
	return t.log
}

// numbered returns messages n in [from, to) of a key: event n has the ID
// "key-n" and the number as its data.
func numbered(key string, from, to int) []*message.Message {
	var messages []*message.Message
	for n := from; n < to; n++ {
		event := events.Event{
			ID: fmt.Sprintf("%s-%d", key, n), Type: "dev.tidemark.trial.v1", Source: "/tidemark/trial", Subject: key,
			Time: time.Unix(int64(n), 0), PartitionKey: key, Data: []byte(strconv.Itoa(n)),
		}
		messages = append(messages, event.Message())
	}
	return messages
}

func (t *trial) publish(messages ...*message.Message) {
	t.Helper()
	if err := t.log.Publisher().Publish(t.topic, messages...); err != nil {
		t.Fatal(err)
	}
}

func (t *trial) read(r events.Range) []events.Record {
	t.Helper()
	var records []events.Record
	for record, err := range t.log.Read(t.Context(), t.topic, r) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
	return records
}

// payloads returns what records hold, in their order.
func payloads(records []events.Record) string {
	var all []string
	for _, record := range records {
		all = append(all, string(record.Payload))
	}
	return strings.Join(all, " ")
}

// numbers returns "from from+1 ... to-1".
func numbers(from, to int) string {
	var all []string
	for n := from; n < to; n++ {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, " ")
}

func (t *trial) want(what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s:\n got  %s\n want %s", what, got, want)
	}
}

// member is a member of a consumer group.
type member struct {
	*trial
	message.Subscriber
	messages <-chan *message.Message
}

func (t *trial) join(log events.Log, group string) *member {
	t.Helper()
	subscriber, err := log.Subscriber(group + "-" + t.id)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := subscriber.Subscribe(context.Background(), t.topic)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{trial: t, Subscriber: subscriber, messages: messages}
	t.Cleanup(func() { _ = subscriber.Close() })
	return m
}

// next returns the next message, not yet acknowledged.
func (m *member) next() *message.Message {
	m.Helper()
	select {
	case msg, ok := <-m.messages:
		if !ok {
			m.Fatal("the subscription ended")
		}
		return msg
	case <-time.After(patience):
		m.Fatalf("no message came in %v", patience)
	}
	return nil
}

// take acknowledges the next n messages and returns what they hold.
func (m *member) take(n int) string {
	m.Helper()
	var all []string
	for range n {
		msg := m.next()
		all = append(all, string(msg.Payload))
		msg.Ack()
	}
	return strings.Join(all, " ")
}

func (m *member) leave() {
	m.Helper()
	if err := m.Close(); err != nil {
		m.Fatal(err)
	}
	m.ended()
}

// ended waits for the end of the subscription. A message that was on its way
// when the member left is nobody's.
func (m *member) ended() {
	m.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-m.messages:
			if !ok {
				return
			}
		case <-deadline:
			m.Fatalf("the subscription did not end in %v", patience)
		}
	}
}

func publishAndRead(t *trial) {
	before := time.Now().Add(-time.Second)
	if ends, err := t.log.Ends(t.Context(), t.topic); err != nil || len(ends) != 0 {
		t.Fatalf("ends of a topic that does not exist are %v (%v), want none", ends, err)
	}
	if records := t.read(events.Range{}); len(records) != 0 {
		t.Fatalf("a topic that does not exist holds %d records", len(records))
	}
	t.publish()
	t.publish(numbered("chat-70b", 0, 1)...)
	t.publish(numbered("chat-70b", 1, 600)...)
	records := t.read(events.Range{})
	t.want("records", payloads(records), numbers(0, 600))
	m := t.join(t.log, "readers")
	for i, record := range records {
		msg := m.next()
		origin, ok := events.OriginOf(msg)
		if !ok || origin != record.Origin {
			t.Fatalf("message %d has the origin %+v, its record %+v", i, origin, record.Origin)
		}
		want := numbered("chat-70b", i, i+1)[0]
		if !maps.Equal(record.Headers, want.Metadata) || !maps.Equal(msg.Metadata, want.Metadata) {
			t.Fatalf("headers are %v and %v, want %v", record.Headers, msg.Metadata, want.Metadata)
		}
		if msg.UUID != want.UUID || string(msg.Payload) != string(want.Payload) {
			t.Fatalf("message is %s with %q, want %s with %q", msg.UUID, msg.Payload, want.UUID, want.Payload)
		}
		if record.Topic != t.topic || record.Position != int64(i) || record.Key != "chat-70b" {
			t.Fatalf("record %d has the origin %+v", i, record.Origin)
		}
		if record.AppendedAt.Before(before) || record.AppendedAt.After(time.Now().Add(time.Second)) {
			t.Fatalf("record %d was appended at %v, which is not now", i, record.AppendedAt)
		}
		event, err := events.EventOf(msg)
		if err != nil || event.ID != msg.UUID || !event.Time.Equal(time.Unix(int64(i), 0)) {
			t.Fatalf("message %d holds the event %+v (%v)", i, event, err)
		}
		msg.Ack()
		select {
		case <-msg.Context().Done():
		case <-time.After(patience):
			t.Fatal("the context of an acknowledged message goes on")
		}
	}
	ends, err := t.log.Ends(t.Context(), t.topic)
	if err != nil || ends[records[0].Partition] != 600 {
		t.Fatalf("ends are %v (%v), want 600 in partition %d", ends, err, records[0].Partition)
	}
}

func foreignMessages(t *trial) {
	t.publish(numbered("chat-70b", 0, 1)...)
	bare := message.NewMessage("", nil)
	noise := message.NewMessage("7f1d", []byte{0xff, 0x00, 0xfe})
	noise.Metadata["ce_time"] = "yesterday"
	noise.Metadata["\xff"] = "a key that is no text"
	t.publish(bare, noise)
	t.publish(message.NewMessage("", []byte("without an ID")), message.NewMessage("", []byte("without an ID")))
	t.publish(numbered("chat-70b", 1, 2)...)
	m := t.join(t.log, "readers")
	good := 0
	for range 6 {
		msg := m.next()
		if _, err := events.EventOf(msg); err == nil {
			good++
		}
		msg.Ack()
	}
	if records := t.read(events.Range{}); good != 2 || len(records) != 6 {
		t.Fatalf("%d events were delivered and %d records read, want 2 and 6", good, len(records))
	}
}

func brokenEntries(t *trial) {
	t.publish(numbered("chat-70b", 0, 2)...)
	t.driver.Break(t.T, t.url, t.topic)
	t.publish(numbered("chat-70b", 2, 3)...)
	m := t.join(t.log, "readers")
	t.want("messages before the broken ones", m.take(2), "0 1")
	for range BrokenEntries {
		msg := m.next()
		if event, err := events.EventOf(msg); err == nil {
			t.Errorf("a broken entry holds the event %+v", event)
		}
		if _, ok := events.OriginOf(msg); !ok {
			t.Error("a broken entry has no origin")
		}
		msg.Ack()
	}
	t.want("message behind the broken ones", m.take(1), "2")
	if records := t.read(events.Range{}); len(records) != 3+BrokenEntries {
		t.Errorf("%d records are read, want %d", len(records), 3+BrokenEntries)
	}
}

func orderOfKeys(t *trial) {
	const keys, each = 4, 100
	var publishing sync.WaitGroup
	for k := range keys {
		log, key := t.other(), fmt.Sprintf("fleet-%d", k)
		publishing.Go(func() {
			for n := 0; n < each; n += 2 {
				if err := log.Publisher().Publish(t.topic, numbered(key, n, n+2)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	m := t.join(t.log, "readers")
	delivered := map[string][]string{}
	for range keys * each {
		msg := m.next()
		origin, _ := events.OriginOf(msg)
		delivered[origin.Key] = append(delivered[origin.Key], string(msg.Payload))
		msg.Ack()
	}
	publishing.Wait()
	for k := range keys {
		key := fmt.Sprintf("fleet-%d", k)
		t.want("delivered of "+key, strings.Join(delivered[key], " "), numbers(0, each))
		t.want("read of "+key, payloads(t.read(events.Range{Key: key})), numbers(0, each))
	}
	positions := map[int32][]int64{}
	for _, record := range t.read(events.Range{}) {
		positions[record.Partition] = append(positions[record.Partition], record.Position)
	}
	for partition, all := range positions {
		for i, position := range all {
			if position != int64(i) {
				t.Fatalf("record %d of partition %d has position %d", i, partition, position)
			}
		}
	}
}

func idempotentPublish(t *trial) {
	t.publish(numbered("chat-70b", 0, 3)...)
	again := numbered("chat-70b", 1, 5)
	again[0].Payload = []byte("another 1")
	t.publish(again...)
	if err := t.other().Publisher().Publish(t.topic, numbered("chat-70b", 4, 6)...); err != nil {
		t.Fatal(err)
	}
	twice := numbered("chat-70b", 6, 7)
	t.publish(twice[0], twice[0])
	records := t.read(events.Range{})
	t.want("records", payloads(records), numbers(0, 7))
	if last := records[len(records)-1].Position; last != 6 {
		t.Errorf("the last position is %d, want 6: what is left out leaves no gap", last)
	}
}

func newGroup(t *trial) {
	t.publish(numbered("chat-70b", 0, 3)...)
	for _, group := range []string{"first", "second"} {
		m := t.join(t.log, group)
		t.want("what group "+group+" gets", m.take(3), "0 1 2")
	}
	if _, err := t.log.Subscriber(""); err == nil {
		t.Error("a group without a name is accepted")
	}
}

func durablePosition(t *trial) {
	t.publish(numbered("chat-70b", 0, 10)...)
	first := t.join(t.log, "readers")
	t.want("what the first member gets", first.take(6), numbers(0, 6))
	if positions, err := t.log.Positions(t.Context(), t.topic, "nobody-"+t.id); err != nil || len(positions) != 0 {
		t.Fatalf("a group that nobody was a member of has positions %v (%v)", positions, err)
	}
	first.leave()
	positions, err := t.log.Positions(t.Context(), t.topic, "readers-"+t.id)
	if partition := t.read(events.Range{})[0].Partition; err != nil || len(positions) != 1 || positions[partition] != 6 {
		t.Fatalf("positions are %v (%v), want 6 in partition %d", positions, err, partition)
	}
	if t.driver.Kept {
		if err := t.log.Close(); err != nil {
			t.Fatal(err)
		}
		t.log = t.open()
	}
	second := t.join(t.log, "readers")
	t.want("what the second member gets", second.take(4), numbers(6, 10))
}

func closeCommits(t *trial) {
	t.publish(numbered("chat-70b", 0, 20)...)
	for n := range 20 {
		m := t.join(t.log, "readers")
		t.want("message", m.take(1), strconv.Itoa(n))
		m.leave()
	}
}

func nackRedelivers(t *trial) {
	t.publish(numbered("chat-70b", 0, 2)...)
	m := t.join(t.log, "readers")
	for range 3 {
		msg := m.next()
		t.want("message", string(msg.Payload), "0")
		msg.Metadata["ce_id"] = "what a handler writes is not delivered again"
		msg.Nack()
	}
	again := m.next()
	t.want("ID of a message delivered again", again.Metadata["ce_id"], "chat-70b-0")
	again.Ack()
	// A member that leaves while a message waits to be delivered again leaves at once.
	m.next().Nack()
	m.leave()
	t.want("message of the next member", t.join(t.log, "readers").take(1), "1")
}

func messageInHand(t *trial) {
	t.publish(numbered("chat-70b", 0, 2)...)
	m := t.join(t.log, "readers")
	inHand := m.next()
	leaving := make(chan error, 1)
	go func() { leaving <- m.Close() }()
	select {
	case <-inHand.Context().Done():
	case <-time.After(patience):
		t.Fatal("the context of the message in hand goes on after its subscriber was closed")
	}
	inHand.Ack()
	if err := <-leaving; err != nil {
		t.Fatal(err)
	}
	t.want("message after the one that was in hand", t.join(t.log, "readers").take(1), "1")
}

func handOver(t *trial) {
	t.publish(numbered("chat-70b", 0, 5)...)
	first := t.join(t.log, "readers")
	t.want("what the first member gets", first.take(1), "0")
	second := t.join(t.other(), "readers")
	t.want("what the first member gets", first.take(4), numbers(1, 5))
	select {
	case msg := <-second.messages:
		t.Fatalf("the second member of one partition got %s while the first was there", msg.Payload)
	default:
	}
	first.leave()
	t.publish(numbered("chat-70b", 5, 8)...)
	t.want("what the second member gets", second.take(3), numbers(5, 8))
}

func readRanges(t *trial) {
	t.publish(numbered("chat-70b", 0, 4)...)
	early := t.read(events.Range{})
	partition, boundary := early[0].Partition, early[3].AppendedAt
	// The log's clock has to move on, by whatever its instants are rounded to.
	for n := 4; ; n++ {
		t.publish(numbered("chat-70b", n, n+1)...)
		if all := t.read(events.Range{}); all[len(all)-1].AppendedAt.After(boundary) {
			break
		}
	}
	all := t.read(events.Range{})
	late := slices.IndexFunc(all, func(r events.Record) bool { return r.AppendedAt.After(boundary) })
	at := func(position int64) events.Bound {
		return events.Bound{Positions: map[int32]int64{partition: position}}
	}
	for _, test := range []struct {
		name     string
		r        events.Range
		from, to int
	}{
		{"from a position", events.Range{From: at(2)}, 2, len(all)},
		{"to a position", events.Range{To: at(2)}, 0, 2},
		{"one", events.Range{From: at(1), To: at(2)}, 1, 2},
		{"nothing", events.Range{From: at(2), To: at(2)}, 2, 2},
		{"to beyond the end", events.Range{From: at(3), To: at(1 << 40)}, 3, len(all)},
		{"from beyond the end", events.Range{From: at(1 << 40)}, len(all), len(all)},
		{"from an instant", events.Range{From: events.Bound{Time: all[late].AppendedAt}}, late, len(all)},
		{"from just after an instant", events.Range{From: events.Bound{Time: boundary.Add(time.Nanosecond)}}, late, len(all)},
		{"to an instant", events.Range{To: events.Bound{Time: all[late].AppendedAt}}, 0, late},
		{"from before everything", events.Range{From: events.Bound{Time: time.Unix(0, 0)}}, 0, len(all)},
		{"from the future", events.Range{From: events.Bound{Time: time.Now().Add(time.Hour)}}, len(all), len(all)},
		{"another partition's position", events.Range{From: events.Bound{Positions: map[int32]int64{partition + 1: 3}}}, 0, len(all)},
		{"a key", events.Range{Key: "chat-70b", From: at(1)}, 1, len(all)},
		{"another key", events.Range{Key: "chat-8b"}, 0, 0},
	} {
		t.want(test.name, payloads(t.read(test.r)), numbers(test.from, test.to))
	}
}

func readToEndAsItWas(t *trial) {
	t.publish(numbered("chat-70b", 0, 700)...)
	next := 700
	var read []events.Record
	for record, err := range t.log.Read(t.Context(), t.topic, events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, record)
		if len(read)%10 == 1 {
			t.publish(numbered("chat-70b", next, next+1)...)
			next++
		}
	}
	t.want("records", payloads(read), numbers(0, 700))
}

func largeMessages(t *trial) {
	const each, size = 12, 700 << 10
	large := numbered("chat-70b", 0, each)
	for _, msg := range large {
		msg.Payload = bytes.Repeat(msg.Payload, size/len(msg.Payload))
	}
	t.publish(large...)
	records := t.read(events.Range{})
	m := t.join(t.log, "readers")
	if len(records) != each {
		t.Fatalf("%d records are read, want %d", len(records), each)
	}
	for i, record := range records {
		msg := m.next()
		if !bytes.Equal(record.Payload, large[i].Payload) || !bytes.Equal(msg.Payload, large[i].Payload) {
			t.Fatalf("message %d is not what was published", i)
		}
		msg.Ack()
	}
}

func readEndsWithContext(t *trial) {
	t.publish(numbered("chat-70b", 0, 700)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var failed error
	for _, err := range t.log.Read(ctx, t.topic, events.Range{}) {
		cancel()
		failed = err
	}
	if failed == nil {
		t.Error("a reading that did not get to its end ended without an error")
	}
	for _, err := range t.log.Read(t.Context(), t.topic, events.Range{}) {
		if err != nil {
			t.Error(err)
		}
		break // a reader may stop
	}
}

func follow(t *trial) {
	t.publish(numbered("chat-70b", 0, 3)...)
	partition := t.read(events.Range{})[0].Partition
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	other, seen := t.other(), []events.Record{}
	for record, err := range t.log.Follow(ctx, t.topic, events.Range{
		From: events.Bound{Positions: map[int32]int64{partition: 1}},
		To:   events.Bound{Positions: map[int32]int64{partition: 2}}, // is ignored
		Key:  "chat-70b",
	}) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, record)
		if next := len(seen) + 2; next < 40 {
			if err := other.Publisher().Publish(t.topic, slices.Concat(numbered("chat-8b", next, next+1), numbered("chat-70b", next, next+1))...); err != nil {
				t.Fatal(err)
			}
		} else if len(seen) == 39 {
			cancel()
		}
	}
	if len(seen) < 39 {
		t.Fatalf("%d records were followed before %v, want 39", len(seen), patience)
	}
	t.want("records", payloads(seen), numbers(1, 40))
	// A topic may come into being while it is followed.
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	t.topic = "tidemark.new-" + t.id
	made := make(chan struct{})
	go func() {
		defer close(made)
		if err := other.Publisher().Publish(t.topic, numbered("chat-70b", 0, 1)...); err != nil {
			t.Error(err)
		}
	}()
	for record, err := range t.log.Follow(ctx, t.topic, events.Range{}) {
		if err != nil || string(record.Payload) != "0" {
			t.Fatalf("a new topic holds %q (%v)", record.Payload, err)
		}
		break
	}
	<-made
}

func restart(t *trial) {
	t.publish(numbered("chat-70b", 0, 300)...)
	before := t.read(events.Range{})
	if err := t.log.Close(); err != nil {
		t.Fatal(err)
	}
	t.log = t.open()
	after := t.read(events.Range{})
	t.want("records", payloads(after), payloads(before))
	for i := range before {
		if before[i].Position != after[i].Position || !before[i].AppendedAt.Equal(after[i].AppendedAt) {
			t.Fatalf("record %d was %+v and is %+v", i, before[i].Origin, after[i].Origin)
		}
	}
	t.publish(numbered("chat-70b", 300, 301)...)
	t.want("records", payloads(t.read(events.Range{})), numbers(0, 301))
}

func closed(t *trial) {
	t.publish(numbered("chat-70b", 0, 2)...)
	m := t.join(t.log, "readers")
	t.want("message", m.take(1), "0")
	following := make(chan error, 1)
	go func() {
		var last error
		for _, err := range t.log.Follow(context.Background(), t.topic, events.Range{}) {
			last = err
		}
		following <- last
	}()
	if err := t.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := t.log.Close(); err != nil {
		t.Errorf("a second Close fails: %v", err)
	}
	m.ended()
	if err := <-following; err == nil {
		t.Error("a follower of a log that was closed ended as if its context were done")
	}
	if err := t.log.Publisher().Publish(t.topic, numbered("chat-70b", 2, 3)...); err == nil {
		t.Error("a closed log takes messages")
	}
	if _, err := t.log.Subscriber("readers"); err == nil {
		t.Error("a closed log has subscribers")
	}
	if _, err := m.Subscribe(context.Background(), t.topic); err == nil {
		t.Error("a closed subscriber subscribes")
	}
}
