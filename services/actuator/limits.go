package actuator

import (
	"fmt"
	"strings"
	"time"

	"tidemark.dev/pkg/model"
)

// limit returns what of a change the actuator's own limits leave room for at an
// instant, and one line for a person about what they hold back. It is pure. Each role
// goes as far towards its target as there is room; where a decrease that was to make
// room in the GPU budget is held back, increases are too.
//
// So a decision that is larger than the limits is carried out in part, and what is
// missing is for the decisions that come after it: none starves.
func limit(spec *model.Deployment, desired model.PerRole[int], wanted model.PerRole[model.Change], past history, now time.Time) (allowed model.PerRole[model.Change], held string) {
	limits := &spec.Limits
	used := past.changedSince(now.Add(-limits.ChangeInterval()))
	var lines []string
	for _, role := range model.AllRoles {
		change, changes := wanted.Get(role)
		if !changes {
			continue
		}
		to, by := change.To, ""
		if most := limits.MaxReplicas; most > 0 && to > max(most, change.From) {
			to, by = max(most, change.From), fmt.Sprintf("limits.max_replicas is %d", most)
		}
		before, _ := used.Get(role)
		if room := max(limits.MaxChangeReplicas-before, 0); limits.MaxChangeReplicas > 0 && size(model.Change{From: change.From, To: to}) > room {
			to = min(max(to, change.From-room), change.From+room)
			by = fmt.Sprintf("it changed by %d in the last %v, and limits.max_change_replicas is %d", before, limits.ChangeInterval(), limits.MaxChangeReplicas)
		}
		if to != change.To {
			lines = append(lines, fmt.Sprintf("role %s goes to %d instead of %d: %s", role, to, change.To, by))
		}
		allowed.Set(role, model.Change{From: change.From, To: to})
	}
	if len(lines) > 0 {
		lines = append(lines, fit(spec, desired, &allowed)...)
	}
	for _, role := range model.AllRoles {
		if change, changes := allowed.Get(role); changes && change.From == change.To {
			allowed.Unset(role)
		}
	}
	return allowed, strings.Join(lines, "; ")
}

func size(change model.Change) int { return max(change.To-change.From, change.From-change.To) }

// fit takes increases back until the budget of GPUs holds what is left of a change,
// and says so.
func fit(spec *model.Deployment, desired model.PerRole[int], allowed *model.PerRole[model.Change]) (lines []string) {
	if spec.Budget.MaxGPUs == model.Unbounded {
		return nil
	}
	over := -spec.Budget.MaxGPUs
	for _, role := range spec.Topology.Roles() {
		replicas, _ := desired.Get(role)
		if change, changes := allowed.Get(role); changes {
			replicas = change.To
		}
		pool, _ := spec.Roles.Get(role)
		over += replicas * pool.GPUsPerReplica
	}
	for _, role := range spec.Topology.Roles() {
		change, changes := allowed.Get(role)
		pool, _ := spec.Roles.Get(role)
		if over <= 0 || !changes || change.To <= change.From || pool.GPUsPerReplica < 1 {
			continue
		}
		less := min(change.To-change.From, (over+pool.GPUsPerReplica-1)/pool.GPUsPerReplica)
		over -= less * pool.GPUsPerReplica
		change.To -= less
		allowed.Set(role, change)
		lines = append(lines, fmt.Sprintf("role %s goes to %d: what was to make room for more was held back, and max_gpus is %d", role, change.To, spec.Budget.MaxGPUs))
	}
	return lines
}
