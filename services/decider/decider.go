// Package decider is the worker around the planner: observations in, decisions
// out, one for each.
//
// The decider holds no code and no credentials that could change a fleet. Its
// state is a fold of the observations; killed at any event, it restores the
// state from the newest checkpoint and the observations after it, and the
// decisions that follow are those of a run that was never interrupted.
package decider

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// Source is the source of the decider's events.
const Source = "/tidemark/decider"

// Config configures a decider.
type Config struct {
	// CheckpointEvery is the number of observations of a deployment after
	// which its state is checkpointed. A restart folds at most that many again.
	CheckpointEvery int
	// RevisionWait bounds the wait for the configuration revision that an
	// observation names.
	RevisionWait time.Duration
}

// DefaultConfig returns the configuration of a decider that is told nothing:
// a checkpoint every 500 observations is one in 42 minutes of 5 s ticks, and
// folds again in some 10 ms.
func DefaultConfig() Config {
	return Config{CheckpointEvery: 500, RevisionWait: 10 * time.Second}
}

// Decider decides observations.
type Decider struct {
	config  Config
	log     events.Log
	topics  events.Topics
	logger  *slog.Logger
	metrics *metrics

	deployments *events.DeploymentTable
	checkpoints *checkpoints
	refusals    *refusals

	mu         sync.Mutex
	partitions map[int32]*partition
}

// New returns a decider on a log.
func New(config Config, log events.Log, topics events.Topics, deployments *events.DeploymentTable, logger *slog.Logger, metrics *metrics) *Decider {
	return &Decider{
		config: config, log: log, topics: topics, logger: logger, metrics: metrics,
		deployments: deployments,
		checkpoints: &checkpoints{log: log, topic: topics.Name(events.TopicCheckpoints), byKey: map[string]map[string]checkpointAt{}},
		refusals:    newRefusals(log, topics),
		partitions:  map[int32]*partition{},
	}
}

// Run decides until the context is done; then it finishes the observation in
// hand and checkpoints every deployment.
func (d *Decider) Run(ctx context.Context, ready func()) error {
	if err := d.deployments.Start(ctx); err != nil {
		return err
	}
	follow, err := d.checkpoints.load(ctx, d.logger)
	if err != nil {
		return err
	}
	router, err := events.NewRouter(events.RouterConfig{Service: "decider", Log: d.log, Topics: d.topics, Logger: d.logger, Registerer: d.metrics.registerer})
	if err != nil {
		return err
	}
	subscriber, err := d.log.Subscriber(d.topics.Group("decider"))
	if err != nil {
		return err
	}
	router.AddConsumerHandler("decide", d.topics.Name(events.TopicObservations), subscriber, d.Handle)
	working, stop := errgroup.WithContext(ctx)
	working.Go(follow)
	working.Go(func() error { return router.Run(stop) })
	working.Go(func() error {
		select {
		case <-router.Running():
			ready()
		case <-stop.Done():
		}
		return nil
	})
	err = working.Wait()
	d.checkpointAll()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Handle decides one observation. Observations of one partition are handled
// one at a time.
func (d *Decider) Handle(msg *message.Message) error {
	origin, ok := events.OriginOf(msg)
	if !ok {
		return events.Fatal(fmt.Errorf("message %s has no origin: the driver must set it", msg.UUID))
	}
	lanes := d.arrive(origin)
	event, observation, err := observationOf(msg)
	if err != nil {
		return err
	}
	ctx := msg.Context()
	at := lanes[observation.Deployment]
	if at == nil {
		if at, err = d.restore(ctx, observation.Deployment, origin); err != nil {
			return err
		}
		lanes[observation.Deployment] = at
	}
	switch at.standing(event.ID, observation.ObservedAt) {
	case repeated:
		d.metrics.repeated.Inc()
		return d.publish(at)
	case outdated:
		return events.Permanent(fmt.Errorf("observation of %s at %s is older than the one decided before it, at %s",
			observation.Deployment, observation.ObservedAt.Format(time.RFC3339Nano), at.observedAt.Format(time.RFC3339Nano)))
	}
	configured, err := d.revision(ctx, observation)
	if err != nil {
		return err
	}
	// A decision that the log did not take, however often it was tried, goes
	// before the next one: the chain of decisions has no gap.
	if err := d.publish(at); err != nil {
		return err
	}
	decision, data, err := at.decide(event.ID, observation, configured, origin.Position)
	if err != nil {
		return err
	}
	sealed, err := events.SealData(&decision, data, events.About{
		Source: Source, CausationID: event.ID, CorrelationID: event.ID, TraceParent: event.TraceParent,
	})
	if err != nil {
		return events.Permanent(err)
	}
	at.unpublished = &sealed
	if err := d.publish(at); err != nil {
		return err
	}
	d.metrics.decided(&decision, time.Since(origin.AppendedAt))
	if at.sinceCheckpoint >= d.config.CheckpointEvery {
		return d.checkpoint(origin.Topic, origin.Partition, observation.Deployment, at)
	}
	return nil
}

// arrive notes a message of a partition and returns the partition's lanes:
// none, if the message does not follow the last one handled.
func (d *Decider) arrive(origin events.Origin) map[string]*lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.partitions[origin.Partition]
	if p == nil {
		p = &partition{next: -1}
		d.partitions[origin.Partition] = p
	}
	// A redelivery of the last message follows itself.
	if origin.Position != p.next && origin.Position != p.next-1 || p.lanes == nil {
		p.lanes = map[string]*lane{}
	}
	p.next = origin.Position + 1
	return p.lanes
}

