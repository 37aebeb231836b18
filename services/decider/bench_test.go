package decider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/events/kafka/kafkatest"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
	"tidemark.dev/pkg/model/sim"
	"tidemark.dev/pkg/model/sim/trial"
)

// The figures of the whole decider: from observations in a log to decisions in
// it, on the embedded log and, where TIDEMARK_KAFKA_LIBS names its jars, on
// Apache Kafka. docs/kafka.md has them.

// fleet returns the specification that benchmarks decide under: prefill and
// decode apart, with the defaults.
func fleet(b *testing.B) *model.Deployment {
	b.Helper()
	specs, err := model.DecodeDeployments([]byte(`deployments: [{
		name: fleet, topology: disaggregated, target: sla, sla: {ttft_ms: 1000, itl_ms: 30}, budget: {max_gpus: 32},
		roles: {
			prefill: {gpus_per_replica: 2, min_replicas: 1, max_replicas: 16, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, context_length: 131072, max_kv_tokens: 590818}},
			decode: {gpus_per_replica: 2, min_replicas: 1, max_replicas: 16, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, context_length: 131072, max_kv_tokens: 590818}}},
		source: {simulated: {engine: h200-llama-3.1-70b-fp8-tp2, generator: {seed: 7, duration_s: 86400, mean_rps: 4}}}, actuator: {simulated: {}}}]`))
	if err != nil {
		b.Fatal(err)
	}
	return &specs[0]
}

// watched returns what a fleet showed in n ticks of 5 s, calling after with the
// state of the planner after each.
func watched(b *testing.B, n int, after func(tick int, observation *model.Observation, state *planner.State)) []*model.Observation {
	b.Helper()
	spec := fleet(b)
	workload, err := sim.WorkloadOf(spec, nil)
	if err != nil {
		b.Fatal(err)
	}
	state, err := planner.New(spec)
	if err != nil {
		b.Fatal(err)
	}
	var observations []*model.Observation
	_, err = trial.Run(spec, workload, trial.Options{
		Start: start, Duration: time.Duration(n) * 5 * time.Second,
		ObservationID: func(at time.Time) string { return events.ObservationID(spec.Name, at) },
		Stepped: func(step trial.Step) error {
			observations = append(observations, step.Observation)
			if after == nil {
				return nil
			}
			planner.Step(state, planner.Input{ObservationID: step.Decision.ObservationID, Observation: step.Observation, Configured: step.Configured})
			after(len(observations), step.Observation, state)
			return nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	return observations[:n]
}

// site is a log, and topics on it that nobody used.
type site struct {
	*testing.B
	log    events.Log
	topics events.Topics
}

// sites runs a benchmark on each log, by its number of partitions.
func sites(b *testing.B, partitions []int, run func(b *testing.B, fresh func() *site)) {
	prepare := func(b *testing.B, url string) func() *site {
		log, err := drivers.OpenURL(b.Context(), url)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := log.Close(); err != nil {
				b.Error(err)
			}
		})
		return func() *site {
			return &site{B: b, log: log, topics: events.Topics{Prefix: "bench-" + strings.ToLower(rand.Text()[:8]) + "."}}
		}
	}
	b.Run("embedded", func(b *testing.B) { run(b, prepare(b, "sqlite://"+filepath.Join(b.TempDir(), "log.db"))) })
	b.Run("kafka", func(b *testing.B) {
		cluster := kafkatest.Start(b, kafkatest.Options{})
		for _, n := range partitions {
			b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) {
				run(b, prepare(b, fmt.Sprintf("kafka://%s?create=true&partitions=%d", cluster.Brokers, n)))
			})
		}
	})
}

// messageOf returns an observation of a fleet as that of one of several.
func (s *site) messageOf(observation *model.Observation, deployment string) *message.Message {
	one := *observation
	one.Deployment = deployment
	sealed, err := events.Seal(&one, events.About{Source: "/tidemark/collector"})
	if err != nil {
		s.Fatal(err)
	}
	return sealed.Message()
}

func (s *site) publish(topic string, messages ...*message.Message) {
	if err := s.log.Publisher().Publish(s.topics.Name(topic), messages...); err != nil {
		s.Fatal(err)
	}
}

// names configures n deployments, and returns their names.
func (s *site) names(n int) []string {
	spec := fleet(s.B)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("fleet-%03d", i)
		configured := &model.DeploymentConfigured{Deployment: names[i], Revision: 1, Spec: *spec, ChangedBy: "bench"}
		configured.Spec.Name = names[i]
		sealed, err := events.Seal(configured, events.About{Source: "/test", Time: start})
		if err != nil {
			s.Fatal(err)
		}
		s.publish(events.TopicDeployments, sealed.Message())
	}
	return names
}

