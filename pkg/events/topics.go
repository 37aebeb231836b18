package events

// The topics, without their prefix.
const (
	TopicDeployments  = "deployments"
	TopicObservations = "observations"
	TopicDecisions    = "decisions"
	TopicActuations   = "actuations"
	TopicCheckpoints  = "checkpoints"
	TopicDeadLetters  = "dead-letters"
)
