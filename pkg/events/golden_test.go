package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// update writes the golden files anew. Those of a version that was released are
// what is in logs: they may be added to, and not changed.
var update = flag.Bool("update", false, "write the golden files anew")

// golden is an event as its file holds it: as the message that it is.
type golden struct {
	Headers map[string]string `json:"headers"`
	Data    json.RawMessage   `json:"data"`
}

func perRole[T any](prefill, decode T) model.PerRole[T] {
	return model.PerRole[T]{Prefill: &prefill, Decode: &decode}
}

var (
	observedAt    = time.Date(2026, 11, 23, 20, 0, 5, 0, time.UTC)
	observationID = events.ObservationID("chat-70b", observedAt)
	decisionID    = events.DecisionID("chat-70b", observationID, "1")
)

const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// sealed is a fact with what is said about it.
type sealed struct {
	fact  any
	about events.About
}

// everyEvent holds at least one event of every type, by the name of its file.
func everyEvent() map[string]sealed {
	spec := model.DefaultDeployment()
	spec.Name = "chat-70b"
	engine := model.Engine{MaxNumBatchedTokens: 8192, MaxNumSeqs: 256, ContextLength: 131072, MaxKVTokens: 590818}
	role := model.RoleSpec{GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: 32, Engine: engine}
	spec.Roles = perRole(role, role)
	spec.Budget.MaxGPUs = 16
	spec.Throughput.ProfileSource = "profiles/h200-llama70b-tp2.json"
	spec.Source = &model.Source{Simulated: &model.SimulatedSource{
		Engine: "h200-llama70b-tp2", Replicas: perRole(2, 4), ColdStartS: 60, RateMultiplier: 1, Speed: 1,
		Generator: model.SimulatedGenerator{Seed: 7, DurationS: 86400, MeanRPS: 2.3}, StartedAt: &observedAt,
	}}
	spec.Actuator = &model.Actuator{Simulated: &model.SimulatedActuator{}}
	asking := spec
	asking.Advisory, asking.Approval = false, model.ApprovalRequired
	active := spec
	active.Advisory = false
	limited := active
	limited.Limits = model.Limits{
		MaxReplicas: 16, MaxChangeReplicas: 8, ChangeIntervalS: 600,
		FreezeWindows: []model.FreezeWindow{{Cron: "0 22 * * FRI", DurationS: 201600, TimeZone: "Europe/Berlin"}},
	}

	control := events.About{Source: "/tidemark/control", Time: observedAt.Add(-3 * time.Hour)}
	decider := events.About{Source: "/tidemark/decider", CausationID: observationID, CorrelationID: observationID, TraceParent: trace}
	actuator := events.About{Source: "/tidemark/actuator", CausationID: decisionID, CorrelationID: observationID}
	done := model.Actuation{
		Deployment: "chat-70b", DecisionID: decisionID, Epoch: 1, ObservedAt: observedAt, OccurredAt: observedAt.Add(1250 * time.Millisecond),
		Connector: "simulated", Roles: model.PerRole[model.Change]{Prefill: &model.Change{From: 2, To: 3}},
	}
	partly := done
	partly.Limited = "role prefill goes to 3 instead of 8: it changed by 7 in the last 10m0s, and limits.max_change_replicas is 8"
	approved := done
	approved.ApprovedBy = "ops@control-1"
	settled := done
	settled.OccurredAt = done.OccurredAt.Add(64200 * time.Millisecond)
	none := done
	none.Roles = model.PerRole[model.Change]{}
	load := model.EngineLoad{PrefillRequests: new(2), PrefillTokens: new(4096), DecodeRequests: new(0), DecodeKVTokens: new(0)}

	return map[string]sealed{
		"deployment-configured/v1/advisory": {&model.DeploymentConfigured{
			Deployment: "chat-70b", Revision: 3, Spec: spec, ChangedBy: "ops@control-1", Reason: "second decode pool size",
		}, control},
		"deployment-configured/v1/active": {&model.DeploymentConfigured{
			Deployment: "chat-70b", Revision: 4, Epoch: 1, Spec: active, ChangedBy: "ops@control-1", Reason: "advice was right for a week",
		}, control},
		"deployment-configured/v1/limited": {&model.DeploymentConfigured{
			Deployment: "chat-70b", Revision: 5, Epoch: 1, Spec: limited, ChangedBy: "ops@control-1", Reason: "nothing over the weekend",
		}, control},
		"deployment-retired/v1/retired": {&model.DeploymentRetired{
			Deployment: "chat-70b", Revision: 5, ChangedBy: "ops@control-1", Reason: "moved to chat-120b",
		}, control},
		"scaling-frozen/v1/one": {&model.ScalingFrozen{
			Deployment: "chat-70b", OccurredAt: observedAt, ChangedBy: "ops@control-1", Reason: "the rack is being moved",
		}, control},
		"scaling-frozen/v1/all": {&model.ScalingFrozen{OccurredAt: observedAt, ChangedBy: "ops@control-1", Reason: "incident 4711"}, control},
		"scaling-thawed/v1/all": {&model.ScalingThawed{OccurredAt: observedAt.Add(time.Hour), ChangedBy: "ops@control-1", Reason: "incident 4711 is over"}, control},
		"observation/v1/measured": {&model.Observation{
			Deployment: "chat-70b", ConfigRevision: 3, ObservedAt: observedAt, Loops: model.Loops{Load: true, Throughput: true},
			Fleet: &model.FleetObservation{Status: model.Measured, AgeS: new(0.4), Roles: perRole(
				model.RoleReplicas{Ready: 2, Desired: 2}, model.RoleReplicas{Ready: 4, Desired: 5, Pending: 1})},
			Traffic: &model.TrafficObservation{
				Status: model.Measured, AgeS: new(1.0), WindowS: 180, Requests: new(412.0), MeanISL: new(1155.2), MeanOSL: new(211.0), KVHitRate: new(0.31),
				MeanTTFTMs: new(311.0), P95TTFTMs: new(640.0), MeanITLMs: new(21.0), P95ITLMs: new(33.0), MeanDurationS: new(4.8),
			},
			Engines: &model.EnginesObservation{Status: model.Measured, AgeS: new(0.4), Samples: []model.EngineSample{
				{Role: model.Prefill, Worker: "w-0", AgeS: new(611.0), WallTimeS: new(0.084), Scheduled: load, Queued: model.EngineLoad{PrefillRequests: new(1), PrefillTokens: new(2048)}},
				{Role: model.Decode, Worker: "w-1", DPRank: 1, AgeS: new(0.0), WallTimeS: new(0.0), Scheduled: model.EngineLoad{DecodeRequests: new(0), DecodeKVTokens: new(0)}},
			}},
		}, events.About{Source: "/tidemark/collector", TraceParent: trace}},
		"observation/v1/idle": {&model.Observation{
			Deployment: "chat-70b", ConfigRevision: 3, ObservedAt: observedAt.Add(180 * time.Second), Loops: model.Loops{Load: true, Throughput: true},
			Traffic: &model.TrafficObservation{Status: model.Idle, AgeS: new(1.0), WindowS: 180, Requests: new(0.0)},
		}, events.About{Source: "/tidemark/collector"}},
		"observation/v1/without-evidence": {&model.Observation{
			Deployment: "chat-70b", ConfigRevision: 3, ObservedAt: observedAt.Add(5*time.Second + 500*time.Millisecond), Loops: model.Loops{Load: true},
			Fleet:   &model.FleetObservation{Status: model.Stale, AgeS: new(47.5), Error: "the newest inventory is 47.5 s old, allowed are 15 s"},
			Traffic: &model.TrafficObservation{Status: model.Failed, Error: "query prometheus: 503 <overloaded> & slow"},
			Engines: &model.EnginesObservation{Status: model.Absent, Error: "no series vllm:num_requests_running"},
		}, events.About{Source: "/tidemark/collector"}},
		"scaling-decision/v1/scale-up": {&model.ScalingDecision{
			Deployment: "chat-70b", ConfigRevision: 4, Epoch: 1, Mode: model.Active, ObservationID: observationID,
			ObservedAt: observedAt, ValidUntil: observedAt.Add(time.Minute), Action: model.ScaleUp,
			Current: perRole(2, 4), Desired: perRole(2, 4), Target: perRole(3, 4), Delta: perRole(1, 0),
			Reasons: model.Reasons{Load: model.ReasonScaleUp, Throughput: model.ReasonNotDue, Roles: perRole(
				model.RoleReasons{Load: model.ReasonScaleUp}, model.RoleReasons{Load: model.ReasonNoChange})},
			Chain:     []model.ChainEntry{{Stage: model.StageLoad, Role: model.Prefill, From: 2, To: 3, Reason: model.ReasonScaleUp}},
			Estimates: model.Estimates{TTFTMs: new(612.0), ITLMs: new(31.2)},
			Forecast:  &model.Forecast{Predictor: "arima", Requests: 430, RPS: 2.39, ISL: 1160, OSL: 209, KVHitRate: new(0.3)},
			Capacity:  model.Capacity{PrefillRPS: new(4.1), DecodeRPS: new(1.7)}, Floors: perRole(1, 2),
			GPUs:     &model.GPUs{Current: 12, Target: 14, Min: model.Unbounded, Max: 16},
			Evidence: model.DecisionEvidence{Fleet: model.Measured, Traffic: model.Measured, Engines: model.Measured, OldestAgeS: new(1.0)},
			Warnings: []model.Warning{}, PlannerVersion: "1", PreviousDigest: model.Digest([]byte("the decision before")),
		}, decider},
		"scaling-decision/v1/hold-without-evidence": {&model.ScalingDecision{
			Deployment: "chat-8b", ConfigRevision: 1, Mode: model.Advisory, ObservationID: events.ObservationID("chat-8b", observedAt),
			ObservedAt: observedAt, ValidUntil: observedAt.Add(time.Minute), Action: model.Hold,
			Reasons: model.Reasons{Load: model.ReasonNoFleetData, Throughput: model.ReasonDisabled}, Chain: []model.ChainEntry{},
			Evidence: model.DecisionEvidence{Fleet: model.Failed}, Warnings: []model.Warning{model.WarningStateReset}, PlannerVersion: "1",
		}, events.About{Source: "/tidemark/decider", CausationID: events.ObservationID("chat-8b", observedAt)}},
		"deployment-configured/v1/approval": {&model.DeploymentConfigured{
			Deployment: "chat-70b", Revision: 6, Epoch: 1, Spec: asking, ChangedBy: "ops@control-1", Reason: "someone looks first",
		}, control},
		"decision-approved/v1/approved": {&model.DecisionApproved{
			Deployment: "chat-70b", DecisionID: decisionID, OccurredAt: observedAt.Add(20 * time.Second), ApprovedBy: "ops@control-1", Reason: "the launch is at nine",
		}, control},
		"scaling-proposed/v1/proposed": {&model.ScalingProposed{Actuation: done, ValidUntil: observedAt.Add(time.Minute)}, actuator},
		"scaling-started/v1/approved":  {&model.ScalingStarted{Actuation: approved}, actuator},
		"scaling-started/v1/started":   {&model.ScalingStarted{Actuation: done}, actuator},
		"scaling-applied/v1/applied":   {&model.ScalingApplied{Actuation: done}, actuator},
		"scaling-applied/v1/limited":   {&model.ScalingApplied{Actuation: partly}, actuator},
		"scaling-rejected/v1/expired": {&model.ScalingRejected{
			Actuation: none, Reason: model.RejectedExpired, Detail: "valid until 20:01:05, and it is 20:04:31",
		}, actuator},
		"scaling-failed/v1/failed":   {&model.ScalingFailed{Actuation: done, Error: "write replicas: 409 conflict", Attempt: 2}, actuator},
		"scaling-settled/v1/settled": {&model.ScalingSettled{Actuation: settled, SettleS: 64.2}, actuator},
		"checkpoint/v1/checkpoint": {&model.Checkpoint{
			Deployment: "chat-70b", Topic: "tidemark.observations", Partition: 2, Position: 17279, ObservedAt: observedAt,
			ConfigRevision: 4, PlannerVersion: "1", State: []byte(`{"version":1}`),
		}, decider},
		"dead-letter/v1/undecodable": {&model.DeadLetter{
			Topic: "tidemark.observations", Position: 17280, Key: "chat-70b", Service: "decider",
			Reason:   "message is no event: header ce_specversion is missing",
			Metadata: map[string]string{"content-type": "text/plain"}, Payload: []byte{0x00, 0xff, '<', '&'},
		}, events.About{Source: "/tidemark/decider", CausationID: "7f1d", Time: observedAt.Add(7 * time.Millisecond)}},
	}
}