// restore returns the lane of a deployment as it stood before an origin: the
// newest checkpoint, and the observations from there folded without publishing.
func (d *Decider) restore(ctx context.Context, deployment string, origin events.Origin) (*lane, error) {
	began := time.Now()
	restored := &lane{position: -1}
	checkpoint, err := d.checkpoints.before(ctx, deployment, origin, func(checkpoint *model.Checkpoint) bool {
		if checkpoint.PlannerVersion != planner.Version {
			return false
		}
		state, err := planner.UnmarshalState(checkpoint.State)
		if err != nil {
			d.logger.Warn("checkpoint cannot be read and is left out", "deployment", deployment, "position", checkpoint.Position, "error", err)
			return false
		}
		restored.state = state
		return true
	})
	if err != nil {
		return nil, err
	}
	if checkpoint != nil {
		restored.position, restored.observedAt, restored.revision = checkpoint.Position, checkpoint.ObservedAt, checkpoint.ConfigRevision
		restored.observationID = events.ObservationID(deployment, checkpoint.ObservedAt)
	}
	// Whoever handled the observations waited for the revisions that they name,
	// which were in the log before them.
	if err := d.deployments.CatchUp(ctx); err != nil {
		return nil, fmt.Errorf("restore %s: %w", deployment, err)
	}
	if err := d.refusals.catchUp(ctx); err != nil {
		return nil, fmt.Errorf("restore %s: %w", deployment, err)
	}
	folded := 0
	var decided map[string]bool // read when the first refused observation is met
	for record, err := range d.log.Read(ctx, origin.Topic, events.Range{
		From: events.Bound{Positions: map[int32]int64{origin.Partition: restored.position + 1}},
		To:   events.Bound{Positions: map[int32]int64{origin.Partition: origin.Position}},
		Key:  deployment, Partitions: []int32{origin.Partition},
	}) {
		if err != nil {
			return nil, fmt.Errorf("restore %s: %w", deployment, err)
		}
		// What was refused when it was handled is left out here for the same reason.
		event, err := record.Event()
		if err != nil {
			continue
		}
		observation, err := events.As[*model.Observation](event)
		if err != nil || observation.Deployment != deployment || restored.standing(event.ID, observation.ObservedAt) != fresh {
			continue
		}
		if d.refusals.has(record.Origin) {
			if decided == nil {
				if decided, err = d.refusals.decided(ctx, deployment, record.AppendedAt); err != nil {
					return nil, fmt.Errorf("restore %s: %w", deployment, err)
				}
			}
			if !decided[event.ID] {
				continue
			}
		}
		configured, known := d.deployments.Revision(deployment, observation.ConfigRevision)
		if !known {
			continue
		}
		if _, _, err := restored.decide(event.ID, observation, configured, record.Position); err != nil {
			continue
		}
		folded++
	}
	took := time.Since(began)
	d.metrics.restored(folded, took)
	if folded > 0 || checkpoint != nil {
		d.logger.Info("state restored", "deployment", deployment, "checkpoint", checkpoint != nil, "folded", folded, "took", took.Round(time.Millisecond))
	}
	return restored, nil
}

