package model

import "time"

// Target is what a deployment is scaled for.
type Target string

// The targets.
const (
	// TargetSLA keeps TTFT and ITL under their limits, by performance models.
	TargetSLA Target = "sla"
	// TargetThroughput tolerates queues and full engines before it scales up.
	TargetThroughput Target = "throughput"
	// TargetLatency scales up as soon as anything queues.
	TargetLatency Target = "latency"
	// TargetLoad scales by thresholds of the deployment's own.
	TargetLoad Target = "load"
)

// Deployment is the configuration of one model served by one fleet. Its JSON
// names are those of the configuration file and of the log.
type Deployment struct {
	Name string `json:"name"`
	// Advisory deployments are decided and never acted on. It is the default.
	Advisory   bool              `json:"advisory"`
	Topology   Topology          `json:"topology"`
	Target     Target            `json:"target"`
	SLA        SLA               `json:"sla"`
	Roles      PerRole[RoleSpec] `json:"roles"`
	Budget     Budget            `json:"budget"`
	Load       LoadLoop          `json:"load"`
	Throughput ThroughputLoop    `json:"throughput"`
	Behavior   Behavior          `json:"behavior"`
	Source     *Source           `json:"source,omitempty"`
	Actuator   *Actuator         `json:"actuator,omitempty"`
	// Limits are the actuator's own.
	Limits Limits `json:"limits,omitzero"`
	// Approval says whether a person, or what speaks for one, has to approve each
	// decision before it is carried out.
	Approval Approval `json:"approval,omitzero"`
}

// Approval says whether decisions wait for an approval.
type Approval string

// ApprovalRequired lets no decision be carried out that nobody has approved. What
// is left out is not required.
const ApprovalRequired Approval = "required"

// Mode returns the deployment's mode.
func (d *Deployment) Mode() Mode {
	if d.Advisory {
		return Advisory
	}
	return Active
}

// SLA limits the latencies that target sla keeps.
type SLA struct {
	TTFTMs float64 `json:"ttft_ms"`
	ITLMs  float64 `json:"itl_ms"`
}

// RoleSpec configures the pool of one role.
type RoleSpec struct {
	// GPUsPerReplica is 0 where it is unknown.
	GPUsPerReplica int    `json:"gpus_per_replica,omitzero"`
	MinReplicas    int    `json:"min_replicas"`
	MaxReplicas    int    `json:"max_replicas"`
	Engine         Engine `json:"engine,omitzero"`
}

// Engine holds the limits of one engine. A limit that is 0 is unknown.
type Engine struct {
	MaxNumBatchedTokens int `json:"max_num_batched_tokens,omitzero"`
	MaxNumSeqs          int `json:"max_num_seqs,omitzero"`
	ContextLength       int `json:"context_length,omitzero"`
	MaxKVTokens         int `json:"max_kv_tokens,omitzero"`
}

// Unbounded is the value of a budget's bound that does not bind.
const Unbounded = -1

// Budget bounds the GPUs of all roles together; Unbounded (-1) means none.
type Budget struct {
	MinGPUs int `json:"min_gpus"`
	MaxGPUs int `json:"max_gpus"`
}

// LoadLoop configures the fast, reactive loop over engine state.
type LoadLoop struct {
	Enabled   bool    `json:"enabled"`
	IntervalS float64 `json:"interval_s"`
	// ScaleDownSensitivity is the share of the SLA, in percent, that must
	// suffice after a scale-down; lower is slower to scale down.
	ScaleDownSensitivity float64 `json:"scale_down_sensitivity"`
	// MaxStep limits the replicas that one decision adds or removes per role.
	MaxStep int `json:"max_step"`
	// MinObservations is the number of samples that a fit needs.
	MinObservations int `json:"min_observations"`
	// MaxSamples bounds the samples that a model keeps; Buckets, a perfect
	// square, is the number of cells over which they are kept spread.
	MaxSamples int `json:"max_samples"`
	Buckets    int `json:"buckets"`
	// WarmupS is the age under which an engine's samples train no model.
	WarmupS float64 `json:"warmup_s"`

	// The thresholds of target load: tokens per engine, and percent of max_kv_tokens.
	PrefillScaleUpQueueTokens   *float64 `json:"prefill_scale_up_queue_tokens,omitempty"`
	PrefillScaleDownQueueTokens *float64 `json:"prefill_scale_down_queue_tokens,omitempty"`
	DecodeScaleUpKVPercent      *float64 `json:"decode_scale_up_kv_percent,omitempty"`
	DecodeScaleDownKVPercent    *float64 `json:"decode_scale_down_kv_percent,omitempty"`
}

// ThroughputLoop configures the slow, predictive loop over traffic.
type ThroughputLoop struct {
	Enabled         bool            `json:"enabled"`
	IntervalS       float64         `json:"interval_s"`
	Predictor       string          `json:"predictor"`
	Log1p           bool            `json:"log1p"`
	PredictorParams PredictorParams `json:"predictor_params,omitzero"`
	MaxStep         int             `json:"max_step"`
	// IdleIntervals is the number of idle windows in a row after which the
	// floor falls to min_replicas.
	IdleIntervals int `json:"idle_intervals"`

	// Profile names a file of engine measurements, relative to the
	// configuration file. It is read when the configuration is: its points
	// become Samples, and ProfileSource says where they came from.
	Profile       string `json:"profile,omitzero"`
	ProfileSource string `json:"profile_source,omitzero"`
	// Samples enter the performance models before the first observation.
	Samples []EngineSample `json:"samples,omitempty"`

	// WarmupTrace names a file of requests, read like Profile: its intervals
	// become Warmup, and feed the predictors before the first observation.
	WarmupTrace       string           `json:"warmup_trace,omitzero"`
	WarmupTraceSource string           `json:"warmup_trace_source,omitzero"`
	Warmup            []WarmupInterval `json:"warmup,omitempty"`
}

