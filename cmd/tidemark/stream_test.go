package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// broken returns a message that is no event.
func broken() *message.Message { return message.NewMessage("", []byte("{no event")) }

// observations returns JSON lines of a deployment, 5 s apart.
func observations(t *testing.T, deployment string, n int) string {
	t.Helper()
	var lines bytes.Buffer
	for i := range n {
		observation := model.Observation{
			Deployment: deployment, ConfigRevision: 1, Loops: model.Loops{Load: true},
			ObservedAt: time.Date(2026, 11, 23, 20, 0, 5*i, 0, time.UTC),
			Fleet: &model.FleetObservation{
				Status: model.Measured, AgeS: new(0.0),
				Roles: model.PerRole[model.RoleReplicas]{Aggregated: &model.RoleReplicas{Ready: 2, Desired: 2}},
			},
			Engines: &model.EnginesObservation{Status: model.Measured, AgeS: new(0.0), Samples: []model.EngineSample{
				engine("w-0", i%7), engine("w-1", i%5),
			}},
		}
		if err := observation.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(&lines).Encode(observation); err != nil {
			t.Fatal(err)
		}
	}
	return lines.String()
}

func engine(worker string, queued int) model.EngineSample {
	return model.EngineSample{
		Role: model.Aggregated, Worker: worker, AgeS: new(600.0), WallTimeS: new(0.02),
		Scheduled: model.EngineLoad{PrefillRequests: new(1), PrefillTokens: new(1024), DecodeRequests: new(64), DecodeKVTokens: new(90_000)},
		Queued:    model.EngineLoad{PrefillRequests: &queued, PrefillTokens: new(1024 * queued), DecodeRequests: new(0), DecodeKVTokens: new(0)},
	}
}

// TestDecide: one decision for each observation, in a chain, and the same bytes
// each time; deployments do not touch each other.
func TestDecide(t *testing.T) {
	file := deploymentsFile(t, []string{"chat", "embed"})
	input := observations(t, "chat", 40)
	first := tidemark(t, input, "decide", "-f", file)
	if second := tidemark(t, input, "decide", "-f", file); first != second {
		t.Fatal("the same observations were decided in another way")
	}
	lines := strings.SplitAfter(first.stdout, "\n")
	lines = lines[:len(lines)-1]
	if first.code != exitOK || first.stderr != "" || len(lines) != 40 {
		t.Fatalf("exit code %d, errors %q, %d decisions for 40 observations", first.code, first.stderr, len(lines))
	}
	previous := ""
	for i, line := range lines {
		var decision model.ScalingDecision
		if err := json.Unmarshal([]byte(line), &decision); err != nil {
			t.Fatal(err)
		}
		if want := events.ObservationID("chat", decision.ObservedAt); decision.ObservationID != want {
			t.Fatalf("decision %d is of observation %s, want %s", i, decision.ObservationID, want)
		}
		if decision.PreviousDigest != previous {
			t.Fatalf("decision %d follows %s, want %s", i, decision.PreviousDigest, previous)
		}
		previous = model.Digest([]byte(strings.TrimSuffix(line, "\n")))
	}

	other := strings.SplitAfter(observations(t, "embed", 40), "\n")
	var mixed, chat strings.Builder
	for i, line := range strings.SplitAfter(input, "\n") {
		mixed.WriteString(line + other[i] + "\n")
	}
	for line := range strings.Lines(tidemark(t, mixed.String(), "decide", "-f", file).stdout) {
		if strings.Contains(line, `"deployment":"chat"`) {
			chat.WriteString(line)
		}
	}
	if chat.String() != first.stdout {
		t.Error("the decisions of a deployment depend on another's observations")
	}
}

// TestDecideModes: what the mode of the file changes is the mode and the epoch.
func TestDecideModes(t *testing.T) {
	for advisory, want := range map[string]string{
		"true":  `"epoch":0,"mode":"advisory"`,
		"false": `"epoch":1,"mode":"active"`,
	} {
		got := tidemark(t, observations(t, "chat", 1), "decide", "-f", deploymentsFile(t, []string{"chat"}, "advisory: "+advisory, simulatedSource, simulatedActuator))
		if !strings.Contains(got.stdout, want) {
			t.Errorf("with advisory: %s the decision lacks %s: %s%s", advisory, want, got.stdout, got.stderr)
		}
	}
}

