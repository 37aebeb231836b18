package kafkatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Authority is a certificate authority of one test. Its certificates, in files
// of PEM, are for 127.0.0.1 and kafka.test.
type Authority struct {
	// Certificate is its own.
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	dir         string
}

// NewAuthority returns an authority that issued a certificate to each name.
func NewAuthority(t testing.TB, names ...string) *Authority {
	t.Helper()
	a := &Authority{dir: t.TempDir()}
	for _, name := range append([]string{"ca"}, names...) {
		if err := a.issue(name); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// issue writes NAME.pem and NAME-key.pem.
func (a *Authority) issue(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, DNSNames: []string{"kafka.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.Certificate, a.key
	if parent == nil {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		parent, signer = template, key
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if a.Certificate == nil {
		if a.Certificate, err = x509.ParseCertificate(certificate); err != nil {
			return err
		}
		a.key = key
	}
	if err := os.WriteFile(a.File(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(a.File(name+"-key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

// File returns the file of a certificate, NAME, or of its key, NAME-key.
func (a *Authority) File(name string) string { return filepath.Join(a.dir, name+".pem") }

// Pair returns a certificate with its key.
func (a *Authority) Pair(t testing.TB, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.File(name), a.File(name+"-key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// brokerPEM returns the file with the brokers' key and certificates, as Kafka
// wants it.
func (a *Authority) brokerPEM() (string, error) {
	var parts [][]byte
	for _, name := range []string{"broker-key", "broker", "ca"} {
		part, err := os.ReadFile(a.File(name))
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
	}
	file := a.File("broker-store")
	return file, os.WriteFile(file, slices.Concat(parts...), 0o600)
}

// Token returns an OAUTHBEARER token of a user that nobody signed.
func Token(user string) string {
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, user, time.Now().Add(-time.Minute).Unix(), time.Now().Add(time.Hour).Unix())
	return encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(claims)) + "."
}
