package reporter_test

import (
	"testing"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter"
)

func TestSummary(t *testing.T) {
	decision := &model.ScalingDecision{
		Deployment: "chat-70b", Mode: model.Advisory, Action: model.ScaleUp,
		Current:   model.PerRole[int]{Prefill: new(2), Decode: new(4)},
		Target:    model.PerRole[int]{Prefill: new(3), Decode: new(4)},
		Delta:     model.PerRole[int]{Prefill: new(1), Decode: new(0)},
		Reasons:   model.Reasons{Load: model.ReasonScaleUp, Throughput: model.ReasonNotDue},
		Estimates: model.Estimates{TTFTMs: new(612.0), ITLMs: new(31.2)},
	}
	for name, test := range map[string]struct {
		change func(*model.ScalingDecision)
		want   string
	}{
		"scale up": {
			func(*model.ScalingDecision) {},
			"[summary] SCALE_UP deployment=chat-70b mode=advisory | current: prefill=2 decode=4 | recommended: prefill=3 decode=4 (delta: +1 / +0) | load_reason=scale_up throughput_reason=not_due | est_ttft=612.0ms est_itl=31.2ms",
		},
		"no estimate": {
			func(d *model.ScalingDecision) { d.Estimates = model.Estimates{} },
			"[summary] SCALE_UP deployment=chat-70b mode=advisory | current: prefill=2 decode=4 | recommended: prefill=3 decode=4 (delta: +1 / +0) | load_reason=scale_up throughput_reason=not_due | est_ttft=n/a est_itl=n/a",
		},
		"no inventory": {
			func(d *model.ScalingDecision) {
				*d = model.ScalingDecision{Deployment: "a", Mode: model.Active, Action: model.Hold, Reasons: model.Reasons{Load: model.ReasonNoFleetData}}
			},
			"[summary] HOLD deployment=a mode=active | current: n/a | recommended: n/a (delta: n/a) | load_reason=no_fleet_data throughput_reason=n/a | est_ttft=n/a est_itl=n/a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			changed := *decision
			test.change(&changed)
			if got := reporter.Summary(&changed); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
