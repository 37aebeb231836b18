package simulated

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

var (
	topics = events.Topics{Prefix: events.DefaultPrefix}
	start  = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
)

func openLog(t *testing.T) events.Log {
	t.Helper()
	log, err := drivers.Open(context.Background(), "memory://", drivers.Options{})
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

// fleet returns a deployment whose fleet starts with two engines, with a
// workload as a YAML value.
func fleet(t *testing.T, workload string) *model.DeploymentConfigured {
	t.Helper()
	specs, err := model.DecodeDeployments([]byte(`deployments: [{
		name: chat, topology: aggregated, target: throughput,
		roles: {aggregated: {max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, max_kv_tokens: 590818}}},
		source: {simulated: {engine: h200-llama-3.1-70b-fp8-tp2, replicas: {aggregated: 2}, cold_start_s: 30, started_at: 2026-11-23T20:00:00Z, ` + workload + `}}}]`))
	if err != nil {
		t.Fatal(err)
	}
	return &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: specs[0]}
}

const generated = "generator: {seed: 5, duration_s: 3600, mean_rps: 6}"

func open(t *testing.T, log events.Log, configured *model.DeploymentConfigured) *Source {
	t.Helper()
	source, err := Open(t.Context(), log, topics, configured, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return source
}

// observe returns what a source sees at an instant after the start, and its JSON.
func observe(t *testing.T, source *Source, at time.Duration) (*model.Observation, string) {
	t.Helper()
	observation := &model.Observation{Deployment: "chat", ConfigRevision: 1, ObservedAt: start.Add(at), Loops: model.Loops{Load: true}}
	source.Observe(t.Context(), observation)
	if err := observation.Validate(); err != nil {
		t.Fatalf("at %v: %v", at, err)
	}
	encoded, err := json.Marshal(observation)
	if err != nil {
		t.Fatal(err)
	}
	return observation, string(encoded)
}

// scale records a change of the fleet.
func scale(t *testing.T, log events.Log, deployment string, at time.Duration, from, to int) {
	t.Helper()
	sealed, err := events.Seal(&model.ScalingApplied{Actuation: model.Actuation{
		Deployment: deployment, DecisionID: at.String(), OccurredAt: start.Add(at), ObservedAt: start.Add(at),
		Roles: model.PerRole[model.Change]{Aggregated: &model.Change{From: from, To: to}},
	}}, events.About{Source: "/test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Publisher().Publish(topics.Name(events.TopicActuations), sealed.Message()); err != nil {
		t.Fatal(err)
	}
}

// TestRestart: the fleet is a function of its configuration and of the
// actuations, so a collector that comes later sees what one sees that was always
// there.
func TestRestart(t *testing.T) {
	log, configured := openLog(t), fleet(t, generated)
	scale(t, log, "chat", 62*time.Second, 2, 4)
	scale(t, log, "other", 63*time.Second, 2, 8)
	scale(t, log, "chat", 301*time.Second, 4, 1)
	always := open(t, log, configured)
	seen := map[time.Duration]string{}
	for at := 5 * time.Second; at <= 10*time.Minute; at += 5 * time.Second {
		_, seen[at] = observe(t, always, at)
	}
	for _, at := range []time.Duration{60 * time.Second, 65 * time.Second, 2 * time.Minute, 305 * time.Second, 10 * time.Minute} {
		if _, got := observe(t, open(t, log, configured), at); got != seen[at] {
			t.Errorf("at %v a collector that came later sees\n%s\nand one that was always there\n%s", at, got, seen[at])
		}
	}
}

// TestChange: a change is desired at once, and ready after the cold start.
func TestChange(t *testing.T) {
	log := openLog(t)
	scale(t, log, "chat", 60*time.Second, 2, 3)
	for at, want := range map[time.Duration]model.RoleReplicas{
		55 * time.Second: {Ready: 2, Desired: 2}, 65 * time.Second: {Ready: 2, Desired: 3}, 95 * time.Second: {Ready: 3, Desired: 3},
	} {
		observation, _ := observe(t, open(t, log, fleet(t, generated)), at)
		if got, _ := observation.Fleet.Roles.Get(model.Aggregated); got != want {
			t.Errorf("at %v there are %+v, want %+v", at, got, want)
		}
		if n := len(observation.Engines.Samples); n != want.Ready {
			t.Errorf("at %v %d engines are seen, want %d", at, n, want.Ready)
		}
	}
}

// TestLateRecord: a change whose record comes after its instant happens then.
func TestLateRecord(t *testing.T) {
	log := openLog(t)
	source := open(t, log, fleet(t, generated))
	observe(t, source, 2*time.Minute)
	scale(t, log, "chat", time.Minute, 2, 5)
	deadline := time.Now().Add(time.Minute)
	for at := 125 * time.Second; ; at += 5 * time.Second {
		observation, _ := observe(t, source, at)
		if got, _ := observation.Fleet.Roles.Get(model.Aggregated); got.Desired == 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the change does not come")
		}
	}
}

// TestTrafficHasItsClass: no requests are idle, and no completed answer is not an
// answer of no length.
func TestTrafficHasItsClass(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.csv")
	if err := os.WriteFile(path, []byte("t_ms,isl,osl\n130000,2000,400\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := open(t, openLog(t), fleet(t, "trace: "+path))
	for _, step := range []struct {
		at   time.Duration
		want model.Evidence
	}{{0, model.Absent}, {time.Minute, model.Idle}, {131 * time.Second, model.Absent}, {3 * time.Minute, model.Measured}} {
		observation, encoded := observe(t, source, step.at)
		if got := observation.Traffic.Status; got != step.want {
			t.Errorf("at %v traffic is %s, want %s: %s", step.at, got, step.want, encoded)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	missing := fleet(t, generated)
	missing.Spec.Source.Simulated.StartedAt = nil
	for _, test := range []struct {
		configured *model.DeploymentConfigured
		want       string
	}{
		{missing, "source.simulated.started_at of chat is missing; tidemark apply sets it"},
		{fleet(t, "trace: /nowhere/trace.csv"), "no such file"},
	} {
		_, err := Open(t.Context(), openLog(t), topics, test.configured, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error is %v, want %q", err, test.want)
		}
	}
}
