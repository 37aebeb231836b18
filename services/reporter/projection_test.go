package reporter

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/metrics"
	"tidemark.dev/services/reporter/internal/reporttest"
	"tidemark.dev/services/reporter/internal/web"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	quiet  = slog.New(slog.DiscardHandler)
	topics = events.Topics{Prefix: events.DefaultPrefix}
)

// recorded is a message of the recorded log as its file holds it.
type recorded struct {
	Topic   string            `json:"topic"`
	Headers map[string]string `json:"headers"`
	Data    json.RawMessage   `json:"data"`
}

// record makes the log that the golden files are projections of: a compressed
// day of a deployment that is activated at noon, one of a deployment that is
// retired in the evening, and what does not belong there.
func record(t *testing.T) []recorded {
	t.Helper()
	type sealed struct {
		at    time.Time
		event events.Event
	}
	var all []sealed
	decisions := map[string]string{} // The IDs of events, by those of facts.
	for _, day := range []reporttest.Day{
		{Name: "chat-70b", Seed: 3, Ticks: 144, Step: 10 * time.Minute, ActiveAt: reporttest.Midnight.Add(12 * time.Hour)},
		{Name: "code-8b", Seed: 2, Ticks: 36, Step: 10 * time.Minute, ActiveAt: reporttest.Midnight.Add(48 * time.Hour)},
	} {
		at := reporttest.Midnight
		facts := day.Generate()
		if day.Name == "code-8b" {
			facts = append(facts, reporttest.Fact{Fact: &model.DeploymentRetired{Deployment: day.Name, Revision: 2, ChangedBy: "operator", Reason: "moved"}})
		}
		for _, f := range facts {
			switch fact := f.Fact.(type) {
			case *model.Observation:
				at = fact.ObservedAt
			case *model.ScalingDecision:
				fact.ObservationID = events.ObservationID(day.Name, fact.ObservedAt)
			case *model.ScalingApplied:
				fact.DecisionID = decisions[fact.DecisionID]
			case *model.ScalingRejected:
				fact.DecisionID = decisions[fact.DecisionID]
			case *model.ScalingFailed:
				fact.DecisionID = decisions[fact.DecisionID]
			case *model.ScalingSettled:
				fact.DecisionID = decisions[fact.DecisionID]
			}
			event, err := events.Seal(f.Fact, events.About{Source: "/tidemark/recorded", Time: at})
			if err != nil {
				t.Fatalf("seal %T: %v", f.Fact, err)
			}
			decisions[f.ID] = event.ID
			all = append(all, sealed{at, event})
		}
	}
	letter, err := events.Seal(&model.DeadLetter{
		Topic: "tidemark.observations", Position: 7, Key: "chat-70b", Service: "decider", Reason: "decode observation: unexpected end", Payload: []byte("{"),
	}, events.About{Source: "/tidemark/decider", Time: reporttest.Midnight})
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, sealed{reporttest.Midnight.Add(8 * time.Hour), letter})
	slices.SortStableFunc(all, func(a, b sealed) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	var out []recorded
	for _, s := range all {
		topic, err := events.TopicOf(s.event)
		if err != nil {
			t.Fatal(err)
		}
		msg := s.event.Message()
		out = append(out, recorded{topics.Name(topic), msg.Metadata, json.RawMessage(msg.Payload)})
	}
	strange := out[len(out)-1]
	strange.Topic, strange.Data = topics.Name(events.TopicDecisions), json.RawMessage(`{"what":"is this"}`)
	strange.Headers = map[string]string{"ce_id": "s", "ce_type": "dev.tidemark.scaling-decision.v9", "ce_source": "/elsewhere", "ce_specversion": "1.0", "ce_partitionkey": "chat-70b", "content-type": "application/json"}
	return append(out, strange)
}

const recordedFile = "testdata/recorded.jsonl"

