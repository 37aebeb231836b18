package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"reflect"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
	"tidemark.dev/services/collector"
)

// controlSource is the source of the events that people cause.
const controlSource = "/tidemark/control"

// control writes the deployments topic, which nobody else does.
type control struct {
	log    events.Log
	topics events.Topics
	table  *events.DeploymentTable
	by     string
}

func newControl(ctx context.Context, log events.Log, topics events.Topics, by string) (*control, error) {
	table, err := deployments(ctx, log, topics)
	if err != nil {
		return nil, err
	}
	return &control{log: log, topics: topics, table: table, by: by}, nil
}

// openControl opens the log, which the caller closes, and reads the deployments.
func openControl(cmd *cobra.Command, open func(*cobra.Command) (events.Log, events.Topics, error), by string) (*control, error) {
	log, topics, err := open(cmd)
	if err != nil {
		return nil, err
	}
	c, err := newControl(cmd.Context(), log, topics, by)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return c, nil
}

// apply makes a specification the next revision of its deployment. It returns
// what was configured and what it changes, or changed=false when the
// deployment is like that already.
func (c *control) apply(ctx context.Context, spec model.Deployment, reason string) (after, before *model.DeploymentConfigured, changed bool, err error) {
	before, known := c.table.Current(spec.Name)
	next := &model.DeploymentConfigured{Deployment: spec.Name, Spec: spec, ChangedBy: c.by, Reason: reason}
	next.Revision, next.Epoch = c.table.NextRevision(spec.Name), c.table.LastEpoch(spec.Name)
	if known {
		keepStart(&next.Spec, &before.Spec)
		if reflect.DeepEqual(before.Spec, next.Spec) {
			return before, before, false, nil
		}
	}
	keepStart(&next.Spec, &model.Deployment{Source: &model.Source{Simulated: &model.SimulatedSource{StartedAt: new(time.Now().UTC())}}})
	if next.Spec.Mode() == model.Active && (!known || before.Spec.Mode() != model.Active) {
		next.Epoch++
	}
	return next, before, true, c.publish(ctx, next)
}

// keepStart gives a simulation that names no start the one that it had.
func keepStart(spec, from *model.Deployment) {
	if spec.Source == nil || spec.Source.Simulated == nil || spec.Source.Simulated.StartedAt != nil ||
		from.Source == nil || from.Source.Simulated == nil {
		return
	}
	simulated := *spec.Source.Simulated
	simulated.StartedAt = from.Source.Simulated.StartedAt
	spec.Source = &model.Source{Simulated: &simulated}
}

// switchMode makes a deployment active or advisory.
func (c *control) switchMode(ctx context.Context, name string, mode model.Mode, reason string) (*model.DeploymentConfigured, error) {
	before, known := c.table.Current(name)
	if !known {
		return nil, fmt.Errorf("there is no deployment %q; tidemark get lists them", name)
	}
	spec := before.Spec
	if spec.Mode() == mode {
		return nil, fmt.Errorf("deployment %s is %s already, since revision %d", name, mode, before.Revision)
	}
	if mode == model.Active && spec.Actuator == nil {
		return nil, fmt.Errorf("deployment %s has no actuator, so nothing could act on its decisions; configure one under the key actuator", name)
	}
	spec.Advisory = mode == model.Advisory
	after, _, _, err := c.apply(ctx, spec, reason)
	return after, err
}

