package actuator

import (
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func both[T any](prefill, decode T) model.PerRole[T] {
	return model.PerRole[T]{Prefill: &prefill, Decode: &decode}
}

// activeSpec returns an active deployment of two roles within 16 GPUs.
func activeSpec(name string) model.Deployment {
	spec := model.DefaultDeployment()
	spec.Name, spec.Advisory = name, false
	spec.Roles = both(
		model.RoleSpec{GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: 6},
		model.RoleSpec{GPUsPerReplica: 1, MinReplicas: 1, MaxReplicas: 12},
	)
	spec.Budget.MaxGPUs = 16
	spec.Source = &model.Source{Simulated: &model.SimulatedSource{Speed: 1, RateMultiplier: 1, Replicas: both(2, 4)}}
	spec.Actuator = &model.Actuator{Simulated: &model.SimulatedActuator{}}
	return spec
}

func activeDecision(name string, at time.Time, desired, target model.PerRole[int]) *model.ScalingDecision {
	decision := &model.ScalingDecision{
		Deployment: name, ConfigRevision: 1, Epoch: 1, Mode: model.Active, ObservedAt: at, ValidUntil: at.Add(time.Minute),
		ObservationID: "observation of " + at.Format(time.RFC3339Nano), PlannerVersion: "1",
		Current: desired, Desired: desired, Target: target,
	}
	for _, role := range model.AllRoles {
		from, _ := desired.Get(role)
		if to, ok := target.Get(role); ok {
			decision.Delta.Set(role, to-from)
		}
	}
	decision.Action = model.Classify(decision.Delta)
	return decision
}

func TestGate(t *testing.T) {
	// A case begins with a decision that passes, two seconds after its
	// observation, and changes one thing.
	type input struct {
		configured *model.DeploymentConfigured
		decision   *model.ScalingDecision
		past       history
		now        time.Time
	}
	cases := []struct {
		name   string
		change func(*input)
		reason model.Rejection // none: it passes, unless silent
		silent bool
		detail string
	}{
		{name: "as it should be", change: func(*input) {}},
		{name: "an advisory decision asks for nothing", change: func(in *input) { in.decision.Mode = model.Advisory }, silent: true},
		{name: "a hold asks for nothing", change: func(in *input) { in.decision.Action = model.Hold }, silent: true},
		{name: "nothing is asked of a deployment that is not known", change: func(in *input) {
			in.configured, in.decision.Mode = nil, model.Advisory
		}, silent: true},
		{name: "not configured, or retired", change: func(in *input) { in.configured = nil }, reason: model.RejectedNotActive, detail: "is not configured"},
		{name: "a forged mode", change: func(in *input) { in.configured.Spec.Advisory = true }, reason: model.RejectedNotActive, detail: "chat is advisory since revision 7"},
		{name: "an older activation", change: func(in *input) { in.configured.Epoch = 2 }, reason: model.RejectedStaleEpoch, detail: "epoch 1"},
		{name: "an activation that never was", change: func(in *input) { in.decision.Epoch = 2 }, reason: model.RejectedStaleEpoch, detail: "epoch 2"},
		{name: "epoch zero, as advisory decisions have", change: func(in *input) { in.decision.Epoch = 0 }, reason: model.RejectedStaleEpoch, detail: "epoch 0"},
		{name: "not active outweighs all that is wrong with the decision", change: func(in *input) {
			in.configured.Spec.Advisory, in.decision.Epoch, in.now = true, 9, noon.Add(time.Hour)
		}, reason: model.RejectedNotActive},
		{name: "valid to the very instant", change: func(in *input) { in.now = noon.Add(time.Minute) }},
		{name: "expired a nanosecond later", change: func(in *input) { in.now = noon.Add(time.Minute + 1) }, reason: model.RejectedExpired, detail: "valid until 2026-11-23T12:01:00Z"},
		{name: "a validity longer than the configuration gives", change: func(in *input) {
			in.decision.ValidUntil, in.now = noon.Add(time.Hour), noon.Add(2*time.Minute)
		}, reason: model.RejectedExpired},
		{name: "a shorter validity counts", change: func(in *input) { in.decision.ValidUntil = noon.Add(time.Second) }, reason: model.RejectedExpired},
		{name: "clocks that differ a little", change: func(in *input) { in.now = noon.Add(-time.Minute) }},
		{name: "frozen", change: func(in *input) {
			in.past.frozen = &model.ScalingFrozen{OccurredAt: noon, ChangedBy: "ops@control-1", Reason: "incident 4711"}
		}, reason: model.RejectedFrozen, detail: "ops@control-1 froze all deployments at 2026-11-23T12:00:00Z: incident 4711"},
		{name: "an instant that has not come", change: func(in *input) { in.now = noon.Add(-time.Minute - 1) }, reason: model.RejectedNotYetValid},
		{name: "an older one was handled", change: func(in *input) { in.past.newest = sequence{noon.Add(-5 * time.Second), "other"} }},
		{name: "a newer one was handled", change: func(in *input) { in.past.newest = sequence{noon.Add(5 * time.Second), "other"} }, reason: model.RejectedSuperseded, detail: "2026-11-23T12:00:05Z"},
		{name: "another of the same observation", change: func(in *input) { in.past.newest = sequence{noon, "other"} }, reason: model.RejectedSuperseded},
		{name: "this very one was begun", change: func(in *input) {
			in.past = history{newest: sequence{noon, "this"}, begun: &model.Actuation{Roles: model.PerRole[model.Change]{Prefill: &model.Change{From: 2, To: 3}}}}
		}},
		{name: "a role without a target", change: func(in *input) { in.decision.Target.Decode = nil }, reason: model.RejectedOutOfBounds, detail: "role decode"},
		{name: "a role without an inventory", change: func(in *input) { in.decision.Desired.Prefill = nil }, reason: model.RejectedOutOfBounds, detail: "role prefill"},
		{name: "below min_replicas", change: func(in *input) { in.decision.Target = both(0, 4) }, reason: model.RejectedOutOfBounds, detail: "min_replicas is 1"},
		{name: "negative", change: func(in *input) { in.decision.Target = both(3, -1) }, reason: model.RejectedOutOfBounds},
		{name: "above max_replicas", change: func(in *input) { in.decision.Target = both(2, 13) }, reason: model.RejectedOutOfBounds, detail: "max_replicas is 12"},
		{name: "towards the bounds, from outside of them", change: func(in *input) {
			in.decision.Desired, in.decision.Target = both(2, 15), both(1, 13)
		}},
		{name: "up to the budget", change: func(in *input) { in.decision.Target = both(4, 8) }},
		{name: "beyond the budget", change: func(in *input) { in.decision.Target = both(4, 9) }, reason: model.RejectedOutOfBounds, detail: "takes 17 GPUs, and max_gpus is 16"},
		{name: "towards the budget, from beyond it", change: func(in *input) {
			in.decision.Desired, in.decision.Target = both(6, 12), both(6, 6)
		}},
		{name: "no budget", change: func(in *input) {
			in.configured.Spec.Budget.MaxGPUs, in.decision.Target = model.Unbounded, both(6, 12)
		}},
		{name: "a freeze window is open", change: func(in *input) {
			in.past.window, in.past.windowSince = &model.FreezeWindow{Cron: "0 13 * * MON", DurationS: 60, TimeZone: "Europe/Berlin"}, noon
		}, reason: model.RejectedFrozen, detail: `the freeze window "0 13 * * MON" in Europe/Berlin, for 1m0s is open since 2026-11-23T12:00:00Z`},
		{name: "up to the actuator's own limit", change: func(in *input) { in.configured.Spec.Limits.MaxReplicas = 4 }},
		{name: "above the actuator's own limit", change: func(in *input) {
			in.configured.Spec.Limits.MaxReplicas, in.decision.Target = 4, both(2, 5)
		}, reason: model.RejectedLimited, detail: "role decode goes to 4 instead of 5: limits.max_replicas is 4"},
		{name: "limits do not hold back what was begun", change: func(in *input) {
			in.configured.Spec.Limits.MaxReplicas = 2
			in.past = history{newest: sequence{noon, "this"}, begun: &model.Actuation{Roles: model.PerRole[model.Change]{Prefill: &model.Change{From: 2, To: 3}}}}
		}},
		{name: "towards the actuator's own limit, from above it", change: func(in *input) {
			in.configured.Spec.Limits.MaxReplicas, in.decision.Target = 2, both(2, 3)
		}},
		{name: "all the change that is allowed", change: func(in *input) {
			in.configured.Spec.Limits.MaxChangeReplicas, in.configured.Spec.Limits.ChangeIntervalS = 4, 600
			in.past.changes = []begunChange{
				{"earlier", in.now.Add(-599 * time.Second), both(model.Change{From: 4, To: 2}, model.Change{From: 1, To: 9})},
				{"one more", in.now.Add(-time.Second), model.PerRole[model.Change]{Prefill: &model.Change{From: 2, To: 3}}},
			}
		}},
		{name: "more change than is allowed", change: func(in *input) {
			in.configured.Spec.Limits.MaxChangeReplicas, in.configured.Spec.Limits.ChangeIntervalS = 3, 600
			in.past.changes = []begunChange{{"earlier", in.now.Add(-599 * time.Second), model.PerRole[model.Change]{Prefill: &model.Change{From: 5, To: 2}}}}
		}, reason: model.RejectedLimited, detail: "role prefill goes to 2 instead of 3: it changed by 3 in the last 10m0s, and limits.max_change_replicas is 3"},
		{name: "change that was long ago", change: func(in *input) {
			in.configured.Spec.Limits.MaxChangeReplicas, in.configured.Spec.Limits.ChangeIntervalS = 3, 600
			in.past.changes = []begunChange{{"earlier", in.now.Add(-600 * time.Second), model.PerRole[model.Change]{Prefill: &model.Change{From: 5, To: 2}}}}
		}},
		{name: "shorter-lived decisions since", change: func(in *input) {
			in.configured.Spec.Behavior.DecisionTTLS = 1
		}, reason: model.RejectedExpired},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := &input{
				configured: &model.DeploymentConfigured{Deployment: "chat", Revision: 7, Epoch: 1, Spec: activeSpec("chat")},
				decision:   activeDecision("chat", noon, both(2, 4), both(3, 4)),
				now:        noon.Add(2 * time.Second),
			}
			c.change(in)
			got := gate(in.configured, in.decision, "this", in.past, in.now)
			if want := c.reason == "" && !c.silent; got.pass != want || got.reason != c.reason {
				t.Fatalf("gate says pass=%v reason=%q (%s), want pass=%v reason=%q", got.pass, got.reason, got.detail, want, c.reason)
			}
			if !strings.Contains(got.detail, c.detail) {
				t.Errorf("detail is %q, want it to say %q", got.detail, c.detail)
			}
		})
	}
}

// TestChangesFollowTheTarget: what is checked against the bounds is what is
// written, whatever a forged delta says.
func TestChangesFollowTheTarget(t *testing.T) {
	decision := activeDecision("chat", noon, both(2, 4), both(3, 4))
	decision.Delta = both(40, -4)
	got := changes(decision)
	if got.Decode != nil || got.Prefill == nil || *got.Prefill != (model.Change{From: 2, To: 3}) {
		t.Errorf("changes are %+v, want prefill from 2 to 3 alone", got)
	}
}
