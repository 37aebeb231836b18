package kafka

import (
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"
	watermillkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
)

// headerUUID carries the ID of a message that is no event; an event's is in
// its attributes, and such a message has no header but those.
const headerUUID = watermillkafka.UUIDHeaderKey

// marshaler makes records of messages: the metadata as headers, in order, so
// that equal messages make equal records. The key is the event's partition key;
// a message without one has no key, and goes to any partition.
type marshaler struct{}

func (marshaler) Marshal(topic string, msg *message.Message) (*sarama.ProducerMessage, error) {
	record := &sarama.ProducerMessage{Topic: topic, Headers: make([]sarama.RecordHeader, 0, len(msg.Metadata)+1)}
	if msg.Payload != nil {
		record.Value = sarama.ByteEncoder(msg.Payload)
	}
	if key := events.MessageKey(msg); key != "" {
		record.Key = sarama.StringEncoder(key)
	}
	for _, name := range slices.Sorted(maps.Keys(msg.Metadata)) {
		record.Headers = append(record.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(msg.Metadata[name])})
	}
	if msg.UUID != "" && !isEvent(msg) {
		record.Headers = append(record.Headers, sarama.RecordHeader{Key: []byte(headerUUID), Value: []byte(msg.UUID)})
	}
	return record, nil
}

// isEvent reports whether a message carries its ID as an event does.
func isEvent(msg *message.Message) bool {
	return events.MessageID(&message.Message{Metadata: msg.Metadata}) != ""
}

// recordOf returns a record as the log's users see it, and the ID of a message
// that is no event.
func recordOf(topic string, partition int32, offset int64, appended time.Time, key, value []byte, headers []*sarama.RecordHeader) (record events.Record, uuid string) {
	record = events.Record{
		Origin:  events.Origin{Topic: topic, Partition: partition, Position: offset, Key: string(key), AppendedAt: appended.UTC()},
		Payload: value,
	}
	if len(headers) > 0 {
		record.Headers = make(map[string]string, len(headers))
	}
	for _, header := range headers {
		if string(header.Key) == headerUUID {
			uuid = string(header.Value)
			continue
		}
		record.Headers[string(header.Key)] = string(header.Value)
	}
	return record, uuid
}

// delivery returns a new message of a record: what a handler writes to one is
// not delivered again.
func delivery(record events.Record, uuid string) *message.Message {
	msg := message.NewMessage(uuid, record.Payload)
	if record.Headers != nil {
		msg.Metadata = maps.Clone(record.Headers)
	}
	if uuid == "" {
		msg.UUID = events.MessageID(msg)
	}
	return msg
}
