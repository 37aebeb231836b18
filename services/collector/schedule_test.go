package collector

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// configureReal publishes a deployment whose source is a real one.
func (i *installation) configureReal(name string) {
	i.t.Helper()
	spec := model.DefaultDeployment()
	spec.Name, spec.Topology, spec.Throughput.Enabled = name, model.TopologyAggregated, false
	spec.Roles.Set(model.Aggregated, model.RoleSpec{GPUsPerReplica: 1, MinReplicas: 1, MaxReplicas: 8, Engine: model.Engine{MaxNumBatchedTokens: 8192, MaxNumSeqs: 256, ContextLength: 8192, MaxKVTokens: 100_000}})
	static := &model.PerRole[int]{}
	static.Set(model.Aggregated, 1)
	spec.Source = &model.Source{Fleet: &model.FleetSource{Static: static}}
	i.publish(&model.DeploymentConfigured{Deployment: name, Revision: 1, Spec: spec, ChangedBy: "test"})
}

// TestSlowSourceDelaysNoOther: a source that does not answer holds up its own
// deployment alone.
func TestSlowSourceDelaysNoOther(t *testing.T) {
	inVirtualTime(t, func(i *installation) {
		i.sources["slow"] = func() (fleetSource, error) {
			return source(func(ctx context.Context, o *model.Observation) {
				<-ctx.Done()
				o.Fleet = &model.FleetObservation{Status: model.Failed, Error: ctx.Err().Error()}
			}), nil
		}
		i.configure("slow", 1, 1, 0)
		i.configure("quick", 1, 1, 0)
		_, stop := i.start()
		time.Sleep(12 * time.Second)
		stop()
		if n := len(i.facts("quick")); n < 11 {
			t.Errorf("%d observations of the other deployment in 12 s, want one a second", n)
		}
		if n := len(i.facts("slow")); n < 2 || n > 3 {
			t.Errorf("%d observations of the slow one in 12 s, with 4 s each", n)
		}
	})
}

// TestTenThousandDeployments: every deployment is observed at every tick, and
// they are not all observed at once.
func TestTenThousandDeployments(t *testing.T) {
	const deployments, ticks = 10_000, 4
	inVirtualTime(t, func(i *installation) {
		var observed atomic.Int64
		var mu sync.Mutex
		at := map[time.Duration]int{}
		counting := func() (fleetSource, error) {
			return source(func(_ context.Context, o *model.Observation) {
				observed.Add(1)
				late := time.Since(o.ObservedAt)
				if late < 0 || late > 500*time.Millisecond {
					t.Errorf("%s is observed %v after its instant, want at most a tenth of 5 s", o.Deployment, late)
				}
				mu.Lock()
				defer mu.Unlock()
				at[late.Truncate(50*time.Millisecond)]++
			}), nil
		}
		for n := range deployments {
			name := fmt.Sprintf("d-%d", n)
			i.sources[name] = counting
			i.configureReal(name)
		}
		_, stop := i.start()
		time.Sleep(ticks*5*time.Second - 500*time.Millisecond)
		stop()
		if got := observed.Load(); got != deployments*ticks {
			t.Errorf("%d observations, want %d", got, deployments*ticks)
		}
		ends, err := i.log.Ends(context.Background(), topics.Name(events.TopicObservations))
		if err != nil || ends[0] != deployments*ticks {
			t.Errorf("%d observations are in the log, want %d: %v", ends[0], deployments*ticks, err)
		}
		for slot, n := range at {
			if n > deployments*ticks/5 {
				t.Errorf("%d of %d observations are made within 50 ms of each other, %v after their instants", n, deployments*ticks, slot)
			}
		}
	})
}
