// Command tidemark is Tidemark's command line, and all four of its services in
// one process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitDiffers = 3
)

// usageError is wrong usage of the command line.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns its exit code. An error is one clear
// line on stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "tidemark:", err)
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	if _, differs := errors.AsType[differenceError](err); differs {
		return exitDiffers
	}
	return exitError
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tidemark",
		Short: "An autoscaler for LLM inference fleets that shows what it would do before it is allowed to",
		Long: `Tidemark observes LLM inference fleets, decides how many replicas they should
have, and shows it. Everything it sees, decides and does is an event in a log.
A deployment is advisory until it is activated: until then nothing is changed.`,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("there is no command %q; tidemark --help lists them", args[0])}
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; %s --help lists the flags", err, cmd.CommandPath())}
	})
	root.AddCommand(
		newDemo(), newUp(), newApply(), newGet(), newActivate(), newAdvise(), newApprove(), newFreeze(), newThaw(),
		newTail(), newDecide(), newForecast(), newImport(), newReport(), newDoctor(), newEngine(), newVersion(),
		newReplay(), newExplain(), newSimulate(),
	)
	return root
}

// arguments makes a command's check of its arguments answer with wrong usage.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
