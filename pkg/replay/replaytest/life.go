// Package replaytest writes logs for the tests of what reads them back: the
// life of a simulated deployment, observed, decided and acted on as the
// services do it, without the services and without waiting.
package replaytest

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
	"tidemark.dev/pkg/model/sim"
)

// Begin is when every life begins.
var Begin = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// Life says how a deployment lives.
type Life struct {
	Deployment string
	Duration   time.Duration
	// ActiveFrom is when it is activated; 0 means never.
	ActiveFrom time.Duration
	// CheckpointEvery is the number of observations between two checkpoints; 0
	// makes none.
	CheckpointEvery int
	// Configure changes the specification of Spec; nil leaves it.
	Configure func(*model.Deployment)
	// Unseen are the observations whose sources all fail.
	Unseen func(tick int) bool
}

// Spec returns the specification that a life is decided under: a Llama 3.1 70B
// fleet on H200, prefill and decode apart, under a day's traffic in an hour.
func Spec(name string) model.Deployment {
	spec := model.DefaultDeployment()
	spec.Name = name
	spec.SLA = model.SLA{TTFTMs: 1000, ITLMs: 30}
	engine := model.Engine{MaxNumBatchedTokens: 8192, MaxNumSeqs: 256, ContextLength: 131072, MaxKVTokens: 590818}
	for _, role := range spec.Topology.Roles() {
		spec.Roles.Set(role, model.RoleSpec{GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: 16, Engine: engine})
	}
	spec.Budget.MaxGPUs = 32
	spec.Throughput.IntervalS, spec.Throughput.Predictor = 60, "holt-winters"
	spec.Behavior.ScaleDownWindowS = 300
	spec.Source = &model.Source{Simulated: &model.SimulatedSource{
		Engine: sim.DefaultFigures, ColdStartS: 60, RateMultiplier: 1, Speed: 1,
		Generator: model.SimulatedGenerator{Seed: 20231116, DurationS: 3600, MeanRPS: 8},
	}}
	spec.Source.Simulated.Replicas.Set(model.Prefill, 2)
	spec.Source.Simulated.Replicas.Set(model.Decode, 2)
	spec.Actuator = &model.Actuator{Simulated: &model.SimulatedActuator{}}
	return spec
}

// batch is how many messages are published at a time.
const batch = 500

// Write appends a life to a log: its revisions, observations, decisions,
// checkpoints and actuations.
func Write(log events.Log, topics events.Topics, life Life) error {
	w := &writer{log: log, topics: topics, life: life, pending: map[string][]*message.Message{}}
	if err := w.live(); err != nil {
		return fmt.Errorf("write the life of %s: %w", life.Deployment, err)
	}
	return nil
}

type writer struct {
	log     events.Log
	topics  events.Topics
	life    Life
	pending map[string][]*message.Message

	configured *model.DeploymentConfigured
	fleet      *sim.Fleet
	state      *planner.State
}

func (w *writer) live() error {
	spec := Spec(w.life.Deployment)
	if w.life.Configure != nil {
		w.life.Configure(&spec)
	}
	w.configured = &model.DeploymentConfigured{Deployment: spec.Name, Revision: 1, Spec: spec, ChangedBy: "ops@example", Reason: "begin advisory"}
	if err := w.publish(events.TopicDeployments, w.configured, "", Begin); err != nil {
		return err
	}
	config, err := sim.ConfigOf(&spec)
	if err != nil {
		return err
	}
	workload, err := sim.WorkloadOf(&spec, nil)
	if err != nil {
		return err
	}
	if w.fleet, err = sim.New(config, workload); err != nil {
		return err
	}
	if w.state, err = planner.New(&spec); err != nil {
		return err
	}
	interval := time.Duration(spec.Load.IntervalS * float64(time.Second))
	for tick := 1; time.Duration(tick)*interval <= w.life.Duration; tick++ {
		if err := w.tick(tick, time.Duration(tick)*interval); err != nil {
			return err
		}
	}
	return w.flush()
}

func (w *writer) tick(tick int, since time.Duration) error {
	if w.life.ActiveFrom > 0 && since >= w.life.ActiveFrom && w.configured.Revision == 1 {
		active := *w.configured
		active.Revision, active.Epoch, active.Reason = 2, 1, "the advice held"
		active.Spec.Advisory = false
		w.configured = &active
		if err := w.publish(events.TopicDeployments, w.configured, "", Begin.Add(since)); err != nil {
			return err
		}
	}
	if err := w.fleet.Advance(since); err != nil {
		return err
	}
	observation, err := w.observe(tick, since)
	if err != nil {
		return err
	}
	id := events.ObservationID(observation.Deployment, observation.ObservedAt)
	if err := w.publish(events.TopicObservations, observation, "", time.Time{}); err != nil {
		return err
	}
	decision, data, err := planner.Decide(w.state, planner.Input{ObservationID: id, Observation: observation, Configured: w.configured})
	if err != nil {
		return err
	}
	sealed, err := events.SealData(&decision, data, events.About{Source: "/tidemark/decider", CausationID: id, CorrelationID: id})
	if err != nil {
		return err
	}
	if err := w.append(events.TopicDecisions, sealed); err != nil {
		return err
	}
	if w.life.CheckpointEvery > 0 && tick%w.life.CheckpointEvery == 0 {
		if err := w.checkpoint(observation); err != nil {
			return err
		}
	}
	if decision.Mode == model.Active && decision.Action != model.Hold {
		return w.act(sealed.ID, &decision)
	}
	return nil
}