const goldenRoot = "testdata/golden"

// TestGolden fails when the wire form of an event changes.
func TestGolden(t *testing.T) {
	for name, sealed := range everyEvent() {
		t.Run(name, func(t *testing.T) {
			event, err := events.Seal(sealed.fact, sealed.about)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := event.Type, "dev.tidemark."+strings.ReplaceAll(filepath.ToSlash(filepath.Dir(name)), "/", "."); got != want {
				t.Fatalf("event has type %s, its file stands under %s", got, want)
			}
			file := filepath.Join(goldenRoot, name+".json")
			msg := event.Message()
			if *update {
				writeGolden(t, file, golden{Headers: msg.Metadata, Data: json.RawMessage(msg.Payload)})
			}
			want := readGolden(t, file)
			if diff := cmp.Diff(want.Headers, map[string]string(msg.Metadata)); diff != "" {
				t.Errorf("headers (-golden +now):\n%s", diff)
			}
			if !bytes.Equal(msg.Payload, want.Data) {
				t.Errorf("data:\n golden %s\n now    %s", want.Data, msg.Payload)
			}
			fact, err := event.Fact()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(sealed.fact, fact); diff != "" {
				t.Errorf("fact (-sealed +decoded):\n%s", diff)
			}
		})
	}
}

// TestEveryGoldenFileIsUnderstood decodes the events of every version that ever
// was, and encodes those of the present one again.
func TestEveryGoldenFileIsUnderstood(t *testing.T) {
	present := map[string]bool{}
	for _, kind := range events.Types() {
		present[kind.Name] = true
	}
	seen := map[string]bool{}
	err := filepath.WalkDir(goldenRoot, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		want := readGolden(t, file)
		event, err := events.Parse(want.Headers, want.Data)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return nil
		}
		fact, err := event.Fact()
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return nil
		}
		seen[event.Type] = true
		if !present[event.Type] {
			return nil
		}
		again, err := events.Seal(fact, events.About{
			Source: event.Source, CausationID: event.CausationID, CorrelationID: event.CorrelationID, TraceParent: event.TraceParent, Time: event.Time,
		})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return nil
		}
		if msg := again.Message(); !maps.Equal(map[string]string(msg.Metadata), want.Headers) || !bytes.Equal(msg.Payload, want.Data) {
			t.Errorf("%s is encoded again as\n %v\n %s", file, msg.Metadata, msg.Payload)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range present {
		if !seen[name] {
			t.Errorf("type %s has no golden file", name)
		}
	}
}

