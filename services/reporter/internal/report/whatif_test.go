package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
	"tidemark.dev/services/reporter/internal/reporttest"
)

// compareTwo folds three minutes of a fleet that is set to two replicas of each
// role: two are decided throughout, and the candidate wants three prefill replicas
// from the second minute to the third.
func compareTwo(ticks int, differs func(tick int) bool) *WhatIfBuilder {
	b := NewWhatIfBuilder()
	spec := model.DefaultDeployment()
	spec.Name = "chat"
	configured := &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: spec}
	for tick := range ticks {
		at := midnight.Add(time.Duration(tick) * 5 * time.Second)
		o := &model.Observation{Deployment: "chat", ConfigRevision: 1, ObservedAt: at, Loops: model.Loops{Load: true}, Fleet: &model.FleetObservation{Status: model.Measured}}
		decided := &model.ScalingDecision{Deployment: "chat", ConfigRevision: 1, ObservedAt: at, Action: model.Hold, PlannerVersion: "1"}
		for _, role := range []model.Role{model.Prefill, model.Decode} {
			o.Fleet.Roles.Set(role, model.RoleReplicas{Ready: 2, Desired: 2})
			decided.Target.Set(role, 2)
		}
		candidate := *decided
		if differs(tick) {
			candidate.Action = model.ScaleUp
			candidate.Target.Set(model.Prefill, 3)
		}
		b.Add("id-"+at.Format(time.TimeOnly), o, configured, &spec, decided, &candidate)
		b.Add("again", o, configured, &spec, decided, &candidate) // a repetition counts once
	}
	return b
}

func TestWhatIf(t *testing.T) {
	b := compareTwo(36, func(tick int) bool { return tick >= 12 && tick < 24 })
	parted := midnight.Add(time.Minute)
	result := &replay.Result{
		Findings: []replay.Finding{{Deployment: "chat"}, {Deployment: "other"}},
		Deployments: []replay.DeploymentResult{{Deployment: "chat", Comparison: &replay.Comparison{
			Decisions: 36, Different: 12, FirstDifferent: &parted, Notes: []string{"a note"}, Candidate: replay.Series{Parted: &parted},
		}}},
	}
	data := b.Build(Options{GeneratedAt: midnight}, result)
	w := data.Deployments[0].WhatIf
	ms := func(seconds int) int64 { return midnight.Add(time.Duration(seconds) * time.Second).UnixMilli() }
	for column, want := range map[string][]Span{
		"decided":   {{ms(0), ms(180), 0}},
		"candidate": {{ms(0), ms(60), 0}, {ms(60), ms(120), 3}, {ms(120), ms(180), 0}},
		"differ":    {{ms(0), ms(60), 0}, {ms(60), ms(120), 1}, {ms(120), ms(180), 0}},
		// What was wanted at a tick is held against the fleet of the next one.
		"decided_apart":   {{ms(5), ms(180), 0}},
		"candidate_apart": {{ms(5), ms(65), 0}, {ms(65), ms(125), 1}, {ms(125), ms(180), 0}},
	} {
		if got := w.Spans[column]; !slices.Equal(got, want) {
			t.Errorf("spans of %s are %v, want %v", column, got, want)
		}
	}
	if len(w.Was.IDs) != 12 || w.Was.IDs[0] != "id-00:01:00" || w.Would.IDs[0] != "id-00:01:00" || w.Was.StartMs != ms(60) {
		t.Errorf("the instants that differ are %v", w.Was.IDs)
	}
	if w.Findings != 1 || w.Different != 12 || w.FirstDifferentMs != ms(60) || w.PartedMs != ms(60) {
		t.Errorf("the comparison is %+v", w)
	}
	page := string(tables(t, data))
	for _, want := range []string{"12 of 36 targets differ", "1 of the recorded decisions are not what they should be", "<li>a note</li>", "changes of target"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page without the front end lacks %q", want)
		}
	}
	if strings.Contains(page, "Ready to activate?") {
		t.Error("the page without the front end judges what it does not show")
	}
}

// TestWhatIfBound: more differences than are listed are counted.
func TestWhatIfBound(t *testing.T) {
	const beyond = 7
	w := compareTwo(maxDecisions+beyond, func(int) bool { return true }).Build(Options{}, &replay.Result{}).Deployments[0].WhatIf
	if len(w.Was.IDs) != maxDecisions || len(w.Would.IDs) != maxDecisions || w.Was.LeftOut != beyond || w.Would.LeftOut != beyond {
		t.Errorf("%d and %d are listed, %d left out", len(w.Was.IDs), len(w.Would.IDs), w.Was.LeftOut)
	}
	if w.Was.StartMs != reporttest.Midnight.UnixMilli() {
		t.Error("the first ones are left out")
	}
}
