// Package planner decides how many replicas each role of a deployment should
// have, from what was seen of it.
//
// It is a state machine: [Step] takes a deployment's state and one observation,
// changes the state and returns a decision. It reads no clock (now is the
// observation's instant), draws no random number and does no I/O, so the same
// observations under the same configuration give the same decisions, byte for
// byte, on any machine and after any restart.
//
// A decision is made in stages, always in this order: inventory; observe (feed
// the predictors, train the performance models); the proposal of the
// throughput loop; that of the load loop; reconcile them with the floor; then
// the constraints, which are stabilization windows, step limit, replica bounds
// and GPU budget; and classify. Each stage that changes a number writes its
// before and after into the decision's chain.
//
// It refuses to guess: evidence that is missing is never read as zero, and the
// decision that follows is a hold that says what was missing. It does not check
// its input again: observations and configurations are validated where they
// enter the log.
//
// A State belongs to one deployment and is not safe for concurrent use.
package planner

import (
	"fmt"
	"slices"
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
	var d decision
	d.begin(state, in)
	d.adopt()
	d.inventory()
	d.observe()
	d.proposeThroughput()
	d.proposeLoad()
	d.reconcile()
	d.constrain()
	d.conclude()
	state.revision = in.Configured.Revision
	return d.out
}

// Decide decides one observation and returns the decision with its data bytes.
// It links the decision to the one before it, and the state to this one.
func Decide(state *State, in Input) (model.ScalingDecision, []byte, error) {
	decision := Step(state, in)
	data, err := decision.Encode()
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
	// known is false without an inventory: then nothing is proposed.
	known bool
	// roles are those of the topology, prefill before decode; they lie in pools.
	roles []roleDecision
	pools [2]roleDecision
	out   model.ScalingDecision
}

// roleDecision is the part of a decision that concerns one role.
type roleDecision struct {
	role model.Role
	spec model.RoleSpec
	// ready replicas serve now, desired is what the fleet is set to; pending
	// ones cannot be placed.
	ready, desired, pending int

	throughput, load proposal
	// target is the number as it stands after the stages so far.
	target int
	// step is the max_step of the loop whose number target is.
	step int
}

// proposal is what a loop wants of a role, and why. A loop without an opinion
// has a reason and made false.
type proposal struct {
	replicas int
	made     bool
	reason   model.Reason
}

// begin fills in what is known before the first stage.
func (d *decision) begin(state *State, in Input) {
	spec, obs := &in.Configured.Spec, in.Observation
	ttl := time.Duration(spec.Behavior.DecisionTTLS * float64(time.Second))
	d.state, d.spec, d.obs, d.now = state, spec, obs, obs.ObservedAt
	d.out = model.ScalingDecision{
		Deployment:     obs.Deployment,
		ConfigRevision: in.Configured.Revision,
		Epoch:          in.Configured.Epoch,
		Mode:           spec.Mode(),
		ObservationID:  in.ObservationID,
		ObservedAt:     obs.ObservedAt,
		ValidUntil:     obs.ObservedAt.Add(ttl),
		Chain:          []model.ChainEntry{},
		Evidence:       evidenceOf(obs),
		Warnings:       []model.Warning{},
		PlannerVersion: Version,
		PreviousDigest: state.digest,
	}
	d.roles = d.pools[:0]
	for _, role := range spec.Topology.Roles() {
		roleSpec, _ := spec.Roles.Get(role)
		d.roles = append(d.roles, roleDecision{role: role, spec: roleSpec})
	}
}

// adopt takes note of the configuration under which the observation is decided.
// State survives where its meaning does.
func (d *decision) adopt() {
	s := d.state
	predicting := predictingOf(d.spec)
	switch {
	case !s.built.of(d.spec):
		d.warn(model.WarningStateReset)
		// A predictor that cannot be made is missed when a forecast is due.
		_ = s.reset(d.spec)
	case !s.traffic.predicting.equal(&predicting):
		if !predicting.Enabled {
			s.floors = model.PerRole[int]{}
		} else if s.traffic.predicting.Enabled {
			d.warn(model.WarningStateReset)
		}
		_ = s.traffic.restart(d.spec)
	}
	s.models.configure(d.spec)
}

