package model

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Mode says whether decisions may be acted on.
type Mode string

// The modes.
const (
	// Advisory decides and publishes, and never acts. It is the default.
	Advisory Mode = "advisory"
	// Active lets the actuator act on decisions.
	Active Mode = "active"
)

// Action sums a decision up by the signs of its deltas.
type Action string

// The actions.
const (
	// Hold changes nothing, or no decision could be made.
	Hold Action = "hold"
	// ScaleUp raises some role and lowers none.
	ScaleUp Action = "scale_up"
	// ScaleDown lowers some role and raises none.
	ScaleDown Action = "scale_down"
	// Rebalance raises one role and lowers another.
	Rebalance Action = "rebalance"
)

// Reason says in one word why a loop proposed what it did.
type Reason string

// The reasons of the loops.
const (
	ReasonNotDue              Reason = "not_due"
	ReasonDisabled            Reason = "disabled"
	ReasonNoFleetData         Reason = "no_fleet_data"
	ReasonNoFPMData           Reason = "no_fpm_data"
	ReasonScalingInProgress   Reason = "scaling_in_progress"
	ReasonWorkerCountMismatch Reason = "worker_count_mismatch"
	ReasonInsufficientData    Reason = "insufficient_data"
	ReasonNoChange            Reason = "no_change"
	ReasonScaleUp             Reason = "scale_up"
	ReasonScaleDown           Reason = "scale_down"
	ReasonCapped              Reason = "scale_down_capped_by_throughput"
	ReasonRefused             Reason = "scale_down_refused_consolidation"
	ReasonNoTrafficData       Reason = "no_traffic_data"
	ReasonPredictFailed       Reason = "predict_failed"
	ReasonModelNotReady       Reason = "model_not_ready"
	ReasonPartnerNotReady     Reason = "partner_not_ready"
	ReasonSetLowerBound       Reason = "set_lower_bound"
	ReasonScale               Reason = "scale"
)

// LacksEvidence says whether a loop had no opinion for want of evidence: of a
// source, or of enough of it for a model.
func (r Reason) LacksEvidence() bool {
	switch r {
	case ReasonNoFleetData, ReasonNoFPMData, ReasonNoTrafficData, ReasonInsufficientData,
		ReasonWorkerCountMismatch, ReasonPredictFailed, ReasonModelNotReady, ReasonPartnerNotReady:
		return true
	}
	return false
}

// Stage names a step of the decision that changed a number.
type Stage string

// The stages that write into a decision's chain, in their fixed order.
const (
	StageThroughput    Stage = "throughput"
	StageLoad          Stage = "load"
	StageFloor         Stage = "floor"
	StageStabilization Stage = "stabilization"
	StageStep          Stage = "step"
	StageBounds        Stage = "bounds"
	StageBudget        Stage = "budget"
)

// The reasons that constraints write into the chain, beside those of the loops.
const (
	ReasonFloor           Reason = "throughput_floor"
	ReasonScaleUpWindow   Reason = "scale_up_window"
	ReasonScaleDownWindow Reason = "scale_down_window"
	ReasonStepLimit       Reason = "step_limit"
	ReasonMinReplicas     Reason = "min_replicas"
	ReasonMaxReplicas     Reason = "max_replicas"
	ReasonGPUBudget       Reason = "gpu_budget"
	ReasonBudgetGuard     Reason = "gpu_budget_guard_hold"
	ReasonBudgetReconcile Reason = "gpu_budget_reconcile"
)

// Warning is a condition that the decision was made under and that an operator
// should know.
type Warning string

// The warnings.
const (
	WarningTTFTUnreachable      Warning = "ttft_sla_unreachable"
	WarningITLUnreachable       Warning = "itl_sla_unreachable"
	WarningBudgetInfeasible     Warning = "budget_infeasible"
	WarningFloorWithoutEvidence Warning = "floor_without_evidence"
	WarningForecastFallback     Warning = "forecast_fallback"
	WarningStateReset           Warning = "state_reset"
)

