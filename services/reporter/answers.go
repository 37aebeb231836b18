package reporter

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/report"
	"tidemark.dev/services/reporter/internal/web"
)

// answers is what the status API reads from the log.
type answers struct{ *Reporter }

func (a answers) Deployments() []*model.DeploymentConfigured { return a.deployments.All() }

func (a answers) Report(ctx context.Context, from, to time.Time, deployments []string) (report.Data, error) {
	return buildReport(ctx, a.log, a.topics, ReportOptions{From: from, To: to, Deployments: deployments, GeneratedAt: a.now()})
}

// Find reads the decisions of the log for one, and the actuations after it for
// what was done about it.
func (a answers) Find(ctx context.Context, id string) (web.Story, error) {
	var story web.Story
	var at time.Time
	topic := a.topics.Name(events.TopicDecisions)
	for record, err := range a.log.Read(ctx, topic, events.Range{}) {
		if err != nil {
			return web.Story{}, fmt.Errorf("read %s: %w", topic, err)
		}
		event, err := record.Event()
		if err != nil || event.ID != id {
			continue
		}
		decision, err := events.As[*model.ScalingDecision](event)
		if err != nil {
			return web.Story{}, err
		}
		story.Decision, at = web.Decision{ID: id, Decision: decision}, record.AppendedAt
		break
	}
	if story.Decision.Decision == nil {
		return web.Story{}, web.ErrNotFound
	}
	story.Actuations = []web.Actuation{}
	topic = a.topics.Name(events.TopicActuations)
	for record, err := range a.log.Read(ctx, topic, events.Range{From: events.Bound{Time: at}, Key: story.Decision.Decision.Deployment}) {
		if err != nil {
			return web.Story{}, fmt.Errorf("read %s: %w", topic, err)
		}
		event, err := record.Event()
		if err != nil {
			continue // It is in the dead letters, with the reason.
		}
		var about struct {
			DecisionID string `json:"decision_id"`
		}
		if json.Unmarshal(event.Data, &about) == nil && about.DecisionID == id {
			story.Actuations = append(story.Actuations, web.Actuation{ID: event.ID, Type: event.Type, Data: event.Data})
		}
	}
	return story, nil
}
