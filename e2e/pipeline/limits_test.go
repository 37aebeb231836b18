//go:build e2e

package pipeline

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// scheduler takes what a webhook tells it, and does it.
type scheduler struct {
	mu   sync.Mutex
	told []int
}

func (s *scheduler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var decision model.ScalingDecision
	if err := json.NewDecoder(r.Body).Decode(&decision); err != nil || decision.Target.Aggregated == nil {
		http.Error(w, "that is no decision", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, *decision.Target.Aggregated)
}

func (s *scheduler) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.told)
}

// TestLimits: decisions that ask for more than the actuator's limits allow are
// carried out in part or refused, whoever put them into the log; what was done is
// read back by an actuator that starts after one that was killed; a freeze window
// stops it, and outlives a restart as well.
func TestLimits(t *testing.T) {
	there := &scheduler{}
	server := httptest.NewServer(there)
	defer server.Close()
	url := newLog(t)
	secret := write(t, "webhook.key", "a secret of this test alone")
	configure := func(limits string) {
		t.Helper()
		succeed(t, "apply", "--log", url, "-f", write(t, "deployments.yaml", fmt.Sprintf(`deployments:
  - name: chat
    advisory: false
    topology: aggregated
    target: latency
    roles: {aggregated: {min_replicas: 1, max_replicas: 32}}
    throughput: {enabled: false}
    behavior: {decision_ttl_s: 3600}
    actuator: {webhook: {url: %q, secret_file: %q}}
    limits: %s
`, server.URL, secret, limits)))
	}
	configure("{max_change_replicas: 2, change_interval_s: 86400}")
	var errs buffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the actuator's log ends with\n%s\nthe scheduler was told %s", tail(errs.String(), 30), there.all())
		}
	})
	start := func() *process { return start(t, io.Discard, &errs, "actuator", "--log", url) }
	log := openLog(t, url)
	at := time.Now().UTC()
	// decide puts a decision into the log, waits for what becomes of it, and returns it.
	decide := func(from, to int) (id, outcome string) {
		t.Helper()
		at = at.Add(time.Second)
		one := func(n int) (replicas model.PerRole[int]) { replicas.Set(model.Aggregated, n); return replicas }
		decision := &model.ScalingDecision{
			Deployment: "chat", ConfigRevision: 1, Epoch: 1, Mode: model.Active, ObservationID: events.ObservationID("chat", at),
			ObservedAt: at, ValidUntil: at.Add(time.Hour), Current: one(from), Desired: one(from), Target: one(to), Delta: one(to - from), PlannerVersion: "1",
		}
		decision.Action = model.Classify(decision.Delta)
		event, err := events.Seal(decision, events.About{Source: "/tidemark/decider"})
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Publisher().Publish(topics.Name(events.TopicDecisions), event.Message()); err != nil {
			t.Fatal(err)
		}
		until(t, fmt.Sprintf("the decision to go from %d to %d has an outcome", from, to), func() bool {
			for _, a := range facts[any](t, log, events.TopicActuations) {
				switch fact := a.fact.(type) {
				case *model.ScalingApplied:
					if fact.DecisionID == event.ID {
						outcome = fmt.Sprintf("%d", fact.Roles.Aggregated.To)
					}
				case *model.ScalingRejected:
					if fact.DecisionID == event.ID {
						outcome = string(fact.Reason)
					}
				}
			}
			return outcome != ""
		})
		return event.ID, outcome
	}
	want := func(from, to int, outcome string) string {
		t.Helper()
		id, got := decide(from, to)
		if got != outcome {
			t.Errorf("of the decision to go from %d to %d became %s, want %s", from, to, got, outcome)
		}
		return id
	}

	actuator := start()
	id := want(3, 9, "5")
	if story := succeed(t, "explain", id, "--log", url); !strings.Contains(story, "aggregated 3 -> 5 (limited: role aggregated goes to 5 instead of 9: ") {
		t.Errorf("the story does not tell that the limits held something back:\n%s", story)
	}
	actuator.kill()
	actuator = start()
	want(5, 9, "limited")
	configure("{max_change_replicas: 3, change_interval_s: 86400, max_replicas: 6}")
	want(5, 9, "6")
	configure("{max_replicas: 6}")
	want(6, 9, "limited")
	want(6, 4, "4")

	configure(`{freeze_windows: [{cron: "* * * * *", duration_s: 3600, time_zone: Europe/Berlin}]}`)
	want(4, 5, "frozen")
	actuator.kill()
	actuator = start()
	want(4, 6, "frozen")
	if got := succeed(t, "get", "--log", url); !strings.Contains(got, "active (frozen)") {
		t.Errorf("get does not show that a freeze window is open:\n%s", got)
	}
	if _, metrics := actuator.get(t, "/metrics"); !strings.Contains(metrics, `tidemark_actuator_frozen{deployment="chat"} 1`) {
		t.Error("the metrics do not show that a freeze window is open")
	}
	configure("{}")
	want(4, 7, "7")
	actuator.stop(t)
	if got, want := there.all(), "[5 6 4 7]"; got != want {
		t.Errorf("the scheduler was told %s, want %s", got, want)
	}
	if n := end(t, log, events.TopicDeadLetters); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// limitedFor is how long a fleet grows under limits, while its actuator is killed.