// decide runs a decider on a log, and returns what ends it.
func (s *site) decide(log events.Log) (stop func()) {
	logger := slog.New(slog.DiscardHandler)
	decider := New(DefaultConfig(), log, s.topics, events.NewDeploymentTable(log, s.topics, logger), logger, newMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() { ended <- decider.Run(ctx, func() {}) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			s.Error(err)
		}
	}
}

// counting is a log that counts the decisions that it takes.
type counting struct {
	events.Log
	decisions string // their topic
	left      atomic.Int64
	done      chan struct{}
}

// count returns the log that says when n decisions are in it.
func (s *site) count(n int) *counting {
	c := &counting{Log: s.log, decisions: s.topics.Name(events.TopicDecisions), done: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

func (c *counting) Publisher() message.Publisher { return c }

func (c *counting) Publish(topic string, messages ...*message.Message) error {
	err := c.Log.Publisher().Publish(topic, messages...)
	if err == nil && topic == c.decisions && c.left.Add(-int64(len(messages))) == 0 {
		close(c.done)
	}
	return err
}

func (c *counting) Close() error { return nil }

// wait waits for the last decision.
func (c *counting) wait(b *testing.B) {
	b.Helper()
	select {
	case <-c.done:
	case <-time.After(5 * time.Minute):
		b.Fatalf("%d observations are not decided after 5 minutes", c.left.Load())
	}
}

// BenchmarkDecide decides what waits in the log: 250 observations of each of 48
// deployments.
func BenchmarkDecide(b *testing.B) {
	const deployments, each = 48, 250
	observations := watched(b, each, nil)
	sites(b, []int{1, 6, 12}, func(b *testing.B, fresh func() *site) {
		b.ReportAllocs()
		var took time.Duration
		rounds := 0
		for b.Loop() {
			b.StopTimer()
			s := fresh()
			names := s.names(deployments)
			var filling errgroup.Group
			for part := range slices.Chunk(names, 6) {
				filling.Go(func() error {
					for _, observation := range observations {
						var messages []*message.Message
						for _, name := range part {
							messages = append(messages, s.messageOf(observation, name))
						}
						if err := s.log.Publisher().Publish(s.topics.Name(events.TopicObservations), messages...); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := filling.Wait(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			began := time.Now()
			log := s.count(deployments * each)
			stop := s.decide(log)
			log.wait(b)
			took += time.Since(began)
			rounds++
			b.StopTimer()
			stop()
			b.StartTimer()
		}
		b.ReportMetric(float64(rounds*deployments*each)/took.Seconds(), "decisions/s")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkLatency publishes 500 observations a second, of 100 deployments, as ten
// collectors would, and follows the decisions: from before an observation is
// published until somebody else has its decision.
func BenchmarkLatency(b *testing.B) {
	const deployments, collectors, rate, span = 100, 10, 500, 10 * time.Second
	each := rate * int(span.Seconds()) / deployments
	observations := watched(b, 1+each, nil)
	sites(b, []int{6}, func(b *testing.B, fresh func() *site) {
		var latencies []time.Duration
		for b.Loop() {
			s := fresh()
			names := s.names(deployments)
			// The first observation of each is not measured: with it, the decider
			// joins its group and takes the deployment up.
			var first []*message.Message
			for _, name := range names {
				first = append(first, s.messageOf(observations[0], name))
			}
			s.publish(events.TopicObservations, first...)
			log := s.count(deployments)
			stop := s.decide(log)
			log.wait(b)
			ends, err := s.log.Ends(b.Context(), s.topics.Name(events.TopicDecisions))
			if err != nil {
				b.Fatal(err)
			}
			var mu sync.Mutex
			published := map[string]time.Time{}
			following, enough := context.WithTimeout(b.Context(), 5*time.Minute)
			var working errgroup.Group
			working.Go(func() error {
				defer enough()
				left := deployments * each
				for record, err := range s.log.Follow(following, s.topics.Name(events.TopicDecisions), events.Range{From: events.Bound{Positions: ends}}) {
					if err != nil {
						return err
					}
					mu.Lock()
					latencies = append(latencies, time.Since(published[record.Headers["ce_causationid"]]))
					mu.Unlock()
					if left--; left == 0 {
						return nil
					}
				}
				return errors.New("not all is decided after 5 minutes")
			})
			for n := range collectors {
				working.Go(func() error {
					ticker := time.NewTicker(time.Second * collectors / rate)
					defer ticker.Stop()
					for _, observation := range observations[1:] {
						for i := n; i < len(names); i += collectors {
							<-ticker.C
							msg := s.messageOf(observation, names[i])
							mu.Lock()
							published[msg.UUID] = time.Now()
							mu.Unlock()
							if err := s.log.Publisher().Publish(s.topics.Name(events.TopicObservations), msg); err != nil {
								return err
							}
						}
					}
					return nil
				})
			}
			if err := working.Wait(); err != nil {
				b.Fatal(err)
			}
			stop()
		}
		slices.Sort(latencies)
		for _, quantile := range []int{50, 99} {
			b.ReportMetric(float64(latencies[len(latencies)*quantile/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", quantile))
		}
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkRestore starts a decider that has a day behind it: 17,280 observations
// of each of 100 deployments, the last 280 of them after the newest checkpoint.
// It is over when the next observation of each is decided. Writing the day takes
// minutes, so it is only done when it is asked for.
func BenchmarkRestore(b *testing.B) {
	if os.Getenv("TIDEMARK_BENCH_DAY") == "" {
		b.Skip("TIDEMARK_BENCH_DAY=1 runs this: it writes 1.7 million observations first")
	}
	const deployments, day = 100, 17_280
	var states []*model.Checkpoint
	observations := watched(b, day+1, func(tick int, observation *model.Observation, state *planner.State) {
		if every := DefaultConfig().CheckpointEvery; tick%every == 0 && tick < day {
			data, err := state.MarshalBinary()
			if err != nil {
				b.Fatal(err)
			}
			states = append(states, &model.Checkpoint{ObservedAt: observation.ObservedAt, ConfigRevision: 1, PlannerVersion: planner.Version, State: data})
		}
	})
	sites(b, []int{6}, func(b *testing.B, fresh func() *site) {
		s := fresh()
		last := s.live(s.names(deployments), observations, states)
		b.ResetTimer()
		for b.Loop() {
			log := &rewound{counting: s.count(deployments), checkpoints: s.topics.Name(events.TopicCheckpoints), records: last}
			stop := s.decide(log)
			log.wait(b)
			b.StopTimer()
			stop()
			b.StartTimer()
		}
		b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/restart")
		b.ReportMetric(0, "ns/op")
	})
}

// live fills the log with the observations of each deployment, and with their
// checkpoints. It returns the last observation of each, which nobody decided.
func (s *site) live(names []string, observations []*model.Observation, states []*model.Checkpoint) []events.Record {
	for stretch := range slices.Chunk(observations, 100) {
		var filling errgroup.Group
		for part := range slices.Chunk(names, 10) {
			filling.Go(func() error {
				var messages []*message.Message
				for _, observation := range stretch {
					for _, name := range part {
						messages = append(messages, s.messageOf(observation, name))
					}
				}
				return s.log.Publisher().Publish(s.topics.Name(events.TopicObservations), messages...)
			})
		}
		if err := filling.Wait(); err != nil {
			s.Fatal(err)
		}
	}
	at := map[string]*model.Checkpoint{}
	for _, state := range states {
		at[state.ObservedAt.Format(time.RFC3339Nano)] = state
	}
	newest := observations[len(observations)-1].ObservedAt.Format(time.RFC3339Nano)
	topic := s.topics.Name(events.TopicObservations)
	var last []events.Record
	for record, err := range s.log.Read(s.Context(), topic, events.Range{}) {
		if err != nil {
			s.Fatal(err)
		}
		instant := record.Headers["ce_time"]
		if instant == newest {
			last = append(last, record)
		}
		if state := at[instant]; state != nil {
			checkpoint := *state
			checkpoint.Deployment, checkpoint.Topic, checkpoint.Partition, checkpoint.Position = record.Key, topic, record.Partition, record.Position
			sealed, err := events.Seal(&checkpoint, events.About{Source: Source})
			if err != nil {
				s.Fatal(err)
			}
			s.publish(events.TopicCheckpoints, sealed.Message())
		}
	}
	return last
}

// rewound is a log whose group stands before given records. It takes no
// checkpoint: it can be started from again.
type rewound struct {
	*counting
	checkpoints string // their topic
	records     []events.Record
}

func (r *rewound) Publisher() message.Publisher { return r }

func (r *rewound) Publish(topic string, messages ...*message.Message) error {
	if topic == r.checkpoints {
		return nil
	}
	return r.counting.Publish(topic, messages...)
}

func (r *rewound) Subscriber(string) (message.Subscriber, error) { return r, nil }

// Subscribe delivers the records, those of each partition one after the other.
func (r *rewound) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	byPartition := map[int32][]events.Record{}
	for _, record := range r.records {
		byPartition[record.Partition] = append(byPartition[record.Partition], record)
	}
	out := make(chan *message.Message)
	var delivering sync.WaitGroup
	for _, records := range byPartition {
		delivering.Go(func() {
			for _, record := range records {
				msg := message.NewMessage(record.Headers["ce_id"], record.Payload)
				msg.Metadata = record.Headers
				msg.SetContext(events.WithOrigin(ctx, record.Origin))
				select {
				case out <- msg:
				case <-ctx.Done():
					return
				}
				select {
				case <-msg.Acked():
				case <-ctx.Done():
					return
				}
			}
		})
	}
	go func() {
		delivering.Wait()
		<-ctx.Done()
		close(out)
	}()
	return out, nil
}
