package events

import "context"

// Provisioner is a log whose topics have to be made before they are used. The
// embedded logs are none: they make a topic with its first message.
type Provisioner interface {
	// Provision compares the topics of an installation with what a table says,
	// and returns what it found of each, in the order of the table. With fix, it
	// makes those that do not exist. It never changes one that does: another
	// number of partitions would move deployments to other partitions, and a
	// shorter retention would delete.
	Provision(ctx context.Context, topics Topics, table []Topic, fix bool) ([]TopicState, error)
}

// TopicState is what was found of a topic.
type TopicState struct {
	// Name is the full name.
	Name string `json:"name"`
	// Exists says whether the topic was there, Made whether it was made now.
	Exists bool `json:"exists"`
	Made   bool `json:"made"`
	// Partitions is their number, 0 for a topic that is not there.
	Partitions int `json:"partitions"`
	// Disagreements say where the topic is not as the table says.
	Disagreements []string `json:"disagreements,omitempty"`
}
