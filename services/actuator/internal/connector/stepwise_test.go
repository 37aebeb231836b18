package connector_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/connector/connectortest"
)

func both[T any](prefill, decode T) model.PerRole[T] {
	return model.PerRole[T]{Prefill: &prefill, Decode: &decode}
}

// order asks for a target of deployment chat, whose prefill replicas take two
// GPUs and decode replicas one, within a budget.
func order(desired, target model.PerRole[int], maxGPUs int) connector.Order {
	spec := model.DefaultDeployment()
	spec.Name, spec.Budget.MaxGPUs = "chat", maxGPUs
	spec.Roles = both(model.RoleSpec{GPUsPerReplica: 2, MaxReplicas: 99}, model.RoleSpec{GPUsPerReplica: 1, MaxReplicas: 99})
	o := connector.Order{
		Configured: &model.DeploymentConfigured{Deployment: "chat", Revision: 1, Epoch: 1, Spec: spec},
		Decision:   &model.ScalingDecision{Deployment: "chat", Desired: desired, Target: target},
		Permit:     func(context.Context) error { return nil },
	}
	for _, role := range []model.Role{model.Prefill, model.Decode} {
		from, _ := desired.Get(role)
		if to, _ := target.Get(role); to != from {
			o.Changes.Set(role, model.Change{From: from, To: to})
		}
	}
	return o
}

func fleetOf(prefill, decode int) *connectortest.Fleet {
	fleet := connectortest.NewFleet()
	fleet.Put("chat", model.Prefill, prefill)
	fleet.Put("chat", model.Decode, decode)
	return fleet
}

func texts(writes []connectortest.Write) []string {
	out := make([]string, len(writes))
	for i, w := range writes {
		out[i] = fmt.Sprintf("%s %d->%d", w.Role, w.From, w.To)
	}
	return out
}

