package prometheus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pm "github.com/prometheus/common/model"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
)

// allTraffic is what an observation lacks without requests or their lengths.
const allTraffic = "all traffic"

// figure is one figure of the traffic, and the metrics of which any will do.
type figure struct {
	// name is what an observation calls it, and query the key of the
	// deployment's own query for it.
	name, query string
	any         [][]string // each of these lists of metrics suffices
	cost        string     // what an observation lacks without it
	severity    lint.Severity
}

// figures lists what the preset's metrics measure.
func (f family) figures() []figure {
	each := func(ratios []ratio) [][]string {
		var all [][]string
		for _, r := range ratios {
			all = append(all, []string{r.of[0], r.per[0]})
		}
		return all
	}
	var requests [][]string
	for _, name := range f.requests {
		requests = append(requests, []string{name})
	}
	shown := []figure{
		{"requests", "requests", requests, allTraffic, lint.Error},
		{"mean_isl", "mean_isl", each(f.isl), allTraffic, lint.Error},
		{"mean_osl", "mean_osl", each(f.osl), allTraffic, lint.Error},
		{"mean_ttft_ms", "mean_ttft_s", each(f.ttft), "mean_ttft_ms and p95_ttft_ms", lint.Warning},
		{"mean_itl_ms", "mean_itl_s", each(f.itl), "mean_itl_ms and p95_itl_ms", lint.Warning},
		{"mean_duration_s", "mean_duration_s", each(f.duration), "mean_duration_s", lint.Warning},
	}
	if !f.hitRateWithoutModel {
		shown = append(shown, figure{"kv_hit_rate", "kv_hit_rate", each(f.hitRate), "kv_hit_rate, so that prompts count in full", lint.Warning})
	}
	return shown
}

// Check looks at whether the server answers, whether it has the series that the
// figures rest on, and whose they are besides. Others are the deployments that
// read the same metrics of the same server.
func (s *Source) Check(ctx context.Context, f *lint.Findings, d *model.Deployment, at time.Time, window time.Duration, others []*model.Deployment) {
	const path = "source.prometheus"
	client, err := s.client()
	if err != nil {
		f.Add(lint.Warning, path+".http", "cannot be used from here: %v", err)
		return
	}
	q := &querier{source: s, api: client, at: at, window: window}
	own := s.spec.Queries.Named()
	scope := matchers(s.spec, s.family, true)
	if s.spec.Preset == model.PresetCustom {
		// Which metrics the queries read is their own affair; whose labels match
		// is seen of any.
		found, err := q.groups(ctx, "{"+scope+"}", others)
		if err != nil {
			unreachable(f, path, err)
			return
		}
		overlaps(f, d, s.family, found, others)
	} else {
		var names []string
		for _, figure := range s.family.figures() {
			for _, metrics := range figure.any {
				names = append(names, metrics...)
			}
		}
		found, err := q.groups(ctx, selector(names, scope), others)
		if err != nil {
			unreachable(f, path, err)
			return
		}
		q.missing(ctx, f, found, scope)
		tooWide(f, s.spec, s.family, found)
		overlaps(f, d, s.family, found, others)
		q.hitRate(ctx, f)
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		q.answers(ctx, f, name, own[name])
	}
}

func unreachable(f *lint.Findings, path string, err error) {
	f.Add(lint.Error, path+".url", "cannot be read from here: %v; look at the address, http and the network between", err)
}

// groups returns the label sets of some series: their names, and all labels by
// which deployments are told apart.
func (q *querier) groups(ctx context.Context, selector string, others []*model.Deployment) ([]pm.Metric, error) {
	by := map[string]bool{pm.MetricNameLabel: true}
	f := q.source.family
	for _, label := range [...]string{f.modelLabel, f.namespaceLabel} {
		if label != "" {
			by[label] = true
		}
	}
	scopes := []*model.PrometheusSource{q.source.spec}
	for _, other := range others {
		scopes = append(scopes, other.Source.Prometheus)
	}
	for _, scope := range scopes {
		for _, m := range matchersOf(scope, f, true) {
			by[m.label] = true
		}
	}
	value, err := q.query(ctx, "series", fmt.Sprintf("count by (%s) (%s)", strings.Join(slices.Sorted(maps.Keys(by)), ", "), selector))
	if err != nil {
		return nil, err
	}
	vector, ok := value.(pm.Vector)
	if !ok {
		return nil, fmt.Errorf("prometheus: query series: want a vector, have a %s", value.Type())
	}
	found := make([]pm.Metric, len(vector))
	for i, sample := range vector {
		found[i] = sample.Metric
	}
	return found, nil
}

// missing finds the figures of which the server has no series.
func (q *querier) missing(ctx context.Context, f *lint.Findings, found []pm.Metric, scope string) {
	spec := q.source.spec
	there := map[string]bool{}
	for _, labels := range found {
		there[string(labels[pm.MetricNameLabel])] = true
	}
	own := spec.Queries.Named()
	if len(found) == 0 && own["requests"] == "" {
		f.Add(lint.Error, "source.prometheus", "no series matches %s: an observation lacks %s; %s",
			selector(q.source.family.requests, scope), allTraffic, q.instead(ctx))
		return
	}
	for _, figure := range q.source.family.figures() {
		if own[figure.query] != "" || len(figure.any) == 0 || slices.ContainsFunc(figure.any, func(metrics []string) bool {
			return !slices.ContainsFunc(metrics, func(name string) bool { return !there[name] })
		}) {
			continue
		}
		var names []string
		for _, metrics := range figure.any {
			names = append(names, metrics...)
		}
		f.Add(figure.severity, "source.prometheus.preset", "no series matches %s for %s: an observation lacks %s; have the engines export it, or give queries.%s",
			selector(names, scope), figure.name, figure.cost, figure.query)
	}
}

