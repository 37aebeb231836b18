package report

import (
	"testing"

	"tidemark.dev/pkg/model"
)

// TestLimitedActuation: what the actuator's limits held back of a decision stands
// beside what was done.
func TestLimitedActuation(t *testing.T) {
	const held = "role decode goes to 5 instead of 9: limits.max_replicas is 5"
	b := NewBuilder()
	b.Add("applied", &model.ScalingApplied{Actuation: model.Actuation{
		Deployment: "chat", DecisionID: "decision", OccurredAt: midnight, ApprovedBy: "ops", Limited: held,
		Roles: model.PerRole[model.Change]{Decode: &model.Change{From: 4, To: 5}},
	}})
	got := b.of("chat").actuations
	if len(got) != 1 || got[0].Outcome != OutcomeApplied || got[0].Detail != held || got[0].ApprovedBy != "ops" {
		t.Errorf("the actuations are %+v, want one that was applied and says %q", got, held)
	}
}