func recordedLog(t *testing.T) []recorded {
	t.Helper()
	if *update {
		var file bytes.Buffer
		encoder := json.NewEncoder(&file)
		encoder.SetEscapeHTML(false)
		for _, r := range record(t) {
			if err := encoder.Encode(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(recordedFile, file.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(recordedFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out []recorded
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func openLog(t *testing.T) events.Log {
	t.Helper()
	log, err := drivers.OpenURL(t.Context(), "memory://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func publish(t *testing.T, log events.Log, from []recorded) {
	t.Helper()
	for _, r := range from {
		msg := message.NewMessage(r.Headers["ce_id"], message.Payload(r.Data))
		msg.Metadata = r.Headers
		if err := log.Publisher().Publish(r.Topic, msg); err != nil {
			t.Fatal(err)
		}
	}
}

// lines collects what is printed.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is a reporter over a log.
type running struct {
	*Reporter
	registry *prometheus.Registry
	printed  *lines
	stop     func()
}

// start runs a reporter until stop is called or the test ends.
func start(t *testing.T, log events.Log, config Config) *running {
	t.Helper()
	r := &running{registry: prometheus.NewRegistry(), printed: &lines{}}
	r.Reporter = &Reporter{
		config: config, log: log, topics: topics, logger: quiet, metrics: metrics.New(), live: web.NewLive(config.History), summaries: r.printed,
		now:         func() time.Time { return reporttest.Midnight.Add(24 * time.Hour) },
		router:      events.RouterConfig{Service: "reporter", Log: log, Topics: topics, Logger: quiet, Registerer: prometheus.NewRegistry()},
		deployments: events.NewDeploymentTable(log, topics, quiet),
	}
	r.registry.MustRegister(r.Reporter.metrics)
	ctx, cancel := context.WithCancel(t.Context())
	done, ready := make(chan error, 1), make(chan struct{})
	go func() { done <- r.Run(ctx, sync.OnceFunc(func() { close(ready) })) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Errorf("the reporter ended: %v", err)
		}
	})
	t.Cleanup(r.stop)
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the reporter ended: %v", err)
	}
	return r
}

func (r *running) text(t *testing.T) string {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&out, family); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// eventually waits until what f returns is what is wanted.
func eventually(t *testing.T, what, want string, f func() string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for f() != want {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s differs (-want +got):\n%s", what, gocmp.Diff(strings.Split(want, "\n"), strings.Split(f(), "\n")))
		}
	}
}

func golden(t *testing.T, name, got string) string {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
	return string(want)
}

func reportData(t *testing.T, log events.Log) string {
	t.Helper()
	data, err := buildReport(t.Context(), log, topics, ReportOptions{GeneratedAt: reporttest.Midnight.Add(24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(data, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

// TestProjections holds a recorded log against its golden projections, byte for
// byte: metrics, summary lines and the data of the report. They come out the
// same from a reporter that starts anew on the same log, and from one that was
// there while the log was written.
func TestProjections(t *testing.T) {
	messages := recordedLog(t)
	log := openLog(t)
	publish(t, log, messages)
	first := start(t, log, DefaultConfig())
	count := strings.Count(string(mustRead(t, recordedFile)), `"topic":"tidemark.decisions"`) - 1
	eventually(t, "whether every summary is printed and the strange message is a dead letter", "true", func() string {
		return fmt.Sprint(strings.Count(first.printed.String(), "[summary]") == count && strings.Contains(first.text(t), `service="reporter"`))
	})
	text := golden(t, "metrics.txt", first.text(t))
	golden(t, "summaries.txt", first.printed.String())
	golden(t, "report.json", reportData(t, log))
	first.stop()

	t.Run("started again", func(t *testing.T) {
		again := start(t, log, DefaultConfig())
		if diff := gocmp.Diff(text, again.text(t)); diff != "" {
			t.Errorf("metrics differ (-before +after):\n%s", diff)
		}
		again.stop()
		if got := again.printed.String(); strings.Contains(got, "[summary]") {
			t.Errorf("summaries were printed again:\n%s", got)
		}
	})

	t.Run("there all along", func(t *testing.T) {
		log := openLog(t)
		publish(t, log, messages[:20])
		r := start(t, log, DefaultConfig())
		publish(t, log, messages[20:])
		eventually(t, "the metrics", text, func() string { return r.text(t) })
		if diff := gocmp.Diff(string(mustRead(t, "testdata/report.json")), reportData(t, log)); diff != "" {
			t.Errorf("the report differs (-want +got):\n%s", diff)
		}
	})
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
