package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// The environment variables that carry secrets. They win over files.
const (
	PasswordVariable = "TIDEMARK_KAFKA_PASSWORD" //nolint:gosec // a name, not a password
	TokenVariable    = "TIDEMARK_KAFKA_TOKEN"
)

// The SASL mechanisms.
const (
	Plain       = "plain"
	ScramSHA256 = "scram-sha-256"
	ScramSHA512 = "scram-sha-512"
	OAuthBearer = "oauthbearer"
)

// Config says how a cluster is reached and how topics are made. It holds no
// secret: those are read from files or the environment when a connection needs
// them, so that none is printed with a configuration.
type Config struct {
	// Brokers are the addresses, host:port, that the cluster is first asked at.
	Brokers []string
	// ClientID names the client in the cluster's logs and quotas.
	ClientID string

	// TLS encrypts connections. The files are PEM; without CAFile the system's
	// authorities are trusted. CertFile and KeyFile name the client's own.
	TLS                       bool
	CAFile, CertFile, KeyFile string
	// ServerName is what the brokers' certificates must name, if it is not the
	// host that was dialled.
	ServerName string

	// SASL is the mechanism, empty for none.
	SASL string
	// User is who PLAIN and SCRAM log in; the password is in PasswordFile or in
	// the environment.
	User, PasswordFile string
	// TokenFile holds the token of OAUTHBEARER. It is read again for every
	// connection, so that it may be renewed.
	TokenFile string

	// Create makes topics that are not there when they are first used, with
	// what the table of topics says. It is for trials and tests: in production
	// tidemark doctor makes them, and services may not.
	Create bool
	// Partitions and Replication are what topics are made with; 0 is the
	// table's number of partitions, and the cluster's replication.
	Partitions  int32
	Replication int16
}

// ParseURL returns the configuration of a URL such as
// kafka://broker-1:9093,broker-2:9093?tls=true&sasl=scram-sha-512&user=decider&password-file=/run/secrets/kafka.
// A URL is printed and kept in histories, so one with a secret is refused. No
// error repeats what may be one.
func ParseURL(text string) (Config, error) {
	rest, ok := strings.CutPrefix(text, "kafka://")
	if !ok {
		return Config{}, errors.New("log URL: want kafka:// and the addresses of brokers")
	}
	hosts, query, _ := strings.Cut(rest, "?")
	if strings.Contains(hosts, "@") {
		return Config{}, errors.New("log URL: it holds a user or a password; name the user as ?user=NAME, and a file with the password as password-file=PATH, or set " + PasswordVariable)
	}
	config := Config{ClientID: "tidemark"}
	for broker := range strings.SplitSeq(strings.TrimSuffix(hosts, "/"), ",") {
		if host, port, err := net.SplitHostPort(broker); err != nil || host == "" || port == "" {
			return Config{}, fmt.Errorf("log URL: the broker %q is not host:port", broker)
		}
		config.Brokers = append(config.Brokers, broker)
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return Config{}, errors.New("log URL: its parameters cannot be read; want name=value, joined by &")
	}
	if err := config.set(parameters); err != nil {
		return Config{}, err
	}
	return config, config.validate()
}

