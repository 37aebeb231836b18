package report

import (
	"encoding/json"
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
)

// Shape is what decisions have in common: everything discrete. Days hold a few
// hundred different ones, so that each is written once.
type Shape struct {
	Mode     model.Mode             `json:"mode"`
	Epoch    int                    `json:"epoch"`
	Revision int                    `json:"revision"`
	Action   model.Action           `json:"action"`
	Current  model.PerRole[int]     `json:"current,omitzero"`
	Desired  model.PerRole[int]     `json:"desired,omitzero"`
	Target   model.PerRole[int]     `json:"target,omitzero"`
	Delta    model.PerRole[int]     `json:"delta,omitzero"`
	Reasons  model.Reasons          `json:"reasons"`
	Chain    []model.ChainEntry     `json:"chain,omitempty"`
	Floors   model.PerRole[int]     `json:"floors,omitzero"`
	GPUs     *model.GPUs            `json:"gpus,omitempty"`
	Evidence model.DecisionEvidence `json:"evidence"`
	Warnings []model.Warning        `json:"warnings,omitempty"`
	Planner  string                 `json:"planner"`
}

// Plan is what the throughput loop knows; it changes at its own, slow pace.
type Plan struct {
	Forecast *model.Forecast `json:"forecast,omitempty"`
	Capacity model.Capacity  `json:"capacity,omitzero"`
}

// Decisions are the listed decisions, column by column. Shapes and Plans are
// written once and referred to by their index.
type Decisions struct {
	IDs       []string          `json:"ids"`
	StartMs   int64             `json:"start_ms"`
	StepsMs   []int64           `json:"steps_ms"`
	Shape     []int             `json:"shape"`
	Plan      []int             `json:"plan"`
	TTFTEstMs Values            `json:"ttft_est_ms"`
	ITLEstMs  Values            `json:"itl_est_ms"`
	Shapes    []json.RawMessage `json:"shapes"`
	Plans     []json.RawMessage `json:"plans"`
	// LeftOut counts the decisions that are not listed: first holds that repeat
	// the decision before them, then the oldest.
	LeftOut int `json:"left_out"`
}

// entry is one decision of the ledger.
type entry struct {
	id          string
	at          time.Time
	shape, plan int
	hold        bool
	ttft, itl   float64
}

// ledger lists decisions in bounded memory.
type ledger struct {
	limit   int
	entries []entry
	shapes  dictionary
	plans   dictionary
	leftOut int
}

func newLedger(limit int) ledger {
	return ledger{limit: limit, shapes: newDictionary(), plans: newDictionary()}
}

// dictionary numbers different values in the order in which they came.
type dictionary struct {
	numbers map[string]int
	values  []string
}

func newDictionary() dictionary { return dictionary{numbers: map[string]int{}} }

func (d *dictionary) number(value string) int {
	n, ok := d.numbers[value]
	if !ok {
		n = len(d.values)
		d.numbers[value] = n
		d.values = append(d.values, value)
	}
	return n
}

func encode(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		// Facts came from JSON, which has no figure that cannot be written.
		panic(fmt.Sprintf("report: encode part of a decision: %v", err))
	}
	return string(out)
}

func (l *ledger) add(id string, s *model.ScalingDecision) {
	evidence := s.Evidence
	evidence.OldestAgeS = nil // It differs from tick to tick, and is not shown.
	l.entries = append(l.entries, entry{
		id: id, at: s.ObservedAt, hold: s.Action == model.Hold,
		shape: l.shapes.number(encode(Shape{
			Mode: s.Mode, Epoch: s.Epoch, Revision: s.ConfigRevision, Action: s.Action,
			Current: s.Current, Desired: s.Desired, Target: s.Target, Delta: s.Delta,
			Reasons: s.Reasons, Chain: s.Chain, Floors: s.Floors, GPUs: s.GPUs,
			Evidence: evidence, Warnings: s.Warnings, Planner: s.PlannerVersion,
		})),
		plan: l.plans.number(encode(Plan{Forecast: s.Forecast, Capacity: s.Capacity})),
		ttft: figure(s.Estimates.TTFTMs), itl: figure(s.Estimates.ITLMs),
	})
	if len(l.entries) > l.limit+l.limit/4 {
		l.thin()
	}
}

