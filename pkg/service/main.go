package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/dig"
	"go.uber.org/fx"

	"tidemark.dev/pkg/events"
)

// Flags adds the flags of a service process. Each has an environment variable:
// TIDEMARK_LOG for --log.
func Flags(flags *pflag.FlagSet, config *Config) {
	flags.StringVar(&config.Log, "log", fromEnvironment("log", config.Log), "URL of the event log: sqlite://PATH, kafka://HOST:PORT,... or memory:// (env TIDEMARK_LOG)")
	flags.StringVar(&config.Listen, "listen", fromEnvironment("listen", config.Listen), "address of /metrics, /healthz and /readyz; empty serves none (env TIDEMARK_LISTEN)")
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
	code := 0
	command := &cobra.Command{
		Use: "tidemark-" + name, Short: short, Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
	}
	Flags(command.Flags(), &config)
	build := module(command.Flags())
	command.RunE = func(*cobra.Command, []string) error {
		if err := config.Validate(); err != nil {
			return err
		}
		code = Run(os.Stderr, Module(config, os.Stderr, open), build())
		return nil
	}
	if err := command.Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "tidemark-%s: %v\n", name, err)
		return 2
	}
	return code
}

// Run runs an application until it is asked to stop by a signal or by one of
// its parts, and returns the exit code.
func Run(stderr io.Writer, options ...fx.Option) int {
	app := fx.New(append(options, WithLogger(), fx.StopTimeout(StopTimeout))...)
	if err := app.Err(); err != nil {
		fmt.Fprintln(stderr, "tidemark:", dig.RootCause(err))
		return 1
	}
	start, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(start); err != nil {
		fmt.Fprintln(stderr, "tidemark:", dig.RootCause(err))
		return 1
	}
	signal := <-app.Wait()
	stop, cancelStop := context.WithTimeout(context.Background(), app.StopTimeout())
	defer cancelStop()
	if err := app.Stop(stop); err != nil {
		fmt.Fprintln(stderr, "tidemark: stop:", dig.RootCause(err))
		return 1
	}
	return signal.ExitCode
}
