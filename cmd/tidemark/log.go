package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/events/sqlite"
	"tidemark.dev/pkg/service"
)

// logFlags are the flags of commands that work on the event log.
type logFlags struct{ service.Config }

func addLogFlags(cmd *cobra.Command) *logFlags {
	flags := &logFlags{service.DefaultConfig("tidemark")}
	service.LogFlags(cmd.Flags(), &flags.Config)
	return flags
}

// open opens the log for one command, and makes it if there is none.
func (f *logFlags) open(cmd *cobra.Command) (events.Log, events.Topics, error) {
	log, err := drivers.OpenURL(cmd.Context(), f.Log)
	return log, f.Topics(), err
}

// openExisting opens the log for a command to which an empty log is of no use:
// a mistyped path is an error, and leaves no file behind.
func (f *logFlags) openExisting(cmd *cobra.Command) (events.Log, events.Topics, error) {
	if config, err := sqlite.ParseURL(f.Log); err == nil {
		if _, err := os.Stat(config.Path); errors.Is(err, fs.ErrNotExist) {
			return nil, events.Topics{}, fmt.Errorf("there is no log %s; name it with --log, or make one with tidemark apply or tidemark up", config.Path)
		}
	}
	return f.open(cmd)
}

// deployments reads the table of deployments as it is now.
func deployments(ctx context.Context, log events.Log, topics events.Topics) (*events.DeploymentTable, error) {
	table := events.NewDeploymentTable(log, topics, slog.New(slog.DiscardHandler))
	return table, table.Start(ctx)
}
