package events

import (
	"crypto/sha1" //nolint:gosec // UUIDv5 is of SHA-1
	"strconv"
	"time"

	"github.com/google/uuid"
)

// namespace is the UUIDv5 of the URL https://tidemark.dev/events. It never
// changes: with it, every identifier would.
var namespace = uuid.MustParse("cc01dde8-c378-5aea-b905-dc25cd5c5546")

// deterministic returns the UUIDv5 of what a fact is and what makes it that
// fact and no other, joined by newlines, which none of the parts holds.
func deterministic(parts ...string) string {
	// As uuid.NewSHA1 does it, without what that allocates: replay makes one for
	// each record that it reads.
	var buffer [256]byte
	named := append(buffer[:0], namespace[:]...)
	for i, part := range parts {
		if i > 0 {
			named = append(named, '\n')
		}
		named = append(named, part...)
	}
	sum := sha1.Sum(named) //nolint:gosec // UUIDv5 is of SHA-1
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 5<<4
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// ObservationID identifies the observation of a deployment at an instant: two
// collectors that see the same tick make one observation.
func ObservationID(deployment string, observedAt time.Time) string {
	return deterministic("observation", deployment, observedAt.UTC().Format(time.RFC3339Nano))
}

// DecisionID identifies what a version of the planner decides about an observation.
func DecisionID(deployment, observationID, plannerVersion string) string {
	return deterministic("decision", deployment, observationID, plannerVersion)
}

// RevisionID identifies a revision of a deployment, whether it configures or
// retires it: of two that claim the same number, one is first.
func RevisionID(deployment string, revision int) string {
	return deterministic("revision", deployment, strconv.Itoa(revision))
}

// ApprovalID identifies one person's approval of a decision. One that names another
// deployment than the decision's is another.
func ApprovalID(deployment, decisionID, by string) string {
	return deterministic("decision-approved", deployment, decisionID, by)
}

// ActuationID identifies what became of a decision: scaling-proposed,
// scaling-started, scaling-applied, scaling-rejected, scaling-failed or scaling-settled. Attempts
// count from 1; what comes once has attempt 0.
func ActuationID(outcome, decisionID string, attempt int) string {
	return deterministic(outcome, decisionID, strconv.Itoa(attempt))
}

// FreezeID identifies the beginning or the end of a freeze: scaling-frozen or
// scaling-thawed.
func FreezeID(kind, scope string, at time.Time) string {
	return deterministic(kind, scope, at.UTC().Format(time.RFC3339Nano))
}

// CheckpointID identifies the state of a deployment after the observation at a
// position, as a version of the planner computes it.
func CheckpointID(deployment, topic string, partition int32, position int64, plannerVersion string) string {
	return deterministic("checkpoint", deployment, topic, strconv.Itoa(int(partition)), strconv.FormatInt(position, 10), plannerVersion)
}

// DeadLetterID identifies a message that a service could not handle.
func DeadLetterID(service, topic string, partition int32, position int64) string {
	return deterministic("dead-letter", service, topic, strconv.Itoa(int(partition)), strconv.FormatInt(position, 10))
}
