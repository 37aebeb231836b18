package kafka

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/internal/stream"
)

const (
	// fetchBytes is how much a reader asks for at a time.
	fetchBytes = 4 << 20
	// fetchRetries and fetchPause bound how long a partition that cannot be
	// read, while its leader moves, is tried again.
	fetchRetries = 60
	fetchPause   = 250 * time.Millisecond
	// appearPause is the time until a topic that does not exist is looked for again.
	appearPause = 200 * time.Millisecond
)

// span is a range of a partition.
type span struct{ from, to int64 }

// Read reads a range partition after partition.
func (l *Log) Read(ctx context.Context, topic string, r events.Range) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		spans, err := l.spans(ctx, topic, r)
		if err != nil {
			yield(events.Record{}, fmt.Errorf("read %s: %w", topic, err))
			return
		}
		for _, partition := range slices.Sorted(maps.Keys(spans)) {
			if !l.scan(ctx, topic, partition, spans[partition], r.Key, yield) {
				return
			}
		}
	}
}

// spans returns the positions of a range in each partition of it.
func (l *Log) spans(ctx context.Context, topic string, r events.Range) (map[int32]span, error) {
	if err := l.usable(ctx); err != nil {
		return nil, err
	}
	partitions, err := l.partitions(topic)
	if err != nil {
		return nil, err
	}
	partitions = slices.DeleteFunc(slices.Clone(partitions), func(p int32) bool { return !r.Includes(p) })
	ends, err := l.offsets(topic, partitions, sarama.OffsetNewest)
	if err != nil {
		return nil, err
	}
	from, err := l.bound(topic, partitions, r.From, ends, func(open []int32) (map[int32]int64, error) {
		return l.offsets(topic, open, sarama.OffsetOldest)
	})
	if err != nil {
		return nil, err
	}
	to, err := l.bound(topic, partitions, r.To, ends, func([]int32) (map[int32]int64, error) { return ends, nil })
	if err != nil {
		return nil, err
	}
	spans := make(map[int32]span, len(partitions))
	for _, p := range partitions {
		spans[p] = span{from: from[p], to: min(to[p], ends[p])}
	}
	return spans, nil
}

// bound resolves a bound. Partitions that it leaves open are answered by open.
func (l *Log) bound(topic string, partitions []int32, bound events.Bound, ends map[int32]int64, open func([]int32) (map[int32]int64, error)) (map[int32]int64, error) {
	resolved := make(map[int32]int64, len(partitions))
	var rest []int32
	for _, p := range partitions {
		if position, named := bound.Positions[p]; named {
			resolved[p] = position
		} else {
			rest = append(rest, p)
		}
	}
	if len(rest) == 0 {
		return resolved, nil
	}
	find := open
	if !bound.Time.IsZero() {
		// Kafka's instants are whole milliseconds.
		at := bound.Time.UnixMilli()
		if bound.Time.After(time.UnixMilli(at)) {
			at++
		}
		// A negative instant would be taken for oldest or newest.
		find = func(rest []int32) (map[int32]int64, error) { return l.offsets(topic, rest, max(at, 0)) }
	}
	found, err := find(rest)
	if err != nil {
		return nil, err
	}
	for _, p := range rest {
		resolved[p] = found[p]
		if found[p] < 0 {
			resolved[p] = ends[p]
		}
	}
	return resolved, nil
}

// scan yields the records of a span of a partition, and reports whether it got
// to its end. It follows the batches, not the records: compaction and
// transactions leave positions without one, the last of a span among them.
func (l *Log) scan(ctx context.Context, topic string, partition int32, s span, key string, yield func(events.Record, error) bool) bool {
	failures := 0
	// A block may hold thousands of records, and the context ends between two.
	pass := func(block *sarama.FetchResponseBlock) (more bool, err error) {
		s.from, more, err = pass(block, topic, partition, s, key, func(record events.Record) bool {
			if err := ctx.Err(); err != nil {
				yield(events.Record{}, fmt.Errorf("read %s, partition %d, from position %d: %w", topic, partition, record.Position, err))
				return false
			}
			return yield(record, nil)
		})
		return more, err
	}
	for s.from < s.to {
		if err := l.usable(ctx); err != nil {
			yield(events.Record{}, fmt.Errorf("read %s, partition %d, from position %d: %w", topic, partition, s.from, err))
			return false
		}
		block, err := l.fetch(topic, partition, s.from)
		switch {
		case errors.Is(err, sarama.ErrOffsetOutOfRange) && failures < fetchRetries:
			// Retention has taken what the range begins with.
			var oldest map[int32]int64
			if oldest, err = l.offsets(topic, []int32{partition}, sarama.OffsetOldest); err == nil && oldest[partition] > s.from {
				s.from = oldest[partition]
				continue
			}
		case err == nil && len(block.RecordsSet) > 0:
			before, more := s.from, false
			if more, err = pass(block); !more {
				return false
			}
			if err == nil && s.from > before {
				failures = 0
				continue
			}
		}
		if failures++; failures > fetchRetries {
			if err == nil {
				err = errors.New("the broker returns nothing")
			}
			yield(events.Record{}, fmt.Errorf("read %s, partition %d, from position %d: %w", topic, partition, s.from, classify(err)))
			return false
		}
		if errors.Is(classify(err), events.ErrFatal) {
			failures = fetchRetries
			continue
		}
		sleep(ctx, fetchPause)
		_ = l.client.RefreshMetadata(topic) // a leader that is not found is found by the next attempt
	}
	return true
}

