package events

import "time"

// The topics, without their prefix.
const (
	TopicDeployments  = "deployments"
	TopicObservations = "observations"
	TopicDecisions    = "decisions"
	TopicActuations   = "actuations"
	TopicApprovals    = "approvals"
	TopicCheckpoints  = "checkpoints"
	TopicDeadLetters  = "dead-letters"
)

// DefaultPrefix stands before the name of each topic.
const DefaultPrefix = "tidemark."

// Topics names the topics of one installation. Drivers are given full names;
// everything else speaks of a topic without the prefix.
type Topics struct{ Prefix string }

// Name returns the full name of a topic.
func (t Topics) Name(topic string) string { return t.Prefix + topic }

// Group returns the full name of a service's consumer group. Two installations
// on one cluster have topics with different prefixes, and so different groups.
func (t Topics) Group(service string) string { return t.Prefix + service }

// Topic is what a topic is made with, on a log that has topics to be made.
type Topic struct {
	// Name is the topic's, without the prefix.
	Name string
	// Key says what its events are keyed by.
	Key string
	// Compacted topics keep the newest event of a key, at least.
	Compacted bool
	// Retention is how long events are kept; 0 is for ever.
	Retention time.Duration
	// Partitions is the default, and the same for all topics that are keyed by
	// deployment: a deployment has the same partition in each of them.
	Partitions int32
}

const day = 24 * time.Hour

// AllTopics is the one table of the topics. Checkpoints live as long as the
// observations that a replay would fold from them; decisions and what became of
// them live for an audit.
var AllTopics = [...]Topic{
	{Name: TopicDeployments, Key: "deployment", Partitions: 6},
	{Name: TopicObservations, Key: "deployment", Retention: 14 * day, Partitions: 6},
	{Name: TopicDecisions, Key: "deployment", Retention: 180 * day, Partitions: 6},
	{Name: TopicActuations, Key: "deployment", Retention: 180 * day, Partitions: 6},
	{Name: TopicApprovals, Key: "deployment", Retention: 180 * day, Partitions: 6},
	{Name: TopicCheckpoints, Key: "deployment/day", Compacted: true, Retention: 14 * day, Partitions: 6},
	{Name: TopicDeadLetters, Key: "key of the message", Retention: 180 * day, Partitions: 6},
}

// Flow says which topics a service reads and writes.
type Flow struct {
	Service       string
	Reads, Writes []string
}

// Flows is the one table of who reads and writes what; control is people at the
// command line. The access rules of a cluster allow this and nothing more.
var Flows = [...]Flow{
	{Service: "collector", Reads: []string{TopicDeployments, TopicActuations}, Writes: []string{TopicObservations}},
	{
		Service: "decider", Reads: []string{TopicDeployments, TopicObservations, TopicDecisions, TopicCheckpoints, TopicDeadLetters},
		Writes: []string{TopicDecisions, TopicCheckpoints, TopicDeadLetters},
	},
	{
		Service: "actuator", Reads: []string{TopicDeployments, TopicObservations, TopicDecisions, TopicActuations, TopicApprovals},
		Writes: []string{TopicActuations, TopicDeadLetters},
	},
	{
		Service: "reporter", Reads: []string{TopicDeployments, TopicObservations, TopicDecisions, TopicActuations, TopicDeadLetters},
		Writes: []string{TopicDeadLetters},
	},
	{
		Service: "control", Reads: []string{TopicDeployments, TopicObservations, TopicDecisions, TopicActuations, TopicApprovals, TopicCheckpoints, TopicDeadLetters},
		Writes: []string{TopicDeployments, TopicApprovals},
	},
}
