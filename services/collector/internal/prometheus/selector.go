package prometheus

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tidemark.dev/pkg/model"
)

// matchers returns the label matchers of a deployment, without braces. Values
// are quoted as PromQL reads them: a value is never read as anything else.
func matchers(spec *model.PrometheusSource, f family, withModel bool) string {
	var all []string
	if withModel && f.modelLabel != "" && spec.Model != "" {
		if f.foldModel {
			all = append(all, f.modelLabel+"=~"+quote("(?i:"+regexp.QuoteMeta(spec.Model)+")"))
		} else {
			all = append(all, f.modelLabel+"="+quote(spec.Model))
		}
	}
	if f.namespaceLabel != "" && spec.Namespace != "" {
		all = append(all, f.namespaceLabel+"="+quote(spec.Namespace))
	}
	for _, label := range slices.Sorted(maps.Keys(spec.Labels)) {
		all = append(all, label+"="+quote(spec.Labels[label]))
	}
	return strings.Join(all, ",")
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
