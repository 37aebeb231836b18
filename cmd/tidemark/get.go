package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator"
)

// status is a deployment and the newest decision about it.
type status struct {
	*model.DeploymentConfigured
	// Decision is nil where none was made lately.
	Decision *model.ScalingDecision `json:"decision,omitempty"`
	// Frozen is nil where the actuator is free to act.
	Frozen *model.ScalingFrozen `json:"frozen,omitempty"`
	// FreezeWindow is nil where none is open.
	FreezeWindow *model.FreezeWindow `json:"freeze_window,omitempty"`
	// Proposed are the decisions that wait for an approval, the oldest first.
	Proposed []*model.ScalingProposed `json:"proposed,omitempty"`
}

func newGet() *cobra.Command {
	var output string
	var lookBack time.Duration
	cmd := &cobra.Command{
		Use: "get [NAME]", Short: "List deployments: mode, revision and the newest decision", Args: arguments(cobra.MaximumNArgs(1)),
	}
	flags := addLogFlags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	cmd.Flags().DurationVar(&lookBack, "look-back", time.Hour, "how far back a newest decision is looked for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		log, topics, err := flags.openExisting(cmd)
		if err != nil {
			return err
		}
		defer log.Close()
		table, err := deployments(cmd.Context(), log, topics)
		if err != nil {
			return err
		}
		configured := table.All()
		if len(args) == 1 {
			one, known := table.Current(args[0])
			if !known {
				return fmt.Errorf("there is no deployment %q", args[0])
			}
			configured = []*model.DeploymentConfigured{one}
		}
		newest, err := newestDecisions(cmd.Context(), log, topics, time.Now().Add(-lookBack))
		if err != nil {
			return err
		}
		waiting, err := proposals(cmd.Context(), log, topics, time.Now().Add(-lookBack))
		if err != nil {
			return err
		}
		statuses := make([]status, len(configured))
		for i, one := range configured {
			statuses[i] = status{DeploymentConfigured: one, Decision: newest[one.Deployment]}
			statuses[i].Proposed = waiting[one.Deployment]
			statuses[i].Frozen, _ = table.Frozen(one.Deployment)
			statuses[i].FreezeWindow, _ = actuator.OpenWindow(&one.Spec.Limits, one.Spec.Clock().At(time.Now()))
		}
		return printStatuses(cmd.OutOrStdout(), statuses, output)
	}
	return cmd
}

func newestDecisions(ctx context.Context, log events.Log, topics events.Topics, since time.Time) (map[string]*model.ScalingDecision, error) {
	newest := map[string]*model.ScalingDecision{}
	for record, err := range log.Read(ctx, topics.Name(events.TopicDecisions), events.Range{From: events.Bound{Time: since}}) {
		if err != nil {
			return nil, fmt.Errorf("read decisions: %w", err)
		}
		event, err := record.Event()
		if err != nil {
			continue // What cannot be decoded is no decision.
		}
		if decision, err := events.As[*model.ScalingDecision](event); err == nil {
			newest[decision.Deployment] = decision
		}
	}
	return newest, nil
}

func printStatuses(out io.Writer, statuses []status, output string) error {
	if output != "table" {
		return printValue(out, statuses, output)
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAME\tMODE\tREVISION\tEPOCH\tTOPOLOGY\tTARGET\tCURRENT\tRECOMMENDED\tACTION\tOBSERVED")
	for _, s := range statuses {
		current, recommended, action, observed := "-", "-", "-", "-"
		mode := string(s.Spec.Mode())
		if s.Frozen != nil || s.FreezeWindow != nil {
			mode += " (frozen)"
		}
		if d := s.Decision; d != nil {
			current, recommended, action = replicasText(d.Current), replicasText(d.Target), string(d.Action)
			observed = d.ObservedAt.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Deployment, mode, s.Revision, s.Epoch,
			s.Spec.Topology, s.Spec.Target, current, recommended, action, observed)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range statuses {
		if n := len(s.Proposed); n > 0 {
			newest := s.Proposed[n-1]
			fmt.Fprintf(out, "%s: %s not approved yet, the newest waits until %s: %s; tidemark approve %s\n", s.Deployment,
				plural(n, "decision"), shortTime(newest.ValidUntil), changesText(newest.Roles), newest.DecisionID)
		}
	}
	return nil
}

func replicasText(replicas model.PerRole[int]) string {
	text := ""
	for _, role := range model.AllRoles {
		if n, ok := replicas.Get(role); ok {
			if text != "" {
				text += " "
			}
			text += fmt.Sprintf("%s=%d", role, n)
		}
	}
	if text == "" {
		return "-"
	}
	return text
}

// printYAML prints a value under its JSON names, in their order.
func printYAML(out io.Writer, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(data, &node); err != nil {
		return err
	}
	block(&node)
	encoder := yaml.NewEncoder(out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&node); err != nil {
		return err
	}
	return encoder.Close()
}

// block takes the JSON style from a document: no braces, no needless quotes.
func block(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		block(child)
	}
}
