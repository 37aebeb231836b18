package replay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
	"tidemark.dev/pkg/replay/replaytest"
)

var topics = events.Topics{Prefix: events.DefaultPrefix}

// ticks is how many decisions a life of the tests has: 15 minutes.
const ticks = 180

// lived returns a log with the lives of deployments, the later half active.
func lived(t testing.TB, names ...string) events.Log {
	t.Helper()
	log, err := drivers.OpenURL(t.Context(), "memory://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	for _, name := range names {
		if err := replaytest.Write(log, topics, replaytest.Life{
			Deployment: name, Duration: ticks * 5 * time.Second, ActiveFrom: ticks / 2 * 5 * time.Second, CheckpointEvery: 50,
			Unseen: func(tick int) bool { return tick%40 == 7 },
		}); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

// edited is a log whose topics somebody has had a hand in. Positions of what is
// left stay what they were.
type edited struct {
	events.Log
	topics map[string][]events.Record
}

func edit(t testing.TB, log events.Log) *edited {
	t.Helper()
	e := &edited{Log: log, topics: map[string][]events.Record{}}
	for _, topic := range events.AllTopics {
		for record, err := range log.Read(t.Context(), topics.Name(topic.Name), events.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			record.Payload = bytes.Clone(record.Payload)
			e.topics[record.Topic] = append(e.topics[record.Topic], record)
		}
	}
	return e
}

func (e *edited) Read(_ context.Context, topic string, r events.Range) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		for _, record := range e.topics[topic] {
			from, bounded := r.From.Positions[record.Partition]
			to, limited := r.To.Positions[record.Partition]
			if bounded && record.Position < from || limited && record.Position >= to || r.Key != "" && r.Key != record.Key ||
				record.AppendedAt.Before(r.From.Time) || !r.To.Time.IsZero() && !record.AppendedAt.Before(r.To.Time) {
				continue
			}
			if !yield(record, nil) {
				return
			}
		}
	}
}

func (e *edited) decisions() []events.Record { return e.topics[topics.Name(events.TopicDecisions)] }

// trim removes the head of a topic.
func (e *edited) trim(topic string, n int) {
	e.topics[topics.Name(topic)] = e.topics[topics.Name(topic)][n:]
}

