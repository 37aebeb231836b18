package kafka

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"tidemark.dev/pkg/events"
)

// largestLetter is what the topic of the dead letters takes, in bytes. A letter
// holds the message that failed, in Base64 and with its headers, so it is
// larger than the largest of the other topics, which is the cluster's default.
const largestLetter = 4 << 20

// settings returns what a topic is made with. The instants of a topic are its
// log's, as events.Origin says, not its producers'.
func settings(topic events.Topic) map[string]string {
	set := map[string]string{"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete", "retention.ms": "-1"}
	if topic.Retention > 0 {
		set["retention.ms"] = strconv.FormatInt(topic.Retention.Milliseconds(), 10)
	}
	if topic.Compacted {
		set["cleanup.policy"] = "compact"
		if topic.Retention > 0 {
			set["cleanup.policy"] = "compact,delete"
		}
	}
	if topic.Name == events.TopicDeadLetters {
		set["max.message.bytes"] = strconv.Itoa(largestLetter)
	}
	return set
}

// tableEntry returns what the table says of a topic with its full name. One
// that is not in the table keeps its messages for ever, in the number of
// partitions that all have.
func tableEntry(name string) events.Topic {
	for _, topic := range events.AllTopics {
		if strings.HasSuffix(name, topic.Name) {
			return topic
		}
	}
	return events.Topic{Name: name, Partitions: events.AllTopics[0].Partitions}
}

// detail returns the request that makes a topic.
func (l *Log) detail(topic events.Topic) *sarama.TopicDetail {
	detail := &sarama.TopicDetail{NumPartitions: topic.Partitions, ReplicationFactor: -1, ConfigEntries: map[string]*string{}}
	if l.config.Partitions > 0 {
		detail.NumPartitions = l.config.Partitions
	}
	if l.config.Replication > 0 {
		detail.ReplicationFactor = l.config.Replication
	}
	for name, value := range settings(topic) {
		detail.ConfigEntries[name] = &value
	}
	return detail
}

// makeTimeout bounds the wait until a topic that was made can be used.
const makeTimeout = 15 * time.Second

// create makes a topic and returns once it has leaders. One that somebody else
// made meanwhile is as good.
func (l *Log) create(name string, topic events.Topic) error {
	err := l.admin.CreateTopic(name, l.detail(topic), false)
	if err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("make topic %s: %w", name, classify(err))
	}
	for deadline := time.Now().Add(makeTimeout); ; sleep(l.open, 20*time.Millisecond) {
		err := l.client.RefreshMetadata(name)
		if err == nil {
			var all, writable []int32
			all, err = l.client.Partitions(name)
			if err == nil {
				writable, err = l.client.WritablePartitions(name)
			}
			if err == nil && len(all) > 0 && len(all) == len(writable) {
				break
			}
		}
		if l.open.Err() != nil || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("topic %s was made and has no leaders after %v", name, makeTimeout), err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[name] = true
	return nil
}
