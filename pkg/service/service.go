// Package service is the shape that Tidemark's services share: structured
// logs, one port with /metrics, /healthz and /readyz, the log that they work
// on, and a process that ends with a code when it cannot go on.
//
// It knows nothing of what a service does. A service is an fx module that
// takes what Module provides.
package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"tidemark.dev/pkg/events"
)

// StopTimeout bounds a graceful stop: the message in hand is finished,
// published and committed within it.
const StopTimeout = 15 * time.Second

// lagEvery is how often the lag of the consumer groups is brought up to date.
const lagEvery = 10 * time.Second

// Config is what every service process is told.
type Config struct {
	// Name names the process in logs and in the source of its events.
	Name string
	// Log is the URL of the event log.
	Log string
	// TopicPrefix is the prefix of the topics.
	TopicPrefix string
	// Listen is the address of the HTTP endpoints; empty serves none.
	Listen string
	// TLSCert and TLSKey are the files of the certificate chain and the key, in
	// PEM, by which the endpoints are served; without them they are served in the
	// clear.
	TLSCert, TLSKey string
	// LogFormat is text or json.
	LogFormat string
	// LogLevel is debug, info, warn or error.
	LogLevel string
}

// DefaultConfig returns the configuration of a process of that name.
func DefaultConfig(name string) Config {
	return Config{Name: name, Log: "sqlite://tidemark.db", TopicPrefix: events.DefaultPrefix, Listen: "127.0.0.1:0", LogFormat: "text", LogLevel: "info"}
}

// Topics names the topics of the log.
func (c Config) Topics() events.Topics { return events.Topics{Prefix: c.TopicPrefix} }

// Validate reports all that is wrong with the configuration.
func (c Config) Validate() error {
	var problems []error
	if c.Log == "" {
		problems = append(problems, errors.New("log: is missing; want a URL such as sqlite:///var/lib/tidemark/tidemark.db"))
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		problems = append(problems, errors.New("tls-cert, tls-key: one of the two is missing"))
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		problems = append(problems, fmt.Errorf("log-format: is %q, want text or json", c.LogFormat))
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		problems = append(problems, fmt.Errorf("log-level: is %q, want debug, info, warn or error", c.LogLevel))
	}
	return errors.Join(problems...)
}

// NewLogger returns the logger of a process. Configuration that Validate
// refuses falls back to text at level info.
func NewLogger(c Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(c.LogLevel)) != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// NewRegistry returns a metrics registry with the figures of the Go runtime
// and the process.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Module provides what services build on: a *slog.Logger that writes to out, a
// *prometheus.Registry, a *Health, a *http.ServeMux served at config.Listen,
// and the event log that open opens. The log is closed last, after all that
// use it have stopped.
func Module(config Config, out io.Writer, open func(context.Context, string) (events.Log, error)) fx.Option {
	return fx.Module("service",
		fx.Supply(config, config.Topics()),
		fx.Provide(
			func() *slog.Logger { return NewLogger(config, out) },
			NewRegistry,
			NewHealth,
			http.NewServeMux,
			func(lifecycle fx.Lifecycle, logger *slog.Logger, registry *prometheus.Registry) (events.Log, error) {
				ctx, cancel := context.WithTimeout(context.Background(), StopTimeout)
				defer cancel()
				opened, err := open(ctx, config.Log)
				if err != nil {
					return nil, err
				}
				log, err := events.Measure(opened, logger, registry)
				if err != nil {
					return nil, errors.Join(err, opened.Close())
				}
				watching, stop := context.WithCancel(context.Background())
				lifecycle.Append(fx.Hook{
					OnStart: func(context.Context) error {
						go log.Watch(watching, lagEvery)
						return nil
					},
					OnStop: func(context.Context) error {
						stop()
						return log.Close()
					},
				})
				return log, nil
			},
		),
		fx.Invoke(serveHTTP),
	)
}

// WithLogger makes fx log its own events at level debug through the process's
// logger, its errors too: they are returned, and whoever runs the application
// reports them once.
func WithLogger() fx.Option {
	return fx.WithLogger(func(logger *slog.Logger) fxevent.Logger {
		quiet := &fxevent.SlogLogger{Logger: logger}
		quiet.UseLogLevel(slog.LevelDebug)
		quiet.UseErrorLevel(slog.LevelDebug)
		return quiet
	})
}

// serveHTTP serves the endpoints while the process runs.
func serveHTTP(lifecycle fx.Lifecycle, stop fx.Shutdowner, config Config, mux *http.ServeMux, health *Health, registry *prometheus.Registry, logger *slog.Logger) {
	if config.Listen == "" {
		return
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /readyz", health)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	lifecycle.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			var listen net.ListenConfig
			listener, err := listen.Listen(ctx, "tcp", config.Listen)
			if err != nil {
				return fmt.Errorf("serve HTTP at %s: %w", config.Listen, err)
			}
			scheme := "http"
			if config.TLSCert != "" {
				certificate, err := tls.LoadX509KeyPair(config.TLSCert, config.TLSKey)
				if err != nil {
					listener.Close()
					return fmt.Errorf("serve HTTPS with --tls-cert %s and --tls-key %s: %w", config.TLSCert, config.TLSKey, err)
				}
				listener = tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}})
				scheme = "https"
			}
			health.address.Store(listener.Addr().String())
			logger.Info("serving", "address", scheme+"://"+listener.Addr().String(), "endpoints", "/metrics /healthz /readyz")
			go func() {
				if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
					logger.Error("HTTP server ended", "error", err)
					_ = stop.Shutdown(fx.ExitCode(1))
				}
			}()
			return nil
		},
		OnStop: server.Shutdown,
	})
}
