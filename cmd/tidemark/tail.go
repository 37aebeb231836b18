package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/archive"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter"
)

var topicNames = []string{
	events.TopicDeployments, events.TopicObservations, events.TopicDecisions,
	events.TopicActuations, events.TopicApprovals, events.TopicCheckpoints, events.TopicDeadLetters,
}

// allTopics is the argument that names every topic.
const allTopics = "all"

// tailed selects what a tail prints.
type tailed struct {
	topics      []string
	deployments []string
	types       []string
	action      model.Action
	output      string
	bounded     bool
	window      events.Range
}

func newTail() *cobra.Command {
	var t tailed
	var action string
	var since time.Duration
	cmd := &cobra.Command{
		Use: "tail [TOPIC...]", Short: "Print the events of topics as they come (decisions, if none is named)",
		Long: `Print the events of topics, or of all, from the start or from a place on, and go
on with what comes; or stop at the end as it is now, or at a place. Topics are
deployments, observations, decisions, actuations, checkpoints, dead-letters.

With -o json each line is a record as it stands in the log, to the byte of its
data. A file of such lines is an archive: tidemark replay, explain, report and
tail read it, with --log archive://FILE.`,
		Args: arguments(cobra.ArbitraryArgs), ValidArgs: append([]string{allTopics}, topicNames...),
	}
	flags := addLogFlags(cmd)
	bounds := addBoundFlags(cmd)
	cmd.Flags().StringSliceVar(&t.deployments, "deployment", nil, "only the events of these deployments")
	cmd.Flags().StringVar(&action, "action", "", "only decisions of this action: hold, scale_up, scale_down or rebalance")
	cmd.Flags().StringSliceVar(&t.types, "type", nil, "only events whose type contains this: scaling-applied")
	cmd.Flags().BoolVar(&t.bounded, "to-end", false, "stop at the end as it is now, instead of following")
	cmd.Flags().DurationVar(&since, "since", 0, "start this long ago, instead of at the start of the topic")
	cmd.Flags().StringVarP(&t.output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t.topics, t.action = args, model.Action(action)
		if len(args) == 0 {
			t.topics = []string{events.TopicDecisions}
		}
		if slices.Contains(args, allTopics) {
			t.topics = topicNames
		}
		var err error
		if t.window.From, t.window.To, err = bounds.bounds(); err != nil {
			return err
		}
		if err := t.check(since); err != nil {
			return usageError{err}
		}
		if since > 0 {
			t.window.From.Time = time.Now().Add(-since)
		}
		t.bounded = t.bounded || bounds.to != ""
		log, topics, err := flags.openExisting(cmd)
		if err != nil {
			return err
		}
		defer log.Close()
		return t.print(cmd.Context(), log, topics, cmd.OutOrStdout())
	}
	return cmd
}

func (t *tailed) check(since time.Duration) error {
	for _, name := range t.topics {
		if !slices.Contains(topicNames, name) {
			return fmt.Errorf("there is no topic %q; the topics are %s", name, strings.Join(topicNames, ", "))
		}
	}
	actions := []model.Action{"", model.Hold, model.ScaleUp, model.ScaleDown, model.Rebalance}
	from := t.window.From
	switch {
	case t.output != "text" && t.output != "json":
		return fmt.Errorf("output is %q, want text or json", t.output)
	case !slices.Contains(actions, t.action):
		return fmt.Errorf("--action is %q, want hold, scale_up, scale_down or rebalance", t.action)
	case since > 0 && (!from.Time.IsZero() || from.Positions != nil):
		return fmt.Errorf("--since and --from both say where to start; give one")
	case len(t.topics) > 1 && (from.Positions != nil || t.window.To.Positions != nil):
		return fmt.Errorf("a position is one of a topic, and there are %d; name one topic, or instants", len(t.topics))
	}
	return nil
}

func (t *tailed) print(ctx context.Context, log events.Log, topics events.Topics, out io.Writer) error {
	for record, err := range t.records(ctx, log, topics) {
		if err != nil {
			if ctx.Err() != nil && !t.bounded {
				return nil
			}
			return err
		}
		if err := t.printRecord(out, record); err != nil {
			return err
		}
	}
	return nil
}

