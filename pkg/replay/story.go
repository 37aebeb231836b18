package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// Story is all that the log tells of one decision: what led to it and what
// became of it. What the log does not hold is nil, and Lacks says so.
type Story struct {
	DecisionID string                 `json:"decision_id"`
	Decision   *model.ScalingDecision `json:"decision"`
	Partition  int32                  `json:"partition"`
	Position   int64                  `json:"position"`
	AppendedAt time.Time              `json:"appended_at"`
	// DecidedInS is the time in seconds between the observation and the
	// decision in the log.
	DecidedInS *float64 `json:"decided_in_s,omitempty"`

	Observation *model.Observation `json:"observation,omitempty"`
	// Configured is the revision that it was decided under, set at ConfiguredAt.
	Configured   *model.DeploymentConfigured `json:"configured,omitempty"`
	ConfiguredAt time.Time                   `json:"configured_at,omitzero"`

	Previous *Neighbour `json:"previous,omitempty"`
	Next     *Neighbour `json:"next,omitempty"`
	// Outcomes are what the actuator recorded, in the order of the log.
	Outcomes []Outcome `json:"outcomes"`
	Lacks    []string  `json:"lacks"`
}

// Neighbour is the decision of a deployment before or after another.
type Neighbour struct {
	DecisionID string    `json:"decision_id"`
	ObservedAt time.Time `json:"observed_at"`
	// Linked says whether the later of the two names the bytes of the earlier.
	Linked bool `json:"linked"`
}

// Outcome is one thing that the actuator did about a decision. Its type says
// which of the figures it has.
type Outcome struct {
	Type string `json:"type"`
	model.Actuation
	Reason  model.Rejection `json:"reason,omitempty"`
	Detail  string          `json:"detail,omitempty"`
	Error   string          `json:"error,omitempty"`
	Attempt int             `json:"attempt,omitzero"`
	SettleS *float64        `json:"settle_s,omitempty"`
	// ValidUntil is when a proposal ends.
	ValidUntil *time.Time `json:"valid_until,omitempty"`
}

// minPrefix is the shortest beginning of an ID that names a decision.
const minPrefix = 6

// Tell tells the story of a decision: the one with an ID or with the beginning
// of one, or the newest of a deployment.
func Tell(ctx context.Context, log events.Log, topics events.Topics, name string) (*Story, error) {
	t := &telling{log: log, topics: topics, story: &Story{Outcomes: []Outcome{}, Lacks: []string{}}}
	if err := t.find(ctx, name); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{t.observation, t.configuration, t.outcomes} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return t.story, nil
}

type telling struct {
	log    events.Log
	topics events.Topics
	story  *Story
}

// told is a decision in the log, and the one of its deployment before it.
type told struct {
	event  events.Event
	record events.Record
	before *told
}

// find reads the decisions for the one that is named, and its neighbours.
func (t *telling) find(ctx context.Context, name string) error {
	topic := t.topics.Name(events.TopicDecisions)
	newest := map[string]*told{} // of each deployment
	var found, after *told
	for record, err := range t.log.Read(ctx, topic, events.Range{}) {
		if err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		event, err := record.Event()
		if err != nil {
			continue // It is no decision.
		}
		one := &told{event: event, record: record, before: newest[event.Subject]}
		if one.before != nil && one.before.event.ID == event.ID {
			continue // A redelivery.
		}
		if one.before != nil {
			one.before.before = nil // No more of the past is needed, unless it is found.
		}
		newest[event.Subject] = one
		switch {
		case found == nil && names(name, event.ID):
			found = one
			if before := one.before; before != nil {
				found = &told{event: event, record: record, before: &told{event: before.event, record: before.record}}
			}
		case found != nil && names(name, event.ID):
			return fmt.Errorf("%q begins the IDs of several decisions, %s and %s among them; write more of it", name, found.event.ID, event.ID)
		case found != nil && after == nil && event.Subject == found.event.Subject:
			after = one
		}
		if found != nil && after != nil && found.event.ID == name {
			break
		}
	}
	if found == nil {
		found = newest[name]
	}
	if found == nil {
		return fmt.Errorf("there is no decision %q, and no deployment of that name has one; tidemark tail lists decisions with -o json", name)
	}
	return t.tell(found, after)
}

// names says whether a name, which may be the beginning of one, is that of an ID.
func names(name, id string) bool {
	return name == id || len(name) >= minPrefix && strings.HasPrefix(id, name)
}

