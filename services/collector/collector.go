// Package collector observes deployments: one Observation per due tick, also
// when everything failed, then with the classes of evidence that say so.
//
// The collector holds no code and no credentials that could change a fleet. It
// owns the schedule; a tick that is missed is counted and never filled in later.
package collector

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/forwardpass"
)

// Source is the source of the collector's events.
const Source = "/tidemark/collector"

// Config configures a collector.
type Config struct {
	// QueryTimeout bounds what a source may take for one tick.
	QueryTimeout time.Duration
	// Kubernetes says how the API server is reached, for fleets that run there.
	Kubernetes fleets.Access
}

// DefaultConfig returns the configuration of a collector that is told nothing.
func DefaultConfig() Config { return Config{QueryTimeout: 4 * time.Second} }

// fleetSource observes one deployment. Observe fills in the evidence of an
// observation whose identity, instant and loops are set. It returns no error: a
// failure is evidence, of class failed, absent or stale, with the error beside it.
type fleetSource interface {
	Observe(ctx context.Context, observation *model.Observation)
	Close()
}

// Collector observes the deployments whose partitions it holds.
type Collector struct {
	config      Config
	log         events.Log
	topics      events.Topics
	logger      *slog.Logger
	metrics     *metrics
	inlet       *forwardpass.Inlet
	deployments *events.DeploymentTable
	open        func(ctx context.Context, configured *model.DeploymentConfigured) (fleetSource, error)

	mu      sync.Mutex
	watches map[string]*watch
}

// watch is the schedule of one deployment at work.
type watch struct {
	// partition is the one whose claim the watch lives by.
	partition int32

	cancel  context.CancelFunc
	changed chan struct{}
	done    chan struct{}
	mu      sync.Mutex
	latest  *model.DeploymentConfigured
}

// Run observes until the context is done.
func (c *Collector) Run(ctx context.Context, ready func()) error {
	if err := c.deployments.Start(ctx); err != nil {
		return err
	}
	subscriber, err := c.log.Subscriber(c.topics.Group("collector"))
	if err != nil {
		return err
	}
	defer subscriber.Close()
	// Collectors share the work by a consumer group over the deployments topic.
	// A member never acknowledges: holding the first message of a partition is
	// holding the partition, and the message's context ends with the claim.
	claims, err := subscriber.Subscribe(ctx, c.topics.Name(events.TopicDeployments))
	if err != nil {
		return fmt.Errorf("join the collectors' group: %w", err)
	}
	ready()
	working, ctx := errgroup.WithContext(ctx)
	working.Go(func() error {
		for claim := range claims {
			origin, ok := events.OriginOf(claim)
			if !ok {
				return fmt.Errorf("message %s has no origin: the log's driver must set it", claim.UUID)
			}
			working.Go(func() error {
				// Giving the claim back lets the next member take it at once.
				defer claim.Nack()
				c.observePartition(ctx, claim.Context(), origin.Partition)
				return nil
			})
		}
		return ctx.Err()
	})
	return working.Wait()
}

// observePartition watches deployments while the claim on their partition holds.
func (c *Collector) observePartition(working, claimed context.Context, partition int32) {
	ctx, cancel := context.WithCancel(working)
	defer cancel()
	defer context.AfterFunc(claimed, cancel)()
	c.logger.Info("observing: this collector holds the deployments", "partition", partition)
	defer c.stop(partition)
	for {
		changed := c.deployments.Changed()
		c.reconcile(ctx, partition)
		select {
		case <-changed:
		case <-ctx.Done():
			if working.Err() == nil {
				c.logger.Info("another collector holds the deployments now", "partition", partition)
			}
			return
		}
	}
}

// reconcile starts, informs and stops watches so that they are those of the
// table in a partition.
func (c *Collector) reconcile(ctx context.Context, partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	configured := map[string]bool{}
	for _, deployment := range c.deployments.All() {
		at, _ := c.deployments.Partition(deployment.Deployment)
		if deployment.Spec.Source == nil || at != partition {
			continue
		}
		configured[deployment.Deployment] = true
		w := c.watches[deployment.Deployment]
		if w == nil {
			watching, cancel := context.WithCancel(ctx)
			w = &watch{partition: partition, cancel: cancel, changed: make(chan struct{}, 1), done: make(chan struct{}), latest: deployment}
			c.watches[deployment.Deployment] = w
			go c.observe(watching, w)
			continue
		}
		w.set(deployment)
	}
	for name, w := range c.watches {
		if w.partition == partition && !configured[name] {
			w.cancel()
			delete(c.watches, name)
		}
	}
	c.metrics.deployments.Set(float64(len(c.watches)))
}

