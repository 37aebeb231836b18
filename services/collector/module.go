package collector

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/fx"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/collector/internal/forwardpass"
	"tidemark.dev/services/collector/internal/live"
	"tidemark.dev/services/collector/internal/simulated"
)

// Module is the collector as an fx module, over what service.Module provides.
func Module(config Config) fx.Option {
	return fx.Module("collector", fx.Invoke(func(
		lifecycle fx.Lifecycle, stop fx.Shutdowner, health *service.Health,
		log events.Log, topics events.Topics, logger *slog.Logger, registry *prometheus.Registry, mux *http.ServeMux,
	) {
		logger = logger.With("service", "collector")
		c := New(config, log, topics, logger, registry)
		mux.Handle(forwardpass.PushPath, c.inlet)
		service.Work(lifecycle, stop, health, logger, "collector", c)
	}))
}

// New returns a collector on a log.
func New(config Config, log events.Log, topics events.Topics, logger *slog.Logger, registerer prometheus.Registerer) *Collector {
	metrics, inlet := newMetrics(registerer), forwardpass.NewInlet()
	return &Collector{
		config: config, log: log, topics: topics, logger: logger, metrics: metrics, inlet: inlet,
		deployments: events.NewDeploymentTable(log, topics, logger), watches: map[string]*watch{},
		open: func(ctx context.Context, configured *model.DeploymentConfigured) (fleetSource, error) {
			switch {
			case configured.Spec.Source.Simulated != nil:
				return simulated.Open(ctx, log, topics, configured, logger)
			case configured.Spec.Source.Real():
				return live.Open(configured, inlet, logger, metrics.queryFailed(configured.Deployment)), nil
			}
			return nil, fmt.Errorf("deployment %s names no source under the key source", configured.Deployment)
		},
	}
}

// Flags adds the collector's flags and returns its module by them.
func Flags(flags *pflag.FlagSet) func() fx.Option {
	config := DefaultConfig()
	flags.DurationVar(&config.QueryTimeout, "query-timeout", config.QueryTimeout, "how long the sources of one tick may take together")
	return func() fx.Option { return Module(config) }
}

var _ service.Worker = (*Collector)(nil)
