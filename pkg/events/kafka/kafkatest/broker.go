// Package kafkatest starts Apache Kafka for tests: brokers in KRaft mode on
// free ports of the loopback interface, from the jars that tools/kafka fetches.
// Nodes can be killed and started again, which keeps their data and ports.
package kafkatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// LibsVariable names the folder with Kafka's jars.
	LibsVariable = "TIDEMARK_KAFKA_LIBS"
	// RequireVariable makes it an error, when it is set, that there are none.
	RequireVariable = "TIDEMARK_REQUIRE_KAFKA"
)

// startTimeout bounds the start of a node. A Java machine on a busy one takes
// its time.
const startTimeout = 3 * time.Minute

// Options say what kind of cluster is started.
type Options struct {
	// Nodes is the number of brokers, each a controller too; 0 is 1.
	Nodes int
	// Secure adds a listener with TLS and SASL, and access rules for all who
	// come through it: without a rule, nothing is allowed.
	Secure *Security
}

// Security is what a secure listener accepts.
type Security struct {
	// Authority issued the brokers' certificate.
	Authority *Authority
	// Users maps the names of users to their password, for PLAIN and SCRAM.
	// OAUTHBEARER takes tokens that nobody signed (Token makes them).
	Users map[string]string
}

// Cluster is a running cluster.
type Cluster struct {
	// Brokers are the addresses of the listener that everything is allowed on,
	// Secure those of the secure one.
	Brokers, Secure string
	nodes           []*Node
}

// Node is one broker.
type Node struct {
	properties, out string
	address         string
	libs            string
	mu              sync.Mutex
	process         *exec.Cmd
	ended           chan struct{}
}

// Libs returns the folder with the jars. Where there is none the test is
// skipped, or fails if it must not be.
func Libs(t testing.TB) string {
	t.Helper()
	libs := os.Getenv(LibsVariable)
	if libs == "" {
		const message = "no Apache Kafka: make test-kafka fetches it and runs this"
		if os.Getenv(RequireVariable) != "" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return libs
}

// Start starts a cluster, which ends with the test.
func Start(t testing.TB, options Options) *Cluster {
	t.Helper()
	cluster, stop, err := Run(Libs(t), t.TempDir(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return cluster
}

// Run starts a cluster with its data in a folder, and returns what ends it.
func Run(libs, dir string, options Options) (cluster *Cluster, stop func(), err error) {
	count := max(options.Nodes, 1)
	ports, err := freePorts(3 * count)
	if err != nil {
		return nil, nil, err
	}
	c := &Cluster{}
	var voters, brokers, secure []string
	for i := range count {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[3*i+1]))
		brokers = append(brokers, fmt.Sprintf("127.0.0.1:%d", ports[3*i]))
		secure = append(secure, fmt.Sprintf("127.0.0.1:%d", ports[3*i+2]))
	}
	c.Brokers, c.Secure = strings.Join(brokers, ","), strings.Join(secure, ",")
	stop = func() {
		for _, n := range c.nodes {
			n.Kill()
		}
	}
	var starting sync.WaitGroup
	failed := make([]error, count)
	for i := range count {
		n := &Node{libs: libs, address: brokers[i], properties: filepath.Join(dir, fmt.Sprintf("node-%d.properties", i+1)), out: filepath.Join(dir, fmt.Sprintf("node-%d.log", i+1))}
		c.nodes = append(c.nodes, n)
		text, err := options.properties(dir, i+1, count, voters, brokers[i], secure[i])
		if err != nil {
			return nil, nil, err
		}
		if err := os.WriteFile(n.properties, []byte(text), 0o600); err != nil {
			return nil, nil, err
		}
		starting.Go(func() {
			if failed[i] = n.format(options); failed[i] == nil {
				failed[i] = n.Start()
			}
		})
	}
	starting.Wait()
	if err := errors.Join(failed...); err != nil {
		stop()
		return nil, nil, err
	}
	return c, stop, nil
}

// Node returns a broker, from 1.
func (c *Cluster) Node(number int) *Node { return c.nodes[number-1] }

// properties returns the configuration of a node.
func (o Options) properties(dir string, id, count int, voters []string, broker, secure string) (string, error) {
	_, controller, _ := strings.Cut(voters[id-1], "@")
	lines := []string{
		"process.roles=broker,controller", "node.id=" + strconv.Itoa(id), "controller.quorum.voters=" + strings.Join(voters, ","),
		"controller.listener.names=CONTROLLER", "inter.broker.listener.name=OPEN",
		"log.dirs=" + filepath.Join(dir, fmt.Sprintf("node-%d", id)),
		"auto.create.topics.enable=false", "num.partitions=1", "group.initial.rebalance.delay.ms=0",
		"offsets.topic.num.partitions=4", "transaction.state.log.num.partitions=2",
		fmt.Sprintf("default.replication.factor=%d", count), fmt.Sprintf("offsets.topic.replication.factor=%d", count),
		fmt.Sprintf("transaction.state.log.replication.factor=%d", count), fmt.Sprintf("share.coordinator.state.topic.replication.factor=%d", count),
		fmt.Sprintf("min.insync.replicas=%d", (count+1)/2), fmt.Sprintf("transaction.state.log.min.isr=%d", (count+1)/2),
		"controlled.shutdown.enable=true", "broker.session.timeout.ms=6000",
	}
	listeners, protocols := "OPEN://"+broker+",CONTROLLER://"+controller, "OPEN:PLAINTEXT,CONTROLLER:PLAINTEXT"
	if o.Secure != nil {
		listeners, protocols = listeners+",SECURE://"+secure, protocols+",SECURE:SASL_SSL"
		both, err := o.Secure.Authority.brokerPEM()
		if err != nil {
			return "", err
		}
		const prefix = "listener.name.secure."
		lines = append(lines,
			"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:ANONYMOUS",
			prefix+"ssl.keystore.type=PEM", prefix+"ssl.keystore.location="+both, prefix+"ssl.truststore.type=PEM",
			prefix+"ssl.truststore.location="+o.Secure.Authority.File("ca"), prefix+"ssl.client.auth=requested",
			prefix+"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
			prefix+"scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
			prefix+"scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
			prefix+"oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";",
		)
		plain := prefix + "plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required"
		for _, user := range o.Secure.users() {
			plain += fmt.Sprintf(" user_%s=%q", user, o.Secure.Users[user])
		}
		lines = append(lines, plain+";")
	}
	lines = append(lines, "listeners="+listeners, "advertised.listeners="+strings.ReplaceAll(listeners, ",CONTROLLER://"+controller, ""), "listener.security.protocol.map="+protocols)
	return strings.Join(lines, "\n") + "\n", nil
}

func (s *Security) users() []string {
	users := make([]string, 0, len(s.Users))
	for user := range s.Users {
		users = append(users, user)
	}
	slices.Sort(users)
	return users
}

// clusterID is the identity of every cluster of tests: a UUID as Kafka writes it.
const clusterID = "4L6g3nShT-eMCtK--X86sw"

func (n *Node) java(arguments ...string) *exec.Cmd {
	return exec.Command("java", append([]string{ //nolint:noctx // a broker outlives the call that starts it
		"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN", "-cp", filepath.Join(n.libs, "*"),
	}, arguments...)...)
}

// format makes the node's storage.
func (n *Node) format(options Options) error {
	arguments := []string{"kafka.tools.StorageTool", "format", "--cluster-id", clusterID, "--config", n.properties}
	if options.Secure != nil {
		for _, user := range options.Secure.users() {
			for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
				arguments = append(arguments, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, options.Secure.Users[user]))
			}
		}
	}
	if out, err := n.java(arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("format the storage of a broker: %w\n%s", err, out)
	}
	return nil
}

