package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/services/actuator"
)

// preflight is what the Kubernetes API server says of the newest decisions. Of
// a nil one there is nothing to say.
type preflight struct {
	Trials []actuator.Trial `json:"trials"`
	// Untried are deployments of which nothing could be tried.
	Untried []untried `json:"untried"`
}

type untried struct {
	Deployment string `json:"deployment"`
	Why        string `json:"why"`
}

// newPreflight tries the newest decision of each deployment, or of those that
// are named.
func newPreflight(ctx context.Context, log events.Log, topics events.Topics, config actuator.PreflightConfig, only []string, since time.Time) (*preflight, error) {
	table, err := deployments(ctx, log, topics)
	if err != nil {
		return nil, err
	}
	for _, name := range only {
		if _, known := table.Current(name); !known {
			return nil, fmt.Errorf("there is no deployment %q", name)
		}
	}
	newest, err := newestDecisions(ctx, log, topics, since)
	if err != nil {
		return nil, err
	}
	p := &preflight{Untried: []untried{}}
	var intents []actuator.Intent
	for _, configured := range table.All() {
		name, decision := configured.Deployment, newest[configured.Deployment]
		why := ""
		switch through := configured.Spec.Actuator; {
		case len(only) > 0 && !slices.Contains(only, name):
			continue
		case through == nil || through.Kubernetes == nil:
			why = "it is not scaled by Kubernetes: no actuator.kubernetes is configured"
		case decision == nil:
			why = fmt.Sprintf("it has no decision since %s; --look-back looks further", since.UTC().Format(time.RFC3339))
		case decision.Target.Empty():
			why = "its newest decision names no target"
		default:
			intents = append(intents, actuator.Intent{Configured: configured, Decision: decision})
			continue
		}
		p.Untried = append(p.Untried, untried{name, why})
	}
	p.Trials, err = actuator.Preflight(ctx, config, intents, slog.New(slog.DiscardHandler))
	return p, err
}

// print prints one line for each role.
func (p *preflight) print(out io.Writer) {
	if p == nil {
		return
	}
	for _, u := range p.Untried {
		fmt.Fprintf(out, "%s: nothing is tried: %s\n", u.Deployment, u.Why)
	}
	for _, t := range p.Trials {
		from := ""
		if t.From != nil {
			from = fmt.Sprintf(" from %d", *t.From)
		}
		fmt.Fprintf(out, "%s: %s%s to %d: %s\n", t.Deployment, t.Role, from, t.To, verdict(t))
	}
}

func verdict(t actuator.Trial) string {
	said := []string{"would pass: " + t.Object}
	switch {
	case len(t.Problems) > 0:
		said = nil
		for _, problem := range t.Problems {
			said = append(said, fmt.Sprintf("%s: %s", problem.Reason, problem.Detail))
		}
	case len(t.Unknown) > 0:
		said = append([]string{"would pass, as far as is known: " + t.Object}, t.Unknown...)
	}
	return strings.Join(said, "; ")
}

// judge returns an error if a role would not pass, or if nothing was tried of a
// deployment that was asked about.
func (p *preflight) judge(only []string) error {
	if p == nil {
		return nil
	}
	refused := 0
	for _, t := range p.Trials {
		if len(t.Problems) > 0 {
			refused++
		}
	}
	switch {
	case refused > 0:
		return fmt.Errorf("preflight: %d of %d roles would not pass; nothing was changed", refused, len(p.Trials))
	case len(only) > 0 && len(p.Untried) > 0:
		return fmt.Errorf("preflight: nothing was tried of %s", p.Untried[0].Deployment)
	}
	return nil
}
