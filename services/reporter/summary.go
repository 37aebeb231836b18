package reporter

import (
	"fmt"
	"strings"

	"tidemark.dev/pkg/model"
)

// Summary returns the line that says a decision in short, in both modes:
//
//	[summary] SCALE_UP deployment=chat-70b mode=advisory | current: prefill=2 decode=4 | recommended: prefill=3 decode=4 (delta: +1 / +0) | load_reason=scale_up throughput_reason=not_due | est_ttft=612.0ms est_itl=31.2ms
//
// What is not known is n/a, never zero.
func Summary(decision *model.ScalingDecision) string {
	var line strings.Builder
	fmt.Fprintf(&line, "[summary] %s deployment=%s mode=%s | current:%s | recommended:%s (delta: %s) | load_reason=%s throughput_reason=%s | est_ttft=%s est_itl=%s",
		strings.ToUpper(string(decision.Action)), decision.Deployment, decision.Mode,
		counts(decision.Current), counts(decision.Target), deltas(decision.Delta),
		reason(decision.Reasons.Load), reason(decision.Reasons.Throughput),
		milliseconds(decision.Estimates.TTFTMs), milliseconds(decision.Estimates.ITLMs))
	return line.String()
}

func counts(replicas model.PerRole[int]) string {
	if replicas.Empty() {
		return " n/a"
	}
	var text strings.Builder
	for _, role := range model.AllRoles {
		if n, ok := replicas.Get(role); ok {
			fmt.Fprintf(&text, " %s=%d", role, n)
		}
	}
	return text.String()
}

func deltas(delta model.PerRole[int]) string {
	if delta.Empty() {
		return "n/a"
	}
	var parts []string
	for _, role := range model.AllRoles {
		if n, ok := delta.Get(role); ok {
			parts = append(parts, fmt.Sprintf("%+d", n))
		}
	}
	return strings.Join(parts, " / ")
}

func reason(r model.Reason) string {
	if r == "" {
		return "n/a"
	}
	return string(r)
}

func milliseconds(value *float64) string {
	if value == nil {
		return "n/a"
	}
	return fmt.Sprintf("%.1fms", *value)
}
