package archive_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/archive"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

// TestLineKeepsTheRecord: whatever a record holds comes back, to the byte.
func TestLineKeepsTheRecord(t *testing.T) {
	text, dir := rapid.StringN(0, 12, -1), t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.OneOf(
			rapid.SliceOf(rapid.Byte()),
			rapid.SampledFrom([][]byte{[]byte(`{"a":"<&> \u003c"}`), []byte(`{ "a": 1 }`), []byte(`null`), []byte("{}\n"), []byte(`{"a":"é\u2028"}`), {}}),
		).Draw(t, "data")
		event := events.Event{
			ID: rapid.StringN(1, 12, -1).Draw(t, "id"), Type: "dev.tidemark.observation.v1", Source: "/s", Subject: text.Draw(t, "subject"),
			Time:         time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC(),
			PartitionKey: "chat", CausationID: text.Draw(t, "causation"), Data: data,
		}
		msg := event.Message()
		record := events.Record{
			Origin:  events.Origin{Topic: "t", Partition: 3, Position: 1 << 40, Key: "chat", AppendedAt: event.Time.Add(time.Second)},
			Headers: msg.Metadata, Payload: data,
		}
		if rapid.Bool().Draw(t, "is no event") {
			record.Headers = map[string]string{"foreign": text.Draw(t, "header")}
		}
		encoded, err := archive.LineOf(record).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(encoded), "\n") != 1 {
			t.Fatalf("line is %q", encoded)
		}
		path := filepath.Join(dir, "one.jsonl")
		if err := os.WriteFile(path, encoded, 0o600); err != nil {
			t.Fatal(err)
		}
		log, err := archive.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		var got []events.Record
		for record, err := range log.Read(context.Background(), "t", events.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, record)
		}
		if len(got) != 1 || string(got[0].Payload) != string(data) {
			t.Fatalf("payload %q comes back as %+v", data, got)
		}
		got[0].Payload = record.Payload
		if diff := cmp.Diff(record, got[0]); diff != "" {
			t.Fatalf("record (-kept +read):\n%s", diff)
		}
	})
}

func open(t *testing.T, lines string) *archive.Log {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive.jsonl")
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := archive.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// copied returns the lines of a topic of a log.
func copied(t *testing.T, log events.Log, topic string) string {
	t.Helper()
	var lines []byte
	for record, err := range log.Read(t.Context(), topic, events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		if lines, err = archive.LineOf(record).Append(lines); err != nil {
			t.Fatal(err)
		}
	}
	return string(lines)
}

const topic = "tidemark.observations"

// TestReadsLikeTheLog: ranges of an archive are those of the log that it is of.
func TestReadsLikeTheLog(t *testing.T) {
	log, err := drivers.OpenURL(t.Context(), "memory://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	for i := range 20 {
		name := []string{"chat", "embed"}[i%2]
		sealed, err := events.Seal(&model.Observation{Deployment: name, ConfigRevision: 1, ObservedAt: time.Unix(int64(i), 0).UTC()}, events.About{Source: "/test"})
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Publisher().Publish(topic, sealed.Message()); err != nil {
			t.Fatal(err)
		}
	}
	lines := copied(t, log, topic)
	kept := open(t, lines)
	fifth := collect(t, log, events.Range{From: at(5)})[0].AppendedAt
	for name, r := range map[string]events.Range{
		"all":        {},
		"key":        {Key: "embed"},
		"positions":  {From: at(3), To: at(9)},
		"beyond":     {From: at(100)},
		"instant":    {From: events.Bound{Time: fifth}},
		"to instant": {To: events.Bound{Time: fifth}},
		"all three":  {From: at(3), To: events.Bound{Time: fifth}, Key: "chat"},
	} {
		want, got := collect(t, log, r), collect(t, kept, r)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-log +archive):\n%s", name, diff)
		}
	}
	ends, _ := log.Ends(t.Context(), topic)
	if got, err := kept.Ends(t.Context(), topic); err != nil || !cmp.Equal(got, ends) {
		t.Errorf("ends are %v (%v), want %v", got, err, ends)
	}
	// Overlapping archives in any order are one.
	at := strings.SplitAfter(lines, "\n")
	again := open(t, strings.Join(at[8:], "")+strings.Join(at[:14], ""))
	if diff := cmp.Diff(collect(t, log, events.Range{}), collect(t, again, events.Range{})); diff != "" {
		t.Errorf("overlapping (-log +archive):\n%s", diff)
	}
}

func at(position int64) events.Bound { return events.Bound{Positions: map[int32]int64{0: position}} }

func collect(t *testing.T, log events.Log, r events.Range) []events.Record {
	t.Helper()
	var all []events.Record
	for record, err := range log.Read(t.Context(), topic, r) {
		if err != nil {
			t.Fatal(err)
		}
		record.AppendedAt = record.AppendedAt.UTC()
		all = append(all, record)
	}
	return all
}

// TestRefused: a line that is no record is named; so is a contradiction.
func TestRefused(t *testing.T) {
	const good = `{"topic":"t","partition":0,"position":0,"appended_at":"2026-11-23T20:00:00Z","data":{"a":1}}` + "\n"
	for lines, want := range map[string]string{
		good + "\n{no JSON\n":                         "line 3: invalid character",
		good + `{"deployment":"chat"}`:                "line 2: it has no topic; want the lines of tidemark tail -o json",
		good + good[:40]:                              "line 2: unexpected end of JSON",
		good + strings.Replace(good, `1}}`, `2}}`, 1): "lines 1 and 2: both are position 0 of t, with other data",
	} {
		path := filepath.Join(t.TempDir(), "archive.jsonl")
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: error is %v, want %q", lines, err, want)
		}
	}
	log := open(t, good)
	if err := log.Publisher().Publish("t", message.NewMessage("1", nil)); !errors.Is(err, archive.ErrReadOnly) || !errors.Is(err, events.ErrPermanent) {
		t.Errorf("publishing: %v", err)
	}
	if _, err := log.Subscriber("group"); !errors.Is(err, archive.ErrReadOnly) {
		t.Errorf("subscribing: %v", err)
	}
}
