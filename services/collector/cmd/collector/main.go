// Command collector runs Tidemark's collector: it observes deployments.
package main

import (
	"os"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/collector"
)

func main() {
	os.Exit(service.Main("collector", "Observe deployments on their schedules", drivers.OpenURL, collector.Flags))
}
