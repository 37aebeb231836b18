package collector

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/live"
)

// maxChecks bounds the deployments whose sources are asked at once.
const maxChecks = 16

// CheckConfig says how sources are asked by Check.
type CheckConfig struct {
	// Timeout bounds them all together; 0 asks none.
	Timeout time.Duration
	// Kubernetes says how the API server is reached.
	Kubernetes fleets.Access
}

// Check finds what deployments will come to grief on, by what is written of them
// and of all that there are, and by what their sources say, which it asks as a
// collector would. Findings are in the order of the deployments.
func Check(ctx context.Context, config CheckConfig, deployments, all []*model.Deployment) []lint.Finding {
	found := map[string][]lint.Finding{}
	for _, finding := range lint.Check(deployments, all) {
		found[finding.Deployment] = append(found[finding.Deployment], finding)
	}
	if config.Timeout > 0 {
		ask(ctx, config, deployments, all, func(name string, said []lint.Finding) {
			// What a source says of a value is the better of two findings on it.
			written := slices.DeleteFunc(found[name], func(f lint.Finding) bool {
				return slices.ContainsFunc(said, func(its lint.Finding) bool { return its.Path == f.Path && its.Severity != lint.Unchecked })
			})
			found[name] = append(written, said...)
		})
	}
	var inOrder []lint.Finding
	for _, d := range deployments {
		inOrder = append(inOrder, found[d.Name]...)
	}
	return inOrder
}

// ask asks the sources of deployments, several at once, and hands over what each
// says, one at a time.
func ask(ctx context.Context, config CheckConfig, deployments, all []*model.Deployment, add func(string, []lint.Finding)) {
	ctx, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	readers := lint.ReadersOf(all)
	cluster := fleets.NewKubernetes(config.Kubernetes)
	now := time.Now()
	var mu sync.Mutex
	var asked errgroup.Group
	asked.SetLimit(maxChecks)
	for _, d := range deployments {
		if d.Source == nil || !d.Source.Real() {
			continue
		}
		asked.Go(func() error {
			var findings []lint.Finding
			if ctx.Err() != nil {
				findings = []lint.Finding{{
					Deployment: d.Name, Severity: lint.Unchecked, Path: "source",
					Message: fmt.Sprintf("is not looked at: those of other deployments took the %g s that there were", config.Timeout.Seconds()),
				}}
			} else {
				findings = live.Check(ctx, bounded(d, config.Timeout), readers.Beside(d), cluster, now)
			}
			mu.Lock()
			defer mu.Unlock()
			add(d.Name, findings)
			return nil
		})
	}
	_ = asked.Wait() // none returns an error: what fails is a finding
}

// bounded returns a deployment whose sources are waited for no longer than a
// timeout, so that they say how long they were waited for.
func bounded(d *model.Deployment, timeout time.Duration) *model.Deployment {
	limited := *d
	source := *d.Source
	if source.Prometheus != nil {
		spec := *source.Prometheus
		spec.TimeoutS = min(spec.TimeoutS, timeout.Seconds())
		source.Prometheus = &spec
	}
	if source.Engines != nil {
		spec := *source.Engines
		spec.TimeoutS = min(spec.TimeoutS, timeout.Seconds())
		source.Engines = &spec
	}
	limited.Source = &source
	return &limited
}

// CheckFlags adds the flags by which sources are asked.
func CheckFlags(flags *pflag.FlagSet, config *CheckConfig) {
	flags.DurationVar(&config.Timeout, "check-timeout", config.Timeout, "how long the sources of all deployments may take to be looked at; 0 looks at none")
	kubernetesFlags(flags, &config.Kubernetes)
}
