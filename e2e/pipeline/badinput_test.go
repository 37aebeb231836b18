//go:build e2e

package pipeline

import (
	"encoding/json"
	"strings"
	"testing"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// twoDeployments are observed every second. One of them names a trace whose
// third line is broken.
func twoDeployments(t *testing.T) string {
	t.Helper()
	const one = `
  - name: NAME
    topology: aggregated
    target: latency
    roles: {aggregated: {min_replicas: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, max_kv_tokens: 590818}}}
    load: {interval_s: 5}
    source: {simulated: {engine: h200-llama-3.1-70b-fp8-tp2, speed: 20, WORKLOAD}}`
	trace := write(t, "broken.csv", "t_ms,isl,osl\n0,100,10\n5,many,10\n")
	return "deployments:" + strings.NewReplacer("NAME", "good", "WORKLOAD", "generator: {seed: 3, duration_s: 36000, mean_rps: 4}").Replace(one) +
		strings.NewReplacer("NAME", "blind", "WORKLOAD", "trace: "+trace).Replace(one) + "\n"
}

// TestBadInput feeds a running installation all that it cannot read: each gets
// a dead letter, an evidence class or one clear line, and nothing else stops.
func TestBadInput(t *testing.T) {
	url := newLog(t)
	succeed(t, "apply", "-f", write(t, "deployments.yaml", twoDeployments(t)), "--log", url)
	var out, errs buffer
	up := start(t, &out, &errs, "tidemark", "up", "--log", url, "--log-level", "warn")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the services' log ends with\n%s", tail(errs.String(), 40))
		}
	})
	up.ready(t)
	log := openLog(t, url)
	decided := func(n int64) { // decisions beyond those that there are
		t.Helper()
		enough := end(t, log, events.TopicDecisions) + n
		until(t, "decisions go on", func() bool { return end(t, log, events.TopicDecisions) >= enough })
	}
	decided(10)

	// Messages that nobody can read, in every topic that somebody reads.
	event := func(kind, data string) (string, map[string]string) {
		return data, map[string]string{
			"ce_specversion": "1.0", "ce_id": kind + "-test", "ce_type": "dev.tidemark." + kind, "ce_source": "/test",
			"ce_time": "2026-11-23T20:00:00Z", "content-type": "application/json", "ce_subject": "good", "ce_partitionkey": "good",
		}
	}
	for _, topic := range []string{events.TopicDeployments, events.TopicObservations, events.TopicDecisions, events.TopicActuations, events.TopicApprovals, events.TopicCheckpoints} {
		appendRaw(t, log, topic, "\x00\xff no event", nil)
		data, headers := event("observation.v9", `{}`)
		appendRaw(t, log, topic, data, headers)
		data, headers = event("observation.v1", `{"deployment":"good","observed_at":"yesterday"}`)
		headers["ce_id"] = "broken data"
		appendRaw(t, log, topic, data, headers)
	}
	decided(20)
	letters := facts[*model.DeadLetter](t, log, events.TopicDeadLetters)
	count := map[string]int{}
	for _, letter := range letters {
		count[letter.fact.Service+" "+letter.fact.Topic]++
		if letter.fact.Reason == "" || letter.fact.Position < 0 || len(letter.fact.Payload) == 0 {
			t.Errorf("a dead letter does not say what, where and why: %+v", letter.fact)
		}
	}
	for _, from := range []string{"decider tidemark.observations", "reporter tidemark.decisions"} {
		if count[from] != 3 {
			t.Errorf("dead letters by service and topic are %v, want 3 of %s", count, from)
		}
	}
	if got := succeed(t, "tail", "dead-letters", "--to-end", "--log", url, "-o", "json"); strings.Count(got, "\n") != len(letters) {
		t.Errorf("tail shows %d dead letters of %d", strings.Count(got, "\n"), len(letters))
	}
	if got := succeed(t, "tail", "observations", "--to-end", "--log", url); strings.Count(got, "cannot be decoded") != 3 {
		t.Errorf("tail does not say of 3 observations that they cannot be decoded")
	}

	// A trace that cannot be read is evidence that failed, not traffic of zero.
	blind := 0
	for _, o := range facts[*model.Observation](t, log, events.TopicObservations) {
		if o.fact.Deployment != "blind" {
			continue
		}
		blind++
		if o.fact.Fleet == nil || o.fact.Fleet.Status != model.Failed || !strings.Contains(o.fact.Fleet.Error, "broken.csv, line 3") {
			t.Fatalf("the deployment whose trace is broken was observed as %s", o.Data)
		}
	}
	held := 0
	for _, d := range facts[*model.ScalingDecision](t, log, events.TopicDecisions) {
		if d.fact.Deployment == "blind" {
			held++
			if d.fact.Action != model.Hold || d.fact.Reasons.Load != model.ReasonNoFleetData {
				t.Fatalf("without evidence it was decided %s", d.Data)
			}
		}
	}
	if blind == 0 || held == 0 {
		t.Errorf("%d observations and %d decisions of the deployment whose trace is broken", blind, held)
	}

	// Files that cannot be read change nothing.
	tidemark(t, "", "apply", "-f", write(t, "broken.yaml", "deployments:\n  - name: good\n    replicas: 3\n"), "--log", url).
		wantLines(t, "line 3: deployments[0].replicas: is not a known key")
	tidemark(t, "", "apply", "-f", write(t, "broken.yaml", "deployments: [\n"), "--log", url).wantLine(t, "broken.yaml")
	tidemark(t, "", "demo", "--trace", write(t, "broken.csv", "t_ms,isl,osl\nnow,1,1\n")).wantLine(t, "broken.csv, line 2")
	tidemark(t, "{", "decide", "-f", write(t, "good.yaml", twoDeployments(t))).wantLine(t, "standard input, line 1")
	decided(10)
	var statuses []struct{ Revision int }
	if err := json.Unmarshal([]byte(succeed(t, "get", "good", "--log", url, "-o", "json")), &statuses); err != nil || len(statuses) != 1 || statuses[0].Revision != 1 {
		t.Errorf("the deployment has %+v (%v), want revision 1", statuses, err)
	}
	up.stop(t)
	if ended := tail(errs.String(), 1); strings.Contains(errs.String(), "panic") {
		t.Errorf("something panicked: %s", ended)
	}

	// And a report of such a log is whole.
	path := strings.TrimPrefix(url, "sqlite://") + ".html"
	succeed(t, "report", "--log", url, "-o", path)
	if page, err := readFile(path); err != nil || !strings.Contains(page, "good") || !strings.Contains(page, "blind") {
		t.Errorf("the report lacks a deployment (%v)", err)
	}
}

// TestForeignFile: a file that is no log is refused, and left as it is.
func TestForeignFile(t *testing.T) {
	path := write(t, "notes.db", "these are my notes, and no database")
	for _, program := range []string{"apply -f " + write(t, "good.yaml", twoDeployments(t)), "get", "up"} {
		got := tidemark(t, "", append(strings.Fields(program), "--log", "sqlite://"+path)...)
		got.wantLine(t, "notes.db")
	}
	if content, err := readFile(path); err != nil || content != "these are my notes, and no database" {
		t.Errorf("the file holds %q (%v)", content, err)
	}
}
