//go:build e2e

package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

var topics = events.Topics{Prefix: events.DefaultPrefix}

// openLog opens a log beside the programs that use it.
func openLog(t *testing.T, url string) events.Log {
	t.Helper()
	log, err := drivers.OpenURL(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

// newLog returns the URL of a log that is not there yet.
func newLog(t *testing.T) string {
	t.Helper()
	return "sqlite://" + filepath.Join(t.TempDir(), "tidemark.db")
}

// records returns all that a topic holds.
func records(t *testing.T, log events.Log, topic string) []events.Record {
	t.Helper()
	var all []events.Record
	for record, err := range log.Read(t.Context(), topics.Name(topic), events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, record)
	}
	return all
}

// entry is an event of a topic with its fact.
type entry[T any] struct {
	events.Event
	fact T
}

// facts returns the facts of one type that a topic holds. What is no event is
// passed over.
func facts[T any](t *testing.T, log events.Log, topic string) []entry[T] {
	t.Helper()
	var all []entry[T]
	for _, record := range records(t, log, topic) {
		event, err := record.Event()
		if err != nil {
			continue
		}
		fact, err := event.Fact()
		if err != nil {
			continue
		}
		if wanted, ok := fact.(T); ok {
			all = append(all, entry[T]{event, wanted})
		}
	}
	return all
}

func end(t *testing.T, log events.Log, topic string) int64 {
	t.Helper()
	ends, err := log.Ends(t.Context(), topics.Name(topic))
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, end := range ends {
		sum += end
	}
	return sum
}

// checkDecisions checks that a log holds exactly one decision for each
// observation, in the order of the observations, and that the decisions of each
// deployment form a chain. It returns them.
func checkDecisions(t *testing.T, log events.Log) []entry[*model.ScalingDecision] {
	t.Helper()
	observations := facts[*model.Observation](t, log, events.TopicObservations)
	decisions := facts[*model.ScalingDecision](t, log, events.TopicDecisions)
	if all := records(t, log, events.TopicDecisions); len(all) != len(decisions) {
		t.Errorf("%d of %d decisions cannot be read", len(all)-len(decisions), len(all))
	}
	digests := map[string]string{}
	ids := map[string]bool{}
	of := map[string][]entry[*model.ScalingDecision]{}
	for _, d := range decisions {
		if ids[d.ID] {
			t.Errorf("decision %s is there twice", d.ID)
		}
		ids[d.ID] = true
		of[d.fact.Deployment] = append(of[d.fact.Deployment], d)
		if got, want := d.fact.PreviousDigest, digests[d.fact.Deployment]; got != want {
			t.Errorf("decision %s follows %q, and the one before it has %q", d.ID, got, want)
		}
		digests[d.fact.Deployment] = model.Digest(d.Data)
	}
	next := map[string]int{}
	for _, o := range observations {
		i := next[o.fact.Deployment]
		next[o.fact.Deployment]++
		mine := of[o.fact.Deployment]
		if i >= len(mine) {
			t.Fatalf("observation %s of %s has no decision: there are %d", o.ID, o.fact.ObservedAt, len(mine))
		}
		if mine[i].fact.ObservationID != o.ID || mine[i].CausationID != o.ID {
			t.Fatalf("decision %d of %s is of observation %s, want %s", i, o.fact.Deployment, mine[i].fact.ObservationID, o.ID)
		}
	}
	if len(decisions) != len(observations) {
		t.Errorf("%d decisions for %d observations", len(decisions), len(observations))
	}
	return decisions
}

// data returns the bytes of decisions, a line each.
func data(decisions []entry[*model.ScalingDecision]) string {
	var lines strings.Builder
	for _, d := range decisions {
		lines.Write(d.Data)
		lines.WriteByte('\n')
	}
	return lines.String()
}

// decide decides a log's observations with tidemark decide, under a revision of
// one deployment.
func decide(t *testing.T, log events.Log, configured *model.DeploymentConfigured, keep func(*model.Observation) bool) string {
	t.Helper()
	spec, err := json.Marshal(configured.Spec)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "deployment.json", `{"deployments": [`+string(spec)+`]}`)
	var lines strings.Builder
	for _, o := range facts[*model.Observation](t, log, events.TopicObservations) {
		if keep(o.fact) {
			lines.Write(o.Data)
			lines.WriteByte('\n')
		}
	}
	first, second := tidemark(t, lines.String(), "decide", "-f", file), tidemark(t, lines.String(), "decide", "-f", file)
	if first.code != 0 || first.stderr != "" {
		t.Fatalf("tidemark decide: exit code %d, %s", first.code, first.stderr)
	}
	if first != second {
		t.Fatal("tidemark decide gave other bytes the second time")
	}
	return first.stdout
}

// firstDifference shows where two texts of lines part.
func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is\n%s\nwant\n%s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(a), len(b))
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// appendRaw puts a message that no program of ours would write into a topic.
func appendRaw(t *testing.T, log events.Log, topic, payload string, headers map[string]string) {
	t.Helper()
	msg := message.NewMessage("", []byte(payload))
	msg.Metadata = headers
	if err := log.Publisher().Publish(topics.Name(topic), msg); err != nil {
		t.Fatal(err)
	}
}
