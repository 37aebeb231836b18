// Command decider runs Tidemark's decider: observations in, decisions out.
package main

import (
	"os"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/decider"
)

func main() {
	os.Exit(service.Main("decider", "Decide observations: one decision for each", drivers.OpenURL, decider.Flags))
}
