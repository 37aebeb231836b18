package eventstest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
)

// The environment of the other process: what it does, on which log and topic,
// and as which group.
const (
	roleVariable  = "TIDEMARK_EVENTSTEST_ROLE"
	urlVariable   = "TIDEMARK_EVENTSTEST_URL"
	topicVariable = "TIDEMARK_EVENTSTEST_TOPIC"
	groupVariable = "TIDEMARK_EVENTSTEST_GROUP"

	// rolePublish publishes numbers one by one, and prints each when it is in the log.
	rolePublish = "publish"
	// roleConsume prints each number that the group is given through it,
	// and then acknowledges it.
	roleConsume = "consume"
)

// Main runs the tests of a driver, or plays the other process of one of them.
// Each of prepare is called before the tests, and what it returns after them.
func Main(m *testing.M, open func(ctx context.Context, url string) (events.Log, error), prepare ...func() (done func(), err error)) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(run(m, prepare))
	}
	if err := play(role, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(m *testing.M, prepare []func() (done func(), err error)) int {
	for _, p := range prepare {
		done, err := p()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer done()
	}
	return m.Run()
}

func play(role string, open func(ctx context.Context, url string) (events.Log, error)) error {
	topic := os.Getenv(topicVariable)
	log, err := open(context.Background(), os.Getenv(urlVariable))
	if err != nil {
		return err
	}
	defer log.Close()
	if role == rolePublish {
		for n := 0; ; n++ {
			if err := log.Publisher().Publish(topic, numbered("chat-70b", n, n+1)...); err != nil {
				return err
			}
			if _, err := fmt.Println(n); err != nil {
				return err
			}
		}
	}
	subscriber, err := log.Subscriber(os.Getenv(groupVariable))
	if err != nil {
		return err
	}
	messages, err := subscriber.Subscribe(context.Background(), topic)
	if err != nil {
		return err
	}
	for msg := range messages {
		if _, err := fmt.Println(string(msg.Payload)); err != nil {
			return err
		}
		msg.Ack()
	}
	return nil
}

// process is another process on the trial's log, and the lines that it prints.
type process struct {
	*trial
	command *exec.Cmd
	lines   *bufio.Scanner
}

func (t *trial) start(role string) *process {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), executable, "-test.run=^$")
	command.Env = append(os.Environ(), roleVariable+"="+role, urlVariable+"="+t.url, topicVariable+"="+t.topic, groupVariable+"=readers-"+t.id)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{trial: t, command: command, lines: bufio.NewScanner(out)}
	t.Cleanup(func() { _ = command.Process.Kill() })
	return p
}

// next returns the next number that the process prints.
func (p *process) next() int {
	p.Helper()
	if !p.lines.Scan() {
		p.Fatalf("the other process ended: %v", p.lines.Err())
	}
	n, err := strconv.Atoi(p.lines.Text())
	if err != nil {
		p.Fatal(err)
	}
	return n
}

// kill ends the process by SIGKILL and returns the last number that it printed.
func (p *process) kill(last int) int {
	p.Helper()
	if err := p.command.Process.Kill(); err != nil {
		p.Fatal(err)
	}
	for p.lines.Scan() {
		// A line that was cut off is no number that was printed.
		if n, err := strconv.Atoi(p.lines.Text()); err == nil && n == last+1 {
			last = n
		}
	}
	_ = p.command.Wait() // it was killed
	return last
}

func twoProcesses(t *trial) {
	m := t.join(t.log, "here")
	publishing := t.start(rolePublish)
	consuming := t.start(roleConsume)
	const n = 500
	t.want("what is delivered here", m.take(n), numbers(0, n))
	last := -1
	for last < n {
		if got := consuming.next(); got != last+1 {
			t.Fatalf("the other process was delivered %d after %d", got, last)
		}
		last++
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := 0
	for record, err := range t.log.Follow(ctx, t.topic, events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		t.want("what is followed here", string(record.Payload), strconv.Itoa(seen))
		if seen++; seen == 2*n {
			break
		}
	}
	publishing.kill(-1)
	consuming.kill(-1)
}

func killedPublisher(t *trial) {
	const rounds = 3
	for round := range rounds {
		t.topic = fmt.Sprintf("tidemark.trial-%s-%d", t.id, round)
		publishing := t.start(rolePublish)
		last := -1
		for last < 200*(round+1) {
			last = publishing.next()
		}
		last = publishing.kill(last)
		records := t.read(events.Range{})
		// The one that was on its way when the process died may be there.
		if got := len(records); got != last+1 && got != last+2 {
			t.Fatalf("%d records are in the log, and %d were acknowledged", got, last+1)
		}
		t.want("records", payloads(records), numbers(0, len(records)))
		t.publish(numbered("chat-70b", len(records), len(records)+1)...)
		t.want("records", payloads(t.read(events.Range{})), numbers(0, len(records)+1))
	}
}

func killedConsumer(t *trial) {
	const n = 1000
	t.publish(numbered("chat-70b", 0, n)...)
	consuming := t.start(roleConsume)
	last := -1
	for last < n/4 {
		if got := consuming.next(); got != last+1 {
			t.Fatalf("the other process was delivered %d after %d", got, last)
		}
		last++
	}
	heir := t.join(t.log, "readers")
	last = consuming.kill(last)
	died := time.Now()
	first := heir.next()
	if took := time.Since(died); took > 2*patience/3 {
		t.Errorf("taking over took %v", took)
	}
	from, err := strconv.Atoi(string(first.Payload))
	if err != nil {
		t.Fatal(err)
	}
	if from > last+1 {
		t.Fatalf("the other process was delivered messages up to %d, and the next that is delivered is %d", last, from)
	}
	first.Ack()
	t.want("what is delivered then", heir.take(n-1-from), strings.TrimSpace(numbers(from+1, n)))
}