// inventory reads how many replicas there are, or were when that was last seen.
func (d *decision) inventory() {
	if fleet := d.obs.Fleet; fleet != nil && (fleet.Status == model.Measured || fleet.Status == model.Stale) {
		d.known = true
		for _, r := range d.roles {
			_, ok := fleet.Roles.Get(r.role)
			d.known = d.known && ok
		}
	}
	for i := range d.roles {
		r := &d.roles[i]
		if d.known {
			seen, _ := d.obs.Fleet.Roles.Get(r.role)
			d.state.fleet.Set(r.role, replicas{Ready: seen.Ready, Desired: seen.Desired, Pending: seen.Pending})
		}
		last, _ := d.state.fleet.Get(r.role)
		r.ready, r.desired, r.pending, r.target = last.Ready, last.Desired, last.Pending, last.Desired
	}
}

// move sets a role's target, and writes the change into the chain.
func (d *decision) move(r *roleDecision, stage model.Stage, to int, reason model.Reason) {
	if to == r.target {
		return
	}
	d.out.Chain = append(d.out.Chain, model.ChainEntry{Stage: stage, Role: r.role, From: r.target, To: to, Reason: reason})
	r.target = to
}

// warn adds a warning once.
func (d *decision) warn(w model.Warning) {
	if w != "" && !slices.Contains(d.out.Warnings, w) {
		d.out.Warnings = append(d.out.Warnings, w)
	}
}

// conclude writes what was decided, and sums it up.
func (d *decision) conclude() {
	for i := range d.roles {
		r := &d.roles[i]
		d.out.Reasons.Roles.Set(r.role, model.RoleReasons{Load: r.load.reason, Throughput: r.throughput.reason})
		if _, seen := d.state.fleet.Get(r.role); seen {
			d.out.Current.Set(r.role, r.ready)
			d.out.Desired.Set(r.role, r.desired)
			d.out.Target.Set(r.role, r.target)
			d.out.Delta.Set(r.role, r.target-r.desired)
		}
	}
	d.out.Reasons.Load, d.out.Reasons.Throughput = overallLoad(d.roles), overallThroughput(d.roles)
	d.out.GPUs = d.gpus()
	d.out.Action = model.Classify(d.out.Delta)
}

// loadTelling ranks the reasons of the load loop: the most telling speaks for
// all roles. Those that are not named tell more than no_change, and less than
// the rest.
var loadTelling = map[model.Reason]int{
	model.ReasonScaleUp: 5, model.ReasonCapped: 4, model.ReasonScaleDown: 3, model.ReasonRefused: 2, model.ReasonNoChange: 0,
}

func overallLoad(roles []roleDecision) model.Reason {
	return mostTelling(roles, func(r *roleDecision) model.Reason { return r.load.reason }, loadTelling)
}

// throughputTelling ranks the reasons of the throughput loop.
var throughputTelling = map[model.Reason]int{
	model.ReasonScale: 2, model.ReasonPartnerNotReady: -1, model.ReasonNoChange: 0,
}

func overallThroughput(roles []roleDecision) model.Reason {
	return mostTelling(roles, func(r *roleDecision) model.Reason { return r.throughput.reason }, throughputTelling)
}

// mostTelling returns the reason that tells most; of equals, that of the first role.
func mostTelling(roles []roleDecision, of func(*roleDecision) model.Reason, telling map[model.Reason]int) model.Reason {
	var most model.Reason
	best := 0
	for i := range roles {
		reason := of(&roles[i])
		rank, named := telling[reason]
		if !named {
			rank = 1
		}
		if i == 0 || rank > best {
			most, best = reason, rank
		}
	}
	return most
}

func evidenceOf(obs *model.Observation) model.DecisionEvidence {
	var e model.DecisionEvidence
	oldest := func(age *float64) {
		if age != nil && (e.OldestAgeS == nil || *age > *e.OldestAgeS) {
			e.OldestAgeS = age
		}
	}
	if obs.Fleet != nil {
		e.Fleet = obs.Fleet.Status
		oldest(obs.Fleet.AgeS)
	}
	if obs.Traffic != nil {
		e.Traffic = obs.Traffic.Status
		oldest(obs.Traffic.AgeS)
	}
	if obs.Engines != nil {
		e.Engines = obs.Engines.Status
		oldest(obs.Engines.AgeS)
	}
	return e
}
