package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestFreeze follows the kill switch through its two scopes.
func TestFreeze(t *testing.T) {
	url := newLog(t)
	succeed(t, "apply", "-f", deploymentsFile(t, []string{"chat", "embed"}, simulatedSource, simulatedActuator), "--log", url)
	for _, step := range []struct{ command, says, get string }{
		{"freeze chat", "chat is frozen: nothing is written until tidemark thaw ends it\n", "chat    advisory (frozen)"},
		{"freeze --all", "all deployments are frozen: nothing is written until tidemark thaw ends it\n", "embed   advisory (frozen)"},
		{"thaw --all", "all deployments are not frozen any more\n", "chat    advisory (frozen)"},
		{"thaw chat", "chat is not frozen any more\n", "chat    advisory   "},
	} {
		if got := succeed(t, append(strings.Fields(step.command), "--reason", "test", "--log", url)...); got != step.says {
			t.Errorf("tidemark %s printed %q, want %q", step.command, got, step.says)
		}
		if got := succeed(t, "get", "--log", url); !strings.Contains(got, step.get) {
			t.Errorf("after tidemark %s, get has no line %q:\n%s", step.command, step.get, got)
		}
	}
	succeed(t, "freeze", "--all", "--reason", "incident 4711", "--by", "ops", "--log", url)
	if got := succeed(t, "get", "chat", "-o", "json", "--log", url); !strings.Contains(got, `"reason": "incident 4711"`) {
		t.Errorf("get does not say why:\n%s", got)
	}
	for hours, want := range map[int]string{0: "chat    advisory   ", 1: "chat    advisory (frozen)"} {
		window := fmt.Sprintf("limits: {freeze_windows: [{cron: '0 * * * *', duration_s: %v}]}", max(float64(hours)*3600, 1e-3))
		file := deploymentsFile(t, []string{"chat", "embed"}, simulatedSource, simulatedActuator, window)
		succeed(t, "thaw", "--all", "--reason", "test", "--log", url)
		succeed(t, "apply", "-f", file, "--log", url)
		if got := succeed(t, "get", "--log", url); !strings.Contains(got, want) {
			t.Errorf("with a window of %d h, get has no line %q:\n%s", hours, want, got)
		}
		succeed(t, "freeze", "--all", "--reason", "test", "--log", url)
	}
	unknown := deploymentsFile(t, []string{"chat"}, "limits: {freeze_windows: [{cron: '0 * * * *', duration_s: 60, time_zone: Mars/Olympus}]}")
	tidemark(t, "", "apply", "-f", unknown, "--log", url).wantLine(t, exitError, `deployments[0].limits.freeze_windows[0].time_zone: is "Mars/Olympus", which is no IANA time zone`)
	for command, problem := range map[string]string{
		"freeze nobody --reason test": `there is no deployment "nobody"`,
		"thaw chat --reason test":     "all deployments are frozen, and with them chat; end that by tidemark thaw --all",
	} {
		tidemark(t, "", append(strings.Fields(command), "--log", url)...).wantLine(t, exitError, problem)
	}
	succeed(t, "thaw", "--all", "--reason", "over", "--log", url)
	tidemark(t, "", "thaw", "--all", "--reason", "again", "--log", url).wantLine(t, exitError, "all deployments are not frozen")
	for _, command := range []string{"freeze", "freeze chat", "freeze chat --all --reason test", "thaw --all"} {
		tidemark(t, "", append(strings.Fields(command), "--log", url)...).wantLine(t, exitUsage, "usage: tidemark")
	}
}
