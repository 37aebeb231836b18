package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/service"
)

// logFlags are the flags of commands that work on the event log.
type logFlags struct{ service.Config }

func addLogFlags(cmd *cobra.Command) *logFlags {
	flags := &logFlags{service.DefaultConfig("tidemark")}
	service.LogFlags(cmd.Flags(), &flags.Config)
	return flags
}

// open opens the log for one command.
func (f *logFlags) open(cmd *cobra.Command) (events.Log, events.Topics, error) {
	log, err := drivers.OpenURL(cmd.Context(), f.Log)
	return log, f.Topics(), err
}

// deployments reads the table of deployments as it is now.
func deployments(ctx context.Context, log events.Log, topics events.Topics) (*events.DeploymentTable, error) {
	table := events.NewDeploymentTable(log, topics, slog.New(slog.DiscardHandler))
	return table, table.Start(ctx)
}
