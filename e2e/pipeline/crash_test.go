//go:build e2e

package pipeline

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// crashDeployment is active from the start, on a clock of 60 times real time: a
// decision of a decider that lay down for some seconds has not expired when it
// comes, and one of a decider that lay down for long has.
const crashDeployment = `
deployments:
  - name: chat
    advisory: false
    topology: disaggregated
    target: sla
    sla: {ttft_ms: 1000, itl_ms: 30}
    roles:
      prefill: {gpus_per_replica: 2, min_replicas: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, context_length: 131072, max_kv_tokens: 590818}}
      decode:  {gpus_per_replica: 2, min_replicas: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, context_length: 131072, max_kv_tokens: 590818}}
    load: {interval_s: 5, min_observations: 2}
    throughput: {interval_s: 30, predictor: auto}
    behavior: {scale_down_window_s: 60, decision_ttl_s: 240}
    source:
      simulated: {engine: h200-llama-3.1-70b-fp8-tp2, replicas: {prefill: 1, decode: 1}, cold_start_s: 20, speed: 60, generator: {seed: 11, duration_s: 7200, mean_rps: 14}}
    actuator:
      simulated: {}
`

// crashing is how long services are killed.
const crashing = 45 * time.Second

// seed returns the seed of a random test: TIDEMARK_SEED, or another each time.
// It is logged, so that a failure can be seen again.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if given := os.Getenv("TIDEMARK_SEED"); given != "" {
		parsed, err := strconv.ParseUint(given, 10, 64)
		if err != nil {
			t.Fatalf("TIDEMARK_SEED: %v", err)
		}
		n = parsed
	}
	t.Logf("TIDEMARK_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0)) //nolint:gosec // moments of a test
}

// TestCrashes kills the decider, the actuator and the reporter at random
// moments, and starts them again. What the log then holds is what it would hold
// had none of them ever died.
func TestCrashes(t *testing.T) {
	random := seed(t)
	url := newLog(t)
	succeed(t, "apply", "-f", write(t, "deployments.yaml", crashDeployment), "--log", url)
	var summaries, errs buffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the processes' logs end with\n%s", tail(errs.String(), 60))
		}
	})
	service := func(name string) *process {
		args := []string{"--log", url, "--log-level", "warn"}
		switch name {
		case "decider":
			args = append(args, "--checkpoint-every", "40")
		case "reporter":
			args = append(args, "--summary-format", "json")
		}
		return start(t, &summaries, &errs, name, args...)
	}
	collector := service("collector")
	names := []string{"decider", "actuator", "reporter"}
	running := map[string]*process{}
	dies := map[string]time.Time{}
	kills := map[string]int{}
	// A group's lease outlives a member that was killed by 2 s. So a process
	// that lives shorter dies before its turn, one that lives a little longer
	// dies over what was left to it, and others in mid-run.
	life := func() time.Duration { return time.Duration((0.1 + 4.5*random.Float64()) * float64(time.Second)) }
	for _, name := range names {
		running[name], dies[name] = service(name), time.Now().Add(life())
	}
	for deadline := time.Now().Add(crashing); time.Now().Before(deadline); {
		next := names[0]
		for _, name := range names {
			if dies[name].Before(dies[next]) {
				next = name
			}
		}
		select {
		case <-time.After(time.Until(dies[next])): // the moment of its death
		case <-running[next].ended:
			t.Fatalf("%s ended by itself: %s", next, running[next].command.ProcessState)
		case <-collector.ended:
			t.Fatalf("the collector ended by itself: %s", collector.command.ProcessState)
		}
		running[next].kill()
		kills[next]++
		running[next], dies[next] = service(next), time.Now().Add(life())
	}
	t.Logf("killed: %v", kills)

	collector.stop(t)
	log := openLog(t, url)
	observed := end(t, log, events.TopicObservations)
	until(t, "every observation is decided", func() bool { return end(t, log, events.TopicDecisions) >= observed })
	decisions := checkDecisions(t, log)
	until(t, "every decision to change something has an outcome", func() bool { return len(withoutOutcome(t, log, decisions)) == 0 })
	until(t, "every decision has its summary", func() bool { return len(withoutSummary(t, summaries.String(), decisions)) == 0 })
	for _, name := range names {
		running[name].ready(t)
		running[name].stop(t)
	}

	checkDecisions(t, log)
	checkOutcomes(t, log, decisions)
	checkSummaries(t, summaries.String(), decisions)
	if letters := records(t, log, events.TopicDeadLetters); len(letters) > 0 {
		t.Errorf("%d messages went to the dead letters: %s", len(letters), letters[0].Payload)
	}
	configured := facts[*model.DeploymentConfigured](t, log, events.TopicDeployments)[0].fact
	everything := func(*model.Observation) bool { return true }
	if got, want := data(decisions), decide(t, log, configured, everything); got != want {
		t.Errorf("decisions differ from those of tidemark decide: %s", firstDifference(got, want))
	}
	if got, want := data(decisions), undisturbed(t, log); got != want {
		t.Errorf("decisions differ from those of a decider that nobody disturbed: %s", firstDifference(got, want))
	}
	actions := map[model.Action]int{}
	for _, d := range decisions {
		actions[d.fact.Action]++
	}
	t.Logf("%d observations, decisions %v, %d actuations", observed, actions, end(t, log, events.TopicActuations))
	if actions[model.ScaleUp]+actions[model.ScaleDown]+actions[model.Rebalance] == 0 {
		t.Error("no decision changed anything, so the actuator was not tested")
	}
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(len(all)-lines, 0):], "\n")
}