func TestStepwise(t *testing.T) {
	denied := connector.Refuse(model.RejectedNotActive, "advisory by now")
	cases := []struct {
		name             string
		fleet            [2]int // prefill, decode
		desired, target  [2]int
		budget           int
		arrange          func(*connectortest.View, *connector.Order)
		writes           []string
		refused          model.Rejection
		failure          string // contained in the error; none: it is carried out
		within, noLesser time.Duration
	}{
		{name: "up", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 6}, budget: 16, writes: []string{"prefill 2->3", "decode 4->6"}},
		{name: "down", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{1, 3}, budget: 16, writes: []string{"prefill 2->1", "decode 4->3"}},
		{name: "what falls comes before what rises", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 2}, budget: 8, writes: []string{"decode 4->2", "prefill 2->3"}},
		{name: "drift in a role that changes", fleet: [2]int{2, 5}, desired: [2]int{2, 4}, target: [2]int{3, 3}, budget: 16, refused: model.RejectedDrift},
		{name: "drift in a role that does not change, within a budget", fleet: [2]int{9, 4}, desired: [2]int{2, 4}, target: [2]int{2, 8}, budget: 16, refused: model.RejectedDrift},
		{name: "without a budget the other role is its own affair", fleet: [2]int{9, 4}, desired: [2]int{2, 4}, target: [2]int{2, 8}, budget: -1, writes: []string{"decode 4->8"}},
		{
			name: "another role that still drains fills the budget", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{2, 8}, budget: 15, refused: model.RejectedNotReady,
			arrange: func(v *connectortest.View, _ *connector.Order) { v.Run("chat", model.Prefill, 4) },
		},
		{
			name: "the role itself still drains, and that fills the budget", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{2, 6}, budget: 13, refused: model.RejectedNotReady,
			arrange: func(v *connectortest.View, _ *connector.Order) { v.Run("chat", model.Decode, 8) },
		},
		{
			name: "another role still drains, and there is room all the same", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{2, 8}, budget: 16, writes: []string{"decode 4->8"},
			arrange: func(v *connectortest.View, _ *connector.Order) { v.Run("chat", model.Prefill, 4) },
		},
		{name: "half of it is done already", fleet: [2]int{2, 2}, desired: [2]int{2, 4}, target: [2]int{3, 2}, budget: 8, writes: []string{"prefill 2->3"}},
		{name: "all of it is done already", fleet: [2]int{3, 2}, desired: [2]int{2, 4}, target: [2]int{3, 2}, budget: 8},
		{
			name: "without permission", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, refused: model.RejectedNotActive,
			arrange: func(_ *connectortest.View, o *connector.Order) {
				o.Permit = func(context.Context) error { return denied }
			},
		},
		{
			name: "permission withdrawn halfway is a failure that says what was done", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 2}, budget: 8,
			writes: []string{"decode 4->2"}, failure: "decode went from 4 to 2; then scale prefill from 2 to 3: not_active: advisory by now",
			arrange: func(_ *connectortest.View, o *connector.Order) {
				asked := 0
				o.Permit = func(context.Context) error {
					if asked++; asked > 1 {
						return denied
					}
					return nil
				}
			},
		},
		{
			name: "a pool that must not be scaled", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, refused: model.RejectedNotReady,
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.BeforeRead = func(context.Context, model.Role) error { return connector.Refuse(model.RejectedNotReady, "paused") }
			},
		},
		{
			name: "somebody else writes at the same time, the same number", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16,
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.BeforeWrite = func(context.Context, model.Role) error { v.Put("chat", model.Prefill, 3); return nil }
			},
		},
		{
			name: "somebody else writes at the same time, another number", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, refused: model.RejectedDrift,
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.BeforeWrite = func(context.Context, model.Role) error { v.Put("chat", model.Prefill, 7); return nil }
			},
		},
		{
			name: "an object that changes all the time, though not in its number", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, refused: model.RejectedConflict,
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.BeforeWrite = func(context.Context, model.Role) error { v.Put("chat", model.Prefill, 2); return nil }
			},
		},
		{
			name: "what may pass is tried again", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, writes: []string{"prefill 2->3"},
			arrange: func(v *connectortest.View, _ *connector.Order) {
				tried := 0
				v.BeforeWrite = func(context.Context, model.Role) error {
					if tried++; tried < 4 {
						return fmt.Errorf("429: %w", connector.ErrTransient)
					}
					return nil
				}
			},
		},
		{
			name: "an answer that is lost is no second write", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, writes: []string{"prefill 2->3"},
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.AfterWrite = func(context.Context, model.Role) error {
					return fmt.Errorf("connection lost: %w", connector.ErrTransient)
				}
			},
		},
		{
			name: "what does not pass is not tried for ever", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, failure: "scale prefill from 2 to 3: 429: transient", within: 10 * time.Second,
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.BeforeWrite = func(context.Context, model.Role) error { return fmt.Errorf("429: %w", connector.ErrTransient) }
			},
		},
		{
			name: "what no repetition mends is tried once", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, failure: "forbidden", within: time.Nanosecond,
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.BeforeWrite = func(context.Context, model.Role) error { return errors.New("forbidden") }
			},
		},
		{
			name: "a write that does not last", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 4}, budget: 16, writes: []string{"prefill 2->3"}, failure: "verify: it was set to 3 and is set to 2; somebody else sets it too",
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.AfterWrite = func(context.Context, model.Role) error { v.Put("chat", model.Prefill, 2); return nil }
			},
		},
		{
			name: "what rises waits until what falls is gone", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 2}, budget: 8, writes: []string{"decode 4->2", "prefill 2->3"}, noLesser: 3 * time.Second,
			arrange: func(v *connectortest.View, _ *connector.Order) {
				v.Linger = true
				v.AfterWrite = func(_ context.Context, role model.Role) error {
					if role == model.Decode {
						time.AfterFunc(3*time.Second, func() { v.Run("chat", model.Decode, 2) })
					}
					return nil
				}
			},
		},
		{
			name: "and does not rise when it stays", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 2}, budget: 8, writes: []string{"decode 4->2"},
			failure: "decode went from 4 to 2; then nothing else was scaled: decode still runs more than 2 after 20s",
			arrange: func(v *connectortest.View, _ *connector.Order) { v.Linger = true },
		},
		{
			name: "without a budget nothing has to wait", fleet: [2]int{2, 4}, desired: [2]int{2, 4}, target: [2]int{3, 2}, budget: -1, writes: []string{"decode 4->2", "prefill 2->3"}, within: time.Nanosecond,
			arrange: func(v *connectortest.View, _ *connector.Order) { v.Linger = true },
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fleet := fleetOf(c.fleet[0], c.fleet[1])
				view := &connectortest.View{Fleet: fleet, Steps: connector.DefaultSteps()}
				o := order(both(c.desired[0], c.desired[1]), both(c.target[0], c.target[1]), c.budget)
				if c.arrange != nil {
					c.arrange(view, &o)
				}
				began := time.Now()
				err := view.Apply(t.Context(), o)
				took := time.Since(began)
				refusal, refused := connector.RefusalOf(err)
				switch {
				case c.refused != "" && (!refused || refusal.Reason != c.refused):
					t.Errorf("error is %v, want the refusal %s", err, c.refused)
				case c.failure != "" && (err == nil || refused || !strings.Contains(err.Error(), c.failure)):
					t.Errorf("error is %v, want a failure that says %q", err, c.failure)
				case c.refused == "" && c.failure == "" && err != nil:
					t.Errorf("error is %v, want none", err)
				}
				if got := texts(fleet.Writes()); !slices.Equal(got, c.writes) {
					t.Errorf("writes are %q, want %q", got, c.writes)
				}
				if c.within > 0 && took > c.within || took < c.noLesser {
					t.Errorf("it took %v, want between %v and %v", took, c.noLesser, c.within)
				}
			})
		})
	}
}

