// Package planner decides how many replicas each role of a deployment should
// have, from what was seen of it.
//
// It is a state machine: [Step] takes a deployment's state and one observation,
// changes the state and returns a decision. It reads no clock (now is the
// observation's instant), draws no random number and does no I/O, so the same
// observations under the same configuration give the same decisions, byte for
// byte, on any machine and after any restart.
//
// It refuses to guess: evidence that is missing is never read as zero, and the
// decision that follows is a hold that says what was missing. It does not check
// its input again: observations and configurations are validated where they
// enter the log.
//
// A State belongs to one deployment and is not safe for concurrent use.
package planner

import (
	"encoding/json"
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
)

// Version names the rules by which decisions are made. A change of any decision
// that an observation leads to is a new version.
const Version = "1"

// Input is one observation with the identity and the configuration under which
// it is decided.
type Input struct {
	ObservationID string
	Observation   *model.Observation
	// Configured holds revision, epoch and spec. It is read, never written.
	Configured *model.DeploymentConfigured
}

// Step decides one observation. It changes the state and returns the decision.
// Both the observation and the configuration must have passed their Validate.
func Step(state *State, in Input) model.ScalingDecision {
	d := newDecision(state, in)
	d.adopt()
	d.inventory()
	d.classify()
	state.revision = in.Configured.Revision
	return d.out
}

// Decide decides one observation and returns the decision with its data bytes.
// It links the decision to the one before it, and the state to this one.
func Decide(state *State, in Input) (model.ScalingDecision, []byte, error) {
	decision := Step(state, in)
	data, err := json.Marshal(decision)
	if err != nil {
		return decision, nil, fmt.Errorf("encode decision on observation %s: %w", in.ObservationID, err)
	}
	state.digest = model.Digest(data)
	return decision, data, nil
}

// decision is one decision in the making: what the stages read and what they
// have concluded so far.
type decision struct {
	state *State
	spec  *model.Deployment
	obs   *model.Observation
	now   time.Time
	out   model.ScalingDecision
}

func newDecision(state *State, in Input) *decision {
	spec, obs := &in.Configured.Spec, in.Observation
	ttl := time.Duration(spec.Behavior.DecisionTTLS * float64(time.Second))
	return &decision{
		state: state, spec: spec, obs: obs, now: obs.ObservedAt,
		out: model.ScalingDecision{
			Deployment:     obs.Deployment,
			ConfigRevision: in.Configured.Revision,
			Epoch:          in.Configured.Epoch,
			Mode:           spec.Mode(),
			ObservationID:  in.ObservationID,
			ObservedAt:     obs.ObservedAt,
			ValidUntil:     obs.ObservedAt.Add(ttl),
			Chain:          []model.ChainEntry{},
			Warnings:       []model.Warning{},
			PlannerVersion: Version,
			PreviousDigest: state.digest,
		},
	}
}

// adopt takes note of the configuration under which the observation is decided.
func (d *decision) adopt() {
	if d.state.built != settingsOf(d.spec) {
		d.out.Warnings = append(d.out.Warnings, model.WarningStateReset)
		d.state.reset(d.spec)
	}
}

// inventory reads how many replicas there are.
func (d *decision) inventory() {
	fleet := d.obs.Fleet
	if fleet == nil || (fleet.Status != model.Measured && fleet.Status != model.Stale) {
		return
	}
	for _, role := range d.spec.Topology.Roles() {
		if r, ok := fleet.Roles.Get(role); ok {
			d.out.Current.Set(role, r.Ready)
			d.out.Desired.Set(role, r.Desired)
			d.out.Target.Set(role, r.Desired)
			d.out.Delta.Set(role, 0)
		}
	}
}

// classify sums the decision up.
func (d *decision) classify() { d.out.Action = model.Classify(d.out.Delta) }
