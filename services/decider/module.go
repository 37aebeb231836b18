package decider

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/fx"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/service"
)

// Module is the decider as an fx module, over what service.Module provides.
func Module(config Config) fx.Option {
	return fx.Module("decider", fx.Invoke(func(
		lifecycle fx.Lifecycle, stop fx.Shutdowner, health *service.Health,
		log events.Log, topics events.Topics, logger *slog.Logger, registry *prometheus.Registry,
	) {
		logger = logger.With("service", "decider")
		table := events.NewDeploymentTable(log, topics, logger)
		service.Work(lifecycle, stop, health, logger, "decider", New(config, log, topics, table, logger, newMetrics(registry)))
	}))
}

// Flags adds the decider's flags and returns its module by them.
func Flags(flags *pflag.FlagSet) func() fx.Option {
	config := DefaultConfig()
	flags.IntVar(&config.CheckpointEvery, "checkpoint-every", config.CheckpointEvery, "observations of a deployment between two checkpoints of its state")
	flags.DurationVar(&config.RevisionWait, "revision-wait", config.RevisionWait, "how long an observation waits for the configuration revision that it names")
	return func() fx.Option { return Module(config) }
}