// thin leaves out the oldest holds that repeat the decision before them, then
// the oldest decisions, until the limit holds.
func (l *ledger) thin() {
	excess := len(l.entries) - l.limit
	kept := l.entries[:0]
	previous := entry{shape: -1}
	for _, e := range l.entries {
		repeats := e.hold && e.shape == previous.shape && e.plan == previous.plan
		previous = e
		if repeats && excess > 0 {
			excess--
			l.leftOut++
			continue
		}
		kept = append(kept, e)
	}
	if over := len(kept) - l.limit; over > 0 {
		l.leftOut += over
		kept = kept[over:]
	}
	l.entries = kept
	l.renumber()
}

// renumber forgets the shapes and plans that no entry has.
func (l *ledger) renumber() {
	shapes, plans := newDictionary(), newDictionary()
	entries := make([]entry, len(l.entries))
	for i, e := range l.entries {
		e.shape, e.plan = shapes.number(l.shapes.values[e.shape]), plans.number(l.plans.values[e.plan])
		entries[i] = e
	}
	l.entries, l.shapes, l.plans = entries, shapes, plans
}

// between lists the decisions within [from, to]; a zero bound is open.
func (l *ledger) between(from, to time.Time) Decisions {
	shapes, plans := newDictionary(), newDictionary()
	out := Decisions{LeftOut: l.leftOut}
	var previous int64
	for _, e := range l.entries {
		if !from.IsZero() && e.at.Before(from) || !to.IsZero() && e.at.After(to) {
			continue
		}
		ms := e.at.UnixMilli()
		if len(out.IDs) == 0 {
			out.StartMs, previous = ms, ms
		}
		out.IDs = append(out.IDs, e.id)
		out.StepsMs = append(out.StepsMs, ms-previous)
		previous = ms
		out.Shape = append(out.Shape, shapes.number(l.shapes.values[e.shape]))
		out.Plan = append(out.Plan, plans.number(l.plans.values[e.plan]))
		out.TTFTEstMs = append(out.TTFTEstMs, e.ttft)
		out.ITLEstMs = append(out.ITLEstMs, e.itl)
	}
	for _, s := range shapes.values {
		out.Shapes = append(out.Shapes, json.RawMessage(s))
	}
	for _, p := range plans.values {
		out.Plans = append(out.Plans, json.RawMessage(p))
	}
	return out
}

// after returns the decisions at and after an instant, with the shapes and plans
// that they have.
func (d Decisions) after(fromMs int64) Decisions {
	out := Decisions{LeftOut: d.LeftOut}
	shapes, plans := map[int]int{}, map[int]int{}
	number := func(numbers map[int]int, n int, values []json.RawMessage, into *[]json.RawMessage) int {
		k, ok := numbers[n]
		if !ok {
			k = len(*into)
			numbers[n] = k
			*into = append(*into, values[n])
		}
		return k
	}
	at, previous := d.StartMs, int64(0)
	for i, id := range d.IDs {
		if at += d.StepsMs[i]; at < fromMs {
			continue
		}
		if len(out.IDs) == 0 {
			out.StartMs, previous = at, at
		}
		out.IDs = append(out.IDs, id)
		out.StepsMs = append(out.StepsMs, at-previous)
		previous = at
		out.Shape = append(out.Shape, number(shapes, d.Shape[i], d.Shapes, &out.Shapes))
		out.Plan = append(out.Plan, number(plans, d.Plan[i], d.Plans, &out.Plans))
		out.TTFTEstMs = append(out.TTFTEstMs, d.TTFTEstMs[i])
		out.ITLEstMs = append(out.ITLEstMs, d.ITLEstMs[i])
	}
	return out
}