// stop ends the watches of a partition.
func (c *Collector) stop(partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, w := range c.watches {
		if w.partition == partition {
			w.cancel()
			<-w.done
			delete(c.watches, name)
		}
	}
	c.metrics.deployments.Set(float64(len(c.watches)))
}

func (w *watch) set(configured *model.DeploymentConfigured) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if configured.Revision != w.latest.Revision {
		w.latest = configured
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

func (w *watch) get() *model.DeploymentConfigured {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest
}

// openAgain is the time after which a source that could not be opened is tried
// again.
const openAgain = 5 * time.Second

// observe runs the schedule of one deployment. A source outlives the revisions
// that do not change it.
func (c *Collector) observe(ctx context.Context, w *watch) {
	defer close(w.done)
	var source fleetSource
	var opened *model.DeploymentConfigured
	var again time.Time
	defer func() {
		if source != nil {
			source.Close()
		}
	}()
	last := time.Time{}
	for ctx.Err() == nil {
		configured := w.get()
		clock := configured.Spec.Clock()
		_, missing := source.(unavailable)
		if source == nil || !sameSource(&opened.Spec, &configured.Spec) || missing && time.Now().After(again) {
			if source != nil {
				source.Close()
			}
			var err error
			if source, err = c.open(ctx, configured); err != nil {
				if ctx.Err() == nil {
					c.logger.Error("source cannot be opened, trying again", "deployment", configured.Deployment, "error", err)
				}
				source, again = unavailable{err}, time.Now().Add(openAgain)
			}
			opened = configured
		}
		offset := jitter(configured)
		now := clock.At(time.Now().Add(-offset))
		if last.IsZero() {
			last = now
		}
		schedule := configured.Spec.Schedule()
		due, loops, skipped := late(schedule, last, now)
		if skipped > 0 {
			c.metrics.skipped.WithLabelValues(configured.Deployment).Add(float64(skipped))
		}
		timer := time.NewTimer(time.Until(clock.Wall(due).Add(offset)))
		select {
		case <-timer.C:
		case <-w.changed:
			timer.Stop()
			if w.get().Spec.Schedule() != schedule {
				last = clock.At(time.Now().Add(-offset)) // a tick of another schedule was not missed before there was one
			}
			continue
		case <-ctx.Done():
			timer.Stop()
			return
		}
		last = due
		if err := c.tick(ctx, configured, source, due, loops); err != nil && ctx.Err() == nil {
			c.metrics.unpublished.Inc()
			c.logger.Error("observation is not published", "deployment", configured.Deployment, "observed_at", due, "error", err)
		}
	}
}

// sameSource reports whether a change of configuration leaves the source as it is.
func sameSource(a, b *model.Deployment) bool {
	return a.Topology == b.Topology && reflect.DeepEqual(a.Source, b.Source) && reflect.DeepEqual(a.Roles, b.Roles)
}

// tick observes a deployment at one instant and publishes what was seen.
func (c *Collector) tick(ctx context.Context, configured *model.DeploymentConfigured, source fleetSource, due time.Time, loops model.Loops) error {
	observation := &model.Observation{
		Deployment: configured.Deployment, ConfigRevision: configured.Revision, ObservedAt: due, Loops: loops,
	}
	query, cancel := context.WithTimeout(ctx, c.config.QueryTimeout)
	source.Observe(query, observation)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	sealed, err := events.Seal(observation, events.About{Source: Source})
	if err != nil {
		return err
	}
	if err := c.log.Publisher().Publish(c.topics.Name(events.TopicObservations), sealed.Message()); err != nil {
		return err
	}
	c.metrics.observed(observation)
	return nil
}

// unavailable is a source that cannot be opened: each tick says so.
type unavailable struct{ err error }

func (u unavailable) Observe(_ context.Context, observation *model.Observation) {
	why := u.err.Error()
	observation.Fleet = &model.FleetObservation{Status: model.Failed, Error: why}
	observation.Engines = &model.EnginesObservation{Status: model.Failed, Error: why}
	if observation.Loops.Throughput {
		observation.Traffic = &model.TrafficObservation{Status: model.Failed, Error: why}
	}
}

func (unavailable) Close() {}