// pass yields the records of a fetched block that are in a span, and returns
// the position to go on from.
func pass(block *sarama.FetchResponseBlock, topic string, partition int32, s span, key string, yield func(events.Record) bool) (next int64, more bool, err error) {
	next = s.from
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		if batch == nil {
			return next, true, errors.New("the broker holds messages in a form from before Kafka 0.11")
		}
		if batch.PartialTrailingRecord && len(batch.Records) == 0 {
			continue
		}
		for _, r := range batch.Records {
			offset := batch.FirstOffset + r.OffsetDelta
			if batch.Control || offset < s.from || offset >= s.to || key != "" && string(r.Key) != key {
				continue
			}
			appended := batch.FirstTimestamp.Add(r.TimestampDelta)
			if batch.LogAppendTime {
				appended = batch.MaxTimestamp
			}
			record, _ := recordOf(topic, partition, offset, appended, r.Key, r.Value, r.Headers)
			if !yield(record) {
				return next, false, nil
			}
		}
		next = max(next, batch.LastOffset()+1)
	}
	return next, true, nil
}

// fetch asks the leader of a partition for what is at a position and after it.
func (l *Log) fetch(topic string, partition int32, position int64) (*sarama.FetchResponseBlock, error) {
	leader, err := l.client.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	request := &sarama.FetchRequest{
		Version: 11, MinBytes: 1, MaxBytes: fetchBytes, MaxWaitTime: int32(fetchPause.Milliseconds()), SessionEpoch: -1,
	}
	request.AddBlock(topic, partition, position, fetchBytes, -1)
	response, err := leader.Fetch(request)
	if err != nil {
		_ = leader.Close() // it is opened again when it is asked for
		return nil, err
	}
	block := response.GetBlock(topic, partition)
	switch {
	case block == nil:
		return nil, errors.New("the broker's answer lacks the partition")
	case !errors.Is(block.Err, sarama.ErrNoError):
		return nil, block.Err
	}
	return block, nil
}

// Follow reads a range and goes on.
func (l *Log) Follow(ctx context.Context, topic string, r events.Range) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		err := l.follow(ctx, topic, r, yield)
		switch {
		case err == nil || ctx.Err() != nil:
		case l.open.Err() != nil:
			yield(events.Record{}, fmt.Errorf("follow %s: %w", topic, stream.ErrClosed))
		default:
			yield(events.Record{}, fmt.Errorf("follow %s: %w", topic, classify(err)))
		}
	}
}

// follow returns nil when the reader has had enough.
func (l *Log) follow(ctx context.Context, topic string, r events.Range, yield func(events.Record, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.open, cancel)()
	for {
		exists, err := l.exists(topic)
		if err != nil {
			return err
		}
		if exists {
			break
		}
		if sleep(ctx, appearPause); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	spans, err := l.spans(ctx, topic, events.Range{From: r.From, Partitions: r.Partitions})
	if err != nil {
		return err
	}
	// A reader has connections of its own: brokers answer those of one
	// connection in turn, and this one waits for what is to come.
	consumer, err := sarama.NewConsumer(l.config.Brokers, l.sarama)
	if err != nil {
		return err
	}
	defer consumer.Close()
	records := make(chan events.Record)
	failed := make(chan error, len(spans))
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	for partition, s := range spans {
		// What is beyond the end is waited for, and what retention has taken is
		// left out: the start can have moved since it was asked for.
		from := min(s.from, s.to)
		followed, err := consumer.ConsumePartition(topic, partition, from)
		if errors.Is(err, sarama.ErrOffsetOutOfRange) {
			followed, err = consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		}
		if err != nil {
			return err
		}
		following.Go(func() {
			if err := l.followPartition(ctx, followed, s.from, r.Key, records); err != nil {
				failed <- fmt.Errorf("partition %d: %w", partition, err)
			}
		})
	}
	for {
		select {
		case record := <-records:
			if !yield(record, nil) {
				return nil
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// followPartition passes on what a partition holds from a position, until the
// context is done. It closes the consumer.
func (l *Log) followPartition(ctx context.Context, followed sarama.PartitionConsumer, from int64, key string, out chan<- events.Record) error {
	defer func() {
		followed.AsyncClose()
		for range followed.Messages() { // drained, so that the consumer can end
		}
		for range followed.Errors() {
		}
	}()
	var last error
	for {
		select {
		case m, ok := <-followed.Messages():
			if !ok {
				// The consumer only ends by itself over what it cannot mend.
				return errors.Join(errors.New("the consumer ended"), last)
			}
			if m.Offset < from || key != "" && string(m.Key) != key {
				continue
			}
			record, _ := recordOf(m.Topic, m.Partition, m.Offset, m.Timestamp, m.Key, m.Value, m.Headers)
			select {
			case out <- record:
			case <-ctx.Done():
				return nil
			}
		case err, ok := <-followed.Errors():
			if ok {
				// It is tried again.
				last = err
				l.options.Logger.Warn("topic cannot be followed for now, trying again", "topic", err.Topic, "partition", err.Partition, "error", err.Err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
