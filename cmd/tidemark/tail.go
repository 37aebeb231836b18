package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter"
)

// line is a record of the log as a JSON line.
type line struct {
	Topic      string          `json:"topic"`
	Partition  int32           `json:"partition"`
	Position   int64           `json:"position"`
	AppendedAt time.Time       `json:"appended_at"`
	ID         string          `json:"id,omitempty"`
	Type       string          `json:"type,omitempty"`
	Time       *time.Time      `json:"time,omitempty"`
	Causation  string          `json:"causation_id,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	// Error stands for the rest where the record cannot be decoded.
	Error string `json:"error,omitempty"`
}

var topicNames = []string{
	events.TopicDeployments, events.TopicObservations, events.TopicDecisions,
	events.TopicActuations, events.TopicCheckpoints, events.TopicDeadLetters,
}

func newTail() *cobra.Command {
	var deployment, action, output string
	var types []string
	var bounded bool
	var since time.Duration
	cmd := &cobra.Command{
		Use: "tail [TOPIC]", Short: "Print the events of a topic as they come (decisions, if none is named)",
		Args: arguments(cobra.MaximumNArgs(1)), ValidArgs: topicNames,
	}
	flags := addLogFlags(cmd)
	cmd.Flags().StringVar(&deployment, "deployment", "", "only the events of this deployment")
	cmd.Flags().StringVar(&action, "action", "", "only decisions of this action: hold, scale_up, scale_down or rebalance")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only events whose type contains this: scaling-applied")
	cmd.Flags().BoolVar(&bounded, "to-end", false, "stop at the end as it is now, instead of following")
	cmd.Flags().DurationVar(&since, "since", 0, "start this long ago, instead of at the start of the topic")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := events.TopicDecisions
		if len(args) > 0 {
			name = args[0]
		}
		if !slices.Contains(topicNames, name) {
			return usageError{fmt.Errorf("there is no topic %q; the topics are %s", name, strings.Join(topicNames, ", "))}
		}
		if output != "text" && output != "json" {
			return usageError{fmt.Errorf("output is %q, want text or json", output)}
		}
		log, topics, err := flags.openExisting(cmd)
		if err != nil {
			return err
		}
		defer log.Close()
		window := events.Range{Key: deployment}
		if since > 0 {
			window.From.Time = time.Now().Add(-since)
		}
		read := log.Follow
		if bounded {
			read = log.Read
		}
		for record, err := range read(cmd.Context(), topics.Name(name), window) {
			if err != nil {
				if cmd.Context().Err() != nil {
					return nil
				}
				return fmt.Errorf("read %s: %w", topics.Name(name), err)
			}
			if err := printRecord(cmd.OutOrStdout(), record, output, types, model.Action(action)); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// printRecord prints a record that the filters let through.
func printRecord(out io.Writer, record events.Record, output string, types []string, action model.Action) error {
	printed := line{Topic: record.Topic, Partition: record.Partition, Position: record.Position, AppendedAt: record.AppendedAt.UTC()}
	event, err := record.Event()
	var fact any
	if err == nil {
		printed.ID, printed.Type, printed.Time, printed.Causation, printed.Data = event.ID, event.Type, &event.Time, event.CausationID, event.Data
		fact, err = event.Fact()
	}
	if err != nil {
		printed.Error = err.Error()
	}
	decision, isDecision := fact.(*model.ScalingDecision)
	switch {
	case len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return strings.Contains(event.Type, t) }):
		return nil
	case action != "" && (!isDecision || decision.Action != action):
		return nil
	}
	if output == "json" {
		return json.NewEncoder(out).Encode(printed)
	}
	switch {
	case printed.Error != "":
		_, err = fmt.Fprintf(out, "%s %s[%d]@%d cannot be decoded: %s\n", printed.AppendedAt.Format(time.RFC3339), record.Topic, record.Partition, record.Position, printed.Error)
	case isDecision:
		_, err = fmt.Fprintln(out, decision.ObservedAt.Format(time.RFC3339), reporter.Summary(decision))
	default:
		_, err = fmt.Fprintf(out, "%s %s %s\n", event.Time.UTC().Format(time.RFC3339), event.Type, event.Data)
	}
	return err
}
