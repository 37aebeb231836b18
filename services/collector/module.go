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
	"tidemark.dev/services/collector/internal/fleets"
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
	metrics := newMetrics(registerer)
	shared := live.Shared{Inlet: forwardpass.NewInlet(), Cluster: fleets.NewKubernetes(config.Kubernetes)}
	return &Collector{
		config: config, log: log, topics: topics, logger: logger, metrics: metrics, inlet: shared.Inlet,
		deployments: events.NewDeploymentTable(log, topics, logger), watches: map[string]*watch{},
		open: func(ctx context.Context, configured *model.DeploymentConfigured) (fleetSource, error) {
			switch {
			case configured.Spec.Source.Simulated != nil:
				return simulated.Open(ctx, log, topics, configured, logger)
			case configured.Spec.Source.Real():
				return live.Open(configured, shared, logger, metrics.queryFailed(configured.Deployment)), nil
			}
			return nil, fmt.Errorf("deployment %s names no source under the key source", configured.Deployment)
		},
	}
}

// Flags adds the collector's flags and returns its module by them.
func Flags(flags *pflag.FlagSet) func() fx.Option {
	config := DefaultConfig()
	flags.DurationVar(&config.QueryTimeout, "query-timeout", config.QueryTimeout, "how long the sources of one tick may take together")
	kubernetesFlags(flags, &config.Kubernetes)
	return func() fx.Option { return Module(config) }
}

func kubernetesFlags(flags *pflag.FlagSet, access *fleets.Access) {
	flags.StringVar(&access.URL, "kubernetes-url", "", "address of the Kubernetes API server, which says how many replicas there are and where engines run; empty is that of the cluster in which the collector runs, with its service account")
	flags.StringVar(&access.TokenFile, "kubernetes-token-file", "", "file of the bearer token for --kubernetes-url")
	flags.StringVar(&access.CAFile, "kubernetes-ca-file", "", "file of the authority of --kubernetes-url; empty trusts the system's")
}

var _ service.Worker = (*Collector)(nil)
