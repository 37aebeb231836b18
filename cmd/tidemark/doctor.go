package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
)

func newDoctor() *cobra.Command {
	var fix bool
	var output string
	var retention map[string]string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check that the log can be worked on, and make the topics that are missing", Args: arguments(cobra.NoArgs),
		Long: `Check that the log can be reached and that its topics are what they should be.
With --fix, topics that do not exist are made. One that exists is never changed:
where it is not as it should be, that is said, and to be mended by its operator.
On kafka://, the parameters partitions and replication of the URL say what
topics are made with.`,
	}
	flags := addLogFlags(cmd)
	cmd.Flags().BoolVar(&fix, "fix", false, "make topics that do not exist")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringToStringVar(&retention, "retention", nil, "how long a topic keeps its events, instead of the default: observations=720h,decisions=0 (0 is for ever)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "table" && output != "json" {
			return usageError{fmt.Errorf("output is %q, want table or json", output)}
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
		provisioner, ok := log.(events.Provisioner)
		if !ok {
			if output == "json" {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "[]")
			} else {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "The log can be worked on; its topics come with their first event.")
			}
			return err
		}
		states, err := provisioner.Provision(cmd.Context(), topics, table, fix)
		if err != nil {
			return err
		}
		if err := printStates(cmd.OutOrStdout(), states, output); err != nil {
			return err
		}
		return judge(states, "tidemark doctor --fix makes them")
	}
	return cmd
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

func printStates(out io.Writer, states []events.TopicState, output string) error {
	if output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(states)
	}
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
		if _, err := fmt.Fprintf(out, "%s: %s\n", state.Name, said); err != nil {
			return err
		}
	}
	return nil
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
