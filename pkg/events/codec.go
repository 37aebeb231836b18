package events

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// The names of the CloudEvents attributes in the headers of a message, by the
// binary mode of the Kafka protocol binding.
const (
	headerSpecVersion   = "ce_specversion"
	headerID            = "ce_id"
	headerType          = "ce_type"
	headerSource        = "ce_source"
	headerSubject       = "ce_subject"
	headerTime          = "ce_time"
	headerContentType   = "content-type"
	headerPartitionKey  = "ce_partitionkey"
	headerCausationID   = "ce_causationid"
	headerCorrelationID = "ce_correlationid"
	headerTraceParent   = "ce_traceparent"
)

const (
	specVersion     = "1.0"
	contentTypeJSON = "application/json"
	// contentTypeEvents begins the content types of the structured mode
	// (application/cloudevents+json) and of batches.
	contentTypeEvents     = "application/cloudevents"
	contentTypeStructured = "application/cloudevents+json"
)

// Message returns the event in the binary mode: attributes as metadata, data as
// payload. The same event gives an equal message.
func (e Event) Message() *message.Message {
	msg := message.NewMessage(e.ID, e.Data)
	set := func(name, value string) {
		if value != "" {
			msg.Metadata[name] = value
		}
	}
	set(headerSpecVersion, specVersion)
	set(headerID, e.ID)
	set(headerType, e.Type)
	set(headerSource, e.Source)
	set(headerSubject, e.Subject)
	if !e.Time.IsZero() {
		set(headerTime, e.Time.UTC().Format(time.RFC3339Nano))
	}
	set(headerContentType, contentTypeJSON)
	set(headerPartitionKey, e.PartitionKey)
	set(headerCausationID, e.CausationID)
	set(headerCorrelationID, e.CorrelationID)
	set(headerTraceParent, e.TraceParent)
	return msg
}

// MessageID returns the ID by which a log tells messages apart: the event's, or
// the message's own for one that is no event. It may be empty.
func MessageID(msg *message.Message) string {
	if id := msg.Metadata[headerID]; id != "" {
		return id
	}
	return msg.UUID
}

// MessageKey returns the key by which a driver partitions a message. It may be
// empty.
func MessageKey(msg *message.Message) string { return msg.Metadata[headerPartitionKey] }

// EventOf returns the event of a delivered message. Its error is permanent.
func EventOf(msg *message.Message) (Event, error) {
	origin, _ := OriginOf(msg)
	return Record{Origin: origin, Headers: msg.Metadata, Payload: msg.Payload}.Event()
}

// Event returns the event that the record holds. The record's key stands in for
// a partition key that the event does not carry. Its error is permanent.
func (r Record) Event() (Event, error) {
	event, err := Parse(r.Headers, r.Payload)
	if err == nil && event.PartitionKey == "" {
		event.PartitionKey = r.Key
	}
	return event, err
}

// Parse returns the event of a message's headers and payload, in the binary or
// the structured mode, as the content type says. The event's data is not looked
// into; it shares the payload's memory. Parse's error is permanent.
func Parse(headers map[string]string, payload []byte) (Event, error) {
	if strings.HasPrefix(headers[headerContentType], contentTypeEvents) {
		return parseStructured(headers[headerContentType], payload)
	}
	return parseBinary(headers, payload)
}

func parseBinary(headers map[string]string, payload []byte) (Event, error) {
	if _, ok := headers[headerSpecVersion]; !ok {
		return Event{}, malformed("message is no event: header %s is missing", headerSpecVersion)
	}
	event := Event{
		ID:            headers[headerID],
		Type:          headers[headerType],
		Source:        headers[headerSource],
		Subject:       headers[headerSubject],
		PartitionKey:  headers[headerPartitionKey],
		CausationID:   headers[headerCausationID],
		CorrelationID: headers[headerCorrelationID],
		TraceParent:   headers[headerTraceParent],
		Data:          payload,
	}
	return event, event.complete(headers[headerSpecVersion], headers[headerTime], headers[headerContentType])
}

func parseStructured(contentType string, payload []byte) (Event, error) {
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != contentTypeStructured {
		return Event{}, malformed("content type is %q, want %s or %s", contentType, contentTypeJSON, contentTypeStructured)
	}
	var envelope struct {
		SpecVersion     string          `json:"specversion"`
		ID              string          `json:"id"`
		Type            string          `json:"type"`
		Source          string          `json:"source"`
		Subject         string          `json:"subject"`
		Time            string          `json:"time"`
		DataContentType string          `json:"datacontenttype"`
		PartitionKey    string          `json:"partitionkey"`
		CausationID     string          `json:"causationid"`
		CorrelationID   string          `json:"correlationid"`
		TraceParent     string          `json:"traceparent"`
		Data            json.RawMessage `json:"data"`
		DataBase64      string          `json:"data_base64"`
	}
	if err := json.Unmarshal(payload, &envelope); err != nil {
		return Event{}, malformed("decode structured event: %w", err)
	}
	event := Event{
		ID:            envelope.ID,
		Type:          envelope.Type,
		Source:        envelope.Source,
		Subject:       envelope.Subject,
		PartitionKey:  envelope.PartitionKey,
		CausationID:   envelope.CausationID,
		CorrelationID: envelope.CorrelationID,
		TraceParent:   envelope.TraceParent,
		Data:          envelope.Data,
	}
	if envelope.DataBase64 != "" {
		data, err := base64.StdEncoding.DecodeString(envelope.DataBase64)
		if err != nil {
			return Event{}, malformed("decode data_base64 of event %q: %w", envelope.ID, err)
		}
		event.Data = data
	}
	return event, event.complete(envelope.SpecVersion, envelope.Time, envelope.DataContentType)
}

// complete checks the attributes and adds those that have a form.
func (e *Event) complete(version, instant, contentType string) error {
	if version != specVersion {
		return malformed("event %q has CloudEvents version %q, want %s", e.ID, version, specVersion)
	}
	for _, required := range [...]struct{ name, value string }{{"id", e.ID}, {"type", e.Type}, {"source", e.Source}} {
		if required.value == "" {
			return malformed("event %q of type %q lacks the attribute %s", e.ID, e.Type, required.name)
		}
	}
	if instant != "" {
		t, err := time.Parse(time.RFC3339Nano, instant)
		if err != nil {
			return malformed("event %s has the time %q, want RFC 3339", e.ID, instant)
		}
		e.Time = t.UTC()
	}
	// Without parameters, which JSON does not have, this is the usual case.
	if contentType == "" || contentType == contentTypeJSON {
		return nil
	}
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != contentTypeJSON && !strings.HasSuffix(media, "+json") {
		return malformed("event %s has data of content type %q, want %s", e.ID, contentType, contentTypeJSON)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return Permanent(fmt.Errorf(format, args...))
}