// outcomes returns, for each decision, how often it was applied and rejected,
// and how often it failed.
func outcomes(t *testing.T, log events.Log) map[string]map[string]int {
	t.Helper()
	of := map[string]map[string]int{}
	count := func(decision, outcome string) {
		if of[decision] == nil {
			of[decision] = map[string]int{}
		}
		of[decision][outcome]++
	}
	for _, a := range facts[any](t, log, events.TopicActuations) {
		switch fact := a.fact.(type) {
		case *model.ScalingApplied:
			count(fact.DecisionID, "applied")
		case *model.ScalingRejected:
			count(fact.DecisionID, "rejected")
		case *model.ScalingFailed:
			count(fact.DecisionID, "failed")
		case *model.ScalingSettled:
			count(fact.DecisionID, "settled")
		}
	}
	return of
}

func withoutOutcome(t *testing.T, log events.Log, decisions []entry[*model.ScalingDecision]) (missing []string) {
	t.Helper()
	of := outcomes(t, log)
	for _, d := range decisions {
		if d.fact.Mode == model.Active && d.fact.Action != model.Hold && len(of[d.ID]) == 0 {
			missing = append(missing, d.ID)
		}
	}
	return missing
}

// checkOutcomes checks that each decision to change something was carried out or
// refused, once, and that nothing else was done.
func checkOutcomes(t *testing.T, log events.Log, decisions []entry[*model.ScalingDecision]) {
	t.Helper()
	of := outcomes(t, log)
	changes := map[string]bool{}
	for _, d := range decisions {
		changes[d.ID] = d.fact.Mode == model.Active && d.fact.Action != model.Hold
	}
	for id, n := range of {
		if !changes[id] {
			t.Errorf("decision %s, which is none or changes nothing, has outcomes %v", id, n)
		}
		if n["applied"]+n["rejected"] != 1 || n["settled"] > n["applied"] {
			t.Errorf("decision %s has outcomes %v, want that it was applied or rejected, once", id, n)
		}
	}
	if missing := withoutOutcome(t, log, decisions); len(missing) > 0 {
		t.Errorf("decisions %v have no outcome", missing)
	}
}