// set takes the parameters of a URL.
func (c *Config) set(parameters url.Values) error {
	texts := map[string]*string{
		"client-id": &c.ClientID, "ca": &c.CAFile, "cert": &c.CertFile, "key": &c.KeyFile, "server-name": &c.ServerName,
		"sasl": &c.SASL, "user": &c.User, "password-file": &c.PasswordFile, "token-file": &c.TokenFile,
	}
	flags := map[string]*bool{"tls": &c.TLS, "create": &c.Create}
	known := []string{"partitions", "replication"}
	for name := range texts {
		known = append(known, name)
	}
	for name := range flags {
		known = append(known, name)
	}
	slices.Sort(known)
	for name, values := range parameters {
		value := values[len(values)-1]
		var err error
		switch {
		case texts[name] != nil:
			*texts[name] = value
		case flags[name] != nil:
			if *flags[name], err = strconv.ParseBool(value); err != nil {
				return fmt.Errorf("log URL: %s is %q, want true or false", name, value)
			}
		case name == "partitions":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil || n < 1 {
				return fmt.Errorf("log URL: partitions is %q, want a number from 1", value)
			}
			c.Partitions = int32(n)
		case name == "replication":
			n, err := strconv.ParseInt(value, 10, 16)
			if err != nil || n < 1 {
				return fmt.Errorf("log URL: replication is %q, want a number from 1", value)
			}
			c.Replication = int16(n)
		case strings.Contains(strings.ToLower(name), "pass") || strings.Contains(strings.ToLower(name), "token"):
			return fmt.Errorf("log URL: %q would hold a secret; name a file as password-file or token-file, or set %s or %s", name, PasswordVariable, TokenVariable)
		default:
			return fmt.Errorf("log URL: there is no parameter %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	// Who names certificates wants them used.
	c.TLS = c.TLS || c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" || c.ServerName != ""
	return nil
}

func (c *Config) validate() error {
	var problems []error
	refuse := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("log URL: "+format, args...))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		refuse("cert and key belong together, and one is missing")
	}
	switch c.SASL {
	case "":
		if c.User != "" || c.PasswordFile != "" || c.TokenFile != "" {
			refuse("there are credentials and no sasl; want sasl=%s, %s, %s or %s", Plain, ScramSHA256, ScramSHA512, OAuthBearer)
		}
	case Plain, ScramSHA256, ScramSHA512:
		if c.User == "" {
			refuse("sasl=%s needs user=NAME", c.SASL)
		}
	case OAuthBearer:
	default:
		refuse("sasl is %q, want %s, %s, %s or %s", c.SASL, Plain, ScramSHA256, ScramSHA512, OAuthBearer)
	}
	return errors.Join(problems...)
}

// The times of the protocol. A member that fell silent is replaced after the
// session's, the shortest that brokers allow by default; a rebalance waits for
// members that finish what they have in hand.
const (
	sessionTimeout   = 10 * time.Second
	heartbeatEvery   = 2 * time.Second
	rebalanceTimeout = 15 * time.Second
	commitEvery      = 200 * time.Millisecond
	dialTimeout      = 5 * time.Second
	requestTimeout   = 20 * time.Second
)

// largestMessage bounds a message before compression. What brokers take, after
// compression, is theirs to say.
const largestMessage = 64 << 20

// client returns the settings of a client. It reads the files that the
// configuration names.
func (c *Config) client() (*sarama.Config, error) {
	s := sarama.NewConfig()
	s.ClientID = c.ClientID
	// The oldest protocol that Kafka 4 brokers and those since 3.6 both speak
	// with all that is used here.
	s.Version = sarama.V3_6_0_0
	s.Net.DialTimeout, s.Net.ReadTimeout, s.Net.WriteTimeout = dialTimeout, requestTimeout, requestTimeout
	s.Metadata.AllowAutoTopicCreation = false
	s.Metadata.Retry.Max, s.Metadata.Retry.Backoff = 6, 250*time.Millisecond

	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Idempotent = true
	s.Net.MaxOpenRequests = 1 // what idempotence asks for
	s.Producer.Retry.Max, s.Producer.Retry.Backoff = 30, 250*time.Millisecond
	s.Producer.Compression = sarama.CompressionZSTD
	s.Producer.MaxMessageBytes = largestMessage
	s.Producer.Partitioner = sarama.NewMurmur2Partitioner
	s.Producer.Return.Successes, s.Producer.Return.Errors = true, true

	// Closing waits for the answer to a request that waits for messages.
	s.Consumer.MaxWaitTime = 250 * time.Millisecond
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.Offsets.AutoCommit.Interval = commitEvery
	s.Consumer.Return.Errors = true
	s.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	s.Consumer.Group.Session.Timeout, s.Consumer.Group.Heartbeat.Interval = sessionTimeout, heartbeatEvery
	s.Consumer.Group.Rebalance.Timeout = rebalanceTimeout

	if err := c.secure(s); err != nil {
		return nil, err
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("kafka settings: %w", err)
	}
	return s, nil
}

// secure sets TLS and SASL.
func (c *Config) secure(s *sarama.Config) error {
	if c.TLS {
		config, err := c.tls()
		if err != nil {
			return err
		}
		s.Net.TLS.Enable, s.Net.TLS.Config = true, config
	}
	if c.SASL == "" {
		return nil
	}
	s.Net.SASL.Enable, s.Net.SASL.Handshake, s.Net.SASL.Version = true, true, sarama.SASLHandshakeV1
	if c.SASL == OAuthBearer {
		tokens := tokenFile{path: c.TokenFile}
		if _, err := tokens.Token(); err != nil {
			return err
		}
		s.Net.SASL.Mechanism, s.Net.SASL.TokenProvider = sarama.SASLTypeOAuth, tokens
		return nil
	}
	password, err := secret(PasswordVariable, c.PasswordFile, "password-file")
	if err != nil {
		return err
	}
	s.Net.SASL.User, s.Net.SASL.Password = c.User, password
	switch c.SASL {
	case Plain:
		s.Net.SASL.Mechanism = sarama.SASLTypePlaintext
	case ScramSHA256:
		s.Net.SASL.Mechanism, s.Net.SASL.SCRAMClientGeneratorFunc = sarama.SASLTypeSCRAMSHA256, newScramSHA256
	case ScramSHA512:
		s.Net.SASL.Mechanism, s.Net.SASL.SCRAMClientGeneratorFunc = sarama.SASLTypeSCRAMSHA512, newScramSHA512
	}
	return nil
}

func (c *Config) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka: ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka: ca: %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka: cert and key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// secret reads a secret from the environment or else from a file. No error
// holds any of it.
func secret(variable, file, parameter string) (string, error) {
	if value := os.Getenv(variable); value != "" {
		return value, nil
	}
	if file == "" {
		return "", fmt.Errorf("kafka: neither %s is set nor %s given", variable, parameter)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("kafka: %s: %w", parameter, err)
	}
	value := strings.TrimRight(string(data), "\r\n")
	if value == "" {
		return "", fmt.Errorf("kafka: %s: %s is empty", parameter, file)
	}
	return value, nil
}
