// Package lint finds what a valid configuration will come to grief on: targets
// that cannot be reached, loops that nothing feeds, deployments that are in each
// other's way. Check is a function of configurations alone; what the sources
// themselves say is found by those who ask them, in the same form.
//
// A finding refuses nothing: what cannot be worked with at all is an error of
// the configuration, which model.Deployment.Validate returns.
package lint

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says what a finding means for the deployment.
type Severity string

// The severities.
const (
	// Error is what keeps a loop from ever deciding, or lets it decide on
	// something else than the deployment.
	Error Severity = "error"
	// Warning is what costs a figure, or what may be meant.
	Warning Severity = "warning"
	// Unchecked is what could not be looked at.
	Unchecked Severity = "unchecked"
)

// Finding is one thing that a person should know of a configuration.
type Finding struct {
	Deployment string   `json:"deployment"`
	Severity   Severity `json:"severity"`
	// Path leads to the value: source.prometheus.namespace.
	Path string `json:"path"`
	// Message says what is so, and what to do.
	Message string `json:"message"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s: %s", f.Severity, f.Deployment, f.Path, f.Message)
}

// Findings gathers the findings of one deployment.
type Findings struct {
	Deployment string
	All        []Finding
}

// Add adds a finding.
func (f *Findings) Add(severity Severity, path, format string, args ...any) {
	f.All = append(f.All, Finding{Deployment: f.Deployment, Severity: severity, Path: path, Message: fmt.Sprintf(format, args...)})
}

// mostNames bounds the names in a message.
const mostNames = 3

// Names lists some names, sorted, and how many more there are.
func Names(names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) <= mostNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNames], ", "), len(names)-mostNames)
}
