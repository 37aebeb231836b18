package collector

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

// BenchmarkTenThousandDeployments runs one collector with 10,000 deployments, in
// real time. An iteration is a tick of all of them, which come every 5 s: what
// counts is not its duration but the processor time that it takes (cpu-ms/tick),
// and by how much observations are later than they are due (late-p99-ms). Sources
// answer at once, and the log is in memory.
func BenchmarkTenThousandDeployments(b *testing.B) {
	const deployments = 10_000
	log, err := drivers.Open(b.Context(), "memory://", drivers.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	for n := range deployments {
		spec := model.DefaultDeployment()
		spec.Name, spec.Topology, spec.Throughput.Enabled = fmt.Sprintf("d-%d", n), model.TopologyAggregated, false
		spec.Roles.Set(model.Aggregated, model.RoleSpec{GPUsPerReplica: 1, MinReplicas: 1, MaxReplicas: 8, Engine: model.Engine{MaxNumBatchedTokens: 8192, MaxNumSeqs: 256, ContextLength: 8192, MaxKVTokens: 100_000}})
		static := &model.PerRole[int]{}
		static.Set(model.Aggregated, 1)
		spec.Source = &model.Source{Fleet: &model.FleetSource{Static: static}}
		sealed, err := events.Seal(&model.DeploymentConfigured{Deployment: spec.Name, Revision: 1, Spec: spec, ChangedBy: "test"}, events.About{Source: "/test", Time: time.Now()})
		if err != nil {
			b.Fatal(err)
		}
		if err := log.Publisher().Publish(topics.Name(events.TopicDeployments), sealed.Message()); err != nil {
			b.Fatal(err)
		}
	}

	var mu sync.Mutex
	var late []float64 // ms
	seen := make(chan struct{}, deployments)
	c := New(Config{QueryTimeout: 4 * time.Second}, log, topics, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	open := c.open
	c.open = func(ctx context.Context, configured *model.DeploymentConfigured) (fleetSource, error) {
		opened, err := open(ctx, configured)
		if err != nil {
			return nil, err
		}
		offset := jitter(configured)
		return source(func(ctx context.Context, o *model.Observation) {
			by := float64(time.Since(o.ObservedAt)-offset) / float64(time.Millisecond)
			mu.Lock()
			late = append(late, by)
			mu.Unlock()
			opened.Observe(ctx, o)
			select {
			case seen <- struct{}{}:
			case <-ctx.Done():
			}
		}), nil
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Run(ctx, func() {}) }() // it ends because it is told to
	tick := func() {
		for range deployments {
			<-seen
		}
	}
	tick() // that of the start
	mu.Lock()
	late = nil
	mu.Unlock()
	before, ticks := processorTime(b), 0
	b.ReportAllocs()
	for b.Loop() {
		tick()
		ticks++
	}
	used := processorTime(b) - before
	cancel()
	<-ended
	slices.Sort(late)
	b.ReportMetric(float64(used.Milliseconds())/float64(ticks), "cpu-ms/tick")
	b.ReportMetric(late[len(late)*99/100], "late-p99-ms")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
