package decider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
	"tidemark.dev/pkg/service"
)

var (
	topics = events.Topics{Prefix: events.DefaultPrefix}
	start  = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
)

// testLog is a log in memory that notes what is published, and refuses it while
// refusing is set.
type testLog struct {
	events.Log
	mu        sync.Mutex
	refusing  error
	published map[string][]string // by topic, the ID and the data of each
}

func newTestLog(t *testing.T) *testLog {
	t.Helper()
	log, err := drivers.Open(t.Context(), "memory://", drivers.Options{NackPause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return &testLog{Log: log, published: map[string][]string{}}
}

func (l *testLog) Publisher() message.Publisher { return l }

func (l *testLog) Publish(topic string, messages ...*message.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusing != nil {
		return l.refusing
	}
	for _, msg := range messages {
		l.published[topic] = append(l.published[topic], events.MessageID(msg)+" "+string(msg.Payload))
	}
	return l.Log.Publisher().Publish(topic, messages...)
}

// Close is the test's to call: processes come and go, and the log stays.
func (l *testLog) Close() error { return nil }

func (l *testLog) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusing = err
}

func (l *testLog) add(t *testing.T, facts ...any) {
	t.Helper()
	for _, fact := range facts {
		sealed, err := events.Seal(fact, events.About{Source: "/test", Time: start})
		if err != nil {
			t.Fatal(err)
		}
		topic, err := events.TopicOf(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Log.Publisher().Publish(topics.Name(topic), sealed.Message()); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *testLog) records(t *testing.T, topic string) []events.Record {
	t.Helper()
	var records []events.Record
	for record, err := range l.Read(t.Context(), topics.Name(topic), events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
	return records
}

// decisions returns the data of each decision in the log.
func (l *testLog) decisions(t *testing.T) []string {
	t.Helper()
	var data []string
	for _, record := range l.records(t, events.TopicDecisions) {
		data = append(data, string(record.Payload))
	}
	return data
}

func spec(t *testing.T, name string, revision int) *model.DeploymentConfigured {
	t.Helper()
	predictor := map[string]string{"chat": "auto", "embed": "kalman"}[name]
	specs, err := model.DecodeDeployments(fmt.Appendf(nil, `deployments: [{
		name: %s, topology: aggregated, target: sla, sla: {ttft_ms: 250, itl_ms: 22},
		roles: {aggregated: {gpus_per_replica: 2, min_replicas: 1, max_replicas: %d, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, context_length: 131072, max_kv_tokens: 590818}}},
		load: {interval_s: 5, min_observations: 2}, throughput: {interval_s: 10, predictor: %s}, behavior: {scale_down_window_s: 15}}]`, name, 8+revision, predictor))
	if err != nil {
		t.Fatal(err)
	}
	return &model.DeploymentConfigured{Deployment: name, Revision: revision, Spec: specs[0], ChangedBy: "test"}
}

// seen returns the i-th observation of a deployment: a load that swings between
// idle engines and full ones, with the traffic at every second tick.
func seen(deployment string, i int) *model.Observation {
	load := ((i*7)%20 + 20) % 20
	observation := &model.Observation{
		Deployment: deployment, ConfigRevision: 1, ObservedAt: start.Add(time.Duration(i) * 5 * time.Second),
		Loops: model.Loops{Load: true},
		Fleet: &model.FleetObservation{
			Status: model.Measured, AgeS: new(0.0),
			Roles: model.PerRole[model.RoleReplicas]{Aggregated: &model.RoleReplicas{Ready: 2, Desired: 2}},
		},
		Engines: &model.EnginesObservation{Status: model.Measured, AgeS: new(0.0)},
	}
	if i%2 == 0 {
		observation.Loops.Throughput = true
		observation.Traffic = &model.TrafficObservation{
			Status: model.Measured, AgeS: new(0.0), WindowS: 10, Requests: new(float64(5 * load)), MeanISL: new(float64(900 + 10*load)), MeanOSL: new(200.0),
		}
		if load == 0 {
			observation.Traffic = &model.TrafficObservation{Status: model.Idle, AgeS: new(0.0), WindowS: 10, Requests: new(0.0)}
		}
	}
	for _, worker := range []string{"w-0", "w-1"} {
		observation.Engines.Samples = append(observation.Engines.Samples, model.EngineSample{
			Role: model.Aggregated, Worker: worker, AgeS: new(600.0), WallTimeS: new(0.01 + float64(load)/1000),
			Scheduled: model.EngineLoad{PrefillRequests: new(load % 3), PrefillTokens: new(512 * load), DecodeRequests: new(12 * load), DecodeKVTokens: new(29_000 * load)},
			Queued:    model.EngineLoad{PrefillRequests: new(load / 4), PrefillTokens: new(2048 * load), DecodeRequests: new(0), DecodeKVTokens: new(0)},
		})
	}
	return observation
}

// newDecider returns a decider that has read its tables.
func newDecider(t *testing.T, log events.Log, config Config) *Decider {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	d := New(config, log, topics, events.NewDeploymentTable(log, topics, logger), logger, newMetrics(prometheus.NewRegistry()))
	if err := d.deployments.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.checkpoints.load(t.Context(), logger); err != nil {
		t.Fatal(err)
	}
	return d
}

func deliver(ctx context.Context, d *Decider, record events.Record) error {
	msg := message.NewMessage(record.Headers["ce_id"], record.Payload)
	msg.Metadata = record.Headers
	msg.SetContext(events.WithOrigin(ctx, record.Origin))
	return d.Handle(msg)
}

// handle delivers records, each of which must be handled.
func handle(t *testing.T, d *Decider, records []events.Record) {
	t.Helper()
	for _, record := range records {
		if err := deliver(t.Context(), d, record); err != nil {
			t.Fatalf("observation at position %d: %v", record.Position, err)
		}
	}
}

// twoDeployments fills a log with the observations of two deployments in turn,
// among them one that comes twice, and returns them.
func twoDeployments(t *testing.T, log *testLog, each int) []events.Record {
	t.Helper()
	log.add(t, spec(t, "chat", 1), spec(t, "embed", 1), spec(t, "chat", 2))
	for i := range each {
		chat := seen("chat", i)
		if i >= each/2 {
			chat.ConfigRevision = 2
		}
		log.add(t, chat, seen("embed", i))
	}
	return log.records(t, events.TopicObservations)
}

// TestRestartAtEveryEvent: a decider that is killed at any event is followed by
// one whose decisions are those of a run that was never interrupted.
func TestRestartAtEveryEvent(t *testing.T) {
	const each = 20
	config := Config{CheckpointEvery: 4, RevisionWait: time.Second}
	calm := newTestLog(t)
	handle(t, newDecider(t, calm, config), twoDeployments(t, calm, each))
	want := calm.decisions(t)
	if len(want) != 2*each {
		t.Fatalf("%d decisions for %d observations", len(want), 2*each)
	}
	for _, kind := range []string{`"action":"scale_up"`, `"action":"scale_down"`, `"forecast":{`, `"stage":"stabilization"`} {
		if !strings.Contains(strings.Join(want, "\n"), kind) {
			t.Errorf("no decision has %s: the state is not put to the test", kind)
		}
	}
	for name, back := range map[string]int{
		"acknowledged": 0, "published and not acknowledged": 1, "rewound": 7,
	} {
		t.Run(name, func(t *testing.T) {
			for at := range 2*each + 1 {
				log := newTestLog(t)
				records := twoDeployments(t, log, each)
				handle(t, newDecider(t, log, config), records[:at])
				handle(t, newDecider(t, log, config), records[max(at-back, 0):])
				got := log.decisions(t)
				if strings.Join(got, "\n") != strings.Join(want, "\n") {
					t.Fatalf("killed at %d: %d decisions, which are not those of a calm run (%d)", at, len(got), len(want))
				}
				once(t, log)
			}
		})
	}
}

// once checks that no two publications of one ID differ: on a log that keeps
// both, they are the same decision.
func once(t *testing.T, log *testLog) {
	t.Helper()
	for topic, all := range log.published {
		data := map[string]string{}
		for _, published := range all {
			id, bytes, _ := strings.Cut(published, " ")
			if first, ok := data[id]; ok && first != bytes {
				t.Fatalf("%s holds %s in two forms:\n%s\n%s", topic, id, first, bytes)
			}
			data[id] = bytes
		}
	}
}

// TestTurns: two deciders that take turns, as in rebalances, decide as one does.
func TestTurns(t *testing.T) {
	config := Config{CheckpointEvery: 5, RevisionWait: time.Second}
	calm, log := newTestLog(t), newTestLog(t)
	handle(t, newDecider(t, calm, config), twoDeployments(t, calm, 30))
	records := twoDeployments(t, log, 30)
	one, other := newDecider(t, log, config), newDecider(t, log, config)
	for from, turn := 0, 0; from < len(records); turn++ {
		to := min(from+1+turn%6, len(records))
		handle(t, one, records[from:to])
		one, other, from = other, one, to
	}
	if got, want := log.decisions(t), calm.decisions(t); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d decisions, which are not those of one decider (%d)", len(got), len(want))
	}
	once(t, log)
}

// TestCheckpoints: the newest fit checkpoint saves the fold of what it covers,
// and one that is unfit costs that fold and nothing else.
func TestCheckpoints(t *testing.T) {
	config := Config{CheckpointEvery: 10, RevisionWait: time.Second}
	calm := newTestLog(t)
	log := newTestLog(t)
	for _, l := range []*testLog{calm, log} {
		l.add(t, spec(t, "chat", 1))
		for i := range 40 {
			l.add(t, seen("chat", i))
		}
	}
	handle(t, newDecider(t, calm, config), calm.records(t, events.TopicObservations))
	records := log.records(t, events.TopicObservations)
	handle(t, newDecider(t, log, config), records[:25])
	if n := len(log.records(t, events.TopicCheckpoints)); n != 2 {
		t.Fatalf("%d checkpoints after 25 observations, want 2", n)
	}
	for _, step := range []struct {
		name   string
		change func(*model.Checkpoint)
		at     int
		folded float64
	}{
		{"as it is", nil, 25, 5},
		{"of a decider that stopped late", func(c *model.Checkpoint) { c.Position = 3 }, 26, 6},
		{"of another planner", func(c *model.Checkpoint) { c.Position, c.PlannerVersion = 23, "0" }, 27, 27},
		{"damaged", func(c *model.Checkpoint) { c.Position, c.State = 24, []byte(`"damaged`) }, 28, 28},
		{"of the next day", func(c *model.Checkpoint) {
			c.Position, c.ObservedAt, c.State = 25, start.Add(24*time.Hour), []byte(`"damaged`)
		}, 29, 29},
	} {
		if step.change != nil {
			all := log.records(t, events.TopicCheckpoints)
			checkpoint, err := checkpointOf(all[1])
			if err != nil {
				t.Fatal(err)
			}
			step.change(checkpoint)
			log.add(t, checkpoint)
		}
		d := newDecider(t, log, Config{CheckpointEvery: 1000, RevisionWait: time.Second})
		handle(t, d, records[step.at:step.at+1])
		if got := testutil.ToFloat64(d.metrics.folded); got != step.folded {
			t.Errorf("checkpoint %s: %v observations folded, want %v", step.name, got, step.folded)
		}
	}
	handle(t, newDecider(t, log, config), records[30:])
	if got, want := log.decisions(t), calm.decisions(t); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d decisions, which are not those of a calm run (%d)", len(got), len(want))
	}
}

// TestRefused: what cannot be decided is refused for good, and leaves the state
// as it was.
func TestRefused(t *testing.T) {
	config := Config{CheckpointEvery: 100, RevisionWait: time.Millisecond}
	log, calm := newTestLog(t), newTestLog(t)
	for _, l := range []*testLog{log, calm} {
		l.add(t, spec(t, "chat", 1), seen("chat", 0), seen("chat", 2))
	}
	handle(t, newDecider(t, calm, config), calm.records(t, events.TopicObservations))

	d := newDecider(t, log, config)
	records := log.records(t, events.TopicObservations)
	handle(t, d, records[:1])
	unknown := seen("chat", 1)
	unknown.ConfigRevision = 7
	other := newTestLog(t)
	other.add(t, unknown, seen("nobody", 1), seen("chat", -1))
	refused := other.records(t, events.TopicObservations)
	refused = append(refused, events.Record{Payload: []byte("{broken")}, decisionRecord(t))
	for _, record := range refused {
		record.Origin = records[0].Origin // as if it came next: the position is not what is tested
		if err := deliver(t.Context(), d, record); !errors.Is(err, events.ErrPermanent) {
			t.Errorf("%s: error %v, want a permanent one", record.Payload, err)
		}
	}
	handle(t, d, records[1:])
	if got, want := log.decisions(t), calm.decisions(t); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("decisions are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := d.Handle(message.NewMessage("1", nil)); !errors.Is(err, events.ErrFatal) {
		t.Errorf("a message without an origin: error %v, want a fatal one", err)
	}
}

// TestRefusedStaysOut: an observation that was refused because its configuration
// revision was late is in no restored state either, unless it was decided after all.
func TestRefusedStaysOut(t *testing.T) {
	config := Config{CheckpointEvery: 100, RevisionWait: time.Millisecond}
	for name, decisions := range map[string]int{"refused": 3, "decided when it was delivered again": 4} {
		t.Run(name, func(t *testing.T) {
			late := seen("chat", 1)
			late.ConfigRevision = 2
			run := func(restart bool) []string {
				log := newTestLog(t)
				log.add(t, spec(t, "chat", 1), seen("chat", 0), late, seen("chat", 2), seen("chat", 3))
				records := log.records(t, events.TopicObservations)
				d := newDecider(t, log, config)
				handle(t, d, records[:1])
				if err := deliver(t.Context(), d, records[1]); !errors.Is(err, events.ErrPermanent) {
					t.Fatalf("error is %v, want a permanent one", err)
				}
				at := records[1].Origin
				log.add(t, &model.DeadLetter{Topic: at.Topic, Partition: at.Partition, Position: at.Position, Key: at.Key, Service: "decider", Reason: "test"})
				log.add(t, spec(t, "chat", 2))
				if err := d.deployments.CatchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
				if decisions == 4 {
					handle(t, d, records[1:2])
				}
				handle(t, d, records[2:3])
				if restart {
					d = newDecider(t, log, config)
				}
				handle(t, d, records[3:])
				return log.decisions(t)
			}
			got, want := run(true), run(false)
			if len(want) != decisions {
				t.Fatalf("%d decisions, want %d", len(want), decisions)
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("decisions are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func decisionRecord(t *testing.T) events.Record {
	t.Helper()
	log := newTestLog(t)
	log.add(t, &model.ScalingDecision{Deployment: "chat", ObservationID: "o", PlannerVersion: planner.Version, ObservedAt: start})
	return log.records(t, events.TopicDecisions)[0]
}

// TestPanic: a panic of the planner is an error that no repetition mends.
func TestPanic(t *testing.T) {
	_, _, err := (&lane{}).decide("o", seen("chat", 0), nil, 0)
	if !errors.Is(err, events.ErrPermanent) {
		t.Errorf("error is %v, want a permanent one", err)
	}
}

// TestLogRefuses: the bytes that the log did not take are published when it
// takes them again, before anything that follows.
func TestLogRefuses(t *testing.T) {
	log := newTestLog(t)
	records := twoDeployments(t, log, 3)
	d := newDecider(t, log, Config{CheckpointEvery: 1, RevisionWait: time.Second})
	full := errors.New("disk full")
	handle(t, d, records[:2])
	log.refuse(full)
	for range 3 {
		if err := deliver(t.Context(), d, records[2]); !errors.Is(err, full) || errors.Is(err, events.ErrPermanent) {
			t.Fatalf("error is %v, want %v, to be tried again", err, full)
		}
	}
	log.refuse(nil)
	handle(t, d, records[3:]) // the router has given up on the one before
	got := log.decisions(t)
	if len(got) != len(records) {
		t.Fatalf("%d decisions for %d observations", len(got), len(records))
	}
	calm := newTestLog(t)
	handle(t, newDecider(t, calm, DefaultConfig()), twoDeployments(t, calm, 3))
	for _, name := range []string{"chat", "embed"} {
		if a, b := of(name, got), of(name, calm.decisions(t)); a != b {
			t.Errorf("decisions of %s are\n%s\nwant\n%s", name, a, b)
		}
	}
}

func of(deployment string, decisions []string) string {
	var chosen []string
	for _, decision := range decisions {
		if strings.Contains(decision, `"deployment":"`+deployment+`"`) {
			chosen = append(chosen, decision)
		}
	}
	return strings.Join(chosen, "\n")
}

// TestRevisionWait: an observation waits for the revision that it names, and not
// for ever.
func TestRevisionWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newTestLog(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		early := seen("chat", 0)
		early.ConfigRevision = 2
		log.add(t, spec(t, "chat", 1), early, seen("chat", 1))
		records := log.records(t, events.TopicObservations)
		d := newDecider(t, log, Config{CheckpointEvery: 100, RevisionWait: 10 * time.Second})

		began := time.Now()
		if err := deliver(ctx, d, records[0]); !errors.Is(err, events.ErrPermanent) || !strings.Contains(err.Error(), "names configuration revision 2, which did not appear in 10s") {
			t.Errorf("error is %v", err)
		}
		if waited := time.Since(began); waited != 10*time.Second {
			t.Errorf("waited %v, want 10s", waited)
		}
		time.AfterFunc(4*time.Second, func() { log.add(t, spec(t, "chat", 2)) })
		began = time.Now()
		if err := deliver(ctx, d, records[0]); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited != 4*time.Second {
			t.Errorf("waited %v, want the 4s until the revision came", waited)
		}
		stopping, stop := context.WithCancel(ctx)
		stop()
		missing := records[1]
		missing.Headers, missing.Payload = decisionOfRevision(t, 9)
		if err := deliver(stopping, d, missing); !errors.Is(err, context.Canceled) || errors.Is(err, events.ErrPermanent) {
			t.Errorf("a stop while waiting gives %v, want that the message is delivered again", err)
		}
	})
}

func decisionOfRevision(t *testing.T, revision int) (map[string]string, []byte) {
	t.Helper()
	observation := seen("chat", 5)
	observation.ConfigRevision = revision
	sealed, err := events.Seal(observation, events.About{Source: "/test"})
	if err != nil {
		t.Fatal(err)
	}
	msg := sealed.Message()
	return msg.Metadata, msg.Payload
}

// process runs the decider as a process does.
func process(t *testing.T, log events.Log) *fxtest.App {
	t.Helper()
	config := service.DefaultConfig("decider")
	config.Listen, config.LogLevel = "", "error"
	var health *service.Health
	app := fxtest.New(t,
		service.Module(config, t.Output(), func(context.Context, string) (events.Log, error) { return log, nil }),
		service.WithLogger(), Module(DefaultConfig()), fx.Populate(&health),
	)
	app.RequireStart()
	return app
}

// follow waits for the n-th record of a topic.
func follow(t *testing.T, log events.Log, topic string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for record, err := range log.Follow(ctx, topics.Name(topic), events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		if record.Position+1 == int64(n) {
			return
		}
	}
	t.Fatalf("%s has no %d records after a minute", topic, n)
}

// TestProcess: one decision for each observation; a message that is none goes to
// the dead letters; a clean stop leaves a checkpoint, from which the next start
// goes on.
func TestProcess(t *testing.T) {
	log := newTestLog(t)
	log.add(t, spec(t, "chat", 1))
	first := process(t, log)
	log.add(t, seen("chat", 0), seen("chat", 1))
	if err := log.Publish(topics.Name(events.TopicObservations), message.NewMessage("", []byte("{broken"))); err != nil {
		t.Fatal(err)
	}
	log.add(t, seen("chat", 2))
	follow(t, log, events.TopicDecisions, 3)
	first.RequireStop()
	if letters := log.records(t, events.TopicDeadLetters); len(letters) != 1 || !strings.Contains(string(letters[0].Payload), `"position":2`) {
		t.Errorf("there are %d dead letters, want one of position 2", len(letters))
	}
	checkpoints := log.records(t, events.TopicCheckpoints)
	if len(checkpoints) != 1 {
		t.Fatalf("%d checkpoints after a clean stop, want 1", len(checkpoints))
	}
	if checkpoint, err := checkpointOf(checkpoints[0]); err != nil || checkpoint.Position != 3 {
		t.Errorf("checkpoint is %+v (%v), want one that covers position 3", checkpoint, err)
	}

	second := process(t, log)
	log.add(t, seen("chat", 3))
	follow(t, log, events.TopicDecisions, 4)
	second.RequireStop()
	calm := newTestLog(t)
	calm.add(t, spec(t, "chat", 1), seen("chat", 0), seen("chat", 1), seen("chat", 2), seen("chat", 3))
	handle(t, newDecider(t, calm, DefaultConfig()), calm.records(t, events.TopicObservations))
	if got, want := log.decisions(t), calm.decisions(t); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("decisions are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestModule: the application's parts fit together.
func TestModule(t *testing.T) {
	config := service.DefaultConfig("decider")
	config.Log = "memory://"
	if err := fx.ValidateApp(service.Module(config, t.Output(), drivers.OpenURL), Module(DefaultConfig())); err != nil {
		t.Error(err)
	}
}

// BenchmarkHandle is an observation to its decision in a log in memory.
func BenchmarkHandle(b *testing.B) {
	log, err := drivers.Open(b.Context(), "memory://", drivers.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	logger := slog.New(slog.DiscardHandler)
	table := events.NewDeploymentTable(log, topics, logger)
	d := New(DefaultConfig(), log, topics, table, logger, newMetrics(prometheus.NewRegistry()))
	specs, err := model.DecodeDeployments([]byte(`deployments: [{name: chat, topology: aggregated, target: throughput, roles: {aggregated: {max_replicas: 8, engine: {max_num_seqs: 256}}}}]`))
	if err != nil {
		b.Fatal(err)
	}
	revision, err := events.Seal(&model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: specs[0]}, events.About{Source: "/test", Time: start})
	if err != nil {
		b.Fatal(err)
	}
	if err := log.Publisher().Publish(topics.Name(events.TopicDeployments), revision.Message()); err != nil {
		b.Fatal(err)
	}
	if err := table.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		sealed, err := events.Seal(seen("chat", i), events.About{Source: "/test"})
		if err != nil {
			b.Fatal(err)
		}
		msg := sealed.Message()
		msg.SetContext(events.WithOrigin(b.Context(), events.Origin{Topic: topics.Name(events.TopicObservations), Position: int64(i)}))
		if err := d.Handle(msg); err != nil {
			b.Fatal(err)
		}
	}
}
