package model

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Validate returns a *ConfigError that holds every problem of the deployment,
// or nil.
func (d *Deployment) Validate() error {
	if problems := d.problems(); len(problems) > 0 {
		return &ConfigError{Problems: problems}
	}
	return nil
}

// namePattern admits what fits a Kubernetes label, a metric label and a file name.
var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// predictors are the names that throughput.predictor may have.
var predictors = []string{"constant", "kalman", "arima", "prophet", "holt-winters", "auto"}

type checks struct{ problems []Problem }

func (c *checks) fail(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (c *checks) oneOf(path, value string, allowed ...string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	c.fail(path, "is %q, want one of %s", value, strings.Join(allowed, ", "))
	return false
}

func (c *checks) atLeast(path string, value, least float64) {
	if !(value >= least) || math.IsInf(value, 0) {
		c.fail(path, "is %v, want at least %v", value, least)
	}
}

func (c *checks) positive(path string, value float64) {
	if !(value > 0) || math.IsInf(value, 0) {
		c.fail(path, "is %v, want more than 0", value)
	}
}

func (d *Deployment) problems() []Problem {
	c := &checks{}
	if !namePattern.MatchString(d.Name) {
		c.fail("name", "is %q, want 1 to 63 lower-case letters, digits and dashes, not starting or ending with a dash", d.Name)
	}
	topologyKnown := c.oneOf("topology", string(d.Topology), string(TopologyDisaggregated), string(TopologyPrefill), string(TopologyDecode), string(TopologyAggregated))
	c.oneOf("target", string(d.Target), string(TargetSLA), string(TargetThroughput), string(TargetLatency), string(TargetLoad))
	if d.Target == TargetSLA {
		c.positive("sla.ttft_ms", d.SLA.TTFTMs)
		c.positive("sla.itl_ms", d.SLA.ITLMs)
	}
	if topologyKnown {
		d.checkRoles(c)
		d.checkBudget(c)
	}
	d.checkLoad(c)
	d.checkThroughput(c)
	c.atLeast("behavior.scale_up_window_s", d.Behavior.ScaleUpWindowS, 0)
	c.atLeast("behavior.scale_down_window_s", d.Behavior.ScaleDownWindowS, 0)
	c.positive("behavior.decision_ttl_s", d.Behavior.DecisionTTLS)
	d.checkShells(c)
	return c.problems
}

func (d *Deployment) checkRoles(c *checks) {
	for _, role := range AllRoles {
		path := "roles." + string(role)
		spec, given := d.Roles.Get(role)
		wanted := slices.Contains(d.Topology.Roles(), role)
		switch {
		case wanted && !given:
			c.fail(path, "is missing; topology %s has it", d.Topology)
		case !wanted && given:
			c.fail(path, "is given, and topology %s does not have it", d.Topology)
		}
		if !wanted || !given {
			continue
		}
		c.atLeast(path+".min_replicas", float64(spec.MinReplicas), 1)
		if spec.MaxReplicas < max(spec.MinReplicas, 1) {
			c.fail(path+".max_replicas", "is %d, want at least min_replicas, which is %d", spec.MaxReplicas, spec.MinReplicas)
		}
		c.atLeast(path+".gpus_per_replica", float64(spec.GPUsPerReplica), 0)
		c.atLeast(path+".engine.max_num_batched_tokens", float64(spec.Engine.MaxNumBatchedTokens), 0)
		c.atLeast(path+".engine.max_num_seqs", float64(spec.Engine.MaxNumSeqs), 0)
		c.atLeast(path+".engine.context_length", float64(spec.Engine.ContextLength), 0)
		c.atLeast(path+".engine.max_kv_tokens", float64(spec.Engine.MaxKVTokens), 0)
	}
}

func (d *Deployment) checkBudget(c *checks) {
	for _, bound := range [...]struct {
		path  string
		value int
	}{{"budget.min_gpus", d.Budget.MinGPUs}, {"budget.max_gpus", d.Budget.MaxGPUs}} {
		if bound.value < Unbounded {
			c.fail(bound.path, "is %d, want a number of GPUs, or -1 for none", bound.value)
		}
	}
	if d.Budget.MinGPUs == Unbounded && d.Budget.MaxGPUs == Unbounded {
		return
	}
	least := 0
	for _, role := range d.Topology.Roles() {
		spec, given := d.Roles.Get(role)
		if !given {
			return
		}
		if spec.GPUsPerReplica <= 0 {
			c.fail("roles."+string(role)+".gpus_per_replica", "is missing; a GPU budget cannot be kept without it")
			return
		}
		least += spec.MinReplicas * spec.GPUsPerReplica
	}
	if d.Budget.MaxGPUs == Unbounded {
		return
	}
	if d.Budget.MaxGPUs < least {
		c.fail("budget.max_gpus", "is %d, and the min_replicas of all roles need %d", d.Budget.MaxGPUs, least)
	}
	if d.Budget.MinGPUs > d.Budget.MaxGPUs {
		c.fail("budget.min_gpus", "is %d, more than max_gpus, which is %d", d.Budget.MinGPUs, d.Budget.MaxGPUs)
	}
}

func (d *Deployment) checkLoad(c *checks) {
	l := &d.Load
	c.positive("load.interval_s", l.IntervalS)
	if !(l.ScaleDownSensitivity >= 0 && l.ScaleDownSensitivity <= 100) {
		c.fail("load.scale_down_sensitivity", "is %v, want 0 to 100 percent", l.ScaleDownSensitivity)
	}
	c.atLeast("load.max_step", float64(l.MaxStep), 1)
	c.atLeast("load.min_observations", float64(l.MinObservations), 1)
	c.atLeast("load.max_samples", float64(l.MaxSamples), float64(max(l.MinObservations, 1)))
	if root := int(math.Sqrt(float64(max(l.Buckets, 0)))); l.Buckets < 1 || root*root != l.Buckets {
		c.fail("load.buckets", "is %d, want a perfect square (1, 4, 9, 16, 25 ...)", l.Buckets)
	}
	c.atLeast("load.warmup_s", l.WarmupS, 0)
	if d.Target != TargetLoad {
		return
	}
	for _, role := range d.Topology.Roles() {
		upPath, up, downPath, down, most := "load.decode_scale_up_kv_percent", l.DecodeScaleUpKVPercent, "load.decode_scale_down_kv_percent", l.DecodeScaleDownKVPercent, 100.0
		if role == Prefill {
			upPath, up, downPath, down, most = "load.prefill_scale_up_queue_tokens", l.PrefillScaleUpQueueTokens, "load.prefill_scale_down_queue_tokens", l.PrefillScaleDownQueueTokens, math.MaxFloat64
		}
		thresholds(c, upPath, up, downPath, down, most)
	}
}

// thresholds checks a pair of which scaling up must lie above scaling down.
func thresholds(c *checks, upPath string, up *float64, downPath string, down *float64, most float64) {
	for _, one := range [...]struct {
		path  string
		value *float64
	}{{upPath, up}, {downPath, down}} {
		switch {
		case one.value == nil:
			c.fail(one.path, "is missing; target load needs it")
		case !(*one.value >= 0 && *one.value <= most):
			c.fail(one.path, "is %v, want 0 to %v", *one.value, most)
		}
	}
	if up != nil && down != nil && !(*up > *down) {
		c.fail(upPath, "is %v, want more than %s, which is %v", *up, downPath, *down)
	}
}

func (d *Deployment) checkThroughput(c *checks) {
	t := &d.Throughput
	if !d.Load.Enabled && !t.Enabled {
		c.fail("throughput.enabled", "is false, and so is load.enabled; with both loops off nothing would ever be decided")
	}
	if d.Target != TargetSLA {
		if t.Enabled {
			c.fail("throughput.enabled", "is true, and target %s has no throughput loop; write false, or target sla", d.Target)
		}
		return
	}
	c.positive("throughput.interval_s", t.IntervalS)
	if d.Load.Enabled && t.Enabled && !(d.Load.IntervalS < t.IntervalS) {
		c.fail("throughput.interval_s", "is %v, want more than load.interval_s, which is %v", t.IntervalS, d.Load.IntervalS)
	}
	c.oneOf("throughput.predictor", t.Predictor, predictors...)
	c.atLeast("throughput.max_step", float64(t.MaxStep), 1)
	c.atLeast("throughput.idle_intervals", float64(t.IdleIntervals), 1)
	for i := range t.Samples {
		if err := t.Samples[i].Validate(); err != nil {
			c.fail(fmt.Sprintf("throughput.samples[%d]", i), "%v", err)
		}
	}
	for i, w := range t.Warmup {
		c.atLeast(fmt.Sprintf("throughput.warmup[%d].requests", i), w.Requests, 0)
	}
}

// checkShells checks the settings of the services around the core.
func (d *Deployment) checkShells(c *checks) {
	if d.Source != nil {
		d.checkSource(c)
	}
	if d.Actuator != nil {
		d.checkActuator(c)
	}
	d.checkLimits(c)
	if d.Approval != "" && d.Approval != ApprovalRequired {
		c.fail("approval", "is %q, want required, or nothing for decisions that are carried out as they come", d.Approval)
	}
}
