package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// freeze stops the actuator for a deployment, or for all where no name is given.
func (c *control) freeze(ctx context.Context, name, reason string) error {
	return c.publishFreeze(ctx, name, &model.ScalingFrozen{Deployment: name, OccurredAt: time.Now().UTC(), ChangedBy: c.by, Reason: reason})
}

// thaw ends a freeze of the same scope. A freeze of all goes on for a deployment
// that is thawed by its name.
func (c *control) thaw(ctx context.Context, name, reason string) error {
	frozen, is := c.table.Frozen(name)
	switch {
	case !is:
		return fmt.Errorf("%s not frozen", scopeText(name, "is", "are"))
	case frozen.Deployment != name:
		return fmt.Errorf("all deployments are frozen, and with them %s; end that by tidemark thaw --all", name)
	}
	return c.publishFreeze(ctx, name, &model.ScalingThawed{Deployment: name, OccurredAt: time.Now().UTC(), ChangedBy: c.by, Reason: reason})
}

func (c *control) publishFreeze(ctx context.Context, name string, fact any) error {
	if _, known := c.table.Current(name); name != "" && !known {
		return fmt.Errorf("there is no deployment %q; tidemark get lists them", name)
	}
	sealed, err := events.Seal(fact, events.About{Source: controlSource})
	if err != nil {
		return err
	}
	if err := c.log.Publisher().Publish(c.topics.Name(events.TopicDeployments), sealed.Message()); err != nil {
		return fmt.Errorf("publish %s: %w", sealed.Type, err)
	}
	return c.table.CatchUp(ctx)
}

func scopeText(name, one, all string) string {
	if name == "" {
		return "all deployments " + all
	}
	return name + " " + one
}

func newFreeze() *cobra.Command {
	cmd := newFreezing("freeze", "Stop the actuator at once, for a deployment or for all", (*control).freeze,
		func(name string) string {
			return scopeText(name, "is", "are") + " frozen: nothing is written until tidemark thaw ends it"
		})
	cmd.Long = `Stop the actuator, for one deployment or for all, those that are configured later
included. It is asked before each write, so that what is under way stops too.
Decisions go on being made, and are refused. A freeze outlives every restart.`
	return cmd
}

func newThaw() *cobra.Command {
	return newFreezing("thaw", "End a freeze: of a deployment, or of all", (*control).thaw,
		func(name string) string { return scopeText(name, "is", "are") + " not frozen any more" })
}

func newFreezing(verb, short string, do func(*control, context.Context, string, string) error, done func(string) string) *cobra.Command {
	var reason, by string
	var all bool
	cmd := &cobra.Command{Use: verb + " NAME|--all --reason WHY", Short: short, Args: arguments(cobra.MaximumNArgs(1))}
	flags := addLogFlags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all deployments, those to come included")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	cmd.Flags().StringVar(&by, "by", whoami(), "who, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) == 1) {
			return usageError{errors.New("name a deployment, or give --all; usage: " + cmd.UseLine())}
		}
		if reason == "" {
			return usageError{errors.New("no reason is given; usage: " + cmd.UseLine())}
		}
		name := ""
		if !all {
			name = args[0]
		}
		control, err := openControl(cmd, flags.openExisting, by)
		if err != nil {
			return err
		}
		defer control.log.Close()
		if err := do(control, cmd.Context(), name, reason); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), done(name))
		return nil
	}
	return cmd
}
