// Package archive is a log as a file of JSON lines: one line for a record, as
// tidemark tail -o json prints them.
//
// A file opened is a log that is only read: whatever reads a log reads it, at
// the positions and instants that the records had. Publishing to it and
// subscribing to it fail. The file is not copied into memory; it must not
// change while it is open. A line that is no record is an error that names it,
// and nothing of the file is used.
package archive

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
)

// ErrReadOnly is the error of publishing to an archive, and of subscribing.
var ErrReadOnly = errors.New("an archive is only read")

// Log is an archive that is open.
type Log struct {
	file   *os.File
	topics map[string][]entry
}

var _ events.Log = (*Log)(nil)

// entry is where a record stands in the file, and what ranges select it by.
type entry struct {
	offset     int64
	length     int
	line       int
	partition  int32
	position   int64
	appendedAt time.Time
	key        string
}

// Open opens an archive.
func Open(path string) (*Log, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	l := &Log{file: file, topics: map[string][]entry{}}
	if err := l.index(); err != nil {
		return nil, errors.Join(fmt.Errorf("open archive: %s, %w", path, err), file.Close())
	}
	return l, nil
}

// index reads the file once.
func (l *Log) index() error {
	reader := bufio.NewReaderSize(l.file, 1<<16)
	names := map[string]string{} // one copy of each topic and key
	intern := func(name string) string {
		if _, known := names[name]; !known {
			names[name] = name
		}
		return names[name]
	}
	offset := int64(0)
	for number := 1; ; number++ {
		text, err := reader.ReadBytes('\n')
		if len(bytes.TrimSpace(text)) > 0 {
			var head struct {
				Topic      string    `json:"topic"`
				Partition  int32     `json:"partition"`
				Position   int64     `json:"position"`
				AppendedAt time.Time `json:"appended_at"`
				Key        string    `json:"key"`
			}
			if err := json.Unmarshal(text, &head); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			if head.Topic == "" {
				return fmt.Errorf("line %d: it has no topic; want the lines of tidemark tail -o json", number)
			}
			topic := intern(head.Topic)
			l.topics[topic] = append(l.topics[topic], entry{
				offset: offset, length: len(text), line: number, partition: head.Partition, position: head.Position,
				appendedAt: head.AppendedAt, key: intern(head.Key),
			})
		}
		offset += int64(len(text))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	for topic := range l.topics {
		if err := l.order(topic); err != nil {
			return err
		}
	}
	return nil
}

// order puts the records of a topic into the order of their positions, and
// leaves out what is there again, as where archives overlap.
func (l *Log) order(topic string) error {
	byPosition := func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.position, b.position))
	}
	entries := l.topics[topic]
	next := map[int32]int64{}
	ordered := true
	for _, e := range entries {
		ordered = ordered && e.position >= next[e.partition]
		next[e.partition] = e.position + 1
	}
	if ordered {
		return nil
	}
	slices.SortStableFunc(entries, byPosition)
	kept := entries[:1]
	for _, e := range entries[1:] {
		last := kept[len(kept)-1]
		if byPosition(last, e) != 0 {
			kept = append(kept, e)
			continue
		}
		a, err := l.record(last)
		if err != nil {
			return err
		}
		b, err := l.record(e)
		if err != nil {
			return err
		}
		if !bytes.Equal(a.Payload, b.Payload) {
			return fmt.Errorf("lines %d and %d: both are position %d of %s, with other data", last.line, e.line, e.position, topic)
		}
	}
	l.topics[topic] = kept
	return nil
}

func (l *Log) record(e entry) (events.Record, error) {
	text := make([]byte, e.length)
	if _, err := l.file.ReadAt(text, e.offset); err != nil {
		return events.Record{}, fmt.Errorf("line %d: %w", e.line, err)
	}
	var line Line
	if err := json.Unmarshal(text, &line); err != nil {
		return events.Record{}, fmt.Errorf("line %d: %w", e.line, err)
	}
	return line.Record(), nil
}

// Read reads a range of a topic.
func (l *Log) Read(ctx context.Context, topic string, r events.Range) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		for _, e := range l.topics[topic] {
			if !selected(e, r) {
				continue
			}
			record, err := l.record(e)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(events.Record{}, fmt.Errorf("read %s: %w", topic, err))
				return
			}
			if !yield(record, nil) {
				return
			}
		}
	}
}

func selected(e entry, r events.Range) bool {
	if !r.Includes(e.partition) {
		return false
	}
	return (r.Key == "" || r.Key == e.key) && !before(e, r.From, math.MinInt64) && before(e, r.To, math.MaxInt64)
}

// before says whether a record stands before a bound; one that is open is at a
// position.
func before(e entry, bound events.Bound, open int64) bool {
	if position, ok := bound.Positions[e.partition]; ok {
		return e.position < position
	}
	if !bound.Time.IsZero() {
		return e.appendedAt.Before(bound.Time)
	}
	return e.position < open
}

// Follow reads a range, and then waits for the context: an archive does not grow.
func (l *Log) Follow(ctx context.Context, topic string, r events.Range) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		for record, err := range l.Read(ctx, topic, events.Range{From: r.From, Key: r.Key, Partitions: r.Partitions}) {
			if ctx.Err() != nil {
				return
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
		<-ctx.Done()
	}
}

// Ends returns the position after the last record of each partition.
func (l *Log) Ends(_ context.Context, topic string) (map[int32]int64, error) {
	ends := map[int32]int64{}
	for _, e := range l.topics[topic] {
		ends[e.partition] = max(ends[e.partition], e.position+1)
	}
	return ends, nil
}

// Positions returns none: an archive has no groups.
func (l *Log) Positions(context.Context, string, string) (map[int32]int64, error) {
	return map[int32]int64{}, nil
}

// Publisher returns a publisher that refuses.
func (l *Log) Publisher() message.Publisher { return refusing{} }

type refusing struct{}

func (refusing) Publish(topic string, _ ...*message.Message) error {
	return events.Permanent(fmt.Errorf("publish to %s: %w", topic, ErrReadOnly))
}

func (refusing) Close() error { return nil }

// Subscriber returns ErrReadOnly: an archive keeps no group's position.
func (l *Log) Subscriber(group string) (message.Subscriber, error) {
	return nil, fmt.Errorf("subscribe as %s: %w", group, ErrReadOnly)
}

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }
