package kafka_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/kafka"
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

// authority is a certificate authority of a test.
type authority struct {
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.certificate, a.key = a.issue(t, "ca", nil)
	return a
}

// issue writes NAME.pem and NAME-key.pem.
func (a *authority) issue(t testing.TB, name string, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, DNSNames: []string{"kafka.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if by == nil {
		template.KeyUsage |= x509.KeyUsageCertSign
	} else {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.file(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, a.file(name+"-key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name+".pem") }

func (a *authority) pair(t testing.TB, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.file(name), a.file(name+"-key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
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
	ca := newAuthority(t)
	ca.issue(t, "broker", ca)
	ca.issue(t, "decider", ca)
	strangers := newAuthority(t)
	strangers.issue(t, "decider", strangers)
	authorities := x509.NewCertPool()
	authorities.AddCert(ca.certificate)
	brokers := fake(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.pair(t, "broker")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities}),
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "plain", hunter2),
		kfake.Superuser("SCRAM-SHA-256", "scram256", hunter2), kfake.Superuser("SCRAM-SHA-512", "scram512", hunter2))
	password := write(t, filepath.Join(t.TempDir(), "password"), []byte(hunter2+"\n"))
	wrong := write(t, filepath.Join(t.TempDir(), "wrong"), []byte("another-"+hunter2+"\n"))
	empty := write(t, filepath.Join(t.TempDir(), "empty"), []byte("\n"))
	secured := "kafka://" + brokers + "?create=true&ca=" + ca.file("ca") + "&cert=" + ca.file("decider") + "&key=" + ca.file("decider-key")
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
		{"no authority of the brokers", strings.Replace(secured, ca.file("ca"), strangers.file("ca"), 1) + "&sasl=plain&user=plain&password-file=" + password, "unknown authority"},
		{"a stranger's certificate", strings.ReplaceAll(secured, filepath.Join(ca.dir, "decider"), filepath.Join(strangers.dir, "decider")) + "&sasl=plain&user=plain&password-file=" + password, "connect to kafka"},
		{"no certificate", "kafka://" + brokers + "?ca=" + ca.file("ca") + "&sasl=plain&user=plain&password-file=" + password, "connect to kafka"},
		{"no authority at all", secured + ".missing&sasl=plain&user=plain&password-file=" + password, "cert and key"},
		{"an authority that is none", strings.Replace(secured, ca.file("ca"), password, 1) + "&sasl=plain&user=plain&password-file=" + password, "holds no PEM certificate"},
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
