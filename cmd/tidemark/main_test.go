package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

// outcome is what a command line came to.
type outcome struct {
	code           int
	stdout, stderr string
}

// tidemark runs a command line in this process.
func tidemark(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// succeed is tidemark for a command line that must succeed. It returns what was printed.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	got := tidemark(t, "", args...)
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("tidemark %s: exit code %d, errors %q", strings.Join(args, " "), got.code, got.stderr)
	}
	return got.stdout
}

// wantLine checks that a command line failed, with one line that holds a text.
func (o outcome) wantLine(t *testing.T, code int, text string) {
	t.Helper()
	if o.code != code || !strings.Contains(o.stderr, text) || strings.Count(o.stderr, "\n") != 1 || o.stdout != "" {
		t.Errorf("exit code %d, errors %q, output %q; want code %d and one line with %q", o.code, o.stderr, o.stdout, code, text)
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// deploymentsFile returns a file with small deployments of the given names.
// Each has the lines given, indented as keys of a deployment.
func deploymentsFile(t *testing.T, names []string, lines ...string) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("deployments:\n")
	for _, name := range names {
		fmt.Fprintf(&text, "  - name: %s\n    topology: aggregated\n    target: throughput\n", name)
		text.WriteString("    roles: {aggregated: {gpus_per_replica: 1, min_replicas: 1, max_replicas: 8, engine: {max_num_seqs: 256, max_kv_tokens: 200000}}}\n")
		for _, line := range lines {
			text.WriteString("    " + line + "\n")
		}
	}
	return write(t, "deployments.yaml", text.String())
}

const (
	simulatedSource   = "source: {simulated: {engine: h200-llama-3.1-70b-fp8-tp2, generator: {seed: 7, duration_s: 3600, mean_rps: 5}}}"
	simulatedActuator = "actuator: {simulated: {}}"
)

// newLog returns the URL of a log that is not there yet.
func newLog(t *testing.T) string {
	t.Helper()
	return "sqlite://" + filepath.Join(t.TempDir(), "tidemark.db")
}

// openLog opens a log beside the commands that use it.
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

var topics = events.Topics{Prefix: events.DefaultPrefix}

func publish(t *testing.T, log events.Log, topic string, fact any) events.Event {
	t.Helper()
	sealed, err := events.Seal(fact, events.About{Source: "/test", Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Publisher().Publish(topics.Name(topic), sealed.Message()); err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"nope":                     `there is no command "nope"`,
		"get --nope":               "unknown flag: --nope; tidemark get --help lists the flags",
		"get a b":                  "usage: tidemark get [NAME]",
		"get -o csv":               `output is "csv", want table, json or yaml`,
		"apply":                    "no file is given",
		"activate chat":            "no reason is given; usage: tidemark activate NAME --reason WHY",
		"advise":                   "usage: tidemark advise NAME --reason WHY",
		"tail nothing":             `there is no topic "nothing"; the topics are deployments, observations`,
		"tail --action up":         `--action is "up", want hold, scale_up, scale_down or rebalance`,
		"tail all --from 12":       "a position is one of a topic, and there are 7",
		"tail --from yesterday":    `--from is "yesterday", want an instant like 2026-11-23T20:00:05Z, or a position`,
		"tail --to 0:1,0:2":        `--to is "0:1,0:2"`,
		"explain":                  "usage: tidemark explain DECISION",
		"explain x -o table":       `output is "table", want text or json`,
		"replay -o yaml":           `output is "yaml", want table or json`,
		"replay --from -1":         `--from is "-1"`,
		"tail -o yaml":             `output is "yaml", want text or json`,
		"decide":                   "no file is given (standard input holds the observations)",
		"report --from yesterday":  `--from is "yesterday", want an instant like 2026-11-23T20:00:05Z`,
		"doctor --preflight":       "--preflight needs credentials of its own; name their file by --kubeconfig",
		"doctor --fix --preflight": "--fix looks at nothing but topics; give --preflight without it",
		"doctor --deployment chat": "--deployment, --kubeconfig and --as are for --preflight",
		"demo --speed 0":           "--speed is 0, want more than 0",
		"up --services planner":    `there is no service "planner"; the services are collector, decider, actuator, reporter`,
		"up --log-level loud":      `log-level: is "loud", want debug, info, warn or error`,
		"up --revision-wait never": `invalid argument "never"`,
	} {
		t.Run(args, func(t *testing.T) {
			t.Chdir(t.TempDir())
			tidemark(t, "", strings.Fields(args)...).wantLine(t, exitUsage, want)
			if made, _ := filepath.Glob("*"); len(made) > 0 {
				t.Errorf("wrong usage left %v behind", made)
			}
		})
	}
}

// TestNoLog: a command to which an empty log is of no use does not make one.
func TestNoLog(t *testing.T) {
	for _, command := range []string{"get", "tail --to-end", "report", "replay", "explain chat", "activate chat --reason test", "advise chat --reason test"} {
		t.Run(command, func(t *testing.T) {
			url := newLog(t)
			path := strings.TrimPrefix(url, "sqlite://")
			tidemark(t, "", append(strings.Fields(command), "--log", url)...).wantLine(t, exitError, "there is no log "+path)
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s was made", path)
			}
		})
	}
}

// TestControl follows one deployment through its revisions.
func TestControl(t *testing.T) {
	url := newLog(t)
	file := deploymentsFile(t, []string{"chat", "embed"}, simulatedSource, simulatedActuator)
	for _, step := range []struct{ command, want string }{
		{"apply -f " + file, "chat: configured at revision 1, advisory\nembed: configured at revision 1, advisory\n"},
		{"apply -f " + file, "chat: unchanged at revision 1, advisory\nembed: unchanged at revision 1, advisory\n"},
		{"activate chat --reason calm", "chat: active since revision 2 (epoch 1)\n"},
		{"advise chat --reason incident", "chat: advisory since revision 3 (epoch 1)\n"},
		{"activate chat --reason over", "chat: active since revision 4 (epoch 2)\n"},
		{"apply -f " + file, "chat: configured at revision 5, active -> advisory (epoch 2)\nembed: unchanged at revision 1, advisory\n"},
	} {
		if got := succeed(t, append(strings.Fields(step.command), "--log", url, "--by", "ops")...); got != step.want {
			t.Errorf("tidemark %s printed %q, want %q", step.command, got, step.want)
		}
	}
	tidemark(t, "", "activate", "nobody", "--reason", "test", "--log", url).wantLine(t, exitError, `there is no deployment "nobody"`)
	tidemark(t, "", "advise", "chat", "--reason", "test", "--log", url).wantLine(t, exitError, "deployment chat is advisory already, since revision 5")

	table, err := deployments(t.Context(), openLog(t, url), topics)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := table.Revision("chat", 1)
	last, _ := table.Current("chat")
	started := first.Spec.Source.Simulated.StartedAt
	if started == nil || !started.Equal(*last.Spec.Source.Simulated.StartedAt) {
		t.Errorf("the simulation started at %v in revision 1 and at %v in revision 5", started, last.Spec.Source.Simulated.StartedAt)
	}
	if second, _ := table.Revision("chat", 2); second.ChangedBy != "ops" || second.Reason != "calm" {
		t.Errorf("revision 2 is by %q, because %q", second.ChangedBy, second.Reason)
	}
}

// TestActivateWithoutActuator: nobody could act on the decisions, so the
// deployment does not become active.
func TestActivateWithoutActuator(t *testing.T) {
	url := newLog(t)
	succeed(t, "apply", "-f", deploymentsFile(t, []string{"chat"}), "--log", url)
	tidemark(t, "", "activate", "chat", "--reason", "test", "--log", url).wantLine(t, exitError, "deployment chat has no actuator")
	if got := succeed(t, "get", "--log", url); !strings.Contains(got, "chat   advisory   1") {
		t.Errorf("the deployment is not advisory at revision 1:\n%s", got)
	}
}

// TestApplyRefusesWhole: with one problem anywhere, nothing is applied.
func TestApplyRefusesWhole(t *testing.T) {
	good := deploymentsFile(t, []string{"chat"})
	for name, test := range map[string]struct {
		file string
		want []string
	}{
		"two mistakes": {deploymentsFile(t, []string{"other"}, "replica_count: 3", "no_operation: true"), []string{
			"line 6: deployments[0].replica_count: is not a known key",
			"line 7: deployments[0].no_operation: is not known here: write advisory: true",
		}},
		"the same name":   {deploymentsFile(t, []string{"chat"}), []string{"deployment chat is configured in " + good + " already"}},
		"no such profile": {deploymentsFile(t, []string{"other"}, "throughput: {profile: nowhere.json}"), []string{"deployments[0].throughput.profile: open"}},
		"not YAML":        {write(t, "broken.yaml", "deployments: [\n"), []string{"broken.yaml: line"}},
		"not there":       {filepath.Join(t.TempDir(), "missing.yaml"), []string{"missing.yaml: no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			url := newLog(t)
			got := tidemark(t, "", "apply", "-f", good, "-f", test.file, "--log", url)
			if lines := strings.Split(strings.TrimSpace(got.stderr), "\n"); got.code != exitError || len(lines) != len(test.want) {
				t.Errorf("exit code %d and %d lines, want 1 and %d:\n%s", got.code, len(lines), len(test.want), got.stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("errors lack %q:\n%s", want, got.stderr)
				}
			}
			tidemark(t, "", "get", "--log", url).wantLine(t, exitError, "there is no log")
		})
	}
}

// TestGet shows a deployment with its newest decision in each form.
func TestGet(t *testing.T) {
	url := newLog(t)
	succeed(t, "apply", "-f", deploymentsFile(t, []string{"chat", "embed"}), "--log", url)
	log := openLog(t, url)
	at := time.Now().UTC().Truncate(time.Second)
	for second, target := range []int{3, 4} {
		publish(t, log, events.TopicDecisions, &model.ScalingDecision{
			Deployment: "chat", ObservationID: fmt.Sprint("observation ", second), PlannerVersion: "1", ObservedAt: at.Add(time.Duration(second) * time.Second),
			Action: model.ScaleUp, Current: model.PerRole[int]{Aggregated: new(2)}, Target: model.PerRole[int]{Aggregated: &target},
		})
	}
	if err := log.Publisher().Publish(topics.Name(events.TopicDecisions), broken()); err != nil {
		t.Fatal(err)
	}
	table := succeed(t, "get", "--log", url)
	for _, want := range []string{"NAME    MODE", "chat    advisory   1", "aggregated=2   aggregated=4   scale_up   " + at.Add(time.Second).Format(time.RFC3339), "embed   advisory   1"} {
		if !strings.Contains(table, want) {
			t.Errorf("table lacks %q:\n%s", want, table)
		}
	}
	if got := succeed(t, "get", "chat", "--log", url, "-o", "json"); !strings.Contains(got, `"action": "scale_up"`) || strings.Contains(got, "embed") {
		t.Errorf("JSON of one deployment is\n%s", got)
	}
	if got := succeed(t, "get", "chat", "--log", url, "-o", "yaml"); !strings.HasPrefix(got, "- deployment: chat\n") || !strings.Contains(got, "action: scale_up\n") {
		t.Errorf("YAML of one deployment is\n%s", got)
	}
	tidemark(t, "", "get", "nobody", "--log", url).wantLine(t, exitError, `there is no deployment "nobody"`)
}
