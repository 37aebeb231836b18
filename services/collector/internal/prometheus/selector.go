package prometheus

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	pm "github.com/prometheus/common/model"

	"tidemark.dev/pkg/model"
)

// matcher is what one label of a series must be.
type matcher struct {
	label, value string
	// fold compares without regard to case.
	fold bool
}

func (m matcher) String() string {
	if m.fold {
		return m.label + "=~" + quote("(?i:"+regexp.QuoteMeta(m.value)+")")
	}
	return m.label + "=" + quote(m.value)
}

func (m matcher) matches(labels pm.Metric) bool {
	value := string(labels[pm.LabelName(m.label)])
	return value == m.value || m.fold && strings.EqualFold(value, m.value)
}

// matchersOf returns the label matchers of a deployment.
func matchersOf(spec *model.PrometheusSource, f family, withModel bool) []matcher {
	var all []matcher
	if withModel && f.modelLabel != "" && spec.Model != "" {
		all = append(all, matcher{f.modelLabel, spec.Model, f.foldModel})
	}
	if f.namespaceLabel != "" && spec.Namespace != "" {
		all = append(all, matcher{label: f.namespaceLabel, value: spec.Namespace})
	}
	for _, label := range slices.Sorted(maps.Keys(spec.Labels)) {
		all = append(all, matcher{label: label, value: spec.Labels[label]})
	}
	return all
}

// matchers returns the label matchers of a deployment as PromQL, without braces.
// Values are quoted as PromQL reads them: a value is never read as anything else.
func matchers(spec *model.PrometheusSource, f family, withModel bool) string {
	all := matchersOf(spec, f, withModel)
	texts := make([]string, len(all))
	for i, m := range all {
		texts[i] = m.String()
	}
	return strings.Join(texts, ",")
}

// quote quotes a string by the rules of PromQL, which are those of Go.
func quote(value string) string { return strconv.Quote(value) }

// selector returns the series of some metrics, all at once.
func selector(names []string, matchers string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	by := "__name__=" + quote(names[0])
	if len(names) > 1 {
		by = "__name__=~" + quote(strings.Join(names, "|"))
	}
	if matchers == "" {
		return "{" + by + "}"
	}
	return "{" + by + "," + matchers + "}"
}
