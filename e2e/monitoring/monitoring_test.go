//go:build e2e

// Package monitoring holds what operators watch Tidemark with against what
// Tidemark exports: alert rules and the dashboard, in a Prometheus server.
package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	rules     = "../../deploy/prometheus/tidemark.rules.yml"
	ruleTests = "../../deploy/prometheus/tidemark.rules.test.yml"
	dashboard = "../../deploy/grafana/dashboards/tidemark.json"
	exported  = "../../services/reporter/testdata/metrics.txt"

	patience = 30 * time.Second
)

// need skips the test where a program is missing, or fails it where it must not be.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		const missing = "there is no Prometheus: `make prometheus` installs it"
		if os.Getenv("TIDEMARK_REQUIRE_PROMETHEUS") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
}

func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	need(t, "promtool")
	command := exec.CommandContext(t.Context(), "promtool", args...)
	command.Stdin = bytes.NewReader(stdin)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}

func TestAlertRules(t *testing.T) {
	promtool(t, nil, "check", "rules", rules)
	promtool(t, nil, "test", "rules", ruleTests)
	rulesText, testsText := read(t, rules), read(t, ruleTests)
	for line := range strings.Lines(string(rulesText)) {
		if _, alert, ok := strings.Cut(line, "- alert: "); ok && !strings.Contains(string(testsText), "alertname: "+strings.TrimSpace(alert)+"\n") {
			t.Errorf("no test makes the alert %s fire", strings.TrimSpace(alert))
		}
	}
}

// TestMetricsAreConventional has Prometheus's own linter read what is exported.
func TestMetricsAreConventional(t *testing.T) {
	promtool(t, read(t, exported), "check", "metrics")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// query is one that a panel or an annotation of the dashboard asks.
type query struct{ panel, expr string }

func queries(t *testing.T) []query {
	t.Helper()
	type target struct{ Expr string }
	var board struct {
		Panels []struct {
			Title   string
			Targets []target
		}
		Annotations struct {
			List []struct{ Name, Expr string }
		}
	}
	if err := json.Unmarshal(read(t, dashboard), &board); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$deployment", ".+", "$__rate_interval", "1m", "$__range", "1h")
	var out []query
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			out = append(out, query{panel.Title, variables.Replace(target.Expr)})
		}
	}
	for _, annotation := range board.Annotations.List {
		out = append(out, query{annotation.Name, variables.Replace(annotation.Expr)})
	}
	return out
}

// silent are the panels without data on what is recorded: its deployment has no
// aggregated engines and is activated once only, and the recorded metrics are the
// reporter's projections, not the figures of a process.
var silent = []string{"Replicas: aggregated", "Activations", "Messages handled", "Time in hand, p99"}

// TestDashboard asks a Prometheus server that scrapes what the reporter exports
// every query of the dashboard.
func TestDashboard(t *testing.T) {
	need(t, "prometheus")
	text := read(t, exported)
	reporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write(text)
	}))
	t.Cleanup(reporter.Close)
	server := startPrometheus(t, strings.TrimPrefix(reporter.URL, "http://"))
	ask := func(expr string) (status string, results int) {
		response, err := http.Get(server + "/api/v1/query?" + url.Values{"query": {expr}}.Encode())
		if err != nil {
			return err.Error(), 0
		}
		defer response.Body.Close()
		var answer struct {
			Status, Error string
			Data          struct{ Result []json.RawMessage }
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			return err.Error(), 0
		}
		return strings.TrimSpace(answer.Status + " " + answer.Error), len(answer.Data.Result)
	}
	deadline := time.Now().Add(patience)
	for {
		// A rate needs some scrapes.
		if _, n := ask(`rate(tidemark_decisions_total[1m])`); n > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("Prometheus does not scrape what the reporter exports")
		}
		time.Sleep(100 * time.Millisecond)
	}
	found := 0
	for _, q := range queries(t) {
		status, n := ask(q.expr)
		if status != "success" {
			t.Errorf("%s: %s: %s", q.panel, q.expr, status)
		}
		if n == 0 && !slices.Contains(silent, q.panel) {
			t.Errorf("%s: no data for %s", q.panel, q.expr)
		}
		found += n
	}
	t.Logf("%d queries, %d series", len(queries(t)), found)
}

// startPrometheus starts a server that scrapes a target every second, and
// returns its address.
func startPrometheus(t *testing.T, target string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	content := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n  - {job_name: tidemark, static_configs: [{targets: [%q]}]}\n", absolute(t, rules), target)
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	var output bytes.Buffer
	command := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	for deadline := time.Now().Add(patience); ; {
		response, err := http.Get("http://" + address + "/-/ready")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return "http://" + address
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("Prometheus is not ready: %v\n%s", err, output.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	out, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