// records yields what the topics hold: in the order in which the log took it
// in, as far as it is there; then as it comes.
func (t *tailed) records(ctx context.Context, log events.Log, topics events.Topics) iter.Seq2[events.Record, error] {
	sources := make([]iter.Seq2[events.Record, error], len(t.topics))
	for i, name := range t.topics {
		window := t.window
		// A checkpoint's key has the day behind the deployment, a dead letter's is
		// that of its message.
		if len(t.deployments) == 1 && name != events.TopicCheckpoints && name != events.TopicDeadLetters {
			window.Key = t.deployments[0]
		}
		read := log.Follow
		if t.bounded {
			read = log.Read
		}
		sources[i] = read(ctx, topics.Name(name), window)
	}
	switch {
	case len(sources) == 1:
		return sources[0]
	case t.bounded:
		return inOrder(sources)
	}
	return asTheyCome(ctx, sources)
}

// inOrder merges sequences by when their records were appended; of equals, that
// of the first sequence comes first.
func inOrder(sources []iter.Seq2[events.Record, error]) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		type head struct {
			record events.Record
			next   func() (events.Record, error, bool)
		}
		var heads []*head
		for _, source := range sources {
			next, stop := iter.Pull2(source)
			defer stop()
			heads = append(heads, &head{next: next})
		}
		advance := func(h *head) bool {
			record, err, ok := h.next()
			if !ok {
				heads = slices.DeleteFunc(heads, func(other *head) bool { return other == h })
				return true
			}
			h.record = record
			return err == nil || yield(events.Record{}, err) && false
		}
		for _, h := range slices.Clone(heads) {
			if !advance(h) {
				return
			}
		}
		for len(heads) > 0 {
			first := heads[0]
			for _, h := range heads[1:] {
				if h.record.AppendedAt.Before(first.record.AppendedAt) {
					first = h
				}
			}
			if !yield(first.record, nil) || !advance(first) {
				return
			}
		}
	}
}

// asTheyCome merges sequences that go on.
func asTheyCome(ctx context.Context, sources []iter.Seq2[events.Record, error]) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		records := make(chan events.Record)
		reading, ctx := errgroup.WithContext(ctx)
		for _, source := range sources {
			reading.Go(func() error {
				for record, err := range source {
					if err != nil {
						return err
					}
					select {
					case records <- record:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				return nil
			})
		}
		ended := make(chan error, 1)
		go func() { ended <- reading.Wait() }()
		for {
			select {
			case record := <-records:
				if !yield(record, nil) {
					return
				}
			case err := <-ended:
				if err != nil {
					yield(events.Record{}, err)
				}
				return
			}
		}
	}
}

// printRecord prints a record that the filters let through.
func (t *tailed) printRecord(out io.Writer, record events.Record) error {
	event, err := record.Event()
	var fact any
	if err == nil {
		fact, err = event.Fact()
	}
	decision, isDecision := fact.(*model.ScalingDecision)
	switch {
	case len(t.types) > 0 && !slices.ContainsFunc(t.types, func(name string) bool { return strings.Contains(event.Type, name) }):
		return nil
	case t.action != "" && (!isDecision || decision.Action != t.action):
		return nil
	case len(t.deployments) > 0 && !slices.Contains(t.deployments, event.Subject) && !slices.Contains(t.deployments, record.Key):
		return nil
	}
	if t.output == "json" {
		line := archive.LineOf(record)
		if err != nil {
			line.Error = err.Error()
		}
		text, err := line.Append(nil)
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	}
	switch {
	case err != nil:
		_, err = fmt.Fprintf(out, "%s %s[%d]@%d cannot be decoded: %s\n", record.AppendedAt.UTC().Format(time.RFC3339), record.Topic, record.Partition, record.Position, err)
	case isDecision:
		_, err = fmt.Fprintln(out, decision.ObservedAt.Format(time.RFC3339), reporter.Summary(decision))
	default:
		_, err = fmt.Fprintf(out, "%s %s %s\n", event.Time.UTC().Format(time.RFC3339), event.Type, event.Data)
	}
	return err
}
