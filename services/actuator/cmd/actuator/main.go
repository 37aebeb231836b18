// Command actuator runs Tidemark's actuator: it carries decisions out while a
// deployment is active, and only then.
package main

import (
	"os"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/actuator"
)

func main() {
	os.Exit(service.Main("actuator", "Carry out the decisions of active deployments", drivers.OpenURL, actuator.Flags))
}
