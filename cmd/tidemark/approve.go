package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
)

// approve lets a decision be carried out. What could never be is refused here, with
// the reason; the actuator asks all the same questions again.
func (c *control) approve(ctx context.Context, name, reason string) (*model.DecisionApproved, error) {
	story, err := replay.Tell(ctx, c.log, c.topics, name)
	if err != nil {
		return nil, err
	}
	decision := story.Decision
	refuse := func(format string, args ...any) (*model.DecisionApproved, error) {
		return nil, fmt.Errorf("decision %s of %s is not approved: %s", story.DecisionID, decision.Deployment, fmt.Sprintf(format, args...))
	}
	if !strings.HasPrefix(story.DecisionID, name) {
		return nil, fmt.Errorf("%q is a deployment; name the decision, which tidemark get lists while it waits", name)
	}
	configured, known := c.table.Current(decision.Deployment)
	switch {
	case !known:
		return refuse("its deployment is retired")
	case configured.Spec.Approval != model.ApprovalRequired:
		return refuse("its deployment has no approval: required, and decisions are carried out as they come")
	case configured.Spec.Mode() != model.Active:
		return refuse("its deployment is %s; tidemark activate lets decisions act", configured.Spec.Mode())
	case decision.Mode != model.Active:
		return refuse("it was made while the deployment was %s", decision.Mode)
	case decision.Epoch != configured.Epoch:
		return refuse("it is of epoch %d, and the deployment is in epoch %d", decision.Epoch, configured.Epoch)
	case decision.Action == model.Hold:
		return refuse("it changes nothing")
	}
	for _, outcome := range story.Outcomes {
		switch outcome.Type {
		case "proposed":
		case "rejected":
			return refuse("it was rejected at %s as %s", shortTime(outcome.OccurredAt), outcome.Reason)
		default:
			return refuse("it was %s at %s", outcome.Type, shortTime(outcome.OccurredAt))
		}
	}
	if now := configured.Spec.Clock().At(time.Now()); now.After(decision.ValidUntil) {
		return refuse("it was valid until %s; behavior.decision_ttl_s says how long decisions wait", shortTime(decision.ValidUntil))
	}
	approved := &model.DecisionApproved{
		Deployment: decision.Deployment, DecisionID: story.DecisionID, OccurredAt: time.Now().UTC(), ApprovedBy: c.by, Reason: reason,
	}
	sealed, err := events.Seal(approved, events.About{Source: controlSource, CausationID: story.DecisionID})
	if err != nil {
		return nil, err
	}
	if err := c.log.Publisher().Publish(c.topics.Name(events.TopicApprovals), sealed.Message()); err != nil {
		return nil, fmt.Errorf("publish %s: %w", sealed.Type, err)
	}
	return approved, nil
}

func newApprove() *cobra.Command {
	var reason, by string
	cmd := &cobra.Command{
		Use: "approve DECISION", Short: "Let a decision be carried out, where approval is required", Args: arguments(cobra.ExactArgs(1)),
		Long: `Let a decision be carried out, of a deployment with approval: required. tidemark get
lists the decisions that wait; the beginning of an ID will do. A decision waits as
long as it is valid, and is rejected then. That of an advisory deployment waits for
nothing.`,
	}
	flags := addLogFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	cmd.Flags().StringVar(&by, "by", whoami(), "who, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		control, err := openControl(cmd, flags.openExisting, by)
		if err != nil {
			return err
		}
		defer control.log.Close()
		approved, err := control.approve(cmd.Context(), args[0], reason)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "decision %s of %s is approved by %s\n", approved.DecisionID, approved.Deployment, approved.ApprovedBy)
		return err
	}
	return cmd
}

// proposals returns what waits for an approval, by deployment and the oldest first.
func proposals(ctx context.Context, log events.Log, topics events.Topics, since time.Time) (map[string][]*model.ScalingProposed, error) {
	waiting := map[string][]*model.ScalingProposed{}
	end := func(done *model.Actuation) {
		waiting[done.Deployment] = slices.DeleteFunc(waiting[done.Deployment], func(p *model.ScalingProposed) bool { return p.DecisionID == done.DecisionID })
	}
	for record, err := range log.Read(ctx, topics.Name(events.TopicActuations), events.Range{From: events.Bound{Time: since}}) {
		if err != nil {
			return nil, fmt.Errorf("read actuations: %w", err)
		}
		event, err := record.Event()
		if err != nil {
			continue // What cannot be decoded waits for nothing.
		}
		fact, err := event.Fact()
		if err != nil {
			continue
		}
		switch fact := fact.(type) {
		case *model.ScalingProposed:
			end(&fact.Actuation) // It may be delivered again.
			waiting[fact.Deployment] = append(waiting[fact.Deployment], fact)
		case *model.ScalingStarted:
			end(&fact.Actuation)
		case *model.ScalingRejected:
			end(&fact.Actuation)
		}
	}
	return waiting, nil
}
