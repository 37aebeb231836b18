package reporter

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"tidemark.dev/services/reporter/internal/metrics"
)

// TestDocumented holds that docs/reporter.md names every metric and every flag.
func TestDocumented(t *testing.T) {
	page := string(mustRead(t, "../../docs/reporter.md"))
	for _, name := range metrics.Names() {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the metric %s is missing", name)
		}
	}
	known := strings.Join(metrics.Names(), " ") + " "
	for _, match := range regexp.MustCompile("`(tidemark_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		if !strings.Contains(known, match[1]+" ") {
			t.Errorf("the metric %s does not exist", match[1])
		}
	}
	flags := pflag.NewFlagSet("reporter", pflag.ContinueOnError)
	Flags(flags)
	flags.VisitAll(func(flag *pflag.Flag) {
		if !strings.Contains(page, "--"+flag.Name) {
			t.Errorf("the flag --%s is missing", flag.Name)
		}
	})
}