func (w *writer) observe(tick int, since time.Duration) (*model.Observation, error) {
	throughput := int(w.configured.Spec.Throughput.IntervalS / w.configured.Spec.Load.IntervalS)
	o := &model.Observation{
		Deployment: w.life.Deployment, ConfigRevision: w.configured.Revision, ObservedAt: Begin.Add(since),
		Loops: model.Loops{Load: true, Throughput: tick%throughput == 0},
	}
	if w.life.Unseen != nil && w.life.Unseen(tick) {
		o.Fleet = &model.FleetObservation{Status: model.Failed, Error: "no answer"}
		o.Traffic = &model.TrafficObservation{Status: model.Failed, Error: "no answer"}
		o.Engines = &model.EnginesObservation{Status: model.Failed, Error: "no answer"}
		return o, nil
	}
	o.Fleet = &model.FleetObservation{Status: model.Measured, AgeS: new(0.4)}
	inventory := w.fleet.Inventory()
	for _, role := range w.configured.Spec.Topology.Roles() {
		r, _ := inventory.Get(role)
		o.Fleet.Roles.Set(role, model.RoleReplicas{Ready: r.Ready, Desired: r.Desired, Pending: r.Pending})
	}
	o.Engines = &model.EnginesObservation{Status: model.Measured, AgeS: new(0.4)}
	for _, s := range w.fleet.Engines() {
		o.Engines.Samples = append(o.Engines.Samples, model.EngineSample{
			Role: s.Role, Worker: s.Worker, DPRank: s.DPRank, AgeS: new(s.AgeS), WallTimeS: new(s.WallTimeS),
			Scheduled: load(s.Scheduled), Queued: load(s.Queued),
		})
	}
	if o.Loops.Throughput {
		seen, err := w.fleet.Traffic(time.Minute)
		if err != nil {
			return nil, err
		}
		o.Traffic = &model.TrafficObservation{
			Status: model.Measured, AgeS: new(1.0), WindowS: seen.Window.Seconds(), Requests: new(float64(seen.Requests)),
			MeanISL: seen.MeanISL, MeanOSL: seen.MeanOSL, MeanTTFTMs: seen.MeanTTFTMs, P95TTFTMs: seen.P95TTFTMs,
			MeanITLMs: seen.MeanITLMs, P95ITLMs: seen.P95ITLMs, MeanDurationS: seen.MeanDurationS,
		}
		switch {
		case seen.Requests == 0:
			o.Traffic.Status, o.Traffic.MeanISL = model.Idle, nil
		case o.Traffic.MeanOSL == nil:
			o.Traffic.Status, o.Traffic.Error = model.Absent, "no request was completed"
		}
	}
	return o, o.Validate()
}

func load(l sim.Load) model.EngineLoad {
	return model.EngineLoad{
		PrefillRequests: &l.PrefillRequests, PrefillTokens: &l.PrefillTokens,
		DecodeRequests: &l.DecodeRequests, DecodeKVTokens: &l.DecodeKVTokens,
	}
}

// checkpoint publishes the state after an observation. The observation is the
// newest in the topic, which has one partition.
func (w *writer) checkpoint(o *model.Observation) error {
	if err := w.flush(); err != nil {
		return err
	}
	topic := w.topics.Name(events.TopicObservations)
	ends, err := w.log.Ends(context.Background(), topic)
	if err != nil {
		return err
	}
	state, err := w.state.MarshalBinary()
	if err != nil {
		return err
	}
	sealed, err := events.Seal(&model.Checkpoint{
		Deployment: o.Deployment, Topic: topic, Partition: 0, Position: ends[0] - 1, ObservedAt: o.ObservedAt,
		ConfigRevision: w.configured.Revision, PlannerVersion: planner.Version, State: state,
	}, events.About{Source: "/tidemark/decider"})
	if err != nil {
		return err
	}
	return w.log.Publisher().Publish(w.topics.Name(events.TopicCheckpoints), sealed.Message())
}

// act applies a decision at once.
func (w *writer) act(id string, decision *model.ScalingDecision) error {
	actuation := model.Actuation{
		Deployment: decision.Deployment, DecisionID: id, Epoch: decision.Epoch, ObservedAt: decision.ObservedAt,
		OccurredAt: decision.ObservedAt.Add(time.Second), Connector: "simulated",
	}
	for _, role := range w.configured.Spec.Topology.Roles() {
		from, _ := decision.Desired.Get(role)
		if to, ok := decision.Target.Get(role); ok && to != from {
			actuation.Roles.Set(role, model.Change{From: from, To: to})
			if err := w.fleet.Scale(role, to); err != nil {
				return err
			}
		}
	}
	if err := w.publish(events.TopicActuations, &model.ScalingApplied{Actuation: actuation}, id, time.Time{}); err != nil {
		return err
	}
	actuation.OccurredAt = actuation.OccurredAt.Add(time.Minute)
	return w.publish(events.TopicActuations, &model.ScalingSettled{Actuation: actuation, SettleS: 60}, id, time.Time{})
}

func (w *writer) publish(topic string, fact any, causation string, at time.Time) error {
	sealed, err := events.Seal(fact, events.About{Source: "/tidemark/replaytest", CausationID: causation, Time: at})
	if err != nil {
		return err
	}
	return w.append(topic, sealed)
}

func (w *writer) append(topic string, event events.Event) error {
	w.pending[topic] = append(w.pending[topic], event.Message())
	if len(w.pending[topic]) < batch {
		return nil
	}
	return w.flush()
}

// flush publishes what is pending, causes before effects.
func (w *writer) flush() error {
	for _, topic := range []string{events.TopicDeployments, events.TopicObservations, events.TopicDecisions, events.TopicActuations} {
		if err := w.log.Publisher().Publish(w.topics.Name(topic), w.pending[topic]...); err != nil {
			return err
		}
		w.pending[topic] = nil
	}
	return nil
}