// summarized returns the IDs of the decisions that lines show. Lines of other
// kinds say in which mode deployments are when a reporter starts.
func summarized(t *testing.T, summaries string) map[string]bool {
	t.Helper()
	shown := map[string]bool{}
	for text := range strings.Lines(summaries) {
		var line struct {
			Kind       string
			DecisionID string `json:"decision_id"`
		}
		switch err := json.Unmarshal([]byte(text), &line); {
		case !strings.HasSuffix(text, "\n"): // A line in the making.
		case err != nil || line.Kind != "summary" && line.Kind != "deployment":
			t.Errorf("a line is no summary: %s", text)
		case line.Kind == "summary":
			shown[line.DecisionID] = true
		}
	}
	return shown
}

// withoutSummary returns the decisions that no line shows.
func withoutSummary(t *testing.T, summaries string, decisions []entry[*model.ScalingDecision]) (missing []string) {
	t.Helper()
	shown := summarized(t, summaries)
	for _, d := range decisions {
		if !shown[d.ID] {
			missing = append(missing, d.ID)
		}
	}
	return missing
}

// checkSummaries checks that every decision was shown, and nothing that is none.
// A reporter that was killed with a line in hand may show it again.
func checkSummaries(t *testing.T, summaries string, decisions []entry[*model.ScalingDecision]) {
	t.Helper()
	known := map[string]bool{}
	for _, d := range decisions {
		known[d.ID] = true
	}
	for id := range summarized(t, summaries) {
		if !known[id] {
			t.Errorf("a summary shows what is no decision: %s", id)
		}
	}
	if missing := withoutSummary(t, summaries, decisions); len(missing) > 0 {
		t.Errorf("decisions %v have no summary", missing)
	}
}

// undisturbed decides a log's observations anew, and returns the decisions' bytes.
func undisturbed(t *testing.T, log events.Log) string {
	t.Helper()
	return data(undisturbedDecisions(t, log))
}

// undisturbedDecisions decides a log's observations anew, on a log of its own,
// with one decider that lives to the end.
func undisturbedDecisions(t *testing.T, log events.Log) []entry[*model.ScalingDecision] {
	t.Helper()
	url := newLog(t)
	calm := openLog(t, url)
	for _, topic := range []string{events.TopicDeployments, events.TopicObservations} {
		for _, record := range records(t, log, topic) {
			appendRaw(t, calm, topic, string(record.Payload), record.Headers)
		}
	}
	var errs buffer
	decider := start(t, &errs, &errs, "decider", "--log", url, "--log-level", "warn")
	observed := end(t, calm, events.TopicObservations)
	until(t, "the undisturbed decider is done", func() bool { return end(t, calm, events.TopicDecisions) >= observed })
	decider.stop(t)
	if errs.String() != "" {
		t.Errorf("the undisturbed decider complained: %s", errs.String())
	}
	return checkDecisions(t, calm)
}

// TestCrashesOfAll kills everything at once, the collector too, again and again.
// The collector never makes up for what it missed; what it saw is decided.
func TestCrashesOfAll(t *testing.T) {
	random := seed(t)
	url := newLog(t)
	succeed(t, "apply", "-f", write(t, "deployments.yaml", crashDeployment), "--log", url)
	var out, errs buffer
	for range 4 {
		up := start(t, &out, &errs, "tidemark", "up", "--log", url, "--log-level", "warn")
		select {
		case <-time.After(time.Duration((2 + 3*random.Float64()) * float64(time.Second))): // the moment of its death
		case <-up.ended:
			t.Fatalf("tidemark up ended by itself: %s\n%s", up.command.ProcessState, errs.String())
		}
		up.kill()
	}
	// Nobody observes any more, so that there is an end.
	last := start(t, &out, &errs, "tidemark", "up", "--log", url, "--log-level", "warn", "--services", "decider,actuator,reporter")
	log := openLog(t, url)
	observed := end(t, log, events.TopicObservations)
	if observed == 0 {
		t.Fatal("nothing was observed")
	}
	until(t, fmt.Sprintf("%d observations are decided", observed), func() bool { return end(t, log, events.TopicDecisions) >= observed })
	last.ready(t)
	last.stop(t)
	decisions := checkDecisions(t, log)
	if got, want := data(decisions), undisturbed(t, log); got != want {
		t.Errorf("decisions differ from those of a decider that nobody disturbed: %s", firstDifference(got, want))
	}
}
