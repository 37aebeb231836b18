package decider

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// lane is one deployment on one partition of the observations: its planner
// state and where it stands.
type lane struct {
	// state is nil until the first observation of the deployment is decided.
	state *planner.State
	// observationID and observedAt name the last observation in the state.
	observationID string
	observedAt    time.Time
	revision      int
	// unpublished is the last decision while its publishing has not succeeded:
	// the state has moved on already, and a retry publishes the same bytes.
	unpublished *events.Event
	// position is that of the last observation in the state; sinceCheckpoint
	// counts the observations since the newest checkpoint.
	position        int64
	sinceCheckpoint int
}

// standing is how an observation stands to a lane.
type standing int

const (
	fresh standing = iota
	// repeated: it is the last one again.
	repeated
	// outdated: it is older than the last one.
	outdated
)

func (l *lane) standing(id string, observedAt time.Time) standing {
	switch {
	case id == l.observationID:
		return repeated
	case observedAt.Before(l.observedAt):
		return outdated
	}
	return fresh
}

// decide moves the lane over one fresh observation and returns the decision's
// bytes. A panic of the planner is an error like any other: an observation that
// cannot be decided is left out when it is handled, and when it is folded.
func (l *lane) decide(id string, observation *model.Observation, configured *model.DeploymentConfigured, position int64) (decision model.ScalingDecision, data []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = events.Permanent(fmt.Errorf("decide %s: %w", id, middleware.RecoveredPanicError{V: v, Stacktrace: string(debug.Stack())}))
		}
	}()
	if l.state == nil {
		state, err := planner.New(&configured.Spec)
		if err != nil {
			return model.ScalingDecision{}, nil, events.Permanent(fmt.Errorf("start deciding %s at revision %d: %w", observation.Deployment, configured.Revision, err))
		}
		l.state = state
	}
	decision, data, err = planner.Decide(l.state, planner.Input{ObservationID: id, Observation: observation, Configured: configured})
	if err != nil {
		return model.ScalingDecision{}, nil, events.Permanent(fmt.Errorf("decide %s: %w", id, err))
	}
	l.observationID, l.observedAt, l.position, l.revision = id, observation.ObservedAt, position, configured.Revision
	l.sinceCheckpoint++
	return decision, data, nil
}

// partition holds the lanes of one partition of the observations. Its messages
// are handled one at a time, in order.
type partition struct {
	// next is the position that follows the last message handled; -1 before
	// the first. A message at another position means that somebody else worked
	// on the partition meanwhile, or that the group was rewound.
	next  int64
	lanes map[string]*lane
}
