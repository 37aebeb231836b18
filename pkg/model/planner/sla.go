package planner

import (
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/perf"
)

// slaJudge judges by the latencies that the role's performance model expects.
// It shows the largest of those at the present load.
func (d *decision) slaJudge(r *roleDecision, loads []engineLoad) (judge, model.Reason) {
	m, sla := &d.state.models, d.spec.SLA
	margin := d.spec.Load.ScaleDownSensitivity / 100
	switch r.role {
	case model.Prefill:
		if m.prefill.Estimates() {
			j := prefillJudge{loads: loads, model: m.prefill, limitMs: sla.TTFTMs, margin: margin, hitRate: d.state.hitRate()}
			showMost(&d.out.Estimates.TTFTMs, loads, func(l engineLoad) float64 { return j.ttftMs(l, 1) })
			d.warnOfLoneRequest(j.model.TTFTMs(0, j.hitRate))
			return j, ""
		}
	case model.Decode:
		if m.decode.Ready() {
			j := decodeJudge{loads: loads, model: m.decode, limitMs: sla.ITLMs, margin: margin, maxKV: r.spec.Engine.MaxKVTokens}
			showMost(&d.out.Estimates.ITLMs, loads, func(l engineLoad) float64 { return j.model.ITLMs(l.kv()) })
			return j, ""
		}
	case model.Aggregated:
		if m.aggregated.Ready() {
			j := aggregatedJudge{loads: loads, model: m.aggregated, sla: sla, margin: margin, maxKV: r.spec.Engine.MaxKVTokens, hitRate: d.state.hitRate()}
			if m.aggregated.EstimatesTTFT() {
				showMost(&d.out.Estimates.TTFTMs, loads, func(l engineLoad) float64 { return j.ttftMs(l, 1) })
				d.warnOfLoneRequest(j.model.TTFTMs(0, j.hitRate, 0))
			}
			showMost(&d.out.Estimates.ITLMs, loads, func(l engineLoad) float64 { return j.model.ITLMs(l.kv()) })
			return j, ""
		}
	}
	return nil, model.ReasonInsufficientData
}

// warnOfLoneRequest warns of an SLA that a request alone on an engine breaks:
// more replicas are asked for, and do not help.
func (d *decision) warnOfLoneRequest(ttftMs float64) {
	if ttftMs > d.spec.SLA.TTFTMs {
		d.warn(model.WarningTTFTUnreachable)
	}
}

// kv returns the KV tokens that decode, those of queued requests included.
func (l engineLoad) kv() int { return l.scheduledKV + l.queuedKV }

func showMost(to **float64, loads []engineLoad, latencyMs func(engineLoad) float64) {
	most := latencyMs(loads[0])
	for _, l := range loads[1:] {
		most = max(most, latencyMs(l))
	}
	*to = &most
}

func all(loads []engineLoad, holds func(engineLoad) bool) bool {
	for _, l := range loads {
		if !holds(l) {
			return false
		}
	}
	return true
}

// within says whether a queue can wait: what it adds to the latency of a
// request alone must stay under the margin of what the limit leaves. With the
// limit at 1000 ms, 418 ms for a request alone and a margin of 80 %, queues may
// add up to 465.6 ms.
func within(latencyMs, ownMs, limitMs, margin float64) bool {
	budget := (limitMs - ownMs) * margin
	return budget > 0 && latencyMs-ownMs < budget
}

// fits says whether an engine holds its grown KV and serves it in time: under
// the margin of the limit, and under its capacity where that is known.
func fits(kvTokens, maxKV int, itlMs, limitMs, margin float64) bool {
	return (maxKV == 0 || kvTokens < maxKV) && itlMs < limitMs*margin
}

// prefillJudge judges prefill engines by the TTFT behind their queues.
type prefillJudge struct {
	loads           []engineLoad
	model           *perf.Prefill
	limitMs, margin float64
	hitRate         float64
}

func (j prefillJudge) ttftMs(l engineLoad, k float64) float64 {
	return j.model.TTFTMs(grown(l.queuedPrefill, k), j.hitRate)
}

func (j prefillJudge) over(k float64) bool {
	return all(j.loads, func(l engineLoad) bool { return j.ttftMs(l, k) > j.limitMs })
}

func (j prefillJudge) safe(k float64) bool {
	own := j.model.TTFTMs(0, j.hitRate)
	return all(j.loads, func(l engineLoad) bool { return within(j.ttftMs(l, k), own, j.limitMs, j.margin) })
}

// decodeJudge judges decode engines by the ITL at their KV.
type decodeJudge struct {
	loads           []engineLoad
	model           *perf.Decode
	limitMs, margin float64
	maxKV           int
}

func (j decodeJudge) over(k float64) bool {
	return all(j.loads, func(l engineLoad) bool { return j.model.ITLMs(grown(l.kv(), k)) > j.limitMs })
}

func (j decodeJudge) safe(k float64) bool {
	return all(j.loads, func(l engineLoad) bool {
		kv := grown(l.kv(), k)
		return fits(kv, j.maxKV, j.model.ITLMs(kv), j.limitMs, j.margin)
	})
}

// aggregatedJudge judges aggregated engines by both latencies: either may ask
// for more, and both must agree to less. Without max_num_batched_tokens there
// is no TTFT, and ITL decides alone.
type aggregatedJudge struct {
	loads   []engineLoad
	model   *perf.Aggregated
	sla     model.SLA
	margin  float64
	maxKV   int
	hitRate float64
}

// ttftMs returns the TTFT beside the KV that decodes now: queued requests do
// not decode yet.
func (j aggregatedJudge) ttftMs(l engineLoad, k float64) float64 {
	return j.model.TTFTMs(grown(l.queuedPrefill, k), j.hitRate, grown(l.scheduledKV, k))
}

func (j aggregatedJudge) over(k float64) bool {
	ttft := j.model.EstimatesTTFT() && all(j.loads, func(l engineLoad) bool { return j.ttftMs(l, k) > j.sla.TTFTMs })
	return ttft || all(j.loads, func(l engineLoad) bool { return j.model.ITLMs(grown(l.kv(), k)) > j.sla.ITLMs })
}

func (j aggregatedJudge) safe(k float64) bool {
	return all(j.loads, func(l engineLoad) bool {
		if j.model.EstimatesTTFT() {
			own := j.model.TTFTMs(0, j.hitRate, grown(l.scheduledKV, k))
			if !within(j.ttftMs(l, k), own, j.sla.TTFTMs, j.margin) {
				return false
			}
		}
		// Prompts that wait will be KV that decodes.
		kv := grown(l.kv()+l.queuedPrefill, k)
		return fits(kv, j.maxKV, j.model.ITLMs(kv), j.sla.ITLMs, j.margin)
	})
}