func verify(t testing.TB, log events.Log, options replay.Options) *replay.Result {
	t.Helper()
	result, err := replay.Verify(t.Context(), log, topics, options)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// want checks the findings, each as "kind id".
func want(t *testing.T, result *replay.Result, findings ...string) {
	t.Helper()
	var got []string
	for _, f := range result.Findings {
		got = append(got, fmt.Sprint(f.Kind, " ", f.DecisionID))
	}
	slices.Sort(got)
	slices.Sort(findings)
	if diff := cmp.Diff(findings, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s\nin full: %+v", diff, result.Findings)
	}
}

func idOf(record events.Record) string { return record.Headers["ce_id"] }

// TestVerify: what was not touched is found to be the same, whole and in parts.
func TestVerify(t *testing.T) {
	log := lived(t, "chat", "embed")
	for name, test := range map[string]struct {
		options   replay.Options
		decisions int
	}{
		"whole":           {replay.Options{}, 2 * ticks},
		"one deployment":  {replay.Options{Deployments: []string{"embed"}}, ticks},
		"from the middle": {replay.Options{From: at(120), To: at(150), Deployments: []string{"chat"}}, 30},
		"across both":     {replay.Options{From: at(120)}, 2*ticks - 120},
		"to the middle":   {replay.Options{To: at(20)}, 20},
		"nothing":         {replay.Options{From: at(1000)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			result := verify(t, log, test.options)
			want(t, result)
			sum := result.Totals()
			if sum.Decisions != test.decisions || sum.Same != test.decisions || sum.Unverified != 0 || sum.Broken != 0 || len(result.Lacks) > 0 {
				t.Errorf("want %d decisions, all the same: %+v, lacks %v", test.decisions, sum, result.Lacks)
			}
			if links := test.decisions - len(result.Deployments); test.decisions > 0 && sum.Links != links {
				t.Errorf("%d links were checked, want %d", sum.Links, links)
			}
		})
	}
	if result := verify(t, log, replay.Options{}); result.Observations != 2*ticks {
		t.Errorf("%d observations, want %d", result.Observations, 2*ticks)
	}
}

func at(position int64) events.Bound { return events.Bound{Positions: map[int32]int64{0: position}} }

// TestOneByte: whichever byte of a decision is changed, it is that decision
// that is named, and no other.
func TestOneByte(t *testing.T) {
	log := lived(t, "chat")
	victim := 100
	length := len(edit(t, log).decisions()[victim].Payload)
	for offset := 0; offset < length; offset += 7 {
		e := edit(t, log)
		record := e.decisions()[victim]
		record.Payload[offset] ^= 1
		result := verify(t, e, replay.Options{From: at(90), To: at(110)})
		want(t, result, "altered "+idOf(record))
		if t.Failed() {
			t.Fatalf("byte %d of %s", offset, record.Payload)
		}
	}
}

// TestFieldByField: the first difference is shown as the fields that differ.
func TestFieldByField(t *testing.T) {
	e := edit(t, lived(t, "chat"))
	for _, i := range []int{60, 61, 150} {
		record := &e.decisions()[i]
		record.Payload = bytes.Replace(record.Payload, []byte(`"action":"`), []byte(`"action":"un`), 1)
		record.Payload = bytes.Replace(record.Payload, []byte(`"warnings":[]`), []byte(`"warnings":["forged"]`), 1)
	}
	result := verify(t, e, replay.Options{})
	first := result.First
	if first == nil || first.DecisionID != idOf(e.decisions()[60]) || len(first.Fields) != 2 ||
		first.Fields[0].Path != "action" || !strings.HasPrefix(first.Fields[0].Recorded, `"un`) ||
		first.Fields[1] != (replay.Field{Path: "warnings[0]", Recorded: `"forged"`}) {
		t.Errorf("first difference is %+v", first)
	}
	want(t, result, "altered "+idOf(e.decisions()[60]), "altered "+idOf(e.decisions()[61]), "altered "+idOf(e.decisions()[150]))
	if d := result.Deployments[0]; d.Differing != 3 || d.Same != ticks-3 {
		t.Errorf("counts are %+v", d)
	}
}

// TestRemoved: a decision that is gone is named, wherever it stood.
func TestRemoved(t *testing.T) {
	log := lived(t, "chat", "embed")
	for _, i := range []int{0, 1, 77, ticks - 31, ticks} { // the first of each deployment among them
		e := edit(t, log)
		topic := topics.Name(events.TopicDecisions)
		gone := e.decisions()[i]
		e.topics[topic] = slices.Delete(e.topics[topic], i, i+1)
		want(t, verify(t, e, replay.Options{}), "missing "+idOf(gone))
	}
	// Of the newest ones it shows where a checkpoint covers them.
	e := edit(t, log)
	topic := topics.Name(events.TopicDecisions)
	e.topics[topic] = e.topics[topic][:2*ticks-40]
	result := verify(t, e, replay.Options{})
	if undecided := result.Deployments[1].Undecided; undecided != 30 || len(result.Findings) != 10 || result.Findings[0].Kind != replay.Missing {
		t.Errorf("%d undecided and %d missing; want 30 and, up to the checkpoint at 150, 10", undecided, len(result.Findings))
	}
}

// TestSwapped: two decisions that changed places are both named.
func TestSwapped(t *testing.T) {
	log := lived(t, "chat")
	for _, pair := range [][2]int{{70, 71}, {70, 72}, {3, 170}} {
		e := edit(t, log)
		d := e.decisions()
		a, b := &d[pair[0]], &d[pair[1]]
		a.Headers, b.Headers, a.Payload, b.Payload = b.Headers, a.Headers, b.Payload, a.Payload
		result := verify(t, e, replay.Options{})
		text := fmt.Sprintf("%+v", result.Findings)
		if len(result.Findings) == 0 || !strings.Contains(text, idOf(*a)) || !strings.Contains(text, idOf(*b)) {
			t.Errorf("swapping %v: %s", pair, text)
		}
		for _, f := range result.Findings {
			if f.Kind != replay.Moved {
				t.Errorf("swapping %v: %+v", pair, f)
			}
		}
		// Only the data.
		e = edit(t, log)
		d = e.decisions()
		a, b = &d[pair[0]], &d[pair[1]]
		a.Payload, b.Payload = b.Payload, a.Payload
		want(t, verify(t, e, replay.Options{}), "altered "+idOf(*a), "altered "+idOf(*b))
	}
}

// TestDoubled: the same bytes again are a redelivery, others are not.
func TestDoubled(t *testing.T) {
	e := edit(t, lived(t, "chat"))
	topic := topics.Name(events.TopicDecisions)
	again := e.decisions()[50]
	again.Position = ticks
	e.topics[topic] = slices.Insert(e.topics[topic], 51, again)
	result := verify(t, e, replay.Options{})
	want(t, result)
	if result.Deployments[0].Repeated != 1 {
		t.Errorf("counts are %+v", result.Deployments[0])
	}
	e.topics[topic][51].Payload = bytes.Replace(again.Payload, []byte(`"warnings":[`), []byte(`"warnings":["forged"`), 1)
	want(t, verify(t, e, replay.Options{}), "doubled "+idOf(again))
}

// TestStray: a decision on an observation that never was.
func TestStray(t *testing.T) {
	e := edit(t, lived(t, "chat"))
	topic := topics.Name(events.TopicObservations)
	e.topics[topic] = slices.Delete(e.topics[topic], 90, 91)
	result := verify(t, e, replay.Options{})
	if len(result.Findings) == 0 || result.Findings[0].Kind != replay.Stray || result.Findings[0].DecisionID != idOf(e.decisions()[90]) {
		t.Errorf("findings are %+v", result.Findings)
	}
}

// TestForgedChain: a decision that was altered together with all links after
// it fits its chain. That it is decided otherwise shows all the same.
func TestForgedChain(t *testing.T) {
	e := edit(t, lived(t, "chat"))
	previous := ""
	for i := range e.decisions() {
		record := &e.decisions()[i]
		var decision model.ScalingDecision
		if err := json.Unmarshal(record.Payload, &decision); err != nil {
			t.Fatal(err)
		}
		if i == 120 {
			decision.Reasons.Load = model.ReasonNoChange + "d"
		}
		decision.PreviousDigest = previous
		record.Payload, _ = json.Marshal(decision)
		previous = model.Digest(record.Payload)
	}
	result := verify(t, e, replay.Options{})
	want(t, result, "differs "+idOf(e.decisions()[120]))
	if result.First == nil || len(result.First.Fields) != 1 || result.First.Fields[0].Path != "reasons.load" {
		t.Errorf("first difference is %+v", result.First)
	}
}

// TestTrimmedHead: where the observations before a range are gone, decisions
// are made again from the next checkpoint on; of the others it is said.
func TestTrimmedHead(t *testing.T) {
	log := lived(t, "chat")
	e := edit(t, log)
	e.trim(events.TopicObservations, 60)
	result := verify(t, e, replay.Options{})
	want(t, result)
	d := result.Deployments[0]
	// The checkpoint after tick 100 is the first one that helps: the one after 50 covers
	// observations up to 49, and nothing says that those to 59 are the only ones that are gone.
	if d.Same+d.Unverified != ticks || d.Unverified == 0 || d.Same == 0 || d.Links != ticks-1 {
		t.Errorf("counts are %+v", d)
	}
	if len(result.Lacks) != 2 || result.Lacks[0].Decisions+result.Lacks[1].Decisions != d.Unverified {
		t.Errorf("lacks are %+v", result.Lacks)
	}
	// Without checkpoints nothing can be decided again, and the chain is checked all the same.
	e.trim(events.TopicCheckpoints, len(e.topics[topics.Name(events.TopicCheckpoints)]))
	result = verify(t, e, replay.Options{})
	if d := result.Deployments[0]; d.Same != 0 || d.Unverified != ticks || d.Links != ticks-1 || !strings.Contains(fmt.Sprint(result.Lacks), "no checkpoint") {
		t.Errorf("counts are %+v, lacks %+v", d, result.Lacks)
	}
	// And a broken link that nothing tells the end of is named as that.
	e.decisions()[30].Payload[5] ^= 1
	if f := verify(t, e, replay.Options{}).Findings; len(f) != 1 || f[0].Kind != replay.Altered {
		t.Errorf("findings are %+v", f)
	}
	e.decisions()[30].Payload[5] ^= 1
	e.decisions()[30].Payload = bytes.Replace(e.decisions()[30].Payload, []byte(`"epoch":0`), []byte(`"epoch":9`), 1)
	want(t, verify(t, e, replay.Options{}), "unlinked "+idOf(e.decisions()[31]))
}

// TestMissingRevision: without the configuration a decision cannot be made.
func TestMissingRevision(t *testing.T) {
	e := edit(t, lived(t, "chat"))
	topic := topics.Name(events.TopicDeployments)
	e.topics[topic] = e.topics[topic][:1]
	result := verify(t, e, replay.Options{})
	want(t, result)
	if d := result.Deployments[0]; d.Same != ticks/2-1 || d.Unverified != ticks/2+1 || len(result.Lacks) != 1 ||
		!strings.Contains(result.Lacks[0].What, "configuration revision 2 is not in the log") {
		t.Errorf("counts are %+v, lacks %+v", d, result.Lacks)
	}
}

// TestOtherPlanner: decisions of another version of the planner are not held
// against this one.
func TestOtherPlanner(t *testing.T) {
	e := edit(t, lived(t, "chat"))
	previous := ""
	for i := range e.decisions() {
		record := &e.decisions()[i]
		var decision model.ScalingDecision
		if err := json.Unmarshal(record.Payload, &decision); err != nil {
			t.Fatal(err)
		}
		if i < 40 {
			decision.PlannerVersion = "0"
			decision.Action = "unheard_of"
			record.Headers["ce_id"] = events.DecisionID("chat", decision.ObservationID, "0")
		}
		decision.PreviousDigest = previous
		record.Payload, _ = json.Marshal(decision)
		previous = model.Digest(record.Payload)
	}
	result := verify(t, e, replay.Options{})
	want(t, result)
	if d := result.Deployments[0]; d.Unverified != 40 || d.Same != ticks-40 {
		t.Errorf("counts are %+v, lacks %+v", d, result.Lacks)
	}
}

// TestRefused: an observation that went to the dead letters is in no state, unless
// it was decided after all.
func TestRefused(t *testing.T) {
	log := lived(t, "chat")
	letter := &model.DeadLetter{Topic: topics.Name(events.TopicObservations), Position: ticks, Key: "chat", Service: "decider", Reason: "test"}
	e := edit(t, log)
	// An observation that nobody decided, although it was newer.
	topic := topics.Name(events.TopicObservations)
	extra := &model.Observation{Deployment: "chat", ConfigRevision: 1, ObservedAt: replaytest.Begin.Add(501 * time.Second), Loops: model.Loops{Load: true}}
	sealed, err := events.Seal(extra, events.About{Source: "/test"})
	if err != nil {
		t.Fatal(err)
	}
	message := sealed.Message()
	e.topics[topic] = slices.Insert(e.topics[topic], 100, events.Record{
		Origin: events.Origin{Topic: topic, Position: ticks, Key: "chat", AppendedAt: time.Now()}, Headers: message.Metadata, Payload: message.Payload,
	})
	result := verify(t, e, replay.Options{})
	if len(result.Findings) == 0 || result.Findings[0].Kind != replay.Missing {
		t.Errorf("findings are %+v", result.Findings)
	}
	decided := *letter
	decided.Position = 50
	for position, letter := range []*model.DeadLetter{letter, &decided} {
		buried, err := events.Seal(letter, events.About{Source: "/test", Time: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		name := topics.Name(events.TopicDeadLetters)
		e.topics[name] = append(e.topics[name], events.Record{
			Origin: events.Origin{Topic: name, Position: int64(position)}, Headers: buried.Message().Metadata, Payload: buried.Data,
		})
	}
	result = verify(t, e, replay.Options{})
	want(t, result)
	if d := result.Deployments[0]; d.Refused != 1 || d.Same != ticks {
		t.Errorf("counts are %+v", d)
	}
}

// TestEqualResults: equal logs give equal results.
func TestEqualResults(t *testing.T) {
	e := edit(t, lived(t, "chat", "embed"))
	e.decisions()[11].Payload[300] ^= 1
	a, b := verify(t, e, replay.Options{}), verify(t, e, replay.Options{})
	a.TookS, b.TookS = 0, 0
	if !reflect.DeepEqual(a, b) {
		t.Errorf("results differ:\n%s", cmp.Diff(a, b))
	}
}
