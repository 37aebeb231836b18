package reporter

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/fx"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/reporter/internal/metrics"
	"tidemark.dev/services/reporter/internal/web"
)

// pace is the least time between two pushes to a page that is looked at.
const pace = 2 * time.Second

// Module is the reporter as an fx module, over what service.Module provides.
// Lines go to summaries.
func Module(config Config, summaries io.Writer) fx.Option {
	return fx.Module("reporter", fx.Invoke(func(
		lifecycle fx.Lifecycle, stop fx.Shutdowner, process service.Config, health *service.Health, mux *http.ServeMux,
		log events.Log, topics events.Topics, logger *slog.Logger, registry *prometheus.Registry,
	) error {
		config.SummaryFormat = cmp.Or(config.SummaryFormat, process.LogFormat)
		if err := config.Validate(); err != nil {
			return fmt.Errorf("reporter: %w", err)
		}
		access, err := config.access(process.Listen)
		if err != nil {
			return fmt.Errorf("reporter: %w", err)
		}
		logger = logger.With("service", "reporter")
		r := &Reporter{
			config: config, log: log, topics: topics, logger: logger, summaries: summaries, now: time.Now,
			metrics: metrics.New(), live: web.NewLive(config.History),
			router:      events.RouterConfig{Service: "reporter", Log: log, Topics: topics, Logger: logger, Registerer: registry},
			deployments: events.NewDeploymentTable(log, topics, logger),
		}
		registry.MustRegister(r.metrics)
		stopping, end := context.WithCancel(context.Background())
		lifecycle.Append(fx.StopHook(end))
		server := &web.Server{Live: r.live, Source: answers{r}, Logger: logger, Access: access, Pace: pace, Now: time.Now, Stopping: stopping}
		server.Register(mux)
		service.Work(lifecycle, stop, health, logger, "reporter", r)
		return nil
	}))
}

// access says who may read the page and the API at an address.
func (c Config) access(listen string) (web.Access, error) {
	if c.AuthFile != "" {
		return web.LoadAccess(c.AuthFile)
	}
	host, _, err := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	if listen == "" || err != nil || host == "localhost" || ip != nil && ip.IsLoopback() || c.AllowAnonymous {
		return web.Access{}, nil // An address that is malformed is refused by who listens.
	}
	return web.Access{}, fmt.Errorf("others than this machine can reach the page and the API at %s: name those who may read with --auth-file, or let everyone with --allow-anonymous", listen)
}

// Flags adds the reporter's flags and returns its module by them.
func Flags(flags *pflag.FlagSet) func() fx.Option {
	config := DefaultConfig()
	hours := 0.0
	flags.StringVar(&config.ReportDir, "report-dir", config.ReportDir, "folder of the periodic reports")
	flags.StringVar(&config.ReportFilename, "report-filename", config.ReportFilename, "fixed name of the periodic report; empty names each by its time")
	flags.Float64Var(&hours, "report-interval-hours", hours, "hours between two periodic reports; 0 writes none")
	flags.DurationVar(&config.History, "history", config.History, "how far the live page reaches back")
	flags.DurationVar(&config.DigestInterval, "digest-interval", config.DigestInterval, "time between two digests of each deployment, and what each sums up; 0 prints none")
	flags.StringVar(&config.SummaryFormat, "summary-format", config.SummaryFormat, "form of the summary lines: text or json; empty is that of --log-format")
	flags.StringVar(&config.AuthFile, "auth-file", config.AuthFile, "file of those who may read the page and the API: lines \"bearer TOKEN\" and \"basic USER:PASSWORD\"")
	flags.BoolVar(&config.AllowAnonymous, "allow-anonymous", config.AllowAnonymous, "let everyone read the page and the API, also at an address that is not loopback")
	return func() fx.Option {
		config.ReportInterval = time.Duration(hours * float64(time.Hour))
		return Module(config, os.Stdout)
	}
}
