//go:build e2e

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/events/kafka/kafkatest"
	"tidemark.dev/pkg/model"
)

// TestKafkaAccess runs each service with the rights that deploy/kafka/acls.sh
// gives it, on Apache Kafka with TLS and SCRAM: together they work, an actuation
// included, and each is refused all that it does not need.
func TestKafkaAccess(t *testing.T) {
	libs := kafkatest.Libs(t)
	ca := kafkatest.NewAuthority(t, "broker")
	const secret = "the-secret-of-"
	who := []string{"collector", "decider", "actuator", "reporter", "control", "doctor"}
	security := &kafkatest.Security{Authority: ca, Users: map[string]string{}}
	for _, name := range who {
		security.Users["tidemark-"+name] = secret + name
	}
	cluster := kafkatest.Start(t, kafkatest.Options{Secure: security})
	grant(t, libs, cluster)

	mechanisms := []string{"scram-sha-512", "scram-sha-256", "plain"}
	urls := map[string]string{}
	for i, name := range who {
		urls[name] = "kafka://" + cluster.Secure + "?partitions=3&replication=1&ca=" + ca.File("ca") +
			"&sasl=" + mechanisms[i%len(mechanisms)] + "&user=tidemark-" + name + "&password-file=" + write(t, name, secret+name+"\n")
	}
	// One logs in with a token.
	urls["reporter"] = "kafka://" + cluster.Secure + "?ca=" + ca.File("ca") + "&sasl=oauthbearer&token-file=" + write(t, "token", kafkatest.Token("tidemark-reporter")+"\n")

	succeed(t, "doctor", "--fix", "--log", urls["doctor"])
	succeed(t, "apply", "-f", write(t, "deployments.yaml", crashDeployment), "--log", urls["control"])
	var out, errs buffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the processes' logs end with\n%s", tail(errs.String(), 40))
		}
	})
	var running []*process
	for _, name := range who[:4] {
		running = append(running, start(t, &out, &errs, name, "--log", urls[name], "--log-level", "info"))
	}
	for _, p := range running {
		p.ready(t)
	}
	log := openLog(t, "kafka://"+cluster.Brokers)
	until(t, "a decision is carried out", func() bool {
		return len(facts[*model.ScalingApplied](t, log, events.TopicActuations)) > 0
	})
	until(t, "it is shown", func() bool { return strings.Contains(out.String(), "[summary]") })
	if got := succeed(t, "get", "--log", urls["control"]); !strings.Contains(got, "chat") {
		t.Errorf("get shows %q", got)
	}
	for _, p := range running {
		p.stop(t)
	}
	if letters := facts[*model.DeadLetter](t, log, events.TopicDeadLetters); len(letters) > 0 {
		t.Errorf("%d dead letters: %s", len(letters), letters[0].fact.Reason)
	}
	for _, text := range []string{errs.String(), out.String(), fmt.Sprint(records(t, log, events.TopicDeployments))} {
		if strings.Contains(text, secret) {
			t.Error("a secret stands in what the services print or publish")
		}
	}
	if strings.Contains(errs.String(), "authoriz") {
		t.Error("a service was refused something that it asked for")
	}

	reads := map[string][]string{
		"collector": {events.TopicDeployments, events.TopicActuations},
		"decider":   {events.TopicDeployments, events.TopicObservations, events.TopicDecisions, events.TopicCheckpoints, events.TopicDeadLetters},
		"actuator":  {events.TopicDeployments, events.TopicObservations, events.TopicDecisions, events.TopicActuations, events.TopicApprovals},
		"reporter":  {events.TopicDeployments, events.TopicObservations, events.TopicDecisions, events.TopicActuations, events.TopicDeadLetters},
		"control":   topicsOf(events.AllTopics[:]),
	}
	writes := map[string][]string{
		"collector": {events.TopicObservations},
		"decider":   {events.TopicDecisions, events.TopicCheckpoints, events.TopicDeadLetters},
		"actuator":  {events.TopicActuations, events.TopicDeadLetters},
		"reporter":  {events.TopicDeadLetters},
		"control":   {events.TopicDeployments, events.TopicApprovals},
	}
	// A topic that holds nothing can be read by whoever may know of it.
	for _, topic := range topicsOf(events.AllTopics[:]) {
		appendRaw(t, log, topic, "no event", map[string]string{"ce_partitionkey": "chat"})
	}
	for _, name := range who[:5] {
		refused(t, name, urls[name], reads[name], writes[name])
	}
}

func topicsOf(table []events.Topic) (names []string) {
	for _, topic := range table {
		names = append(names, topic.Name)
	}
	return names
}

// grant runs the script, with Kafka's own tool, as an administrator.
func grant(t *testing.T, libs string, cluster *kafkatest.Cluster) {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "kafka-acls")
	if err := os.WriteFile(tool, []byte(fmt.Sprintf("#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -cp %q org.apache.kafka.tools.AclCommand \"$@\"\n", filepath.Join(libs, "*"))), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	script := exec.CommandContext(t.Context(), filepath.Join("..", "..", "deploy", "kafka", "acls.sh"), "--bootstrap-server", cluster.Brokers)
	script.Env = append(os.Environ(), "KAFKA_ACLS="+tool)
	if printed, err := script.CombinedOutput(); err != nil {
		t.Fatalf("acls.sh: %v\n%s", err, printed)
	}
}

// refused checks that somebody may read and write some topics and no others,
// make none, and join no group but the own.
func refused(t *testing.T, name, url string, reads, writes []string) {
	t.Helper()
	log, err := drivers.OpenURL(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for _, topic := range topicsOf(events.AllTopics[:]) {
		var reading error
		for _, err := range log.Read(t.Context(), topics.Name(topic), events.Range{}) {
			reading = err
			break
		}
		if (reading == nil) != slices.Contains(reads, topic) {
			t.Errorf("%s reads %s: %v", name, topic, reading)
		}
		msg := message.NewMessage("", []byte("no event"))
		msg.Metadata["ce_partitionkey"] = "chat"
		err := log.Publisher().Publish(topics.Name(topic), msg)
		if (err == nil) != slices.Contains(writes, topic) {
			t.Errorf("%s writes %s: %v", name, topic, err)
		}
		if err != nil && !errors.Is(err, events.ErrFatal) {
			t.Errorf("%s is refused to write %s by an error that ends nothing: %v", name, topic, err)
		}
	}
	making, err := drivers.OpenURL(t.Context(), url+"&create=true")
	if err != nil {
		t.Fatal(err)
	}
	defer making.Close()
	if err := making.Publisher().Publish(topics.Name("another"), message.NewMessage("", nil)); err == nil {
		t.Errorf("%s makes a topic", name)
	}
	other := "decider"
	if name == other {
		other = "actuator"
	}
	subscriber, err := log.Subscriber(topics.Group(other))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	messages, err := subscriber.Subscribe(ctx, topics.Name(events.TopicDeployments))
	if err != nil {
		t.Fatal(err)
	}
	if msg, joined := <-messages; joined {
		t.Errorf("%s joins the group of %s and gets %s", name, other, msg.UUID)
		msg.Ack()
	}
}
