// Package httpclient reaches the servers that sources read: credentials from
// files, TLS, no redirects, and answers of a bounded size.
package httpclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/prometheus/common/config"

	"tidemark.dev/pkg/model"
)

// MaxAnswerBytes bounds what a server may answer.
const MaxAnswerBytes = 64 << 20

// ErrTooLarge says that an answer is larger than MaxAnswerBytes.
var ErrTooLarge = fmt.Errorf("the answer is larger than %d MiB", MaxAnswerBytes>>20)

// New returns a client for the server at an address. It refuses to send
// credentials over plain HTTP unless the settings allow it by name, follows no
// redirect, which could lead them elsewhere, and reads secrets and certificates
// again when their files change.
func New(settings *model.HTTPClient, address string) (*http.Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if u.Scheme != "https" && settings.Credentials() && !settings.AllowCredentialsOverHTTP {
		return nil, fmt.Errorf("credentials are not sent unencrypted to %s: use https, or set http.allow_credentials_over_http", u.Host)
	}
	c := config.HTTPClientConfig{
		TLSConfig: config.TLSConfig{
			CAFile: settings.TLS.CAFile, CertFile: settings.TLS.CertFile, KeyFile: settings.TLS.KeyFile,
			ServerName: settings.TLS.ServerName, InsecureSkipVerify: settings.TLS.InsecureSkipVerify,
		},
		EnableHTTP2: true,
	}
	if settings.BearerTokenFile != "" {
		c.Authorization = &config.Authorization{Type: "Bearer", CredentialsFile: settings.BearerTokenFile}
	}
	if basic := settings.Basic; basic != nil {
		c.BasicAuth = &config.BasicAuth{Username: basic.Username, PasswordFile: basic.PasswordFile}
	}
	if len(settings.Headers)+len(settings.HeaderFiles) > 0 {
		c.HTTPHeaders = &config.Headers{Headers: map[string]config.Header{}}
		for name, value := range settings.Headers {
			c.HTTPHeaders.Headers[name] = config.Header{Values: []string{value}}
		}
		for name, file := range settings.HeaderFiles {
			c.HTTPHeaders.Headers[name] = config.Header{Files: []string{file}}
		}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	client, err := config.NewClientFromConfig(c, "tidemark", config.WithUserAgent("tidemark-collector"))
	if err != nil {
		return nil, err
	}
	client.Transport = bounded{client.Transport}
	client.CheckRedirect = func(request *http.Request, _ []*http.Request) error {
		return fmt.Errorf("the server redirects to %s, which is not followed: write that address", request.URL.Redacted())
	}
	return client, nil
}

// bounded fails the reading of an answer that is too large.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &boundedBody{response.Body, MaxAnswerBytes}
	return response, nil
}

// CloseIdleConnections lets the client close its connections.
func (b bounded) CloseIdleConnections() {
	if closer, ok := b.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}

// Brief returns an error as one line without the method and address that
// net/http puts before it: the reader knows them.
func Brief(err error) string {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return oneLine(err.Error())
}

// Line returns an error as one line.
func Line(err error) string { return oneLine(err.Error()) }
