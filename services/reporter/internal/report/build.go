package report

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"tidemark.dev/pkg/model"
)

// Build makes the data of a page from what was folded so far. The builder is
// not changed and can go on.
func (b *Builder) Build(o Options) Data {
	data := Data{
		Title: cmp.Or(o.Title, "Tidemark report"), GeneratedAt: o.GeneratedAt.UTC(),
		EvidenceClasses: EvidenceClasses, Live: o.Live, Deployments: []Deployment{},
	}
	for _, name := range slices.Sorted(maps.Keys(b.deployments)) {
		if len(o.Deployments) == 0 || slices.Contains(o.Deployments, name) {
			d, from := b.deployments[name], o.From
			oldest, newest := d.seen()
			if last := newest.Add(-o.Last); o.Last > 0 && last.After(from) && last.After(oldest) {
				from = last
			}
			built := d.build(from, o.To)
			if o.Live == "" {
				built.ResumeMs = 0
			}
			if resume, ok := o.Resume[name]; ok {
				built.resume(resume)
			}
			data.Deployments = append(data.Deployments, built)
		}
	}
	return data
}

func (d *deployment) build(from, to time.Time) Deployment {
	v := d.within(from, to)
	out := Deployment{
		Name: d.name, Retired: d.latest != nil && d.retired > d.latest.Revision, Mode: model.Advisory, Planners: append([]string{}, d.planners...),
		Modes: v.modes, Settings: v.revisions, Evidence: map[string][]Span{},
		Engines: []Engine{}, EnginesUnlisted: len(d.unlisted),
		Fleet:      v.fleet.series(fleetColumns...),
		Traffic:    v.traffic.series(trafficColumns[:9]...),
		Load:       v.load.series(loadColumns[:15]...),
		Decided:    v.decisions.series(decisionColumns[:13]...),
		Forecasts:  v.forecasts.series(forecastColumns...),
		Complaints: d.complaints.between(from, to), Decisions: d.ledger.between(from, to), Actuations: v.actuations, ActuationsLeftOut: d.droppedActuations,
	}
	if d.latest != nil {
		out.Revision, out.Topology, out.Target = d.latest.Revision, d.latest.Spec.Topology, d.latest.Spec.Target
		out.Mode, out.Epoch = d.latest.Spec.Mode(), d.latest.Epoch
	}
	if n := len(v.modes); n > 0 && !to.IsZero() || d.latest == nil && n > 0 {
		out.Mode, out.Epoch = v.modes[n-1].Mode, v.modes[n-1].Epoch
	}
	out.Roles = d.roles(v)
	out.FromMs, out.ToMs = v.extent(from, to)
	out.ResumeMs = v.resumeMs()
	for _, source := range evidenceColumns[:3] {
		if runs := v.evidence.runs(source); len(runs) > 0 {
			out.Evidence[source] = runs
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.engines)) {
		e := d.engines[key]
		if series := e.between(from, to).series(engineColumns...); series != nil {
			out.Engines = append(out.Engines, Engine{Role: e.role, Worker: e.worker, DPRank: e.rank, Series: series})
		}
	}
	out.Summary = v.summary()
	out.Score = v.score(&out.Summary, out.Roles, out.Mode)
	return out
}

// view is the part of a deployment that a report shows.
type view struct {
	fleet, traffic, load, evidence, decisions, forecasts *track

	modes      []ModeChange
	revisions  []Setting
	actuations []Actuation
}

func (d *deployment) within(from, to time.Time) *view {
	v := &view{
		fleet: d.fleet.between(from, to), traffic: d.traffic.between(from, to), load: d.load.between(from, to),
		evidence: d.evidence.between(from, to), decisions: d.decisions.between(from, to), forecasts: d.forecasts.between(from, to),
		modes: []ModeChange{}, revisions: []Setting{}, actuations: []Actuation{},
	}
	// What held when the range began is shown, too, whenever it came to hold.
	for i, m := range d.modes {
		if within(m.AtMs, time.Time{}, to) && (i+1 == len(d.modes) || from.IsZero() || d.modes[i+1].AtMs > from.UnixMilli()) {
			v.modes = append(v.modes, m)
		}
	}
	for i, s := range d.revisions {
		if within(s.AtMs, time.Time{}, to) && (i+1 == len(d.revisions) || from.IsZero() || d.revisions[i+1].AtMs > from.UnixMilli()) {
			v.revisions = append(v.revisions, s)
		}
	}
	for _, a := range d.actuations {
		if within(a.AtMs, from, to) {
			v.actuations = append(v.actuations, a)
		}
	}
	slices.SortStableFunc(v.actuations, func(a, b Actuation) int {
		return cmp.Or(cmp.Compare(a.AtMs, b.AtMs), cmp.Compare(a.ID, b.ID))
	})
	return v
}

func within(ms int64, from, to time.Time) bool {
	return (from.IsZero() || ms >= from.UnixMilli()) && (to.IsZero() || ms <= to.UnixMilli())
}

// roles are those of the topology or, while it is unknown, those that were seen.
func (d *deployment) roles(v *view) []model.Role {
	if d.latest != nil {
		return d.latest.Spec.Topology.Roles()
	}
	seen := []model.Role{}
	for _, role := range model.AllRoles {
		_, decided := v.decisions.total("target." + string(role))
		_, observed := v.fleet.total("desired." + string(role))
		if decided+observed > 0 {
			seen = append(seen, role)
		}
	}
	return seen
}

// extent is the range that was asked for or, where that is open, the range of
// what is there.
func (v *view) extent(from, to time.Time) (fromMs, toMs int64) {
	var first, last time.Time
	for _, t := range [...]*track{v.evidence, v.decisions} {
		if n := len(t.buckets); n > 0 {
			if begin := t.buckets[0].first; first.IsZero() || begin.Before(first) {
				first = begin
			}
			if end := t.end(n-1, t.gap()); end.After(last) {
				last = end
			}
		}
	}
	if !from.IsZero() {
		first = from
	}
	if !to.IsZero() {
		last = to
	}
	if first.IsZero() || last.IsZero() {
		return 0, 0
	}
	return first.UnixMilli(), last.UnixMilli()
}

// resumeMs is the instant from which on the view may still change: where the
// oldest of the newest buckets begins.
func (v *view) resumeMs() int64 {
	var resume int64
	for _, t := range [...]*track{v.fleet, v.traffic, v.load, v.evidence, v.decisions, v.forecasts} {
		if n := len(t.buckets); n > 0 {
			if first := t.buckets[n-1].first.UnixMilli(); resume == 0 || first < resume {
				resume = first
			}
		}
	}
	return resume
}

// resume leaves out what was before an instant.
func (d *Deployment) resume(fromMs int64) {
	for _, s := range [...]**Series{&d.Fleet, &d.Traffic, &d.Load, &d.Decided, &d.Forecasts} {
		*s = (*s).after(fromMs)
	}
	d.Engines = slices.Clone(d.Engines)
	for i := range d.Engines {
		d.Engines[i].Series = d.Engines[i].Series.after(fromMs)
	}
	d.Decisions = d.Decisions.after(fromMs)
	d.Actuations = slices.DeleteFunc(slices.Clone(d.Actuations), func(a Actuation) bool { return a.AtMs < fromMs })
}