// TestDecideBrokenLine: what was decided before a broken line was printed, and
// the error names the line.
func TestDecideBrokenLine(t *testing.T) {
	file, good := deploymentsFile(t, []string{"chat"}), observations(t, "chat", 2)
	for line, want := range map[string]string{
		"{no JSON":                   "standard input, line 3: decode observation",
		observations(t, "other", 1):  `standard input, line 3: deployment "other" is not in the configuration`,
		`{"deployment":"chat"}`:      "standard input, line 3: observation of chat: observed_at is missing",
		`{"deployment":"chat","a":1`: "standard input, line 3: decode observation: unexpected end",
	} {
		got := tidemark(t, good+line, "decide", "-f", file)
		if got.code != exitError || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 || strings.Count(got.stdout, "\n") != 2 {
			t.Errorf("line %q: exit code %d, errors %q, decisions\n%s\nwant one error with %q after 2 decisions", line, got.code, got.stderr, got.stdout, want)
		}
	}
}

func TestTail(t *testing.T) {
	url := newLog(t)
	log := openLog(t, url)
	at := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	for i, d := range []*model.ScalingDecision{
		{Deployment: "chat", Action: model.Hold}, {Deployment: "chat", Action: model.ScaleUp}, {Deployment: "embed", Action: model.ScaleUp},
	} {
		d.ObservationID, d.PlannerVersion, d.Mode, d.ObservedAt = fmt.Sprint("o", i), "1", model.Advisory, at.Add(time.Duration(i)*time.Second)
		publish(t, log, events.TopicDecisions, d)
	}
	if err := log.Publisher().Publish(topics.Name(events.TopicDecisions), broken()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args string
		want []string
	}{
		{"", []string{"20:00:00Z [summary] HOLD deployment=chat", "20:00:01Z [summary] SCALE_UP deployment=chat", "20:00:02Z [summary] SCALE_UP deployment=embed", "tidemark.decisions[0]@3 cannot be decoded: "}},
		{"--action scale_up", []string{"SCALE_UP deployment=chat", "SCALE_UP deployment=embed"}},
		{"--deployment embed", []string{"SCALE_UP deployment=embed"}},
		{"--type scaling-decision --action hold", []string{"HOLD deployment=chat"}},
		{"--type scaling-applied", nil},
		{"--from 1 --to 3", []string{"20:00:01Z [summary] SCALE_UP deployment=chat", "SCALE_UP deployment=embed"}},
		{"--deployment chat,embed --action hold", []string{"HOLD deployment=chat"}},
		{"-o json", []string{`"position":0,`, `"position":1,`, `"type":"dev.tidemark.scaling-decision.v1"`, `"error":"`}},
		{"-o json --since 1h --deployment chat", []string{`"action":"hold"`, `"action":"scale_up"`}},
	} {
		t.Run(test.args, func(t *testing.T) {
			got := succeed(t, append(strings.Fields(test.args), "tail", "decisions", "--to-end", "--log", url)...)
			lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			if got == "" {
				lines = nil
			}
			if len(lines) != len(test.want) {
				t.Fatalf("%d lines, want %d:\n%s", len(lines), len(test.want), got)
			}
			for i, want := range test.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %d lacks %q: %s", i, want, lines[i])
				}
			}
		})
	}
}

// TestReport: equal logs and bounds give one file, which replaces what was there.
func TestReport(t *testing.T) {
	url := newLog(t)
	succeed(t, "apply", "-f", deploymentsFile(t, []string{"chat"}), "--log", url)
	path := filepath.Join(t.TempDir(), "reports", "chat.html")
	for range 2 {
		if got := succeed(t, "report", "--log", url, "-o", path); got != path+"\n" {
			t.Errorf("printed %q, want the path", got)
		}
	}
	page, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(page, []byte("chat")) {
		t.Errorf("the report does not show the deployment: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".report-*")); len(left) > 0 {
		t.Errorf("%v are left over", left)
	}
}

func TestVersion(t *testing.T) {
	if got := succeed(t, "version"); !strings.HasPrefix(got, "tidemark ") || !strings.Contains(got, ", planner ") {
		t.Errorf("version is %q", got)
	}
}