// PredictorParams are the parameters of a predictor; those left out have the
// predictor's defaults.
type PredictorParams struct {
	QLevel     *float64 `json:"q_level,omitempty"`
	QTrend     *float64 `json:"q_trend,omitempty"`
	R          *float64 `json:"r,omitempty"`
	MinPoints  *int     `json:"min_points,omitempty"`
	SeasonS    *float64 `json:"season_s,omitempty"`
	Window     *int     `json:"window,omitempty"`
	RefitEvery *int     `json:"refit_every,omitempty"`
}

// WarmupInterval is the traffic of one throughput interval of the past. An
// interval without requests has no lengths.
type WarmupInterval struct {
	Requests float64  `json:"requests"`
	MeanISL  *float64 `json:"mean_isl,omitempty"`
	MeanOSL  *float64 `json:"mean_osl,omitempty"`
}

// Behavior configures stabilization and the life of a decision.
type Behavior struct {
	// A window of 0 is off.
	ScaleUpWindowS   float64 `json:"scale_up_window_s"`
	ScaleDownWindowS float64 `json:"scale_down_window_s"`
	// DecisionTTLS is how long a decision may be acted on.
	DecisionTTLS float64 `json:"decision_ttl_s"`
}

// SimulatedSource is a fleet in simulated time. The fleet is a function of this
// configuration and of the actuations in the log, so that a collector that
// restarts finds it where it was.
type SimulatedSource struct {
	// Engine names a set of engine figures of package sim.
	Engine string `json:"engine"`
	// Replicas is the fleet at the start.
	Replicas   PerRole[int] `json:"replicas,omitzero"`
	ColdStartS float64      `json:"cold_start_s"`
	// Trace names a file of requests; without it the workload is generated.
	Trace     string             `json:"trace,omitzero"`
	Generator SimulatedGenerator `json:"generator,omitzero"`
	// RateMultiplier multiplies the arrival rate.
	RateMultiplier float64 `json:"rate_multiplier"`
	// StartedAt is the instant at which simulated and wall-clock time agree;
	// from there simulated time passes Speed times as fast. It is set when the
	// deployment is first applied, if it is left out.
	StartedAt *time.Time `json:"started_at,omitempty"`
	Speed     float64    `json:"speed"`
}

// InitialReplicas returns what a role starts with: what Replicas names, or the
// role's min_replicas.
func (s *SimulatedSource) InitialReplicas(d *Deployment, role Role) int {
	if n, ok := s.Replicas.Get(role); ok {
		return n
	}
	spec, _ := d.Roles.Get(role)
	return spec.MinReplicas
}

// SimulatedGenerator configures the generated workload.
type SimulatedGenerator struct {
	Seed      uint64  `json:"seed"`
	DurationS float64 `json:"duration_s"`
	MeanRPS   float64 `json:"mean_rps"`
}

// Clock relates wall-clock time to a deployment's own time. The zero Clock is
// wall-clock time.
type Clock struct {
	StartedAt time.Time
	Speed     float64
}

// Clock returns the deployment's clock.
func (d *Deployment) Clock() Clock {
	if d.Source == nil || d.Source.Simulated == nil || d.Source.Simulated.StartedAt == nil {
		return Clock{}
	}
	return Clock{StartedAt: *d.Source.Simulated.StartedAt, Speed: d.Source.Simulated.Speed}
}

func (c Clock) scaled() bool { return c.Speed > 0 && c.Speed != 1 && !c.StartedAt.IsZero() }

// At returns the deployment's time at a wall-clock instant.
func (c Clock) At(wall time.Time) time.Time {
	if !c.scaled() {
		return wall
	}
	return c.StartedAt.Add(time.Duration(float64(wall.Sub(c.StartedAt)) * c.Speed))
}

// Wall returns the wall-clock instant of the deployment's time t.
func (c Clock) Wall(t time.Time) time.Time {
	if !c.scaled() {
		return t
	}
	return c.StartedAt.Add(time.Duration(float64(t.Sub(c.StartedAt)) / c.Speed))
}

// DefaultDeployment returns the configuration that a file starts from.
func DefaultDeployment() Deployment {
	return Deployment{
		Advisory: true,
		Topology: TopologyDisaggregated,
		Target:   TargetSLA,
		SLA:      SLA{TTFTMs: 500, ITLMs: 50},
		Budget:   Budget{MinGPUs: Unbounded, MaxGPUs: Unbounded},
		Load: LoadLoop{
			Enabled: true, IntervalS: 5, ScaleDownSensitivity: 80, MaxStep: 1,
			MinObservations: 5, MaxSamples: 64, Buckets: 16,
		},
		Throughput: ThroughputLoop{Enabled: true, IntervalS: 180, Predictor: "arima", MaxStep: 8, IdleIntervals: 3},
		Behavior:   Behavior{DecisionTTLS: 60},
	}
}

func (d *Deployment) setDefaults()      { *d = DefaultDeployment() }
func (r *RoleSpec) setDefaults()        { r.MinReplicas = 1 }
func (s *SimulatedSource) setDefaults() { s.Speed, s.RateMultiplier, s.ColdStartS = 1, 1, 60 }
