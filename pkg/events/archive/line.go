package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"tidemark.dev/pkg/events"
)

// Line is a record of a log as a line of JSON. An event stands as its
// attributes and its data; what is no event, as its headers and its bytes.
type Line struct {
	Topic      string    `json:"topic"`
	Partition  int32     `json:"partition"`
	Position   int64     `json:"position"`
	AppendedAt time.Time `json:"appended_at,omitzero"`
	Key        string    `json:"key,omitempty"`

	ID            string    `json:"id,omitempty"`
	Type          string    `json:"type,omitempty"`
	Source        string    `json:"source,omitempty"`
	Subject       string    `json:"subject,omitempty"`
	Time          time.Time `json:"time,omitzero"`
	CausationID   string    `json:"causation_id,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	TraceParent   string    `json:"traceparent,omitempty"`

	// Headers are those of a record that is no event.
	Headers map[string]string `json:"headers,omitempty"`
	// Data are the very bytes, so that digests of them hold. Bytes that would
	// not come through as JSON stand in DataBase64 instead.
	Data       json.RawMessage `json:"data,omitempty"`
	DataBase64 []byte          `json:"data_base64,omitempty"`
	// Error says why the record could not be decoded; it is for people.
	Error string `json:"error,omitempty"`
}

// LineOf returns the line of a record.
func LineOf(record events.Record) Line {
	line := Line{
		Topic: record.Topic, Partition: record.Partition, Position: record.Position,
		AppendedAt: record.AppendedAt.UTC(), Key: record.Key,
	}
	data := record.Payload
	event, err := record.Event()
	if err != nil {
		line.Headers, line.Error = record.Headers, err.Error()
		line.DataBase64 = data
		return line
	}
	line.ID, line.Type, line.Source, line.Subject, line.Time = event.ID, event.Type, event.Source, event.Subject, event.Time
	line.CausationID, line.CorrelationID, line.TraceParent = event.CausationID, event.CorrelationID, event.TraceParent
	if data = event.Data; survives(data) {
		line.Data = data
	} else {
		line.DataBase64 = data
	}
	return line
}

// survives says whether encoding data as a part of a document keeps its bytes.
func survives(data []byte) bool {
	var compact bytes.Buffer
	compact.Grow(len(data))
	return json.Compact(&compact, data) == nil && bytes.Equal(compact.Bytes(), data)
}

// Append appends the line and a newline to a buffer.
func (l Line) Append(to []byte) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false) // It would change the bytes of the data.
	if err := encoder.Encode(l); err != nil {
		return to, fmt.Errorf("encode record %s[%d]@%d: %w", l.Topic, l.Partition, l.Position, err)
	}
	return append(to, buffer.Bytes()...), nil
}

// Record returns the record that the line was made of. Headers that are not
// those of an event, beside it, are lost.
func (l Line) Record() events.Record {
	record := events.Record{
		Origin:  events.Origin{Topic: l.Topic, Partition: l.Partition, Position: l.Position, Key: l.Key, AppendedAt: l.AppendedAt},
		Headers: l.Headers, Payload: l.Data,
	}
	if l.Data == nil {
		record.Payload = l.DataBase64
	}
	if l.ID == "" {
		return record
	}
	message := events.Event{
		ID: l.ID, Type: l.Type, Source: l.Source, Subject: l.Subject, Time: l.Time, PartitionKey: l.Key,
		CausationID: l.CausationID, CorrelationID: l.CorrelationID, TraceParent: l.TraceParent, Data: record.Payload,
	}.Message()
	record.Headers = message.Metadata
	return record
}
