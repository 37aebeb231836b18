package kafka_test

import (
	"strings"
	"testing"

	"github.com/IBM/sarama"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/kafka"
)

// Topics that are missing are made as the table says, those that are there stay
// as they are, and where they disagree that is said.
func TestProvision(t *testing.T) {
	brokers, topics := cluster(t), events.Topics{Prefix: "test-" + strings.ToLower(cryptorand()) + "."}
	url := "kafka://" + brokers + "?partitions=3&replication=1"
	admin, err := sarama.NewClusterAdmin(strings.Split(brokers, ","), sarama.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	policy, retention := "compact", "3600000"
	if err := admin.CreateTopic(topics.Name(events.TopicDecisions), &sarama.TopicDetail{
		NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"cleanup.policy": &policy, "retention.ms": &retention},
	}, false); err != nil {
		t.Fatal(err)
	}
	provision := func(fix bool) map[string]events.TopicState {
		t.Helper()
		log, err := open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		provisioner, ok := log.(*kafka.Log)
		if !ok {
			t.Fatalf("log is a %T", log)
		}
		states, err := provisioner.Provision(t.Context(), topics, events.AllTopics[:], fix)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]events.TopicState{}
		for i, state := range states {
			if state.Name != topics.Name(events.AllTopics[i].Name) {
				t.Errorf("state %d is of %s", i, state.Name)
			}
			found[events.AllTopics[i].Name] = state
		}
		return found
	}
	const wrong = "the number of partitions is 2, want 3; cleanup.policy is compact, want delete; message.timestamp.type is CreateTime, want LogAppendTime; retention.ms is 3600000, want 15552000000"
	for _, step := range []struct {
		name         string
		fix          bool
		exists, made bool
	}{{"looking", false, false, false}, {"fixing", true, false, true}, {"looking again", false, true, false}, {"fixing again", true, true, false}} {
		for name, state := range provision(step.fix) {
			if name == events.TopicDecisions {
				if got := strings.Join(state.Disagreements, "; "); got != wrong || !state.Exists || state.Made || state.Partitions != 2 {
					t.Errorf("%s: %+v", step.name, state)
				}
				continue
			}
			if state.Exists != step.exists || state.Made != step.made || len(state.Disagreements) > 0 || (state.Exists || state.Made) && state.Partitions != 3 {
				t.Errorf("%s: %+v", step.name, state)
			}
		}
	}
	// Without leave, nothing is made on the way.
	log, err := open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	err = log.Publisher().Publish(topics.Name("unheard-of"), observation("chat-70b", 0).Message())
	if err == nil || !strings.Contains(err.Error(), "does not exist: tidemark doctor --fix makes the topics") {
		t.Errorf("publishing into a topic that is not there: %v", err)
	}
}
