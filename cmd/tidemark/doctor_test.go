package main

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// unfit is the source of a deployment that cannot be decided: its Prometheus
// server does not answer, and nobody counts its replicas.
func unfit(t *testing.T) string {
	t.Helper()
	gone := httptest.NewServer(nil)
	gone.Close()
	return `source: {prometheus: {url: "` + gone.URL + `", preset: vllm, model: org/chat}, engines: {roles: {aggregated: {push: {token_file: nowhere}}}}}`
}

// TestApplySaysWhatIsAmiss: what is found is said, one line each, and refuses
// nothing unless it is asked to.
func TestApplySaysWhatIsAmiss(t *testing.T) {
	file := deploymentsFile(t, []string{"chat"}, "throughput: {enabled: false}", unfit(t))
	wanted := []string{
		"tidemark: error: chat: source.fleet: is missing",
		"tidemark: error: chat: source.prometheus.url: cannot be read from here: prometheus: query series: dial tcp",
	}
	url := newLog(t)
	strict := tidemark(t, "", "apply", "-f", file, "--log", url, "--strict")
	if strict.code != exitError || strict.stdout != "" {
		t.Errorf("with --strict: exit code %d, %q", strict.code, strict.stdout)
	}
	wantLines(t, strict.stderr, append(wanted, "tidemark: nothing is applied: --strict, and the file has 2 findings")...)
	if got := succeed(t, "get", "--log", url); strings.Contains(got, "chat") {
		t.Errorf("with --strict it is applied:\n%s", got)
	}
	applied := tidemark(t, "", "apply", "-f", file, "--log", url)
	if applied.code != exitOK || applied.stdout != "chat: configured at revision 1, advisory\n" {
		t.Errorf("exit code %d, %q", applied.code, applied.stdout)
	}
	wantLines(t, applied.stderr, wanted...)
	wantLines(t, tidemark(t, "", "apply", "-f", file, "--log", url, "--check-timeout", "0").stderr, wanted[0])
}

func wantLines(t *testing.T, got string, want ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	if len(lines) != len(want) {
		t.Errorf("%d lines, want %d:\n%s", len(lines), len(want), got)
		return
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("line is %q, want it to begin with %q", line, want[i])
		}
	}
}

func TestDoctor(t *testing.T) {
	url := newLog(t)
	const fit = "The log can be worked on; its topics come with their first event."
	wantLines(t, succeed(t, "doctor", "--log", url), fit)
	succeed(t, "apply", "-f", deploymentsFile(t, []string{"embed"}, simulatedSource, simulatedActuator), "--log", url)
	wantLines(t, succeed(t, "doctor", "--log", url), fit, "Deployments: 1, and nothing is found amiss.")

	tidemark(t, "", "apply", "-f", deploymentsFile(t, []string{"chat"}, "throughput: {enabled: false}", unfit(t)), "--log", url)
	got := tidemark(t, "", "doctor", "--log", url)
	wantLines(t, got.stdout, fit,
		"error: chat: source.fleet: is missing", "error: chat: source.prometheus.url: cannot be read from here",
		"unchecked: chat: source.engines.roles.aggregated.push.token_file: is read on the collector's machine")
	wantLines(t, got.stderr, "tidemark: deployments cannot be decided as they are: chat (2 errors)")
	if got.code != exitError {
		t.Errorf("exit code %d", got.code)
	}

	got = tidemark(t, "", "doctor", "--log", url, "-o", "json")
	var found struct {
		Topics   []any `json:"topics"`
		Findings []struct {
			Deployment, Severity, Path, Message string
		} `json:"findings"`
	}
	if err := json.Unmarshal([]byte(got.stdout), &found); err != nil || found.Topics == nil || len(found.Findings) != 3 || got.code != exitError {
		t.Fatalf("exit code %d, %v:\n%s", got.code, err, got.stdout)
	}
	if f := found.Findings[0]; f.Deployment != "chat" || f.Severity != "error" || f.Path != "source.fleet" || f.Message == "" {
		t.Errorf("first finding is %+v", f)
	}
	// Who makes topics may read none, and has nothing to say of deployments.
	wantLines(t, succeed(t, "doctor", "--fix", "--log", url), fit)
}
