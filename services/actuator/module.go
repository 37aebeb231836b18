package actuator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/fx"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/kubernetes"
	"tidemark.dev/services/actuator/internal/observed"
	"tidemark.dev/services/actuator/internal/simulated"
	"tidemark.dev/services/actuator/internal/webhook"
)

// Module is the actuator as an fx module, over what service.Module provides.
func Module(config Config) fx.Option {
	return fx.Module("actuator", fx.Invoke(func(
		lifecycle fx.Lifecycle, stop fx.Shutdowner, health *service.Health,
		log events.Log, topics events.Topics, logger *slog.Logger, registry *prometheus.Registry,
	) {
		logger = logger.With("service", "actuator")
		service.Work(lifecycle, stop, health, logger, "actuator", newWorker(config, log, topics, logger, registry))
	}))
}

// worker is the actuator with the connectors that it works through.
type worker struct {
	*Actuator
	fleets     *observed.Fleets
	simulated  *simulated.Connector
	kubernetes *kubernetes.Connector
	webhook    *webhook.Connector
}

func newWorker(config Config, log events.Log, topics events.Topics, logger *slog.Logger, registerer prometheus.Registerer) *worker {
	ledger := newLedger(log, topics, logger)
	fleets := observed.New()
	w := &worker{
		fleets:     fleets,
		simulated:  &simulated.Connector{SetTo: ledger.setTo, Fleets: fleets},
		kubernetes: kubernetes.New(config.Kubernetes, connector.DefaultSteps(), logger),
		webhook:    webhook.New(connector.DefaultSteps(), fleets),
	}
	w.Actuator = &Actuator{
		config: config, log: log, topics: topics, logger: logger, metrics: newMetrics(registerer),
		deployments: events.NewDeploymentTable(log, topics, logger), ledger: ledger,
		approvals:  newApprovals(log, topics),
		connectors: w.connector, now: time.Now,
	}
	return w
}

func (w *worker) connector(spec *model.Deployment) (connector.Connector, error) {
	switch through := spec.Actuator; {
	case through == nil:
	case through.Simulated != nil:
		return w.simulated, nil
	case through.Kubernetes != nil:
		return w.kubernetes, nil
	case through.Webhook != nil:
		return w.webhook, nil
	}
	return nil, fmt.Errorf("deployment %s is active and has no actuator; configure one under the key actuator", spec.Name)
}

// Run runs the actuator, and follows the observations for its connectors.
func (w *worker) Run(ctx context.Context, ready func()) error {
	working, ctx := errgroup.WithContext(ctx)
	working.Go(func() error { return w.Actuator.Run(ctx, ready) })
	working.Go(func() error {
		return w.fleets.Follow(ctx, w.log, w.topics.Name(events.TopicObservations), w.logger)
	})
	return working.Wait()
}

// Flags adds the actuator's flags and returns its module by them.
func Flags(flags *pflag.FlagSet) func() fx.Option {
	config := DefaultConfig()
	flags.DurationVar(&config.SettleEvery, "settle-every", config.SettleEvery, "how often a fleet is looked at that has not reached its target yet")
	flags.DurationVar(&config.SettleDeadline, "settle-deadline", config.SettleDeadline, "how long a fleet may take to reach its target before that is recorded as failed")
	flags.StringVar(&config.Kubernetes.Kubeconfig, "kubeconfig", "", "file with the address and credentials of the Kubernetes API server; empty takes those of the pod, or of the file that KUBECONFIG names")
	flags.Float64Var(&config.Kubernetes.QPS, "kubernetes-qps", config.Kubernetes.QPS, "most requests a second to the Kubernetes API server")
	flags.IntVar(&config.Kubernetes.Burst, "kubernetes-burst", config.Kubernetes.Burst, "most requests to the Kubernetes API server at once")
	return func() fx.Option { return Module(config) }
}
