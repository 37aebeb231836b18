// Command reporter runs Tidemark's reporter: summaries, metrics and reports.
package main

import (
	"os"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/reporter"
)

func main() {
	os.Exit(service.Main("reporter", "Show what is seen, decided and done", drivers.OpenURL, reporter.Flags))
}
