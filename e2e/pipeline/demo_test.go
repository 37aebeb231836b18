//go:build e2e

package pipeline

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// TestDemo runs the demo to its end on its generated day, and looks at what it
// printed, served, wrote and left in the log.
func TestDemo(t *testing.T) {
	runDemo(t, "a generated day of traffic", "--speed", "240")
}

// TestDemoOnTrace runs the demo on an hour of requests to a public service.
func TestDemoOnTrace(t *testing.T) {
	trace := shared(t, "traces/AzureLLMInferenceTrace_conv.csv")
	runDemo(t, filepath.Base(trace), "--trace", trace, "--speed", "200")
}

func runDemo(t *testing.T, workload string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	var out, errs buffer
	demo := start(t, &out, &errs, "tidemark", append([]string{"demo", "--dir", dir}, args...)...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the demo printed\n%s\n%s", tail(out.String(), 40), tail(errs.String(), 20))
		}
	})
	demo.ready(t)
	until(t, "the live page shows a decision", func() bool {
		status, page := demo.get(t, "/metrics")
		return status == http.StatusOK && strings.Contains(page, "tidemark_decisions_total{")
	})
	if status, page := demo.get(t, "/"); status != http.StatusOK || !strings.Contains(page, "chat-70b") {
		t.Errorf("the live page has status %d and %d bytes", status, len(page))
	}
	select {
	case <-demo.ended:
	case <-time.After(2 * patience):
		t.Fatal("the demo has not ended")
	}
	if code := demo.command.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("the demo ended with %s", demo.command.ProcessState)
	}
	for _, want := range []string{"http://" + demo.address, workload, "chat-70b is active from here on", "[summary] ", "mode=advisory", "mode=active", "report.html"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo did not print %q", want)
		}
	}
	if strings.Contains(out.String(), "\x1b") || strings.Contains(out.String(), "\r") {
		t.Error("the demo drew on a pipe as on a terminal")
	}

	log := openLog(t, "sqlite://"+one(t, filepath.Join(dir, "*", "tidemark.db")))
	decisions := checkDecisions(t, log)
	if letters := records(t, log, events.TopicDeadLetters); len(letters) > 0 {
		t.Errorf("%d messages went to the dead letters: %s", len(letters), letters[0].Payload)
	}
	checkAdvisory(t, log, decisions)
	checkDecide(t, log, decisions)
	openPage(t, one(t, filepath.Join(dir, "*", "report.html")))
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: found %v (%v), want one", pattern, found, err)
	}
	return found[0]
}

// checkAdvisory checks that nothing was done while the deployment was advisory,
// and something afterwards.
func checkAdvisory(t *testing.T, log events.Log, decisions []entry[*model.ScalingDecision]) {
	t.Helper()
	modes := map[string]model.Mode{}
	count := map[model.Mode]int{}
	for _, d := range decisions {
		modes[d.ID] = d.fact.Mode
		count[d.fact.Mode]++
	}
	if count[model.Advisory] == 0 || count[model.Active] == 0 {
		t.Errorf("decisions by mode are %v, want both", count)
	}
	var activated time.Time
	for _, record := range records(t, log, events.TopicDeployments) {
		if strings.Contains(string(record.Payload), `"advisory":false`) && activated.IsZero() {
			activated = record.AppendedAt
		}
	}
	for _, record := range records(t, log, events.TopicActuations) {
		if activated.IsZero() || record.AppendedAt.Before(activated) {
			t.Errorf("an actuation of %s, and the deployment is active since %s: %s", record.AppendedAt, activated, record.Payload)
		}
	}
	applied := facts[*model.ScalingApplied](t, log, events.TopicActuations)
	for _, a := range applied {
		if modes[a.fact.DecisionID] != model.Active || a.fact.Epoch != 1 {
			t.Errorf("decision %s of mode %q was applied in epoch %d", a.fact.DecisionID, modes[a.fact.DecisionID], a.fact.Epoch)
		}
	}
	if len(applied) == 0 {
		t.Error("nothing was done while the deployment was active")
	}
}

// ofMode are the parts of a decision that follow from the deployment's mode alone.
var ofMode = regexp.MustCompile(`"config_revision":\d+,"epoch":\d+,"mode":"[a-z]+"|"previous_digest":"[^"]*"`)

// checkDecide checks that the decisions in the log are those of tidemark decide:
// to the byte while the deployment had the mode that it was applied with, and in
// all but the mode and what follows from it to the end.
func checkDecide(t *testing.T, log events.Log, decisions []entry[*model.ScalingDecision]) {
	t.Helper()
	configured := facts[*model.DeploymentConfigured](t, log, events.TopicDeployments)[0].fact
	got := decide(t, log, configured, func(o *model.Observation) bool { return o.ConfigRevision == 1 })
	want := ""
	for _, d := range decisions {
		if d.fact.ConfigRevision == 1 {
			want += string(d.Data) + "\n"
		}
	}
	if got != want {
		t.Errorf("tidemark decide differs from the decider: %s", firstDifference(got, want))
	}
	got = decide(t, log, configured, func(*model.Observation) bool { return true })
	got, want = ofMode.ReplaceAllString(got, ""), ofMode.ReplaceAllString(data(decisions), "")
	if got != want {
		t.Errorf("tidemark decide differs from the decider, apart from the mode: %s", firstDifference(got, want))
	}
}

// openPage opens a file in a headless Chromium, which must find everything in
// it, complain about nothing, and draw charts.
func openPage(t *testing.T, path string) {
	t.Helper()
	browser := ""
	// tools/browser has the same names.
	for _, name := range []string{"headless_shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			browser = found
			break
		}
	}
	if browser == "" {
		if os.Getenv("TIDEMARK_REQUIRE_BROWSER") == "1" {
			t.Fatal("there is no Chromium: make browser installs it")
		}
		t.Log("there is no Chromium, so the report is not opened: make browser installs it")
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND", "--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=5000", "--enable-logging=stderr", "--dump-dom", "file://"+path)
	var errs buffer
	command.Stderr = &errs
	page, err := command.Output()
	if err != nil {
		t.Fatalf("open %s: %v\n%s", path, err, tail(errs.String(), 20))
	}
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the page complains: %s", line)
		}
	}
	for _, want := range []string{"default-src 'none'", "chat-70b", "<canvas"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page, as it was drawn, has no %q", want)
		}
	}
}

// TestDemoStopped: a demo that is stopped ends in time, with an error and
// without a summary that would look like a whole run's.
func TestDemoStopped(t *testing.T) {
	var out, errs buffer
	demo := start(t, &out, &errs, "tidemark", "demo", "--dir", t.TempDir())
	demo.ready(t)
	if err := demo.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-demo.ended:
	case <-time.After(patience):
		t.Fatal("the demo has not ended")
	}
	if code := demo.command.ProcessState.ExitCode(); code != 1 || !strings.HasSuffix(errs.String(), "tidemark: the demo was stopped before its end\n") {
		t.Errorf("exit code %d, errors %q", code, errs.String())
	}
	if strings.Contains(out.String(), "Report ") {
		t.Errorf("a stopped demo concludes: %s", out.String())
	}
}