// retire ends a deployment: nothing observes or decides it any more.
func (c *control) retire(ctx context.Context, name, reason string) error {
	if _, known := c.table.Current(name); !known {
		return fmt.Errorf("there is no deployment %q; tidemark get lists them", name)
	}
	retired := &model.DeploymentRetired{Deployment: name, Revision: c.table.NextRevision(name), ChangedBy: c.by, Reason: reason}
	sealed, err := events.Seal(retired, events.About{Source: controlSource, Time: time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := c.log.Publisher().Publish(c.topics.Name(events.TopicDeployments), sealed.Message()); err != nil {
		return fmt.Errorf("retire %s: %w", name, err)
	}
	return c.table.CatchUp(ctx)
}

// publish appends a revision and makes sure that it is this one that stands:
// of two people who change a deployment at the same time, one must learn that
// the other was first.
func (c *control) publish(ctx context.Context, next *model.DeploymentConfigured) error {
	sealed, err := events.Seal(next, events.About{Source: controlSource, Time: time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := c.log.Publisher().Publish(c.topics.Name(events.TopicDeployments), sealed.Message()); err != nil {
		return fmt.Errorf("publish revision %d of %s: %w", next.Revision, next.Deployment, err)
	}
	if err := c.table.CatchUp(ctx); err != nil {
		return fmt.Errorf("read back revision %d of %s: %w", next.Revision, next.Deployment, err)
	}
	stands, known := c.table.Revision(next.Deployment, next.Revision)
	if !known || stands.ChangedBy != next.ChangedBy || stands.Reason != next.Reason || !reflect.DeepEqual(stands.Spec, next.Spec) {
		return fmt.Errorf("somebody else changed %s at the same time; look at it with tidemark get %s and run the command again", next.Deployment, next.Deployment)
	}
	return nil
}

// whoami names the person at the command line: account@host.
func whoami() string {
	name, host := "unknown", "unknown"
	if account, err := user.Current(); err == nil {
		name = account.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

func newApply() *cobra.Command {
	var files []string
	var reason, by string
	var strict bool
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Configure deployments from a file", Args: arguments(cobra.NoArgs),
		Long: `Configure the deployments of a file, YAML or JSON. The file is checked whole: on
any problem nothing is applied, and every problem is named with its line. A
deployment that is like that already is left alone.

What a valid file will come to grief on is said and applied all the same, unless
with --strict: sources that do not answer or have no such series, series and
scale targets of other deployments, targets that cannot be reached. Sources are
looked at from here, for no longer than --check-timeout.`,
	}
	flags := addLogFlags(cmd)
	check := collector.CheckConfig{Timeout: 5 * time.Second}
	collector.CheckFlags(cmd.Flags(), &check)
	cmd.Flags().BoolVar(&strict, "strict", false, "apply nothing if anything is found")
	cmd.Flags().StringSliceVarP(&files, "file", "f", nil, "configuration file; - is standard input")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	cmd.Flags().StringVar(&by, "by", whoami(), "who, for the record")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(files) == 0 {
			return usageError{errors.New("no file is given; usage: tidemark apply -f FILE")}
		}
		specs, err := loadFiles(cmd.InOrStdin(), files)
		if err != nil {
			return err
		}
		control, err := openControl(cmd, flags.open, by)
		if err != nil {
			return err
		}
		defer control.log.Close()
		if err := control.warn(cmd.Context(), check, specs, strict, cmd.ErrOrStderr()); err != nil {
			return err
		}
		for _, spec := range specs {
			after, before, changed, err := control.apply(cmd.Context(), spec, reason)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), describeChange(after, before, changed))
		}
		return nil
	}
	return cmd
}

// warn says what specifications will come to grief on, among all that there are.
// Strict makes it an error.
func (c *control) warn(ctx context.Context, check collector.CheckConfig, specs []model.Deployment, strict bool, out io.Writer) error {
	var mine, all []*model.Deployment
	names := map[string]bool{}
	for i := range specs {
		mine, names[specs[i].Name] = append(mine, &specs[i]), true
	}
	all = slices.Clone(mine)
	for _, other := range c.table.All() {
		if !names[other.Deployment] {
			all = append(all, &other.Spec)
		}
	}
	found := 0
	for _, finding := range collector.Check(ctx, check, mine, all) {
		if finding.Severity == lint.Unchecked {
			continue
		}
		found++
		fmt.Fprintf(out, "tidemark: %s\n", finding)
	}
	if strict && found > 0 {
		return fmt.Errorf("nothing is applied: --strict, and the file has %d findings", found)
	}
	return nil
}

func describeChange(after, before *model.DeploymentConfigured, changed bool) string {
	mode := string(after.Spec.Mode())
	switch {
	case !changed:
		return fmt.Sprintf("%s: unchanged at revision %d, %s", after.Deployment, after.Revision, mode)
	case before == nil:
		return fmt.Sprintf("%s: configured at revision %d, %s", after.Deployment, after.Revision, mode)
	case before.Spec.Mode() != after.Spec.Mode():
		mode = fmt.Sprintf("%s -> %s (epoch %d)", before.Spec.Mode(), mode, after.Epoch)
	}
	return fmt.Sprintf("%s: configured at revision %d, %s", after.Deployment, after.Revision, mode)
}

func newActivate() *cobra.Command {
	return newSwitch("activate", "Let the actuator act on a deployment's decisions", model.Active)
}

func newAdvise() *cobra.Command {
	return newSwitch("advise", "Make a deployment advisory: decide and never act", model.Advisory)
}

func newSwitch(verb, short string, mode model.Mode) *cobra.Command {
	var reason, by string
	cmd := &cobra.Command{Use: verb + " NAME --reason WHY", Short: short, Args: arguments(cobra.ExactArgs(1))}
	flags := addLogFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	cmd.Flags().StringVar(&by, "by", whoami(), "who, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if reason == "" {
			return usageError{fmt.Errorf("no reason is given; usage: tidemark %s NAME --reason WHY", verb)}
		}
		control, err := openControl(cmd, flags.openExisting, by)
		if err != nil {
			return err
		}
		defer control.log.Close()
		after, err := control.switchMode(cmd.Context(), args[0], mode, reason)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s since revision %d (epoch %d)\n", after.Deployment, mode, after.Revision, after.Epoch)
		return nil
	}
	return cmd
}