func (t *telling) tell(found, after *told) error {
	s := t.story
	decision, err := events.As[*model.ScalingDecision](found.event)
	if err != nil {
		return fmt.Errorf("decision %s at position %d: %w", found.event.ID, found.record.Position, err)
	}
	s.DecisionID, s.Decision = found.event.ID, decision
	s.Partition, s.Position, s.AppendedAt = found.record.Partition, found.record.Position, found.record.AppendedAt.UTC()
	if before := found.before; before != nil {
		s.Previous = &Neighbour{before.event.ID, before.event.Time, decision.PreviousDigest == model.Digest(before.event.Data)}
	} else if decision.PreviousDigest != "" {
		s.lack("the decision before it")
	}
	if after != nil {
		h, err := headerOf(after.event)
		s.Next = &Neighbour{after.event.ID, after.event.Time, err == nil && h.previous == model.Digest(found.event.Data)}
	}
	return nil
}

func (s *Story) lack(what string) { s.Lacks = append(s.Lacks, what) }

// lookBack is how long before its decision an observation is looked for first.
const lookBack = time.Hour

// errFound ends a search.
var errFound = errors.New("found")

// each calls visit with the events of the deployment in a range, until it
// returns an error.
func (t *telling) each(ctx context.Context, name string, window events.Range, visit func(events.Record, events.Event) error) error {
	topic := t.topics.Name(name)
	window.Key = t.story.Decision.Deployment
	for record, err := range t.log.Read(ctx, topic, window) {
		if err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		event, err := record.Event()
		if err != nil {
			continue // What cannot be decoded belongs to no story.
		}
		if err := visit(record, event); err != nil {
			return err
		}
	}
	return nil
}

func (t *telling) observation(ctx context.Context) error {
	s := t.story
	visit := func(record events.Record, event events.Event) error {
		if event.ID != s.Decision.ObservationID {
			return nil
		}
		observation, err := events.As[*model.Observation](event)
		if err != nil {
			return nil //nolint:nilerr // An observation that cannot be decoded is none.
		}
		s.Observation = observation
		if in := s.AppendedAt.Sub(record.AppendedAt).Seconds(); in >= 0 && !record.AppendedAt.IsZero() {
			s.DecidedInS = &in
		}
		return errFound
	}
	near := events.Range{From: events.Bound{Time: s.AppendedAt.Add(-lookBack)}, To: events.Bound{Time: s.AppendedAt.Add(skew)}}
	for _, window := range []events.Range{near, {}} {
		if err := t.each(ctx, events.TopicObservations, window, visit); errors.Is(err, errFound) {
			return nil
		} else if err != nil {
			return err
		}
	}
	s.lack("its observation")
	return nil
}

func (t *telling) configuration(ctx context.Context) error {
	s := t.story
	err := t.each(ctx, events.TopicDeployments, events.Range{}, func(_ events.Record, event events.Event) error {
		// Of two that claim a revision the first one stands.
		if configured, err := events.As[*model.DeploymentConfigured](event); err == nil && configured.Revision == s.Decision.ConfigRevision {
			s.Configured, s.ConfiguredAt = configured, event.Time
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return nil
	}
	if err == nil {
		s.lack(fmt.Sprintf("configuration revision %d", s.Decision.ConfigRevision))
	}
	return err
}

func (t *telling) outcomes(ctx context.Context) error {
	s := t.story
	seen := map[string]bool{}
	return t.each(ctx, events.TopicActuations, events.Range{From: events.Bound{Time: s.AppendedAt.Add(-skew)}}, func(_ events.Record, event events.Event) error {
		fact, err := event.Fact()
		if err != nil || seen[event.ID] {
			return nil //nolint:nilerr // As above.
		}
		outcome := Outcome{}
		switch fact := fact.(type) {
		case *model.ScalingProposed:
			outcome = Outcome{Type: "proposed", Actuation: fact.Actuation, ValidUntil: &fact.ValidUntil}
		case *model.ScalingApplied:
			outcome = Outcome{Type: "applied", Actuation: fact.Actuation}
		case *model.ScalingRejected:
			outcome = Outcome{Type: "rejected", Actuation: fact.Actuation, Reason: fact.Reason, Detail: fact.Detail}
		case *model.ScalingFailed:
			outcome = Outcome{Type: "failed", Actuation: fact.Actuation, Error: fact.Error, Attempt: fact.Attempt}
		case *model.ScalingSettled:
			outcome = Outcome{Type: "settled", Actuation: fact.Actuation, SettleS: &fact.SettleS}
		}
		if outcome.DecisionID == s.DecisionID {
			seen[event.ID] = true
			s.Outcomes = append(s.Outcomes, outcome)
		}
		return nil
	})
}
