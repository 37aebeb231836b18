package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// TestDemo runs the whole pipeline on a short trace. It ends with a decision
// for each observation and a report.
func TestDemo(t *testing.T) {
	var trace strings.Builder
	trace.WriteString("t_ms,isl,osl\n")
	for i := range 1200 {
		fmt.Fprintf(&trace, "%d,1024,64\n", i*500)
	}
	dir := t.TempDir()
	// A decision lives for a minute, 0.6 s at this speed: on a loaded machine one
	// may expire, and the demo warns of it.
	ran := tidemark(t, "", "demo", "--trace", write(t, "short.csv", trace.String()), "--speed", "100", "--dir", dir)
	if ran.code != exitOK {
		t.Fatalf("exit code %d, errors %q", ran.code, ran.stderr)
	}
	out := ran.stdout
	for _, want := range []string{"Live page   http://127.0.0.1:", "short.csv, 10m0s at 100x", "chat-70b is active from here on", "MODE ", "advisory ", "active ", "report.html"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*", "tidemark.db"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs are %v: %v", logs, err)
	}
	if reports, _ := filepath.Glob(filepath.Join(dir, "*", "report.html")); len(reports) != 1 {
		t.Errorf("reports are %v", reports)
	}
	log := openLog(t, "sqlite://"+logs[0])
	decided := map[string]int{}
	modes := map[model.Mode]int{}
	var observed []string
	for record, err := range log.Read(t.Context(), topics.Name(events.TopicObservations), events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		event, err := record.Event()
		if err != nil {
			t.Fatal(err)
		}
		observed = append(observed, event.ID)
	}
	for record, err := range log.Read(t.Context(), topics.Name(events.TopicDecisions), events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		event, err := record.Event()
		if err != nil {
			t.Fatal(err)
		}
		fact, err := event.Fact()
		if err != nil {
			t.Fatal(err)
		}
		if decision, ok := fact.(*model.ScalingDecision); ok {
			decided[decision.ObservationID]++
			modes[decision.Mode]++
		}
	}
	// 120 ticks are due; a loaded machine misses some, and never makes up for them.
	if len(observed) < 10 {
		t.Errorf("%d observations of 10 minutes", len(observed))
	}
	for _, id := range observed {
		if decided[id] != 1 {
			t.Errorf("observation %s has %d decisions", id, decided[id])
		}
	}
	if modes[model.Advisory] == 0 || len(decided) != len(observed) {
		t.Errorf("decisions by mode are %v, for %d observations", modes, len(observed))
	}
}

// TestDemoRefusesTrace: a trace is read before anything is made, and a broken
// line is one clear line.
func TestDemoRefusesTrace(t *testing.T) {
	for content, want := range map[string]string{
		"t_ms,isl,osl\n0,100,10\n5,many,10\n": "broken.csv, line 3",
		"t_ms,isl,osl\n":                      "broken.csv",
		"":                                    "broken.csv",
	} {
		dir := filepath.Join(t.TempDir(), "demo")
		tidemark(t, "", "demo", "--trace", write(t, "broken.csv", content), "--dir", dir).wantLine(t, exitError, want)
		if made, _ := filepath.Glob(dir); len(made) > 0 {
			t.Errorf("%v was made for a trace that was refused", made)
		}
	}
}
