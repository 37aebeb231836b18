package events_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

func TestMessageIsTheBinaryBinding(t *testing.T) {
	event := events.Event{
		ID: "1", Type: "dev.tidemark.observation.v1", Source: "/tidemark/collector", Subject: "chat-70b",
		Time: time.Date(2026, 11, 23, 21, 0, 5, 0, time.FixedZone("CET", 3600)), PartitionKey: "chat-70b", CausationID: "0",
		CorrelationID: "00", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Data: []byte(`{}`),
	}
	msg := event.Message()
	if msg.UUID != "1" || string(msg.Payload) != "{}" {
		t.Errorf("message is %s with %s", msg.UUID, msg.Payload)
	}
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": "1", "ce_type": "dev.tidemark.observation.v1", "ce_source": "/tidemark/collector",
		"ce_subject": "chat-70b", "ce_time": "2026-11-23T20:00:05Z", "content-type": "application/json",
		"ce_partitionkey": "chat-70b", "ce_causationid": "0", "ce_correlationid": "00",
		"ce_traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	if diff := cmp.Diff(want, map[string]string(msg.Metadata)); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestParseUndoesMessage(t *testing.T) {
	text := rapid.StringN(0, 20, -1)
	some := rapid.StringN(1, 20, -1)
	rapid.Check(t, func(t *rapid.T) {
		event := events.Event{
			ID: some.Draw(t, "id"), Type: some.Draw(t, "type"), Source: some.Draw(t, "source"), Subject: text.Draw(t, "subject"),
			PartitionKey: text.Draw(t, "key"), CausationID: text.Draw(t, "causation"), CorrelationID: text.Draw(t, "correlation"),
			TraceParent: text.Draw(t, "trace"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
		}
		if rapid.Bool().Draw(t, "has a time") {
			event.Time = time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "seconds"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()
		}
		msg := event.Message()
		parsed, err := events.Parse(msg.Metadata, msg.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(event, parsed); diff != "" {
			t.Fatalf("event (-sent +parsed):\n%s", diff)
		}
	})
}

const structured = `{"specversion": "1.0", "id": "A1", "type": "dev.tidemark.deployment-retired.v1", "source": "/elsewhere",
	"subject": "chat-70b", "time": "2026-11-23T20:00:05Z", "datacontenttype": "application/json; charset=utf-8",
	"partitionkey": "chat-70b", "causationid": "A0", "correlationid": "A", "traceparent": "00-1", "unknown": 1,
	"data": {"deployment": "chat-70b", "revision": 4, "changed_by": "ops@example", "reason": "moved", "unknown": true}}`

func TestParseStructuredMode(t *testing.T) {
	for _, test := range []struct{ name, payload string }{
		{"JSON", structured},
		{"base64", strings.Replace(structured, `"data": {"deployment": "chat-70b", "revision": 4, "changed_by": "ops@example", "reason": "moved", "unknown": true}`,
			`"data_base64": "eyJkZXBsb3ltZW50IjogImNoYXQtNzBiIiwgInJldmlzaW9uIjogNCwgImNoYW5nZWRfYnkiOiAib3BzQGV4YW1wbGUiLCAicmVhc29uIjogIm1vdmVkIn0="`, 1)},
	} {
		event, err := events.Parse(map[string]string{"content-type": "application/cloudevents+json; charset=UTF-8"}, []byte(test.payload))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		fact, err := event.Fact()
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		event.Data = nil
		want := events.Event{
			ID: "A1", Type: "dev.tidemark.deployment-retired.v1", Source: "/elsewhere", Subject: "chat-70b", Time: time.Date(2026, 11, 23, 20, 0, 5, 0, time.UTC),
			PartitionKey: "chat-70b", CausationID: "A0", CorrelationID: "A", TraceParent: "00-1",
		}
		if diff := cmp.Diff(want, event); diff != "" {
			t.Errorf("%s: event (-want +got):\n%s", test.name, diff)
		}
		if diff := cmp.Diff(&model.DeploymentRetired{Deployment: "chat-70b", Revision: 4, ChangedBy: "ops@example", Reason: "moved"}, fact); diff != "" {
			t.Errorf("%s: fact (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := map[string]string{
		"ce_specversion": "1.0", "ce_id": "A1", "ce_type": "dev.tidemark.observation.v1", "ce_source": "/tidemark/collector",
		"ce_time": "2026-11-23T20:00:05Z", "content-type": "application/json",
	}
	if _, err := events.Parse(good, nil); err != nil {
		t.Fatal(err)
	}
	structuredType := "application/cloudevents+json"
	for _, test := range []struct {
		name    string
		set     map[string]string
		payload string
		want    string
	}{
		{"no event", map[string]string{"ce_specversion": ""}, "", `has CloudEvents version ""`},
		{"version", map[string]string{"ce_specversion": "0.3"}, "", `event "A1" has CloudEvents version "0.3", want 1.0`},
		{"no ID", map[string]string{"ce_id": ""}, "", "lacks the attribute id"},
		{"no type", map[string]string{"ce_type": ""}, "", "lacks the attribute type"},
		{"no source", map[string]string{"ce_source": ""}, "", "lacks the attribute source"},
		{"time", map[string]string{"ce_time": "yesterday"}, "", `event A1 has the time "yesterday", want RFC 3339`},
		{"content type", map[string]string{"content-type": "application/protobuf"}, "", `content type "application/protobuf", want application/json`},
		{"content type of no type", map[string]string{"content-type": "///"}, "", `content type "///"`},
		{"batch", map[string]string{"content-type": "application/cloudevents-batch+json"}, "[]", "application/cloudevents-batch+json"},
		{"structured, not JSON", map[string]string{"content-type": structuredType}, "{", "decode structured event"},
		{"structured, no ID", map[string]string{"content-type": structuredType}, `{"specversion": "1.0"}`, "lacks the attribute id"},
		{"structured, data_base64", map[string]string{"content-type": structuredType}, `{"specversion": "1.0", "id": "A1", "data_base64": "!"}`, `decode data_base64 of event "A1"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			headers := maps.Clone(good)
			maps.Copy(headers, test.set)
			_, err := events.Parse(headers, []byte(test.payload))
			if !errors.Is(err, events.ErrPermanent) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, want a permanent one with %q, in one line", err, test.want)
			}
		})
	}
	if _, err := events.Parse(map[string]string{}, []byte("noise")); err == nil || !strings.Contains(err.Error(), "message is no event: header ce_specversion is missing") {
		t.Errorf("a message without headers: %v", err)
	}
}

func TestRecordKeyStandsInForThePartitionKey(t *testing.T) {
	event, err := events.Record{
		Origin:  events.Origin{Key: "chat-70b"},
		Headers: map[string]string{"content-type": "application/cloudevents+json"},
		Payload: []byte(strings.Replace(structured, `"partitionkey": "chat-70b",`, "", 1)),
	}.Event()
	if err != nil || event.PartitionKey != "chat-70b" {
		t.Errorf("partition key is %q (%v)", event.PartitionKey, err)
	}
}

func TestFactRefuses(t *testing.T) {
	observation := `{"deployment": "chat-70b", "observed_at": "2026-11-23T20:00:05Z", "loops": {"load": true}}`
	for _, test := range []struct{ name, kind, subject, data, want string }{
		{"unknown type", "com.example.order.v1", "", `{}`, `event type "com.example.order.v1" is unknown`},
		{"type without a version", "dev.tidemark.observation", "", `{}`, "is unknown"},
		{"version 0", "dev.tidemark.observation.v0", "", `{}`, "is unknown"},
		{"version 01", "dev.tidemark.observation.v01", "", `{}`, "is unknown"},
		{"newer version", "dev.tidemark.observation.v2", "", `{}`, `"dev.tidemark.observation.v2" is newer than this build, which knows dev.tidemark.observation up to version 1`},
		{"no data", events.TypeObservation, "", ``, "decode event A1"},
		{"null", events.TypeObservation, "", `null`, "deployment is missing"},
		{"truncated", events.TypeObservation, "", observation[:40], "decode event A1"},
		{"another type", events.TypeObservation, "", `{"deployment": 7}`, "decode event A1"},
		{"invalid", events.TypeObservation, "", strings.Replace(observation, "}}", `}, "fleet": {"status": "guessed"}}`, 1), `fleet.status is "guessed"`},
		{"another subject", events.TypeObservation, "chat-8b", observation, `its data is about "chat-70b", its subject is "chat-8b"`},
		{"decision without a cause", events.TypeScalingDecision, "", `{"deployment": "chat-70b"}`, "observation_id is missing; planner_version is missing; observed_at is missing"},
		{"deployment", events.TypeDeploymentConfigured, "", `{"deployment": "chat-70b", "revision": 0, "spec": {"name": "chat-8b"}}`, "revision is 0, want at least 1; spec.name is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fact, err := events.Event{ID: "A1", Type: test.kind, Source: "/elsewhere", Subject: test.subject, Data: []byte(test.data)}.Fact()
			if fact != nil || !errors.Is(err, events.ErrPermanent) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("fact is %v, error %v, want a permanent one with %q, in one line", fact, err, test.want)
			}
		})
	}
}

func TestSealRefuses(t *testing.T) {
	at := time.Date(2026, 11, 23, 20, 0, 5, 0, time.UTC)
	for _, test := range []struct {
		name  string
		fact  any
		about events.About
		want  string
	}{
		{"nil", nil, events.About{}, "no event carries it"},
		{"nil pointer", (*model.Observation)(nil), events.About{}, "no event carries it"},
		{"value", model.Observation{}, events.About{}, "seal model.Observation: no event carries it"},
		{"another type", &model.Deployment{}, events.About{}, "seal *model.Deployment: no event carries it"},
		{"invalid", &model.Observation{ObservedAt: at}, events.About{Source: "/tidemark/collector"}, "deployment is missing"},
		{"no source", &model.Observation{Deployment: "chat-70b", ObservedAt: at}, events.About{}, "its source is missing"},
		{"no instant", &model.DeploymentRetired{Deployment: "chat-70b", Revision: 1}, events.About{Source: "/tidemark/control"}, "the time that it is about is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := events.Seal(test.fact, test.about)
			if !errors.Is(err, events.ErrPermanent) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want a permanent one with %q", err, test.want)
			}
		})
	}
}

func TestSealDataKeepsTheBytes(t *testing.T) {
	decision := &model.ScalingDecision{
		Deployment: "chat-70b", ObservationID: "o", PlannerVersion: "1", ObservedAt: time.Date(2026, 11, 23, 20, 0, 5, 0, time.UTC),
	}
	data, err := json.MarshalIndent(decision, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	event, err := events.SealData(decision, data, events.About{Source: "/tidemark/decider", CausationID: "o"})
	if err != nil {
		t.Fatal(err)
	}
	if string(event.Data) != string(data) || event.ID != events.DecisionID("chat-70b", "o", "1") {
		t.Errorf("event is %s with %s", event.ID, event.Data)
	}
	if topic, err := events.TopicOf(event); topic != events.TopicDecisions || err != nil {
		t.Errorf("topic is %q (%v)", topic, err)
	}
}

func TestErrorsKeepTheirText(t *testing.T) {
	err := events.Permanent(errors.New("no such role"))
	if err.Error() != "no such role" || !errors.Is(err, events.ErrPermanent) || errors.Is(err, events.ErrFatal) {
		t.Errorf("error is %q", err)
	}
	if events.Permanent(nil) != nil || events.Fatal(nil) != nil {
		t.Error("nil became an error")
	}
}

func TestTopics(t *testing.T) {
	topics := events.Topics{Prefix: events.DefaultPrefix}
	if name := topics.Name(events.TopicDeadLetters); name != "tidemark.dead-letters" {
		t.Errorf("name is %q", name)
	}
	listed := map[string]bool{}
	for _, topic := range events.AllTopics {
		listed[topic.Name] = true
	}
	for _, kind := range events.Types() {
		if !listed[kind.Topic] {
			t.Errorf("topic %s of type %s is not in the table", kind.Topic, kind.Name)
		}
	}
}