// TestUnknownFieldsAreLeftOut decodes every golden event with fields that this
// build does not know, as a newer one may write them.
func TestUnknownFieldsAreLeftOut(t *testing.T) {
	for name, sealed := range everyEvent() {
		event, err := events.Seal(sealed.fact, sealed.about)
		if err != nil {
			t.Fatal(err)
		}
		event.Data = append([]byte(`{"unknown_s":1.5,"unknown":{"nested":[null]},`), event.Data[1:]...)
		fact, err := event.Fact()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(sealed.fact, fact); diff != "" {
			t.Errorf("%s (-sealed +decoded):\n%s", name, diff)
		}
	}
}

func readGolden(t testing.TB, file string) golden {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(content, &g); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	// The file is indented for people; the message is not.
	var data bytes.Buffer
	if err := json.Compact(&data, g.Data); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	g.Data = data.Bytes()
	return g
}

func writeGolden(t *testing.T, file string, g golden) {
	t.Helper()
	content, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(content, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzEvent looks for messages that Parse or Fact panic on, or that they
// understand and cannot say again.
func FuzzEvent(f *testing.F) {
	for _, sealed := range everyEvent() {
		event, err := events.Seal(sealed.fact, sealed.about)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("application/json", event.Type, event.Subject, "2026-11-23T20:00:05Z", event.Data)
	}
	f.Add("application/cloudevents+json", "", "", "", []byte(structured))
	f.Add("application/cloudevents+json", "", "", "", []byte(`{"specversion":"1.0","data_base64":"e30="}`))
	f.Add("", "dev.tidemark.observation.v9", "", "", []byte(`null`))
	f.Add("", "dev.tidemark.observation.v1", "", "now", []byte(`{"deployment":{}`))
	f.Fuzz(func(t *testing.T, contentType, kind, subject, instant string, payload []byte) {
		event, err := events.Parse(map[string]string{
			"ce_specversion": "1.0", "ce_id": "A1", "ce_source": "/fuzz", "ce_type": kind, "ce_subject": subject, "ce_time": instant, "content-type": contentType,
		}, payload)
		if err != nil {
			return
		}
		fact, err := event.Fact()
		if err != nil {
			return
		}
		again, err := events.Seal(fact, events.About{Source: event.Source, Time: observedAt})
		if err != nil {
			t.Fatalf("seal what was understood: %v", err)
		}
		if _, err := again.Fact(); err != nil {
			t.Fatalf("understand what was sealed: %v", err)
		}
	})
}

// goldenMessage returns an observation of two engines, as the log holds it.
func goldenMessage(b *testing.B) golden {
	b.Helper()
	return readGolden(b, filepath.Join(goldenRoot, "observation/v1/measured.json"))
}

func BenchmarkSeal(b *testing.B) {
	observation := everyEvent()["observation/v1/measured"]
	b.ReportAllocs()
	for b.Loop() {
		event, err := events.Seal(observation.fact, observation.about)
		if err != nil {
			b.Fatal(err)
		}
		event.Message()
	}
}

func BenchmarkParse(b *testing.B) {
	msg := goldenMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := events.Parse(msg.Headers, msg.Data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFact(b *testing.B) {
	msg := goldenMessage(b)
	event, err := events.Parse(msg.Headers, msg.Data)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := event.Fact(); err != nil {
			b.Fatal(err)
		}
	}
}
