package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
	"tidemark.dev/services/actuator"
	"tidemark.dev/services/collector"
)

// report is what the doctor found.
type report struct {
	Topics   []events.TopicState `json:"topics"`
	Findings []lint.Finding      `json:"findings"`
	// Preflight is nil where none was asked for.
	Preflight *preflight `json:"preflight,omitempty"`
	// provisioned says that the log has topics that are made beforehand, and
	// deployments how many were looked at.
	provisioned bool
	deployments int
}

func newDoctor() *cobra.Command {
	var fix bool
	var output string
	var retention map[string]string
	var trying bool
	var only []string
	var lookBack time.Duration
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check the log, its topics, and the deployments and their sources", Args: arguments(cobra.NoArgs),
		Long: `Check that the log can be reached and that its topics are what they should be;
then what the deployments in it will come to grief on, as tidemark apply does:
sources that do not answer or have no such series, series and scale targets of
other deployments, targets that cannot be reached.
With --fix, topics that do not exist are made, and nothing but topics is looked
at. One that exists is never changed: where it is not as it should be, that is
said, and to be mended by its operator.
With --preflight, the Kubernetes API server is asked, by dry runs that it does
not keep, whether the newest decision of each deployment would pass: by access,
admission and quota. It needs --kubeconfig, and changes nothing, also where a
deployment is active.
On kafka://, the parameters partitions and replication of the URL say what
topics are made with.`,
	}
	flags := addLogFlags(cmd)
	check := collector.CheckConfig{Timeout: 30 * time.Second}
	collector.CheckFlags(cmd.Flags(), &check)
	var preflightConfig actuator.PreflightConfig
	actuator.PreflightFlags(cmd.Flags(), &preflightConfig)
	cmd.Flags().BoolVar(&trying, "preflight", false, "ask the Kubernetes API server whether the newest decisions would pass, and change nothing")
	cmd.Flags().StringSliceVar(&only, "deployment", nil, "deployments to preflight; empty is all")
	cmd.Flags().DurationVar(&lookBack, "look-back", time.Hour, "how far back --preflight looks for a newest decision")
	cmd.Flags().BoolVar(&fix, "fix", false, "make topics that do not exist, and look at nothing else")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringToStringVar(&retention, "retention", nil, "how long a topic keeps its events, instead of the default: observations=720h,decisions=0 (0 is for ever)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "table" && output != "json" {
			return usageError{fmt.Errorf("output is %q, want table or json", output)}
		}
		switch {
		case trying && fix:
			return usageError{errors.New("--fix looks at nothing but topics; give --preflight without it")}
		case trying && preflightConfig.Kubeconfig == "":
			return usageError{errors.New("--preflight needs credentials of its own; name their file by --kubeconfig")}
		case !trying && (len(only) > 0 || preflightConfig != actuator.PreflightConfig{}):
			return usageError{errors.New("--deployment, --kubeconfig and --as are for --preflight")}
		}
		table, err := topicTable(retention)
		if err != nil {
			return usageError{err}
		}
		log, topics, err := flags.open(cmd)
		if err != nil {
			return err
		}
		defer log.Close()
		if _, err := log.Ends(cmd.Context(), topics.Name(events.TopicDeployments)); err != nil {
			return err
		}
		found := report{Topics: []events.TopicState{}, Findings: []lint.Finding{}}
		var unfit error
		if provisioner, ok := log.(events.Provisioner); ok {
			found.provisioned = true
			if found.Topics, err = provisioner.Provision(cmd.Context(), topics, table, fix); err != nil {
				return err
			}
			unfit = judge(found.Topics, "tidemark doctor --fix makes them")
		}
		if unfit == nil && !fix {
			if err := found.examine(cmd.Context(), log, topics, check); err != nil {
				return err
			}
		}
		if unfit == nil && trying {
			if found.Preflight, err = newPreflight(cmd.Context(), log, topics, preflightConfig, only, time.Now().Add(-lookBack)); err != nil {
				return err
			}
		}
		if err := found.print(cmd.OutOrStdout(), output); err != nil {
			return err
		}
		return cmp.Or(unfit, found.judge(), found.Preflight.judge(only))
	}
	return cmd
}

// examine looks at the deployments.
func (r *report) examine(ctx context.Context, log events.Log, topics events.Topics, check collector.CheckConfig) error {
	table, err := deployments(ctx, log, topics)
	if err != nil {
		return err
	}
	var specs []*model.Deployment
	for _, one := range table.All() {
		specs = append(specs, &one.Spec)
	}
	r.deployments = len(specs)
	r.Findings = append(r.Findings, collector.Check(ctx, check, specs, specs)...)
	return nil
}

