package collector

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

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/service"
)

var topics = events.Topics{Prefix: events.DefaultPrefix}

// installation is a log in memory with collectors on it, in virtual time. It
// begins one second after a whole number of minutes.
type installation struct {
	t     *testing.T
	log   *testLog
	began time.Time
	// sources are opened by the deployment's name.
	mu      sync.Mutex
	sources map[string]func() (fleetSource, error)
}

// inVirtualTime runs a test in a bubble of its own.
func inVirtualTime(t *testing.T, test func(*installation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opened, err := drivers.Open(context.Background(), "memory://", drivers.Options{})
		if err != nil {
			t.Fatal(err)
		}
		log := &testLog{Log: opened}
		time.Sleep(time.Second)
		test(&installation{t: t, log: log, began: time.Now(), sources: map[string]func() (fleetSource, error){}})
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
}

// testLog refuses observations while it is told to.
type testLog struct {
	events.Log
	mu       sync.Mutex
	refusing bool
}

func (l *testLog) Publisher() message.Publisher { return testPublisher{l.Log.Publisher(), l} }

type testPublisher struct {
	message.Publisher
	log *testLog
}

func (p testPublisher) Publish(topic string, messages ...*message.Message) error {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	if p.log.refusing {
		return errors.New("disk full")
	}
	return p.Publisher.Publish(topic, messages...)
}

func (l *testLog) refuse(refuse bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusing = refuse
}

// start starts a collector. What it returns stops it.
func (i *installation) start() (c *Collector, stop func()) {
	i.t.Helper()
	c = New(Config{QueryTimeout: 4 * time.Second}, i.log, topics, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	c.open = func(_ context.Context, configured *model.DeploymentConfigured) (fleetSource, error) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if open := i.sources[configured.Deployment]; open != nil {
			return open()
		}
		return source(func(context.Context, *model.Observation) {}), nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() {}) }()
	return c, func() {
		i.t.Helper()
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			i.t.Errorf("the collector ended with %v", err)
		}
	}
}

// source is a source that is a function.
type source func(context.Context, *model.Observation)

func (s source) Observe(ctx context.Context, observation *model.Observation) { s(ctx, observation) }
func (s source) Close()                                                      {}

// configure publishes a revision whose loops have the given intervals in
// seconds; throughput 0 switches that loop off.
func (i *installation) configure(name string, revision int, load, throughput float64) {
	i.t.Helper()
	spec := fmt.Sprintf(`deployments: [{
		name: %s, topology: aggregated, target: sla, sla: {ttft_ms: 500, itl_ms: 50}, roles: {aggregated: {gpus_per_replica: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, max_kv_tokens: 590818}}},
		load: {interval_s: %v}, throughput: {enabled: %v, interval_s: %v},
		source: {simulated: {engine: h200-llama-3.1-70b-fp8-tp2, generator: {seed: 1, duration_s: 60, mean_rps: 1}, started_at: 2000-01-01T00:00:00Z}}}]`,
		name, load, throughput > 0, max(throughput, load))
	specs, err := model.DecodeDeployments([]byte(spec))
	if err != nil {
		i.t.Fatal(err)
	}
	i.publish(&model.DeploymentConfigured{Deployment: name, Revision: revision, Spec: specs[0], ChangedBy: "test"})
}

func (i *installation) publish(fact any) {
	i.t.Helper()
	sealed, err := events.Seal(fact, events.About{Source: "/test", Time: time.Now()})
	if err != nil {
		i.t.Fatal(err)
	}
	if err := i.log.Log.Publisher().Publish(topics.Name(events.TopicDeployments), sealed.Message()); err != nil {
		i.t.Fatal(err)
	}
}

// observations returns what was published of a deployment, as lines: seconds
// since the beginning (and the second before it), loops and revision.
func (i *installation) observations(name string) string {
	i.t.Helper()
	var lines []string
	for _, o := range i.facts(name) {
		loops := ""
		if o.Loops.Load {
			loops += "L"
		}
		if o.Loops.Throughput {
			loops += "T"
		}
		lines = append(lines, fmt.Sprintf("%v%s@%d", o.ObservedAt.Sub(i.began)+time.Second, loops, o.ConfigRevision))
	}
	return strings.Join(lines, " ")
}

func (i *installation) facts(name string) []*model.Observation {
	i.t.Helper()
	var all []*model.Observation
	for record, err := range i.log.Read(context.Background(), topics.Name(events.TopicObservations), events.Range{Key: name}) {
		if err != nil {
			i.t.Fatal(err)
		}
		event, err := record.Event()
		if err != nil {
			i.t.Fatal(err)
		}
		fact, err := event.Fact()
		if err != nil {
			i.t.Fatal(err)
		}
		observation, ok := fact.(*model.Observation)
		if !ok {
			i.t.Fatalf("the observations hold a %T", fact)
		}
		all = append(all, observation)
	}
	return all
}

func (i *installation) want(name, want string) {
	i.t.Helper()
	if got := i.observations(name); got != want {
		i.t.Errorf("%s was observed at %s, want %s", name, got, want)
	}
}

// pass lets virtual time pass, and what is due then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestSchedule: ticks are multiples of the intervals, one for both loops; a
// revision holds from the next tick on, and a retired deployment is left alone.
func TestSchedule(t *testing.T) {
	inVirtualTime(t, func(i *installation) {
		i.configure("chat", 1, 5, 15)
		i.configure("embed", 1, 10, 0)
		c, stop := i.start()
		pass(15500 * time.Millisecond) // to 16.5 s
		i.want("chat", "5sL@1 10sL@1 15sLT@1")
		i.want("embed", "10sL@1")
		if got := testutil.ToFloat64(c.metrics.deployments); got != 2 {
			t.Errorf("%v deployments are observed, want 2", got)
		}
		i.configure("chat", 2, 4, 0)
		i.publish(&model.DeploymentRetired{Deployment: "embed", Revision: 2, ChangedBy: "test", Reason: "test"})
		pass(8 * time.Second) // to 24.5 s
		i.want("chat", "5sL@1 10sL@1 15sLT@1 20sL@2 24sL@2")
		i.want("embed", "10sL@1")
		if got := testutil.ToFloat64(c.metrics.deployments); got != 1 {
			t.Errorf("%v deployments are observed, want 1", got)
		}
		stop()
	})
}

