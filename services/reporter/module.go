package reporter

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/fx"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/reporter/internal/metrics"
)

// Module is the reporter as an fx module, over what service.Module provides.
// Summary lines go to summaries.
func Module(config Config, summaries io.Writer) fx.Option {
	return fx.Module("reporter", fx.Invoke(func(
		lifecycle fx.Lifecycle, stop fx.Shutdowner, health *service.Health, mux *http.ServeMux,
		log events.Log, topics events.Topics, logger *slog.Logger, registry *prometheus.Registry,
	) error {
		if err := config.Validate(); err != nil {
			return fmt.Errorf("reporter: %w", err)
		}
		logger = logger.With("service", "reporter")
		r := &Reporter{
			config: config, log: log, topics: topics, logger: logger, metrics: metrics.New(), summaries: summaries, now: time.Now,
			router:      events.RouterConfig{Service: "reporter", Log: log, Topics: topics, Logger: logger, Registerer: registry},
			deployments: events.NewDeploymentTable(log, topics, logger),
		}
		registry.MustRegister(r.metrics)
		mux.HandleFunc("GET /{$}", r.servePage)
		service.Work(lifecycle, stop, health, logger, "reporter", r)
		return nil
	}))
}

// Flags adds the reporter's flags and returns its module by them.
func Flags(flags *pflag.FlagSet) func() fx.Option {
	config := DefaultConfig()
	hours := 0.0
	flags.StringVar(&config.ReportDir, "report-dir", config.ReportDir, "folder of the periodic reports")
	flags.StringVar(&config.ReportFilename, "report-filename", config.ReportFilename, "fixed name of the periodic report; empty names each by its time")
	flags.Float64Var(&hours, "report-interval-hours", hours, "hours between two periodic reports; 0 writes none")
	flags.DurationVar(&config.History, "history", config.History, "how far metrics and the live page reach back")
	flags.StringVar(&config.SummaryFormat, "summary-format", config.SummaryFormat, "form of the summary lines: text or json")
	return func() fx.Option {
		config.ReportInterval = time.Duration(hours * float64(time.Hour))
		return Module(config, os.Stdout)
	}
}