// instead says which labels the server's series do have.
func (q *querier) instead(ctx context.Context) string {
	const unknown = "look at preset, model, namespace and labels, or send a first request"
	f := q.source.family
	by := slices.DeleteFunc([]string{f.modelLabel, f.namespaceLabel}, func(label string) bool { return label == "" })
	value, err := q.query(ctx, "series", fmt.Sprintf("topk(%d, count by (%s) (%s))", 3, strings.Join(by, ", "), selector(f.requests, "")))
	if err != nil {
		return unknown
	}
	vector, ok := value.(pm.Vector)
	if !ok || len(vector) == 0 {
		return unknown + "; the server has no such metric of any deployment"
	}
	var seen []string
	for _, sample := range vector {
		seen = append(seen, sample.Metric.String())
	}
	slices.Sort(seen)
	return unknown + "; the server has " + strings.Join(seen, ", ")
}

// tooWide finds matchers that several models or namespaces fit.
func tooWide(f *lint.Findings, spec *model.PrometheusSource, family family, found []pm.Metric) {
	for _, part := range [...]struct{ path, label, given, what string }{
		{"source.prometheus.model", family.modelLabel, spec.Model, "models"},
		{"source.prometheus.namespace", family.namespaceLabel, spec.Namespace, "namespaces"},
	} {
		if part.label == "" || part.given != "" {
			continue
		}
		if values := distinct(found, part.label); len(values) > 1 {
			f.Add(lint.Error, part.path, "is missing, and series of %d %s match, by label %s: %s; their requests are counted together: write which is meant",
				len(values), part.what, part.label, lint.Names(values))
		}
	}
}

// distinct returns the values that a label has, those without it as "none".
func distinct(found []pm.Metric, label string) []string {
	values := map[string]bool{}
	for _, labels := range found {
		value := string(labels[pm.LabelName(label)])
		if value == "" {
			value = "none"
		}
		values[value] = true
	}
	return slices.Collect(maps.Keys(values))
}

// overlaps finds series that another deployment reads as well.
func overlaps(f *lint.Findings, d *model.Deployment, family family, found []pm.Metric, others []*model.Deployment) {
	var names []string
	var example pm.Metric
	severity := lint.Warning
	for _, other := range others {
		its := matchersOf(other.Source.Prometheus, family, true)
		shared := slices.IndexFunc(found, func(labels pm.Metric) bool {
			return !slices.ContainsFunc(its, func(m matcher) bool { return !m.matches(labels) })
		})
		if shared < 0 || lint.SameTraffic(d, other) {
			continue
		}
		names, example = append(names, other.Name), found[shared]
		if !lint.Compared(d, other) {
			severity = lint.Error
		}
	}
	if len(names) > 0 {
		f.Add(severity, "source.prometheus.labels", "series of deployment %s match too, such as %s: requests are counted in both; add a label that tells them apart", lint.Names(names), example)
	}
}

// hitRate looks for the metrics of the hit rate that carry no model.
func (q *querier) hitRate(ctx context.Context, f *lint.Findings) {
	family, spec := q.source.family, q.source.spec
	if !family.hitRateWithoutModel || spec.Namespace == "" || spec.Queries.KVHitRate != "" {
		return
	}
	by := selector(counters(nil, family.hitRate), matchers(spec, family, false))
	value, err := q.query(ctx, "kv_hit_rate", fmt.Sprintf("count(%s)", by))
	if err != nil {
		f.Add(lint.Unchecked, "source.prometheus", "%v", err)
		return
	}
	if vector, ok := value.(pm.Vector); ok && len(vector) == 0 {
		f.Add(lint.Warning, "source.prometheus.preset", "no series matches %s for kv_hit_rate: an observation lacks it, so that prompts count in full; have the router scraped, or give queries.kv_hit_rate", by)
	}
}

// answers looks at whether a query of the deployment's own gives one series. A
// number that is none may be the mean of no requests.
func (q *querier) answers(ctx context.Context, f *lint.Findings, name, query string) {
	path := "source.prometheus.queries." + name
	lacks, severity := strings.Replace(name, "_s", "_ms", 1), lint.Warning
	switch name {
	case "requests", "mean_isl", "mean_osl":
		lacks, severity = allTraffic, lint.Error
	case "kv_hit_rate", "mean_duration_s":
		lacks = name
	}
	value, err := q.query(ctx, name, q.expand(query))
	if err != nil {
		f.Add(lint.Error, path, "%v; while it fails there is no traffic in an observation", err)
		return
	}
	switch value := value.(type) {
	case *pm.Scalar:
	case pm.Vector:
		switch {
		case len(value) == 0:
			f.Add(severity, path, "matches no series as %s: an observation lacks %s; look at its metrics and at the labels", q.expand(query), lacks)
		case len(value) > 1:
			f.Add(lint.Error, path, "gives %d series, want one: aggregate it with sum(); while it does there is no traffic in an observation", len(value))
		}
	default:
		f.Add(lint.Error, path, "gives a %s, want one number; while it does there is no traffic in an observation", value.Type())
	}
}
