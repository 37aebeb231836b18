//go:build e2e

package pipeline

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// TestApproval: of a fleet that asks, nothing changes before somebody approves a
// decision; the approval is found by an actuator that was away when it was given; and
// who gave it stands with all that was done.
func TestApproval(t *testing.T) {
	url := newLog(t)
	file := write(t, "deployments.yaml", `deployments:
  - name: chat
    advisory: false
    approval: required
    topology: aggregated
    target: latency
    roles: {aggregated: {min_replicas: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, max_kv_tokens: 590818}}}
    load: {interval_s: 5}
    throughput: {enabled: false}
    behavior: {decision_ttl_s: 6000}
    source: {simulated: {engine: h200-llama-3.1-70b-fp8-tp2, speed: 20, replicas: {aggregated: 6}, generator: {seed: 3, duration_s: 360000, mean_rps: 1}}}
    actuator: {simulated: {}}
`)
	succeed(t, "apply", "-f", file, "--log", url)
	observing := start(t, io.Discard, io.Discard, "tidemark", "up", "--log", url, "--services", "collector,decider")
	observing.ready(t)
	actuator := start(t, io.Discard, io.Discard, "actuator", "--log", url, "--listen", freeAddress(t))
	log := openLog(t, url)
	waits := regexp.MustCompile(`chat: \d+ decisions? not approved yet, the newest waits until \S+: aggregated (\d -> \d); tidemark approve (\S+)\n`)
	var waiting []string
	until(t, "a decision waits for an approval", func() bool {
		waiting = waits.FindStringSubmatch(succeed(t, "get", "--log", url))
		return waiting != nil
	})
	id := waiting[2]
	if n := len(facts[*model.ScalingApplied](t, log, events.TopicActuations)); n != 0 {
		t.Errorf("%d changes before anybody approved one", n)
	}
	actuator.kill()
	if got, want := succeed(t, "approve", id[:13], "--by", "ops", "--reason", "it looks right", "--log", url), "decision "+id+" of chat is approved by ops\n"; got != want {
		t.Errorf("tidemark approve printed %q, want %q", got, want)
	}
	start(t, io.Discard, io.Discard, "actuator", "--log", url, "--listen", freeAddress(t))
	until(t, "the decision is carried out", func() bool {
		return len(facts[*model.ScalingSettled](t, log, events.TopicActuations)) > 0
	})
	for _, applied := range facts[*model.ScalingApplied](t, log, events.TopicActuations) {
		if applied.fact.DecisionID != id || applied.fact.ApprovedBy != "ops" {
			t.Errorf("%s was carried out, approved by %q", applied.fact.DecisionID, applied.fact.ApprovedBy)
		}
	}
	story := succeed(t, "explain", id, "--log", url)
	for _, want := range []string{", waits for an approval until ", "aggregated " + waiting[1] + ", approved by ops"} {
		if !strings.Contains(story, want) {
			t.Errorf("the story lacks %q:\n%s", want, story)
		}
	}
	tidemark(t, "", "approve", id, "--log", url).wantLine(t, "decision "+id+" of chat is not approved: it was applied at ")
	tidemark(t, "", "approve", "chat", "--log", url).wantLine(t, `"chat" is a deployment; name the decision`)
	if n := end(t, log, events.TopicDeadLetters); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}
