package httpclient_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/httpclient"
)

func get(t *testing.T, settings model.HTTPClient, url string) (string, error) {
	t.Helper()
	client, err := httpclient.New(&settings, url)
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	return fetch(t, client, url)
}

func fetch(t *testing.T, client *http.Client, url string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// echo answers with what it was sent to prove who asks.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	_, _ = io.WriteString(w, strings.Join([]string{r.Header.Get("Authorization"), user, password, r.Header.Get("X-Scope-Orgid"), r.Header.Get("X-Key")}, "|"))
})

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCredentialsComeFromFiles(t *testing.T) {
	server := httptest.NewServer(echo)
	defer server.Close()
	token := write(t, "first\n")
	client, err := httpclient.New(&model.HTTPClient{
		BearerTokenFile: token, Headers: map[string]string{"X-Scope-OrgID": "tenant"},
		HeaderFiles: map[string]string{"X-Key": write(t, "k3y")}, AllowCredentialsOverHTTP: true,
	}, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if got, err := fetch(t, client, server.URL); got != "Bearer first|||tenant|k3y" || err != nil {
		t.Errorf("have %q, %v", got, err)
	}
	if err := os.WriteFile(token, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(t, client, server.URL); !strings.HasPrefix(got, "Bearer second|") || err != nil {
		t.Errorf("a token that changed is not read again: %q, %v", got, err)
	}
	basic := model.HTTPClient{Basic: &model.BasicAuth{Username: "u", PasswordFile: write(t, "p")}, AllowCredentialsOverHTTP: true}
	if got, err := get(t, basic, server.URL); !strings.Contains(got, "|u|p|") || err != nil {
		t.Errorf("have %q, %v", got, err)
	}
	if _, err := get(t, model.HTTPClient{BearerTokenFile: filepath.Join(t.TempDir(), "none"), AllowCredentialsOverHTTP: true}, server.URL); err == nil {
		t.Error("a token that cannot be read is sent as nothing")
	}
}

// TestFilesAreReadAgain: one client, whose files change under it, as secrets and
// certificates do that are renewed.
func TestFilesAreReadAgain(t *testing.T) {
	replace := func(path, with string) {
		t.Helper()
		data, err := os.ReadFile(with)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	day := time.Now().Add(time.Hour)
	serverCert, serverKey := certificate(t, day, x509.ExtKeyUsageServerAuth)
	clientCert, clientKey := certificate(t, day, x509.ExtKeyUsageClientAuth)
	otherCert, otherKey := certificate(t, day, x509.ExtKeyUsageClientAuth)
	url := serveTLS(t, serverCert, serverKey, clientCert)
	password, key := write(t, "first"), write(t, "k1")
	// It begins with an authority and a certificate that are the wrong ones.
	ca := write(t, "")
	replace(ca, otherCert)
	client, err := httpclient.New(&model.HTTPClient{
		Basic: &model.BasicAuth{Username: "u", PasswordFile: password}, HeaderFiles: map[string]string{"X-Key": key},
		TLS: model.ClientTLS{CAFile: ca, CertFile: otherCert, KeyFile: otherKey},
	}, url)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if _, err := fetch(t, client, url); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an authority that nobody trusts: %v", err)
	}
	replace(ca, serverCert)
	if _, err := fetch(t, client, url); err == nil {
		t.Error("the server takes a certificate of another")
	}
	replace(otherCert, clientCert)
	replace(otherKey, clientKey)
	if got, err := fetch(t, client, url); !strings.HasSuffix(got, "|u|first||k1") || err != nil {
		t.Errorf("with the files renewed have %q, %v", got, err)
	}
	replace(password, write(t, "second"))
	replace(key, write(t, "k2"))
	if got, err := fetch(t, client, url); !strings.HasSuffix(got, "|u|second||k2") || err != nil {
		t.Errorf("with the secrets renewed have %q, %v", got, err)
	}
}

func TestCredentialsAreNotSentUnencrypted(t *testing.T) {
	server := httptest.NewServer(echo)
	defer server.Close()
	for _, settings := range []model.HTTPClient{
		{BearerTokenFile: write(t, "x")},
		{Basic: &model.BasicAuth{Username: "u", PasswordFile: write(t, "x")}},
		{HeaderFiles: map[string]string{"X-Key": write(t, "x")}},
	} {
		if got, err := get(t, settings, server.URL); err == nil || !strings.Contains(err.Error(), "not sent unencrypted") {
			t.Errorf("have %q, %v", got, err)
		}
	}
	if _, err := get(t, model.HTTPClient{}, server.URL); err != nil {
		t.Errorf("no credentials: %v", err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 1<<20)
		for range httpclient.MaxAnswerBytes>>20 + 1 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	if _, err := get(t, model.HTTPClient{}, server.URL); !errors.Is(err, httpclient.ErrTooLarge) {
		t.Errorf("error is %v", err)
	}
}

// certificate issues a certificate for 127.0.0.1 and writes it and its key.
func certificate(t *testing.T, notAfter time.Time, use x509.ExtKeyUsage) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: notAfter.Add(-24 * time.Hour), NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func serveTLS(t *testing.T, certFile, keyFile, clientCA string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(echo)
	server.Config.ErrorLog = nil
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		pemCA, err := os.ReadFile(clientCA)
		if err != nil {
			t.Fatal(err)
		}
		server.TLS.ClientCAs = x509.NewCertPool()
		server.TLS.ClientCAs.AppendCertsFromPEM(pemCA)
		server.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func TestTLS(t *testing.T) {
	day := time.Now().Add(time.Hour)
	serverCert, serverKey := certificate(t, day, x509.ExtKeyUsageServerAuth)
	clientCert, clientKey := certificate(t, day, x509.ExtKeyUsageClientAuth)
	url := serveTLS(t, serverCert, serverKey, clientCert)
	trusting := model.ClientTLS{CAFile: serverCert, CertFile: clientCert, KeyFile: clientKey}
	settings := model.HTTPClient{BearerTokenFile: write(t, "tok"), TLS: trusting}
	if got, err := get(t, settings, url); !strings.HasPrefix(got, "Bearer tok|") || err != nil {
		t.Errorf("have %q, %v", got, err)
	}
	settings.TLS.CAFile = ""
	if _, err := get(t, settings, url); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an authority that nobody trusts: %v", err)
	}
	settings.TLS = model.ClientTLS{CAFile: serverCert}
	if _, err := get(t, settings, url); err == nil {
		t.Error("the server asks for a certificate, and none was given")
	}
	oldCert, oldKey := certificate(t, time.Now().Add(-time.Hour), x509.ExtKeyUsageServerAuth)
	if _, err := get(t, model.HTTPClient{TLS: model.ClientTLS{CAFile: oldCert}}, serveTLS(t, oldCert, oldKey, "")); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a certificate that has expired: %v", err)
	}
	if _, err := get(t, model.HTTPClient{TLS: model.ClientTLS{CAFile: filepath.Join(t.TempDir(), "none")}}, url); err == nil {
		t.Error("an authority's file that is not there is taken as none")
	}
}
