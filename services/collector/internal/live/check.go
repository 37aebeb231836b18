package live

import (
	"context"
	"log/slog"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
	"tidemark.dev/services/collector/internal/engines"
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/prometheus"
)

// Check asks the sources of a deployment whether they have what its observations
// are made of. Neighbours are the other deployments that read the same metrics
// of the same Prometheus server. It opens sources of its own, and listens to none.
func Check(ctx context.Context, d *model.Deployment, neighbours []*model.Deployment, cluster *fleets.Kubernetes, at time.Time) []lint.Finding {
	f := &lint.Findings{Deployment: d.Name}
	if spec := d.Source.Prometheus; spec != nil {
		traffic := prometheus.New(spec, func(string, error) {})
		traffic.Check(ctx, f, d, at, max(displayWindow, time.Duration(d.Throughput.IntervalS*float64(time.Second))), neighbours)
		traffic.Close()
	}
	if d.Source.Engines != nil {
		state := engines.Look(d, cluster, slog.New(slog.DiscardHandler))
		state.Check(ctx, f, d)
		state.Close()
	}
	if fleet := d.Source.Fleet; fleet != nil && fleet.Kubernetes != nil {
		cluster.Check(ctx, f, d, fleet.Kubernetes)
	}
	return f.All
}
