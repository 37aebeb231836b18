package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/dig"
	"go.uber.org/fx"

	"tidemark.dev/pkg/events"
)

// LogFlags adds the flags that name the event log. Each flag has an environment
// variable: TIDEMARK_LOG for --log.
func LogFlags(flags *pflag.FlagSet, config *Config) {
	flags.StringVar(&config.Log, "log", fromEnvironment("log", config.Log), "URL of the event log: sqlite://PATH, kafka://HOST:PORT,... or memory:// (env TIDEMARK_LOG)")
	flags.StringVar(&config.TopicPrefix, "topic-prefix", fromEnvironment("topic-prefix", config.TopicPrefix), "prefix of the topics (env TIDEMARK_TOPIC_PREFIX)")
}

// ProcessFlags adds the flags of a process that serves.
func ProcessFlags(flags *pflag.FlagSet, config *Config) {
	flags.StringVar(&config.Listen, "listen", fromEnvironment("listen", config.Listen), "address of /metrics, /healthz and /readyz; empty serves none (env TIDEMARK_LISTEN)")
	flags.StringVar(&config.TLSCert, "tls-cert", fromEnvironment("tls-cert", config.TLSCert), "file of the certificate chain (PEM) by which the endpoints are served; empty serves them in the clear (env TIDEMARK_TLS_CERT)")
	flags.StringVar(&config.TLSKey, "tls-key", fromEnvironment("tls-key", config.TLSKey), "file of the key (PEM) of --tls-cert (env TIDEMARK_TLS_KEY)")
	flags.StringVar(&config.LogFormat, "log-format", fromEnvironment("log-format", config.LogFormat), "text or json (env TIDEMARK_LOG_FORMAT)")
	flags.StringVar(&config.LogLevel, "log-level", fromEnvironment("log-level", config.LogLevel), "debug, info, warn or error (env TIDEMARK_LOG_LEVEL)")
}

func fromEnvironment(flag, fallback string) string {
	name := "TIDEMARK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
	if value, given := os.LookupEnv(name); given {
		return value
	}
	return fallback
}

// Main is the main function of a process that is one service. It returns the
// exit code: 0 after a stop that was asked for, 1 after a failure, 2 for wrong
// usage.
func Main(name, short string, open func(context.Context, string) (events.Log, error), module func(*pflag.FlagSet) func() fx.Option) int {
	config := DefaultConfig(name)
	code := 2
	command := &cobra.Command{
		Use: "tidemark-" + name, Short: short, Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
	}
	LogFlags(command.Flags(), &config)
	ProcessFlags(command.Flags(), &config)
	build := module(command.Flags())
	command.RunE = func(command *cobra.Command, _ []string) error {
		if err := config.Validate(); err != nil {
			return err
		}
		code = 1
		return Run(command.Context(), Module(config, os.Stderr, open), build())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "tidemark-%s: %v\n", name, err)
		return code
	}
	return 0
}

// Run runs an application until the context is done or one of its parts ends
// it, which is an error.
func Run(ctx context.Context, options ...fx.Option) error {
	app := fx.New(append(options, WithLogger(), fx.StopTimeout(StopTimeout))...)
	if err := app.Err(); err != nil {
		return dig.RootCause(err)
	}
	starting, cancel := context.WithTimeout(ctx, app.StartTimeout())
	defer cancel()
	if err := app.Start(starting); err != nil {
		err = dig.RootCause(err)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // It was asked to end before it had begun.
		}
		return err
	}
	var ended error
	select {
	case <-ctx.Done():
	case signal := <-app.Wait():
		if signal.ExitCode != 0 {
			ended = errors.New("a service ended; its last lines in the log say why")
		}
	}
	stopping, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), app.StopTimeout())
	defer cancelStop()
	if err := app.Stop(stopping); err != nil {
		return errors.Join(ended, fmt.Errorf("stop: %w", dig.RootCause(err)))
	}
	return ended
}