// Start starts the node, and returns when it takes connections.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	out, err := os.OpenFile(n.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the process has it
	process := n.java("kafka.Kafka", n.properties)
	process.Stdout, process.Stderr, process.SysProcAttr = out, out, withParent()
	if err := process.Start(); err != nil {
		return err
	}
	n.process, n.ended = process, make(chan struct{})
	go func(ended chan struct{}) {
		defer close(ended)
		_ = process.Wait() // it is killed in the end
	}(n.ended)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.address)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-n.ended:
			return fmt.Errorf("a broker ended as it started:\n%s", n.tail())
		case <-ctx.Done():
			return fmt.Errorf("a broker did not start in %v:\n%s", startTimeout, n.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop asks the node to end, and waits for it.
func (n *Node) Stop() { n.end(func(p *os.Process) error { return p.Signal(os.Interrupt) }) }

// Kill ends the node by SIGKILL.
func (n *Node) Kill() { n.end((*os.Process).Kill) }

func (n *Node) end(how func(*os.Process) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return
	}
	_ = how(n.process.Process) // it may have ended
	select {
	case <-n.ended:
	case <-time.After(startTimeout):
		_ = n.process.Process.Kill()
		<-n.ended
	}
	n.process = nil
}

// tail returns the last lines that the node printed.
func (n *Node) tail() string {
	data, err := os.ReadFile(n.out)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// Tool runs one of Kafka's command-line programs, by its class, and returns
// what it prints.
func (c *Cluster) Tool(class string, arguments ...string) (string, error) {
	out, err := c.nodes[0].java(append([]string{class}, arguments...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run %s: %w\n%s", class, err, out)
	}
	return string(out), nil
}

// freePorts returns ports that nobody uses now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // all are held until all are found
		address, _ := listener.Addr().(*net.TCPAddr)
		ports = append(ports, address.Port)
	}
	return ports, nil
}
