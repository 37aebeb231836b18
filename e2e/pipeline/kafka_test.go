//go:build e2e

package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/kafka/kafkatest"
	"tidemark.dev/pkg/model"
)

// faulting is how long services and brokers are killed on Kafka.
const faulting = 75 * time.Second

// hanging is how long a broker answers nobody: less than the 9 s after which the
// others take it for dead, so that all that wait for it do.
const hanging = 6 * time.Second

// manyDeployments are advisory and observed twice a second, on several partitions.
func manyDeployments(n int) string {
	var text strings.Builder
	text.WriteString("deployments:\n")
	for i := range n {
		fmt.Fprintf(&text, `
  - name: fleet-%d
    topology: aggregated
    target: throughput
    roles: {aggregated: {min_replicas: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, max_kv_tokens: 590818}}}
    load: {interval_s: 5, min_observations: 2}
    throughput: {enabled: false}
    source: {simulated: {engine: h200-llama-3.1-70b-fp8-tp2, speed: 10, generator: {seed: %d, duration_s: 36000, mean_rps: 9}}}
    actuator: {simulated: {}}
`, i, i+1)
	}
	return text.String()
}

// distinct drops what a log holds again: Kafka keeps no ID unique, and consumers
// drop the second. It checks that the second is the first again, to the byte.
func distinct[T any](t *testing.T, what string, all []entry[T]) (once []entry[T], again int) {
	t.Helper()
	first := map[string]string{}
	for _, e := range all {
		data, known := first[e.ID]
		switch {
		case !known:
			first[e.ID] = string(e.Data)
			once = append(once, e)
		case what == "decision" && data != string(e.Data):
			t.Errorf("%s %s is there again with other bytes:\n%s\n%s", what, e.ID, data, e.Data)
		default:
			again++
		}
	}
	return once, again
}

// byDeployment returns the bytes of decisions, a line each, per deployment.
func byDeployment(decisions []entry[*model.ScalingDecision]) map[string]string {
	lines := map[string]string{}
	for _, d := range decisions {
		lines[d.fact.Deployment] += string(d.Data) + "\n"
	}
	return lines
}