// TestMissedTicks: a source that is slow costs the ticks that pass meanwhile.
// They are counted and never made up for.
func TestMissedTicks(t *testing.T) {
	inVirtualTime(t, func(i *installation) {
		slow := 0
		i.sources["chat"] = func() (fleetSource, error) {
			return source(func(context.Context, *model.Observation) {
				if slow++; slow == 1 {
					time.Sleep(11 * time.Second) // deaf to the end of its time
				}
			}), nil
		}
		i.configure("chat", 1, 2, 0)
		c, stop := i.start()
		pass(16 * time.Second) // the first tick is at 2 s, and takes until 13 s
		i.want("chat", "2sL@1 12sL@1 14sL@1 16sL@1")
		if got := testutil.ToFloat64(c.metrics.skipped.WithLabelValues("chat")); got != 4 {
			t.Errorf("%v ticks were left out, want 4: those at 4, 6, 8 and 10 s", got)
		}
		stop()
	})
}

// TestQueryTimeout: a source is told when its time is over, and what it has
// until then is published.
func TestQueryTimeout(t *testing.T) {
	inVirtualTime(t, func(i *installation) {
		i.sources["chat"] = func() (fleetSource, error) {
			return source(func(ctx context.Context, observation *model.Observation) {
				<-ctx.Done()
				observation.Fleet = &model.FleetObservation{Status: model.Failed, Error: ctx.Err().Error()}
			}), nil
		}
		i.configure("chat", 1, 5, 0)
		_, stop := i.start()
		pass(9 * time.Second)
		seen := i.facts("chat")
		if len(seen) != 1 || seen[0].Fleet == nil || seen[0].Fleet.Status != model.Failed || seen[0].ObservedAt.Sub(i.began) != 4*time.Second {
			t.Errorf("observed %+v, want one observation of 5 s whose fleet failed", seen)
		}
		stop()
	})
}

// TestSourceThatCannotBeOpened: every tick says so, until it can be.
func TestSourceThatCannotBeOpened(t *testing.T) {
	inVirtualTime(t, func(i *installation) {
		attempts := 0
		i.sources["chat"] = func() (fleetSource, error) {
			if attempts++; attempts < 3 {
				return nil, errors.New("trace.csv: no such file")
			}
			return source(func(_ context.Context, o *model.Observation) {
				o.Fleet = &model.FleetObservation{Status: model.Absent, Error: "no fleet"}
			}), nil
		}
		i.configure("chat", 1, 2, 4)
		_, stop := i.start()
		pass(16 * time.Second)
		var classes []string
		for _, o := range i.facts("chat") {
			classes = append(classes, string(o.Fleet.Status))
			if o.Fleet.Status != model.Failed {
				continue
			}
			if o.Fleet.Error != "trace.csv: no such file" || o.Engines.Status != model.Failed || (o.Traffic != nil) != o.Loops.Throughput {
				t.Errorf("without a source was observed %+v", o)
			}
		}
		// It is tried at 1 s, after the tick of 8 s and after that of 14 s.
		if got := strings.Join(classes, " "); got != strings.Repeat("failed ", 7)+"absent" || attempts != 3 {
			t.Errorf("the fleet was %s after %d attempts", got, attempts)
		}
		stop()
	})
}

// TestLogRefuses: an observation that the log does not take is counted and lost;
// the next ones come.
func TestLogRefuses(t *testing.T) {
	inVirtualTime(t, func(i *installation) {
		i.configure("chat", 1, 5, 0)
		c, stop := i.start()
		pass(6 * time.Second)
		i.log.refuse(true)
		pass(10 * time.Second)
		i.log.refuse(false)
		pass(5 * time.Second)
		i.want("chat", "5sL@1 20sL@1")
		if got := testutil.ToFloat64(c.metrics.unpublished); got != 2 {
			t.Errorf("%v observations were not published, want 2", got)
		}
		stop()
	})
}

// TestHandOver: of two collectors one observes, and when it stops the other goes
// on with the next tick.
func TestHandOver(t *testing.T) {
	inVirtualTime(t, func(i *installation) {
		i.configure("chat", 1, 5, 0)
		first, stopFirst := i.start()
		synctest.Wait()
		second, stopSecond := i.start()
		pass(11 * time.Second)
		if a, b := testutil.ToFloat64(first.metrics.deployments), testutil.ToFloat64(second.metrics.deployments); a+b != 1 {
			t.Errorf("two collectors observe %v and %v deployments", a, b)
		}
		stopFirst()
		pass(10 * time.Second)
		i.want("chat", "5sL@1 10sL@1 15sL@1 20sL@1")
		if got := testutil.ToFloat64(second.metrics.deployments); got != 1 {
			t.Errorf("the collector that is left observes %v deployments", got)
		}
		stopSecond()
	})
}

// TestModule: the application's parts fit together.
func TestModule(t *testing.T) {
	config := service.DefaultConfig("collector")
	config.Log = "memory://"
	if err := fx.ValidateApp(service.Module(config, t.Output(), drivers.OpenURL), Module(DefaultConfig())); err != nil {
		t.Error(err)
	}
}