// ScalingDecision is what should be done about one observation, a hold
// included. Target names every role of the topology, unless no inventory was
// ever known.
type ScalingDecision struct {
	Deployment     string `json:"deployment"`
	ConfigRevision int    `json:"config_revision"`
	// Epoch counts the activations of the deployment; an actuator obeys the
	// current one only.
	Epoch         int       `json:"epoch"`
	Mode          Mode      `json:"mode"`
	ObservationID string    `json:"observation_id"`
	ObservedAt    time.Time `json:"observed_at"`
	// ValidUntil is the instant after which nobody may act on the decision.
	ValidUntil time.Time `json:"valid_until"`

	Action Action `json:"action"`
	// Current is what is ready, Desired what the fleet is set to, and Delta is
	// Target less Desired: what an actuator would change.
	Current PerRole[int] `json:"current,omitzero"`
	Desired PerRole[int] `json:"desired,omitzero"`
	Target  PerRole[int] `json:"target,omitzero"`
	Delta   PerRole[int] `json:"delta,omitzero"`

	Reasons Reasons      `json:"reasons"`
	Chain   []ChainEntry `json:"chain"`

	Estimates Estimates        `json:"estimates,omitzero"`
	Forecast  *Forecast        `json:"forecast,omitempty"`
	Capacity  Capacity         `json:"capacity,omitzero"`
	Floors    PerRole[int]     `json:"floors,omitzero"`
	GPUs      *GPUs            `json:"gpus,omitempty"`
	Evidence  DecisionEvidence `json:"evidence"`
	Warnings  []Warning        `json:"warnings"`

	PlannerVersion string `json:"planner_version"`
	// PreviousDigest is the digest of the data bytes of the deployment's
	// decision before this one, and empty for the first: the decisions of a
	// deployment form a hash chain.
	PreviousDigest string `json:"previous_digest"`
}

// Reasons says why, for each loop, over all and per role.
type Reasons struct {
	Load       Reason               `json:"load"`
	Throughput Reason               `json:"throughput"`
	Roles      PerRole[RoleReasons] `json:"roles,omitzero"`
}

// RoleReasons are the reasons of one role. A loop that said nothing of the
// role is left out.
type RoleReasons struct {
	Load       Reason `json:"load,omitempty"`
	Throughput Reason `json:"throughput,omitempty"`
}

// ChainEntry is one change of one number on its way to the target.
type ChainEntry struct {
	Stage  Stage  `json:"stage"`
	Role   Role   `json:"role"`
	From   int    `json:"from"`
	To     int    `json:"to"`
	Reason Reason `json:"reason"`
}

// Estimates are the latencies that the performance models expect at the
// present load: the maximum over the engines.
type Estimates struct {
	TTFTMs *float64 `json:"ttft_ms,omitempty"`
	ITLMs  *float64 `json:"itl_ms,omitempty"`
}

// Forecast is what the predictors expect of the next throughput window.
type Forecast struct {
	Predictor string   `json:"predictor"`
	Requests  float64  `json:"requests"`
	RPS       float64  `json:"rps"`
	ISL       float64  `json:"isl"`
	OSL       float64  `json:"osl"`
	KVHitRate *float64 `json:"kv_hit_rate,omitempty"`
}

// Capacity is the request rate that one engine sustains within the SLA.
type Capacity struct {
	PrefillRPS    *float64 `json:"prefill_rps,omitempty"`
	DecodeRPS     *float64 `json:"decode_rps,omitempty"`
	AggregatedRPS *float64 `json:"aggregated_rps,omitempty"`
}

// GPUs counts the GPUs of what the fleet is set to and of the target, between
// the bounds of the budget; -1 means no bound.
type GPUs struct {
	Current int `json:"current"`
	Target  int `json:"target"`
	Min     int `json:"min"`
	Max     int `json:"max"`
}

// DecisionEvidence repeats the classes of the evidence that the decision rests
// on; a source that the observation did not carry is left out.
type DecisionEvidence struct {
	Fleet      Evidence `json:"fleet,omitempty"`
	Traffic    Evidence `json:"traffic,omitempty"`
	Engines    Evidence `json:"engines,omitempty"`
	OldestAgeS *float64 `json:"oldest_age_s,omitempty"`
}

// Digest returns the digest by which the next decision of a deployment names
// the data bytes of this one: "sha256:" and 64 hexadecimal digits.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Classify sums up deltas: hold, scale_up, scale_down or rebalance.
func Classify(delta PerRole[int]) Action {
	up, down := false, false
	for _, role := range AllRoles {
		if d, ok := delta.Get(role); ok {
			up = up || d > 0
			down = down || d < 0
		}
	}
	switch {
	case up && down:
		return Rebalance
	case up:
		return ScaleUp
	case down:
		return ScaleDown
	}
	return Hold
}
