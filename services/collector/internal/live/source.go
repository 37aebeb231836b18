// Package live observes fleets that exist: each part of an observation by the
// source that is configured for it, all at once, so that a slow one does not
// delay the others.
package live

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/engines"
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/forwardpass"
	"tidemark.dev/services/collector/internal/prometheus"
)

// displayWindow is the window of the traffic that is observed between the ticks
// of the throughput loop, at most once per window, for people to look at.
const displayWindow = time.Minute

// Source observes one deployment.
type Source struct {
	spec    *model.Deployment
	traffic *prometheus.Source
	engines *engines.Source
	cluster *fleets.Kubernetes
}

// Shared is what the sources of a process have in common.
type Shared struct {
	// Inlet takes what engines post.
	Inlet *forwardpass.Inlet
	// Cluster reads the API server.
	Cluster *fleets.Kubernetes
}

// Open returns the source of a deployment. Nothing is reached yet: what cannot
// be reached is evidence of the ticks that need it.
func Open(configured *model.DeploymentConfigured, shared Shared, logger *slog.Logger, failed func(query string)) *Source {
	spec := &configured.Spec
	s := &Source{spec: spec, cluster: shared.Cluster}
	logger = logger.With("deployment", spec.Name)
	if spec.Source.Prometheus != nil {
		s.traffic = prometheus.New(spec.Source.Prometheus, func(query string, err error) {
			failed(query)
			logger.Warn("query failed, and its figure is left out", "query", query, "error", err)
		})
	}
	if spec.Source.Engines != nil {
		s.engines = engines.New(spec, shared.Inlet, shared.Cluster, logger)
	}
	return s
}

// Observe fills in the evidence of an observation.
func (s *Source) Observe(ctx context.Context, observation *model.Observation) {
	var parts sync.WaitGroup
	if window := s.window(observation); s.traffic != nil && window > 0 {
		parts.Go(func() { observation.Traffic = s.traffic.Traffic(ctx, observation.ObservedAt, window) })
	}
	if s.engines != nil {
		parts.Go(func() { observation.Engines = s.engines.Engines(ctx, observation.ObservedAt) })
	}
	switch fleet := s.spec.Source.Fleet; {
	case fleet == nil:
	case fleet.Static != nil:
		observation.Fleet = fleets.Static(*fleet.Static)
	case fleet.Kubernetes != nil:
		parts.Go(func() { observation.Fleet = s.cluster.Inventory(ctx, fleet.Kubernetes) })
	}
	parts.Wait()
}

// window returns the window of the traffic to observe, and 0 for none.
func (s *Source) window(observation *model.Observation) time.Duration {
	switch {
	case observation.Loops.Throughput:
		return time.Duration(s.spec.Throughput.IntervalS * float64(time.Second))
	case observation.ObservedAt.UnixNano()%int64(displayWindow) == 0:
		return displayWindow
	}
	return 0
}

// Close closes the connections of all parts.
func (s *Source) Close() {
	if s.traffic != nil {
		s.traffic.Close()
	}
	if s.engines != nil {
		s.engines.Close()
	}
}
