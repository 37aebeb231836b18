package replay

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"tidemark.dev/pkg/model/planner"
)

// conclude checks the chains, and sums up.
func (r *run) conclude(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(r.deployments)) {
		d := r.deployments[name]
		d.finish()
		d.checkChain()
		d.count()
		slices.SortStableFunc(d.findings, func(a, b Finding) int {
			return cmp.Or(a.ObservedAt.Compare(b.ObservedAt), cmp.Compare(a.Position, b.Position))
		})
		room := maxFindings - len(r.result.Findings)
		r.result.FindingsLeftOut += max(len(d.findings)-room, 0)
		r.result.Findings = append(r.result.Findings, d.findings[:min(len(d.findings), room)]...)
		for _, what := range slices.Sorted(maps.Keys(d.lacks)) {
			r.result.Lacks = append(r.result.Lacks, Lack{Deployment: name, What: what, Decisions: d.lacks[what]})
		}
		if d.comparison != nil {
			d.result.Comparison = d.comparison.conclude()
		}
		if d.result.Decisions > 0 || d.result.Undecided > 0 || len(d.findings) > 0 {
			r.result.Deployments = append(r.result.Deployments, d.result)
		}
	}
	if r.first == nil {
		return nil
	}
	return r.showFirst(ctx)
}

// finish takes note of what no observation met.
func (d *deployment) finish() {
	for ; d.lane.next < len(d.recorded); d.lane.next++ {
		d.unmet(&d.recorded[d.lane.next])
	}
	for _, id := range slices.Sorted(maps.Keys(d.broken)) {
		broken := d.broken[id]
		d.find(Altered, id, broken.at, broken.place, "%s", broken.why)
		d.gaps = append(d.gaps, broken.at.UnixNano())
	}
}

// checkChain follows the links from each decision to the one before it. Of a
// link that does not hold it says which end was altered, as far as that can be
// told: a decision that was made again with the same bytes was not.
func (d *deployment) checkChain() {
	slices.Sort(d.gaps)
	for i := 1; i < len(d.recorded); i++ {
		before, c := &d.recorded[i-1], &d.recorded[i]
		d.result.Links++
		if c.previous == before.digest && !c.first {
			continue
		}
		d.result.Broken++
		if before.verdict == relinked || d.gapBetween(before.at, c.at) {
			continue // It is known already what was done to the one before it.
		}
		id, previous := d.decisionID(c.at), d.decisionID(before.at)
		switch {
		case before.verdict == differing:
			before.altered = true
		case before.verdict == same && c.verdict == differing:
			c.altered = true
		case before.verdict == same && c.verdict == same && c.first:
			c.verdict = relinked
			d.find(Altered, id, instant(c.at), c.place(), "it begins a chain, although decision %s stands before it", previous)
		case before.verdict == same && c.verdict == same:
			c.verdict = relinked
			d.find(Altered, id, instant(c.at), c.place(), "its previous_digest is not that of decision %s before it", previous)
		default:
			d.find(Unlinked, id, instant(c.at), c.place(), "its previous_digest is not that of decision %s before it: one of the two was altered, or one between them is missing", previous)
		}
	}
}

// gapBetween says whether a decision between two instants is known to be gone.
func (d *deployment) gapBetween(from, to int64) bool {
	i, _ := slices.BinarySearch(d.gaps, from)
	return i < len(d.gaps) && d.gaps[i] <= to
}

// count counts the verdicts, and names what differs.
func (d *deployment) count() {
	for i := range d.recorded {
		c := &d.recorded[i]
		switch c.verdict {
		case same:
			d.result.Same++
		case alike:
			d.result.Alike++
		case unverified:
			d.result.Unverified++
		case relinked:
			d.result.Differing++
		case differing:
			d.result.Differing++
			id := d.decisionID(c.at)
			switch {
			case c.altered:
				d.find(Altered, id, instant(c.at), c.place(), "the chain does not hold at it, and it is decided otherwise now")
			case i+1 < len(d.recorded):
				d.find(Differs, id, instant(c.at), c.place(), "the chain holds, and planner version %s decides otherwise now", planner.Version)
			default:
				d.find(Differs, id, instant(c.at), c.place(), "it is decided otherwise now; no decision follows it that could tell whether it was altered")
			}
		}
	}
}

// showFirst compares the first difference field by field.
func (r *run) showFirst(ctx context.Context) error {
	first := r.first
	d := first.deployment
	was, err := r.fetch(ctx, d.name, d.recordedAt(first.at).place())
	if err != nil {
		return err
	}
	id := d.decisionID(first.at)
	for _, finding := range d.findings {
		if finding.DecisionID == id && (finding.Kind == Altered || finding.Kind == Differs) {
			r.result.First = &Difference{Finding: finding, Fields: Compare(was, first.data)}
			break
		}
	}
	return nil
}
