package prometheus

import (
	"os"
	"strings"
	"testing"
)

// TestDocsNameEveryMetric: docs/sources.md names every metric that a preset reads,
// and the labels by which it tells deployments apart.
func TestDocsNameEveryMetric(t *testing.T) {
	data, err := os.ReadFile("../../../../docs/sources.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := string(data)
	named := func(name string) bool {
		name = strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count") // the table names histograms
		if strings.Contains(docs, name) {
			return true
		}
		// In a row that names another that begins alike, it is ..._rest; and all of
		// a kind are name_....
		for row := range strings.SplitSeq(docs, "\n") {
			for at, c := range name {
				if c == '_' && (strings.Contains(row, "`"+name[:at]+"_") && strings.Contains(row, "`..."+name[at:]+"`") || strings.Contains(row, "`"+name[:at]+"_...`")) {
					return true
				}
			}
		}
		return strings.Contains(docs, "(reused + missed)") && strings.HasSuffix(name, "_missed_blocks_total")
	}
	for preset, f := range families {
		for _, label := range []string{f.modelLabel, f.namespaceLabel} {
			if !strings.Contains(docs, "`"+label+"`") && label != "" {
				t.Errorf("preset %s: label %s is not named", preset, label)
			}
		}
		for _, name := range counters(f.requests, f.isl, f.osl, f.ttft, f.itl, f.duration, f.hitRate) {
			if !named(name) {
				t.Errorf("preset %s: %s is not named", preset, name)
			}
		}
	}
}
