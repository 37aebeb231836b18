package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/IBM/sarama"

	"tidemark.dev/pkg/events"
)

var _ events.Provisioner = (*Log)(nil)

// Provision compares the topics with a table and makes those that are missing.
func (l *Log) Provision(ctx context.Context, topics events.Topics, table []events.Topic, fix bool) ([]events.TopicState, error) {
	states := make([]events.TopicState, len(table))
	for i, topic := range table {
		if err := l.usable(ctx); err != nil {
			return nil, fmt.Errorf("look at the topics: %w", err)
		}
		name := topics.Name(topic.Name)
		state := events.TopicState{Name: name}
		var err error
		if state.Exists, err = l.exists(name); err != nil {
			return nil, err
		}
		switch {
		case state.Exists:
			if state, err = l.compare(name, topic); err != nil {
				return nil, err
			}
		case fix:
			if err := l.create(name, topic); err != nil {
				return nil, err
			}
			partitions, err := l.partitions(name)
			if err != nil {
				return nil, err
			}
			state.Made, state.Partitions = true, len(partitions)
		}
		states[i] = state
	}
	return states, nil
}

// compare says where a topic is not what a table says.
func (l *Log) compare(name string, topic events.Topic) (events.TopicState, error) {
	state := events.TopicState{Name: name, Exists: true}
	want := l.detail(topic)
	described, err := l.admin.DescribeTopics([]string{name})
	if err == nil && len(described) == 1 && !errors.Is(described[0].Err, sarama.ErrNoError) {
		err = described[0].Err
	}
	if err != nil || len(described) != 1 {
		return state, fmt.Errorf("describe topic %s: %w", name, classify(err))
	}
	differ := func(what, has, wants string) {
		if has != wants {
			state.Disagreements = append(state.Disagreements, fmt.Sprintf("%s is %s, want %s", what, has, wants))
		}
	}
	state.Partitions = len(described[0].Partitions)
	differ("the number of partitions", strconv.Itoa(state.Partitions), strconv.Itoa(int(want.NumPartitions)))
	if want.ReplicationFactor > 0 && state.Partitions > 0 {
		differ("the replication factor", strconv.Itoa(len(described[0].Partitions[0].Replicas)), strconv.Itoa(int(want.ReplicationFactor)))
	}
	results, err := l.admin.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: name}}, sarama.DescribeConfigsOptions{})
	if err == nil && len(results) == 1 && !errors.Is(results[0].ErrorCode, sarama.ErrNoError) {
		err = results[0].ErrorCode
	}
	if err != nil || len(results) != 1 {
		return state, fmt.Errorf("describe the configuration of topic %s: %w", name, classify(err))
	}
	has := map[string]string{}
	for _, entry := range results[0].Configs {
		has[entry.Name] = entry.Value
	}
	for _, setting := range slices.Sorted(maps.Keys(want.ConfigEntries)) {
		switch value := *want.ConfigEntries[setting]; setting {
		case "cleanup.policy":
			differ(setting, sorted(has[setting]), sorted(value))
		case "max.message.bytes":
			// More is as good.
			if bytes, err := strconv.Atoi(has[setting]); err != nil || bytes < largestLetter {
				differ(setting, has[setting], value)
			}
		default:
			differ(setting, has[setting], value)
		}
	}
	return state, nil
}

// sorted puts the parts of a list in order: "delete,compact" is "compact,delete".
func sorted(list string) string {
	parts := strings.Split(list, ",")
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