// revision waits for the configuration that an observation was made under.
func (d *Decider) revision(ctx context.Context, observation *model.Observation) (*model.DeploymentConfigured, error) {
	if configured, known := d.deployments.Revision(observation.Deployment, observation.ConfigRevision); known {
		return configured, nil
	}
	wait, cancel := context.WithTimeout(ctx, d.config.RevisionWait)
	defer cancel()
	configured, err := d.deployments.WaitRevision(wait, observation.Deployment, observation.ConfigRevision)
	if err == nil {
		return configured, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, events.Permanent(fmt.Errorf("observation of %s names configuration revision %d, which did not appear in %v",
		observation.Deployment, observation.ConfigRevision, d.config.RevisionWait))
}

// publish publishes the lane's decision, unless that has succeeded already.
func (d *Decider) publish(at *lane) error {
	if at.unpublished == nil {
		return nil
	}
	if err := d.log.Publisher().Publish(d.topics.Name(events.TopicDecisions), at.unpublished.Message()); err != nil {
		return fmt.Errorf("publish decision %s: %w", at.unpublished.ID, err)
	}
	at.unpublished = nil
	return nil
}

func (d *Decider) checkpoint(topic string, partition int32, deployment string, at *lane) error {
	state, err := at.state.MarshalBinary()
	if err != nil {
		return events.Permanent(fmt.Errorf("encode state of %s: %w", deployment, err))
	}
	sealed, err := events.Seal(&model.Checkpoint{
		Deployment: deployment, Topic: topic, Partition: partition, Position: at.position, ObservedAt: at.observedAt,
		ConfigRevision: at.revision, PlannerVersion: planner.Version, State: state,
	}, events.About{Source: Source, CausationID: at.observationID})
	if err != nil {
		return events.Permanent(err)
	}
	if err := d.log.Publisher().Publish(d.topics.Name(events.TopicCheckpoints), sealed.Message()); err != nil {
		return fmt.Errorf("publish checkpoint of %s: %w", deployment, err)
	}
	at.sinceCheckpoint = 0
	return nil
}

// checkpointAll checkpoints what changed since its last checkpoint: the next
// start then folds nothing. A failure costs that fold and no more.
func (d *Decider) checkpointAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	topic := d.topics.Name(events.TopicObservations)
	for number, p := range d.partitions {
		for deployment, at := range p.lanes {
			if at.state == nil || at.sinceCheckpoint == 0 || at.unpublished != nil {
				continue
			}
			if err := d.checkpoint(topic, number, deployment, at); err != nil {
				d.logger.Warn("state is not checkpointed", "deployment", deployment, "error", err)
			}
		}
	}
}

func observationOf(msg *message.Message) (events.Event, *model.Observation, error) {
	event, err := events.EventOf(msg)
	if err != nil {
		return events.Event{}, nil, err
	}
	observation, err := events.As[*model.Observation](event)
	return event, observation, err
}