// TestKafkaFaults runs the services as processes on three brokers of Apache
// Kafka, and kills them: services at random moments, a second and a third
// decider that come and go, a broker by SIGKILL, another that is restarted, so
// that leaders and coordinators move, and one that hangs. Then there is one
// decision for each observation, in order, to the byte what a run without any of
// it gives; nothing went to the dead letters; and as all is advisory, the
// actuator was never a member of its group and nothing was done.
func TestKafkaFaults(t *testing.T) {
	random := seed(t)
	cluster := kafkatest.Start(t, kafkatest.Options{Nodes: 3})
	url := "kafka://" + cluster.Brokers + "?partitions=6&replication=3"
	if got := tidemark(t, "", "up", "--log", url); got.code != 1 || !strings.Contains(got.stderr, "topics do not exist: tidemark.deployments") {
		t.Errorf("without topics: exit code %d, %s", got.code, got.stderr)
	}
	if got := tidemark(t, "", "doctor", "--log", url); got.code != 1 || !strings.Contains(got.stdout, "tidemark.decisions: does not exist") {
		t.Errorf("doctor: exit code %d, %s", got.code, got.stdout)
	}
	succeed(t, "doctor", "--fix", "--log", url)
	succeed(t, "doctor", "--log", url)
	const deployments = 8
	succeed(t, "apply", "-f", write(t, "deployments.yaml", manyDeployments(deployments)), "--log", url)

	var out, errs buffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the processes' logs end with\n%s", tail(errs.String(), 60))
		}
	})
	service := func(name string) *process {
		args := []string{"--log", url, "--log-level", "warn"}
		if name == "decider" {
			args = append(args, "--checkpoint-every", "40")
		}
		return start(t, &out, &errs, name, args...)
	}
	// The seats: what is killed takes its seat again. One decider is never
	// killed, so that those who come and go take partitions from somebody and
	// give them back.
	seats := []string{"collector", "decider", "decider", "actuator", "reporter"}
	steady := service("decider")
	running := make([]*process, len(seats))
	for i, name := range seats {
		running[i] = service(name)
	}
	steady.ready(t)
	log := openLog(t, url)
	until(t, "decisions are made", func() bool { return end(t, log, events.TopicDecisions) > deployments })

	began, kills := time.Now(), map[string]int{}
	faults := []struct {
		at   time.Duration
		what string
		do   func() error
	}{
		{faulting / 5, "broker 1 is killed", func() error { cluster.Node(1).Kill(); return nil }},
		{2 * faulting / 5, "broker 1 starts again", cluster.Node(1).Start},
		{3 * faulting / 5, "broker 2 stops", func() error { cluster.Node(2).Stop(); return nil }},
		{3*faulting/5 + time.Second, "broker 2 starts again", cluster.Node(2).Start},
		{4 * faulting / 5, "broker 3 hangs for a while", func() error {
			time.AfterFunc(hanging, func() {
				if err := cluster.Node(3).GoOn(); err != nil {
					t.Error(err)
				}
			})
			return cluster.Node(3).Hang()
		}},
	}
	for time.Since(began) < faulting || len(faults) > 0 {
		if len(faults) > 0 && time.Since(began) > faults[0].at {
			t.Logf("after %v %s", time.Since(began).Round(time.Second), faults[0].what)
			if err := faults[0].do(); err != nil {
				t.Fatal(err)
			}
			faults = faults[1:]
		}
		i := random.IntN(len(seats))
		if random.IntN(3) == 0 {
			running[i].stop(t) // a member that leaves, and finishes what it has in hand
		} else {
			running[i].kill()
		}
		kills[seats[i]]++
		time.Sleep(time.Duration(random.Float64() * float64(3*time.Second))) // while it is away
		running[i] = service(seats[i])
		time.Sleep(time.Duration(random.Float64() * float64(4*time.Second))) // and while it works
	}
	t.Logf("killed or stopped: %v", kills)

	// The groups are asked before the observing ends.
	groups, err := cluster.Tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", cluster.Brokers, "--list")
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"tidemark.collector", "tidemark.decider", "tidemark.reporter"} {
		if !strings.Contains(groups, group) {
			t.Errorf("group %s is not there: %s", group, groups)
		}
	}
	if strings.Contains(groups, "tidemark.actuator") {
		t.Errorf("the actuator joined its group although nothing is active: %s", groups)
	}

	running[0].stop(t)
	observations, seenTwice := distinct(t, "observation", facts[*model.Observation](t, log, events.TopicObservations))
	var decisions []entry[*model.ScalingDecision]
	decidedTwice := 0
	until(t, fmt.Sprintf("%d observations are decided", len(observations)), func() bool {
		decisions, decidedTwice = distinct(t, "decision", facts[*model.ScalingDecision](t, log, events.TopicDecisions))
		return len(decisions) >= len(observations)
	})
	for i := 1; i < len(running); i++ {
		running[i].ready(t)
		running[i].stop(t)
	}
	steady.stop(t)

	partitions := map[int32]bool{}
	for _, record := range records(t, log, events.TopicObservations) {
		partitions[record.Partition] = true
	}
	t.Logf("%d observations on %d partitions (%d more were repeated), %d decisions (%d more were repeated)",
		len(observations), len(partitions), seenTwice, len(decisions), decidedTwice)
	if len(decisions) != len(observations) {
		t.Errorf("%d decisions for %d observations", len(decisions), len(observations))
	}
	order := map[string][]string{}
	for _, o := range observations {
		order[o.fact.Deployment] = append(order[o.fact.Deployment], o.ID)
	}
	digests := map[string]string{}
	for _, d := range decisions {
		name := d.fact.Deployment
		if len(order[name]) == 0 || order[name][0] != d.fact.ObservationID {
			t.Fatalf("decision %s is of observation %s, which is not the next of %s", d.ID, d.fact.ObservationID, name)
		}
		order[name] = order[name][1:]
		if d.fact.PreviousDigest != digests[name] {
			t.Errorf("decision %s of %s breaks the chain", d.ID, name)
		}
		digests[name] = model.Digest(d.Data)
	}
	if got := end(t, log, events.TopicActuations); got != 0 {
		t.Errorf("%d actuations, and all is advisory", got)
	}
	for _, letter := range facts[*model.DeadLetter](t, log, events.TopicDeadLetters) {
		t.Errorf("a message of %s went to the dead letters: %s", letter.fact.Topic, letter.fact.Reason)
	}
	calm := byDeployment(undisturbedDecisions(t, log))
	disturbed := byDeployment(decisions)
	if len(disturbed) != deployments {
		t.Errorf("deployments %v were decided, want %d", slices.Sorted(maps.Keys(disturbed)), deployments)
	}
	for name, lines := range disturbed {
		if lines != calm[name] {
			t.Errorf("decisions of %s differ from those of a decider that nobody disturbed: %s", name, firstDifference(lines, calm[name]))
		}
	}
}
