package planner

import "tidemark.dev/pkg/model"

// thresholdJudge judges by how full each engine is against fixed thresholds,
// without a model: any engine above scales up, and all below scale down.
type thresholdJudge struct {
	ratios []float64
	above  func(ratio float64) bool
	below  func(ratio float64) bool
}

func (j thresholdJudge) over(float64) bool {
	for _, r := range j.ratios {
		if j.above(r) {
			return true
		}
	}
	return false
}

// safe ignores the growth: what is left under the lower threshold is the room
// for the load of the replica that goes.
func (j thresholdJudge) safe(float64) bool {
	for _, r := range j.ratios {
		if !j.below(r) {
			return false
		}
	}
	return true
}

// The thresholds of the targets throughput and latency: shares of the context
// length that may queue in front of a prefill engine, and of the KV capacity
// that may be in use or waited for.
const (
	throughputQueueUp, throughputQueueDown = 1.0, 0.1
	latencyQueueUp, latencyQueueDown       = 0.1, 0.0
	throughputKVUp, throughputKVDown       = 1.0, 0.6
	latencyKVUp, latencyKVDown             = 0.4, 0.1
)

// thresholdJudge returns the judge of a role under target throughput, latency
// or load.
func (d *decision) thresholdJudge(r *roleDecision, loads []engineLoad) (judge, model.Reason) {
	prefill := r.role == model.Prefill
	whole := r.spec.Engine.MaxKVTokens
	if prefill {
		whole = r.spec.Engine.ContextLength
	}
	l := &d.spec.Load
	above := func(limit float64) func(float64) bool { return func(v float64) bool { return v > limit } }
	below := func(limit float64) func(float64) bool { return func(v float64) bool { return v < limit } }
	reaches := func(limit float64) func(float64) bool { return func(v float64) bool { return v >= limit } }
	upTo := func(limit float64) func(float64) bool { return func(v float64) bool { return v <= limit } }
	var j thresholdJudge
	switch target := d.spec.Target; {
	case target == model.TargetLoad && prefill:
		// Tokens per engine, not a share of anything.
		whole = 1
		j = thresholdJudge{above: above(*l.PrefillScaleUpQueueTokens), below: below(*l.PrefillScaleDownQueueTokens)}
	case target == model.TargetLoad:
		j = thresholdJudge{above: above(*l.DecodeScaleUpKVPercent / 100), below: below(*l.DecodeScaleDownKVPercent / 100)}
	case target == model.TargetThroughput && prefill:
		j = thresholdJudge{above: reaches(throughputQueueUp), below: below(throughputQueueDown)}
	case target == model.TargetThroughput:
		j = thresholdJudge{above: above(throughputKVUp), below: below(throughputKVDown)}
	case prefill:
		j = thresholdJudge{above: reaches(latencyQueueUp), below: upTo(latencyQueueDown)}
	default:
		j = thresholdJudge{above: above(latencyKVUp), below: below(latencyKVDown)}
	}
	if whole == 0 {
		return nil, model.ReasonInsufficientData
	}
	for _, load := range loads {
		tokens := load.kv() + load.queuedPrefill
		j.ratios = append(j.ratios, float64(tokens)/float64(whole))
	}
	return j, ""
}
