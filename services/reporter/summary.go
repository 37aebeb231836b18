package reporter

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/report"
)

// Summary returns the line that says a decision in short, in both modes:
//
//	[summary] SCALE_UP deployment=chat-70b mode=advisory | current: prefill=2 decode=4 | recommended: prefill=3 decode=4 (delta: +1 / +0) | load_reason=scale_up throughput_reason=not_due | est_ttft=612.0ms est_itl=31.2ms
//
// What is not known is n/a, never zero.
func Summary(decision *model.ScalingDecision) string {
	return fmt.Sprintf("[summary] %s deployment=%s mode=%s | current:%s | recommended:%s (delta: %s) | load_reason=%s throughput_reason=%s | est_ttft=%s est_itl=%s",
		strings.ToUpper(string(decision.Action)), decision.Deployment, decision.Mode,
		counts(decision.Current), counts(decision.Target), deltas(decision.Delta),
		reason(decision.Reasons.Load), reason(decision.Reasons.Throughput),
		milliseconds(decision.Estimates.TTFTMs), milliseconds(decision.Estimates.ITLMs))
}

// summaryJSON is a summary line as JSON. What is not known is left out.
type summaryJSON struct {
	Kind             string             `json:"kind"`
	Deployment       string             `json:"deployment"`
	Mode             model.Mode         `json:"mode"`
	ObservedAt       time.Time          `json:"observed_at"`
	DecisionID       string             `json:"decision_id"`
	Action           model.Action       `json:"action"`
	Current          model.PerRole[int] `json:"current,omitzero"`
	Recommended      model.PerRole[int] `json:"recommended,omitzero"`
	Delta            model.PerRole[int] `json:"delta,omitzero"`
	LoadReason       model.Reason       `json:"load_reason"`
	ThroughputReason model.Reason       `json:"throughput_reason"`
	EstTTFTMs        *float64           `json:"est_ttft_ms,omitempty"`
	EstITLMs         *float64           `json:"est_itl_ms,omitempty"`
	Warnings         []model.Warning    `json:"warnings,omitempty"`
}

func summaryOf(id string, d *model.ScalingDecision) summaryJSON {
	return summaryJSON{
		Kind: "summary", Deployment: d.Deployment, Mode: d.Mode, ObservedAt: d.ObservedAt, DecisionID: id, Action: d.Action,
		Current: d.Current, Recommended: d.Target, Delta: d.Delta, LoadReason: d.Reasons.Load, ThroughputReason: d.Reasons.Throughput,
		EstTTFTMs: d.Estimates.TTFTMs, EstITLMs: d.Estimates.ITLMs, Warnings: d.Warnings,
	}
}

// modeLine says at the start what may happen to a deployment.
func modeLine(c *model.DeploymentConfigured) string {
	does := "decisions are published, and nothing is written to the fleet"
	if c.Spec.Mode() == model.Active {
		does = fmt.Sprintf("decisions of epoch %d are carried out", c.Epoch)
	}
	return fmt.Sprintf("[deployment] %s is %s: %s | revision=%d topology=%s target=%s", c.Deployment, c.Spec.Mode(), does, c.Revision, c.Spec.Topology, c.Spec.Target)
}

type modeJSON struct {
	Kind       string         `json:"kind"`
	Deployment string         `json:"deployment"`
	Mode       model.Mode     `json:"mode"`
	Epoch      int            `json:"epoch"`
	Revision   int            `json:"revision"`
	Topology   model.Topology `json:"topology"`
	Target     model.Target   `json:"target"`
}

func modeOf(c *model.DeploymentConfigured) modeJSON {
	return modeJSON{"deployment", c.Deployment, c.Spec.Mode(), c.Epoch, c.Revision, c.Spec.Topology, c.Spec.Target}
}

// digestLine sums up the last stretch of a deployment's time:
//
//	[digest] chat-70b mode=advisory last=1h0m0s | decisions=720 hold=700 scale_up=15 scale_down=5 rebalance=0 | flaps=0 holds_without_evidence=2 | sla_ttft=100.0% sla_itl=95.0% windows=20 | gpu_hours: set=16.0 recommended=17.2
func digestLine(d *report.Deployment, last time.Duration) string {
	var line strings.Builder
	s := &d.Summary
	fmt.Fprintf(&line, "[digest] %s mode=%s last=%v | decisions=%d", d.Name, d.Mode, last, s.Decisions)
	for _, action := range s.Actions {
		fmt.Fprintf(&line, " %s=%d", action.Name, action.Count)
	}
	fmt.Fprintf(&line, " | flaps=%d holds_without_evidence=%d | sla_ttft=%s sla_itl=%s windows=%d | gpu_hours: set=%s recommended=%s",
		s.Flaps, s.Unsupported, share(s.TTFTMean), share(s.ITLMean), s.Windows, hours(s.GPUHoursSet), hours(s.GPUHoursRecommended))
	return line.String()
}

type digestJSON struct {
	Kind       string     `json:"kind"`
	Deployment string     `json:"deployment"`
	Mode       model.Mode `json:"mode"`
	FromMs     int64      `json:"from_ms"`
	ToMs       int64      `json:"to_ms"`
	report.Summary
}

func digestOf(d *report.Deployment) digestJSON {
	return digestJSON{Kind: "digest", Deployment: d.Name, Mode: d.Mode, FromMs: d.FromMs, ToMs: d.ToMs, Summary: d.Summary}
}

func share(s report.Share) string {
	if s.Of == 0 {
		return "n/a"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(s.Kept)/float64(s.Of))
}

func hours(value *float64) string {
	if value == nil {
		return "n/a"
	}
	return fmt.Sprintf("%.1f", *value)
}

// say prints a line: its text, or its JSON where lines are JSON.
func (r *Reporter) say(text string, value any) error {
	line := []byte(text)
	if r.config.SummaryFormat == "json" {
		var err error
		if line, err = json.Marshal(value); err != nil {
			return fmt.Errorf("write line as JSON: %w", err)
		}
	}
	if _, err := r.summaries.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("print line: %w", err)
	}
	return nil
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
