package kafka_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/kafka"
	"tidemark.dev/pkg/events/kafka/kafkatest"
)

const hunter2 = "hunter2-is-the-secret"

func TestParseURL(t *testing.T) {
	config, err := kafka.ParseURL("kafka://broker-1:9093,[::1]:9094?sasl=scram-sha-512&user=decider&password-file=%2Frun%2Fsecrets%2Fkafka" +
		"&ca=ca.pem&cert=c.pem&key=k.pem&server-name=kafka.internal&client-id=me&partitions=12&replication=3&create=true")
	want := kafka.Config{
		Brokers: []string{"broker-1:9093", "[::1]:9094"}, ClientID: "me", TLS: true, CAFile: "ca.pem", CertFile: "c.pem", KeyFile: "k.pem",
		ServerName: "kafka.internal", SASL: kafka.ScramSHA512, User: "decider", PasswordFile: "/run/secrets/kafka", Create: true, Partitions: 12, Replication: 3,
	}
	if err != nil || fmt.Sprint(config) != fmt.Sprint(want) {
		t.Errorf("configuration is %+v (%v), want %+v", config, err, want)
	}
}

// A URL that is refused is not repeated, for it may hold a secret.
func TestParseURLRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"kafka://":       "is not host:port",
		"kafka://broker": "is not host:port",
		"kafka://decider:" + hunter2 + "@broker:9092": "it holds a user or a password",
		"kafka://b:1?password=" + hunter2:             `"password" would hold a secret`,
		"kafka://b:1?sasl.Password=" + hunter2:        "would hold a secret",
		"kafka://b:1?token=" + hunter2:                `"token" would hold a secret`,
		"kafka://b:1?acks=1":                          `there is no parameter "acks"; there are ca, cert`,
		"kafka://b:1?partitions=0":                    "want a number from 1",
		"kafka://b:1?replication=many":                "want a number from 1",
		"kafka://b:1?create=perhaps":                  "want true or false",
		"kafka://b:1?cert=c.pem":                      "cert and key belong together",
		"kafka://b:1?user=decider":                    "there are credentials and no sasl",
		"kafka://b:1?sasl=gssapi":                     `sasl is "gssapi", want plain`,
		"kafka://b:1?sasl=plain":                      "needs user=NAME",
		"kafka://b:1?%zz=" + hunter2:                  "its parameters cannot be read",
	} {
		_, err := kafka.ParseURL(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", url, err, want)
		} else if strings.Contains(err.Error(), hunter2) {
			t.Errorf("%s: error repeats a secret: %v", url, err)
		}
	}
}

func write(t testing.TB, file string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// use publishes and reads one event.
func use(t *testing.T, url string, options kafka.Options) error {
	t.Helper()
	log, err := openWith(t.Context(), url, options)
	if err != nil {
		return err
	}
	defer log.Close()
	topic := "tidemark." + events.TopicObservations
	if err := log.Publisher().Publish(topic, observation("chat-70b", 0).Message()); err != nil {
		return err
	}
	subscriber, err := log.Subscriber("readers")
	if err != nil {
		return err
	}
	messages, err := subscriber.Subscribe(t.Context(), topic)
	if err != nil {
		return err
	}
	select {
	case msg := <-messages:
		msg.Ack()
	case <-time.After(patience):
		return fmt.Errorf("no message came in %v", patience)
	}
	return subscriber.Close()
}

// Every way to log in works with the right secret, fails with another, and
// shows it nowhere: not in an error, not in a line of the log.
func TestSecurity(t *testing.T) {
	ca := kafkatest.NewAuthority(t, "broker", "decider")
	strangers := kafkatest.NewAuthority(t, "decider")
	authorities := x509.NewCertPool()
	authorities.AddCert(ca.Certificate)
	brokers := fake(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "broker")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities}),
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "plain", hunter2),
		kfake.Superuser("SCRAM-SHA-256", "scram256", hunter2), kfake.Superuser("SCRAM-SHA-512", "scram512", hunter2))
	password := write(t, filepath.Join(t.TempDir(), "password"), []byte(hunter2+"\n"))
	wrong := write(t, filepath.Join(t.TempDir(), "wrong"), []byte("another-"+hunter2+"\n"))
	empty := write(t, filepath.Join(t.TempDir(), "empty"), []byte("\n"))
	secured := "kafka://" + brokers + "?create=true&ca=" + ca.File("ca") + "&cert=" + ca.File("decider") + "&key=" + ca.File("decider-key")
	for _, test := range []struct {
		name, url string
		want      string // of the error; empty: none
	}{
		{"plain", secured + "&sasl=plain&user=plain&password-file=" + password, ""},
		{"SCRAM-SHA-256", secured + "&sasl=scram-sha-256&user=scram256&password-file=" + password, ""},
		{"SCRAM-SHA-512", secured + "&sasl=scram-sha-512&user=scram512&password-file=" + password, ""},
		{"server name", secured + "&server-name=kafka.test&sasl=plain&user=plain&password-file=" + password, ""},
		{"another server name", secured + "&server-name=other.test&sasl=plain&user=plain&password-file=" + password, "not other.test"},
		{"wrong password", secured + "&sasl=plain&user=plain&password-file=" + wrong, "connect to kafka"},
		{"wrong password, SCRAM", secured + "&sasl=scram-sha-512&user=scram512&password-file=" + wrong, "connect to kafka"},
		{"no password", secured + "&sasl=plain&user=plain", "neither TIDEMARK_KAFKA_PASSWORD is set nor password-file given"},
		{"empty password", secured + "&sasl=plain&user=plain&password-file=" + empty, "is empty"},
		{"missing password", secured + "&sasl=plain&user=plain&password-file=" + empty + ".missing", "no such file"},
		{"missing token", secured + "&sasl=oauthbearer&token-file=" + empty + ".missing", "no such file"},
		{"no authority of the brokers", strings.Replace(secured, ca.File("ca"), strangers.File("ca"), 1) + "&sasl=plain&user=plain&password-file=" + password, "unknown authority"},
		{"a stranger's certificate", strings.ReplaceAll(secured, strings.TrimSuffix(ca.File("decider"), ".pem"), strings.TrimSuffix(strangers.File("decider"), ".pem")) + "&sasl=plain&user=plain&password-file=" + password, "connect to kafka"},
		{"no certificate", "kafka://" + brokers + "?ca=" + ca.File("ca") + "&sasl=plain&user=plain&password-file=" + password, "connect to kafka"},
		{"no authority at all", secured + ".missing&sasl=plain&user=plain&password-file=" + password, "cert and key"},
		{"an authority that is none", strings.Replace(secured, ca.File("ca"), password, 1) + "&sasl=plain&user=plain&password-file=" + password, "holds no PEM certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var lines bytes.Buffer
			err := use(t, test.url, kafka.Options{Logger: slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error is %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), hunter2) {
				t.Errorf("the error holds the secret: %v", err)
			}
			if strings.Contains(lines.String(), hunter2) {
				t.Errorf("the log holds the secret:\n%s", lines.String())
			}
		})
	}
}

// The environment wins over a file: an orchestrator sets it.
func TestSecretsOfTheEnvironment(t *testing.T) {
	brokers := fake(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "plain", hunter2))
	t.Setenv(kafka.PasswordVariable, hunter2)
	if err := use(t, "kafka://"+brokers+"?create=true&sasl=plain&user=plain&password-file=missing", kafka.Options{}); err != nil {
		t.Error(err)
	}
}