func (r *report) print(out io.Writer, output string) error {
	if output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	if !r.provisioned {
		fmt.Fprintln(out, "The log can be worked on; its topics come with their first event.")
	}
	printStates(out, r.Topics)
	for _, finding := range r.Findings {
		fmt.Fprintln(out, finding)
	}
	if r.deployments > 0 && len(r.Findings) == 0 {
		fmt.Fprintf(out, "Deployments: %d, and nothing is found amiss.\n", r.deployments)
	}
	r.Preflight.print(out)
	return nil
}

// judge returns an error if a deployment cannot be decided as it is. What is
// only a warning is none.
func (r *report) judge() error {
	errs, of := 0, map[string]bool{}
	for _, finding := range r.Findings {
		if finding.Severity == lint.Error {
			errs++
			of[finding.Deployment] = true
		}
	}
	if errs == 0 {
		return nil
	}
	return fmt.Errorf("deployments cannot be decided as they are: %s (%d errors)", lint.Names(slices.Collect(maps.Keys(of))), errs)
}

// topicTable returns the table of the topics with other retentions.
func topicTable(retention map[string]string) ([]events.Topic, error) {
	table := slices.Clone(events.AllTopics[:])
	for name, text := range retention {
		i := slices.IndexFunc(table, func(t events.Topic) bool { return t.Name == name })
		kept, err := time.ParseDuration(text)
		switch {
		case i < 0:
			return nil, fmt.Errorf("retention: there is no topic %q; the topics are %s", name, strings.Join(topicNames, ", "))
		case err != nil || kept < 0:
			return nil, fmt.Errorf("retention: %s=%s is no duration; want one such as 720h, or 0 for ever", name, text)
		}
		table[i].Retention = kept
	}
	return table, nil
}

func printStates(out io.Writer, states []events.TopicState) {
	for _, state := range states {
		said := "is as it should be"
		switch {
		case state.Made:
			said = "was made"
		case !state.Exists:
			said = "does not exist"
		case len(state.Disagreements) > 0:
			said = strings.Join(state.Disagreements, "; ")
		}
		fmt.Fprintf(out, "%s: %s\n", state.Name, said)
	}
}

// judge returns an error if topics are missing or not what they should be, or
// if one that is keyed by deployment has another number of partitions than the
// rest: a deployment must have the same partition in each.
func judge(states []events.TopicState, remedy string) error {
	var missing, wrong []string
	counts := map[int]bool{}
	for _, state := range states {
		switch {
		case !state.Exists && !state.Made:
			missing = append(missing, state.Name)
			continue
		case len(state.Disagreements) > 0:
			wrong = append(wrong, state.Name)
		}
		counts[state.Partitions] = true
	}
	switch {
	case len(missing) > 0:
		return fmt.Errorf("topics do not exist: %s; %s", strings.Join(missing, ", "), remedy)
	case len(counts) > 1:
		return errors.New("the topics have different numbers of partitions, so a deployment has another partition in each; make them anew with one number")
	case len(wrong) > 0:
		return fmt.Errorf("topics are not what they should be: %s; nothing was changed", strings.Join(wrong, ", "))
	}
	return nil
}

// withTopics opens a log and sees that its topics are there: services that run
// without them would look idle and well.
func withTopics(topics events.Topics, create bool, warnings io.Writer) func(context.Context, string) (events.Log, error) {
	return func(ctx context.Context, url string) (events.Log, error) {
		log, err := drivers.OpenURL(ctx, url)
		if err != nil {
			return nil, err
		}
		provisioner, ok := log.(events.Provisioner)
		if !ok {
			return log, nil
		}
		states, err := provisioner.Provision(ctx, topics, events.AllTopics[:], create)
		if err != nil {
			return nil, errors.Join(err, log.Close())
		}
		if slices.ContainsFunc(states, func(s events.TopicState) bool { return !s.Exists && !s.Made }) {
			return nil, errors.Join(judge(states, "tidemark doctor --fix makes them, or up with --create-topics"), log.Close())
		}
		for _, state := range states {
			for _, disagreement := range state.Disagreements {
				fmt.Fprintf(warnings, "tidemark: topic %s: %s\n", state.Name, disagreement)
			}
		}
		return log, nil
	}
}