// TestBudgetHoldsAfterEveryWrite carries random orders out while calls are
// delayed and fail before and after they took effect, and while replicas that
// were set away stay. After each single write the GPUs that are asked for must not
// exceed the larger of the budget and what there was before.
func TestBudgetHoldsAfterEveryWrite(t *testing.T) {
	const budget = 24
	halves := 0
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 6))
			fleet := fleetOf(1+random.IntN(5), 1+random.IntN(10))
			gpus := func(set model.PerRole[int]) int { return 2**set.Prefill + *set.Decode }
			peak := max(budget, gpus(fleet.SetTo("chat")))
			fleet.OnWrite = func(w connectortest.Write, set model.PerRole[int]) {
				if got := gpus(set); got > peak {
					t.Errorf("seed %d: after %s %d->%d, %d GPUs are asked for, and the budget is %d", seed, w.Role, w.From, w.To, got, peak)
				}
			}
			fault := func(probability float64) func(context.Context, model.Role) error {
				return func(ctx context.Context, _ model.Role) error {
					time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
					switch {
					case random.Float64() < probability:
						return fmt.Errorf("lost: %w", connector.ErrTransient)
					case random.Float64() < probability/4:
						return errors.New("broken")
					}
					return ctx.Err()
				}
			}
			view := &connectortest.View{
				Fleet: fleet, Steps: connector.DefaultSteps(), Linger: true,
				BeforeRead: fault(0.1), BeforeWrite: fault(0.3), AfterWrite: fault(0.3),
			}
			// Replicas that were set away go after a while, or never.
			going := time.NewTicker(time.Second)
			ended := make(chan struct{})
			defer close(ended)
			gone := random.Float64() < 0.8
			go func() {
				for {
					select {
					case <-ended:
						return
					case <-going.C:
					}
					if set := fleet.SetTo("chat"); gone {
						fleet.Run("chat", model.Prefill, *set.Prefill)
						fleet.Run("chat", model.Decode, *set.Decode)
					}
				}
			}()
			for range 12 {
				desired := fleet.SetTo("chat")
				target := both(1+random.IntN(8), 1+random.IntN(14))
				if gpus(target) > budget && gpus(target) > gpus(desired) {
					continue // the gate lets no such decision through
				}
				working, cancel := context.WithTimeout(t.Context(), 45*time.Second)
				err := view.Apply(working, order(desired, target, budget))
				cancel()
				set := fleet.SetTo("chat")
				if err == nil && (*set.Prefill != *target.Prefill || *set.Decode != *target.Decode) {
					t.Errorf("seed %d: it is said to be carried out, and the fleet is at %d and %d, not at %d and %d", seed, *set.Prefill, *set.Decode, *target.Prefill, *target.Decode)
				}
				if _, refused := connector.RefusalOf(err); refused && (*set.Prefill != *desired.Prefill || *set.Decode != *desired.Decode) {
					t.Errorf("seed %d: it is said to be refused, and the fleet moved: %v", seed, err)
				}
				if err != nil && strings.Contains(err.Error(), "; then ") {
					halves++
				}
				peak = max(budget, gpus(set))
			}
		})
	}
	if halves == 0 {
		t.Error("no order was ever half done: the faults are too few to mean anything")
	}
	t.Logf("%d orders were left half done", halves)
}
