// Package events is the log: the envelope of an event, the catalogue of the
// types, their encoding, the topics, what a log driver provides, and how a
// service handles what it reads.
//
// Everything that Tidemark sees, decides and does is an event. The envelope is
// CloudEvents 1.0 in binary mode: attributes are message metadata with the
// prefix ce_, the payload is the data as JSON. Seal makes the event of a fact,
// with an identifier that the fact alone determines; Event.Fact decodes it, of
// whichever version it is.
//
// What cannot be decoded is an error that wraps ErrPermanent and never a panic,
// and a Router sends it to the dead letters. The package opens no log: package
// drivers does. It knows nothing of what a service does with an event.
package events

import "time"

// Event is a CloudEvents 1.0 event.
type Event struct {
	// ID is deterministic: the same fact has the same ID, however often it is
	// published.
	ID string
	// Type ends with its version: dev.tidemark.observation.v1.
	Type string
	// Source is the service that says so: /tidemark/collector.
	Source string
	// Subject is the deployment.
	Subject string
	// Time is when the fact happened, not when it was published.
	Time time.Time
	// PartitionKey orders the event: the deployment, or deployment/day.
	PartitionKey string
	// CausationID is the ID of the event that led to this one, CorrelationID
	// that of the observation at the head of the story. Both may be empty.
	CausationID   string
	CorrelationID string
	// TraceParent is a W3C trace context, passed on as it came.
	TraceParent string
	// Data is JSON.
	Data []byte
}