const limitedFor = 30 * time.Second

// TestLimitedFleetGrowsInSteps: a fleet that is far too small for its load grows as
// fast as the limits allow and no faster, however often the actuator is killed.
func TestLimitedFleetGrowsInSteps(t *testing.T) {
	const interval = 120 * time.Second // on the fleet's clock: two seconds
	url := newLog(t)
	succeed(t, "apply", "--log", url, "-f", write(t, "deployments.yaml", crashDeployment+`
    limits: {max_change_replicas: 1, change_interval_s: 120}
`))
	var errs buffer
	observing := start(t, io.Discard, &errs, "tidemark", "up", "--log", url, "--log-level", "warn", "--services", "collector,decider")
	random := seed(t)
	for deadline := time.Now().Add(limitedFor); time.Now().Before(deadline); {
		actuator := start(t, io.Discard, &errs, "actuator", "--log", url, "--log-level", "error")
		// A group's lease outlives a member that was killed by 2 s.
		select {
		case <-time.After(time.Duration((2 + 6*random.Float64()) * float64(time.Second))): // the moment of its death
		case <-actuator.ended:
			t.Fatalf("the actuator ended by itself: %s\n%s", actuator.command.ProcessState, tail(errs.String(), 30))
		}
		actuator.kill()
	}
	observing.stop(t)
	log := openLog(t, url)
	var begun []*model.ScalingStarted
	for _, s := range facts[*model.ScalingStarted](t, log, events.TopicActuations) {
		begun = append(begun, s.fact)
	}
	limited := 0
	for _, a := range facts[any](t, log, events.TopicActuations) {
		switch fact := a.fact.(type) {
		case *model.ScalingApplied:
			if fact.Limited != "" {
				limited++
			}
		case *model.ScalingRejected:
			if fact.Reason == model.RejectedLimited {
				limited++
			}
		}
	}
	for i, later := range begun {
		for _, role := range model.AllRoles {
			sum := 0
			for _, other := range begun[:i+1] {
				if change, changed := other.Roles.Get(role); changed && other.OccurredAt.After(later.OccurredAt.Add(-interval)) {
					sum += max(change.To-change.From, change.From-change.To)
				}
			}
			if sum > 1 {
				t.Errorf("%s changed by %d replicas within %v up to %s, and the limit is 1", role, sum, interval, later.OccurredAt)
			}
		}
	}
	t.Logf("%d changes were begun, limits held something back %d times", len(begun), limited)
	if len(begun) < 2 || limited == 0 {
		t.Errorf("%d changes were begun, and limits held something back %d times: nothing was tested", len(begun), limited)
	}
}
