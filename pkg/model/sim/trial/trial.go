// Package trial puts the policy of a deployment on trial: a simulated fleet is
// observed, decided and scaled in simulated time, as fast as the machine goes,
// and what came of it is measured.
//
// A trial goes through the same ticks, observations and decisions as the
// services would, and applies a decision at the instant of its observation. It
// is a pure function of specification, workload and options. Nothing outside of
// it is touched.
package trial

import (
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
	"tidemark.dev/pkg/model/sim"
)

// drainTime is how long after the end requests may still be answered. Fewer
// answers then mean that they were lost, for the judgement of a policy.
const drainTime = time.Hour

// Options say how a deployment is tried.
type Options struct {
	// Start is the instant on the deployment's clock at which the trial begins.
	Start time.Time
	// Duration is how long it goes on.
	Duration time.Duration
	// Hold leaves the fleet as it is: decisions are made and not applied.
	Hold bool
	// ObservationID returns the identity of the observation at an instant.
	ObservationID func(at time.Time) string
	// Stepped, if it is set, is told of every step. An error ends the trial.
	Stepped func(Step) error
}

// Step is one tick: what was seen and what was decided.
type Step struct {
	Configured  *model.DeploymentConfigured
	Observation *model.Observation
	Decision    *model.ScalingDecision
	// Data is the decision's encoding, which the next one's digest is of.
	Data []byte
	// Applied holds the changes that were made; it is empty if there were none.
	Applied model.PerRole[model.Change]
}

// Run tries the policy of a deployment with a simulated source under a workload.
// The specification has passed its Validate.
func Run(spec *model.Deployment, workload sim.Workload, options Options) (Result, error) {
	if options.Duration <= 0 {
		return Result{}, fmt.Errorf("try %s: the duration is %v, want more than 0", spec.Name, options.Duration)
	}
	config, err := sim.ConfigOf(spec)
	if err != nil {
		return Result{}, err
	}
	tried := *spec
	tried.Advisory = options.Hold
	t := &trial{options: options, tally: newTally(&tried, &config)}
	t.configured = &model.DeploymentConfigured{Deployment: spec.Name, Revision: 1, Spec: tried}
	if !options.Hold {
		t.configured.Epoch = 1
	}
	config.Finished = t.tally.finished
	if t.fleet, err = sim.New(config, sim.Limit(workload, options.Duration)); err != nil {
		return Result{}, err
	}
	if t.state, err = planner.New(&tried); err != nil {
		return Result{}, fmt.Errorf("try %s: %w", spec.Name, err)
	}
	if err := t.run(); err != nil {
		return Result{}, fmt.Errorf("try %s: %w", spec.Name, err)
	}
	return t.result()
}

// trial is one run.
type trial struct {
	options    Options
	configured *model.DeploymentConfigured
	fleet      *sim.Fleet
	state      *planner.State
	tally      *tally
}

func (t *trial) run() error {
	schedule := t.configured.Spec.Schedule()
	end := t.options.Start.Add(t.options.Duration)
	t.tally.inventory(t.fleet.Inventory())
	for {
		due, loops := schedule.Next(t.at())
		if due.IsZero() || due.After(end) {
			return t.fleet.Advance(t.options.Duration)
		}
		if err := t.fleet.Advance(due.Sub(t.options.Start)); err != nil {
			return err
		}
		if err := t.tick(due, loops); err != nil {
			return err
		}
	}
}

// at returns the present instant on the deployment's clock.
func (t *trial) at() time.Time { return t.options.Start.Add(t.fleet.Now()) }

// tick observes, decides and applies.
func (t *trial) tick(at time.Time, loops model.Loops) error {
	spec := &t.configured.Spec
	observation := &model.Observation{
		Deployment: spec.Name, ConfigRevision: t.configured.Revision, ObservedAt: at, Loops: loops,
	}
	t.fleet.Observe(spec, observation)
	decision, data, err := planner.Decide(t.state, planner.Input{
		ObservationID: t.options.ObservationID(at), Observation: observation, Configured: t.configured,
	})
	if err != nil {
		return err
	}
	t.tally.decided(&decision)
	step := Step{Configured: t.configured, Observation: observation, Decision: &decision, Data: data}
	if !t.options.Hold {
		if step.Applied, err = t.apply(&decision); err != nil {
			return err
		}
	}
	t.tally.inventory(t.fleet.Inventory())
	if t.options.Stepped != nil {
		return t.options.Stepped(step)
	}
	return nil
}

// apply sets the roles that the decision changes.
func (t *trial) apply(decision *model.ScalingDecision) (applied model.PerRole[model.Change], err error) {
	for _, role := range t.configured.Spec.Topology.Roles() {
		delta, _ := decision.Delta.Get(role)
		if delta == 0 {
			continue
		}
		from, _ := decision.Desired.Get(role)
		to, _ := decision.Target.Get(role)
		if err := t.fleet.Scale(role, to); err != nil {
			return applied, err
		}
		applied.Set(role, model.Change{From: from, To: to})
		t.tally.changes++
	}
	return applied, nil
}

// result measures the end, and then waits for the answers that are under way.
func (t *trial) result() (Result, error) {
	atEnd := t.fleet.Totals()
	for !t.fleet.Done() && t.fleet.Now() < t.options.Duration+drainTime {
		if err := t.fleet.Advance(t.fleet.Now() + time.Minute); err != nil {
			return Result{}, err
		}
	}
	return t.tally.result(t.options.Duration, atEnd, t.fleet.Totals()), nil
}
