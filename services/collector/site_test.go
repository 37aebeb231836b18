//go:build e2e

package collector

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/prometheustest"
)

// site is a deployment with all that is observed of it.
type site struct {
	t            *testing.T
	installation *installation
	name         string
	revision     int

	authority  *authority
	names      *nameServer
	engines    []*station
	state      []*engineState
	cluster    *station               // its API server
	front      *station               // through which it reaches Prometheus
	prometheus *prometheustest.Server // of its own, or the one of all
}

// What each site holds.
const (
	replicas = 2
	// running is how many requests each engine says that it runs.
	running = 7
	// alreadyServed is how many requests an engine served before the test.
	alreadyServed = 1e6
)

// sites returns the sites of deployments: two engines each, or one that is found
// by its name, and an API server that knows two replicas.
func (i *installation) sites(names []string) []*site {
	i.t.Helper()
	trust, resolve := newAuthority(i.t), newNameServer(i.t)
	var all []*site
	for _, name := range names {
		s := &site{t: i.t, installation: i, name: name, authority: trust, names: resolve}
		for range 2 {
			state := &engineState{model: name}
			state.served.Store(alreadyServed)
			state.restarted.Store(time.Now().UnixNano())
			s.state, s.engines = append(s.state, state), append(s.engines, newStation(i.t, trust, state))
			if s.byName() {
				break
			}
		}
		s.cluster = newStation(i.t, trust, http.HandlerFunc(serveCluster))
		all = append(all, s)
	}
	return all
}

// byName reports whether the site's engines are found by a name.
func (s *site) byName() bool { return strings.HasPrefix(s.name, "name-") }

// host is the name of the site's engines.
func (s *site) host() string { return s.name + ".test" }

// scrape starts a Prometheus that scrapes all engines, and one of its own for the
// site that is to lose it.
func (i *installation) scrape(sites []*site) {
	i.t.Helper()
	run := func(sites ...*site) *prometheustest.Server {
		var targets []string
		for _, s := range sites {
			for _, engine := range s.engines {
				targets = append(targets, "'"+engine.address+"'")
			}
		}
		return prometheustest.Start(i.t, i.t.TempDir(), fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs: [{job_name: engines, scheme: https, tls_config: {insecure_skip_verify: true}, static_configs: [{targets: [%s]}]}]
`, strings.Join(targets, ", ")))
	}
	ofAll := run(sites...)
	to, err := url.Parse(ofAll.URL)
	if err != nil {
		i.t.Fatal(err)
	}
	for _, s := range sites {
		if s.name == "prometheus-down" {
			s.prometheus = run(s)
			continue
		}
		proxy := httputil.NewSingleHostReverseProxy(to)
		proxy.ErrorLog = silent
		s.prometheus, s.front = ofAll, newStation(i.t, s.authority, proxy)
	}
}

// configure publishes the next revision of the deployment, with more said of its
// Prometheus source.
func (s *site) configure(more string) {
	s.t.Helper()
	s.revision++
	maxAgeS, prometheusTimeoutS, engineTimeoutS := 60, 30, 30
	switch s.name {
	case "all-engines-dead", "clock-behind":
		maxAgeS = 4
	case "prometheus-times-out":
		prometheusTimeoutS = 2
	case "one-engine-times-out":
		engineTimeoutS = 2
	}
	prometheusURL := s.prometheus.URL
	if s.front != nil {
		prometheusURL = s.front.url()
	}
	pool := `{dns: "` + "https://" + s.host() + ":" + s.engines[0].port() + `"}`
	if !s.byName() {
		pool = fmt.Sprintf("{endpoints: [%q, %q]}", s.engines[0].url(), s.engines[1].url())
	}
	trust := fmt.Sprintf("http: {tls: {ca_file: %q}}", s.authority.file)
	if more != "" {
		more = ", " + more
	}
	specs, err := model.DecodeDeployments(fmt.Appendf(nil, `deployments: [{
		name: %s, topology: aggregated, target: sla, sla: {ttft_ms: 500, itl_ms: 50},
		roles: {aggregated: {gpus_per_replica: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, max_kv_tokens: 40000}}},
		load: {interval_s: 1}, throughput: {enabled: true, interval_s: 3, predictor: constant},
		source: {
			prometheus: {url: %q, preset: vllm, model: %s, max_age_s: %d, timeout_s: %d, %s%s},
			engines: {preset: vllm, timeout_s: %d, %s, roles: {aggregated: %s}},
			fleet: {kubernetes: {namespace: chat, roles: {aggregated: {name: decode}}}}}}]`,
		s.name, prometheusURL, s.name, maxAgeS, prometheusTimeoutS, trust, more, engineTimeoutS, trust, pool))
	if err != nil {
		s.t.Fatal(err)
	}
	s.installation.publish(&model.DeploymentConfigured{Deployment: s.name, Revision: s.revision, Spec: specs[0], ChangedBy: "test"})
}

// skew sets by how much the clock of the site's engines is wrong.
func (s *site) skew(by time.Duration) {
	for _, state := range s.state {
		state.skew.Store(int64(by))
	}
}

// present makes all servers of the site show a certificate.
func (s *site) present(certificate *tls.Certificate) {
	for _, at := range append([]*station{s.cluster, s.front}, s.engines...) {
		at.certificate.Store(certificate)
		at.server.CloseClientConnections() // who has shown it once does not show it again
	}
}

// engineState is an engine that serves a hundred requests a second, of 100 tokens
// in and 10 out.
type engineState struct {
	model      string
	served     atomic.Int64 // before it began
	restarted  atomic.Int64 // when it began
	skew       atomic.Int64
	notANumber atomic.Bool
}

func (e *engineState) restart() {
	e.restarted.Store(time.Now().UnixNano())
	e.served.Store(0)
}

func (e *engineState) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	requests := float64(e.served.Load() + now.Sub(time.Unix(0, e.restarted.Load())).Milliseconds()/10)
	at := ""
	if skew := time.Duration(e.skew.Load()); skew != 0 {
		at = fmt.Sprint(" ", now.Add(skew).UnixMilli())
	}
	successes := fmt.Sprint(requests)
	if e.notANumber.Load() {
		successes = "NaN"
	}
	for _, series := range []struct{ name, value string }{
		{"vllm:request_success_total", successes},
		{"vllm:request_prompt_tokens_sum", fmt.Sprint(100 * requests)},
		{"vllm:request_prompt_tokens_count", fmt.Sprint(requests)},
		{"vllm:request_generation_tokens_sum", fmt.Sprint(10 * requests)},
		{"vllm:request_generation_tokens_count", fmt.Sprint(requests)},
		{"vllm:num_requests_running", fmt.Sprint(running)},
		{"vllm:num_requests_waiting", "0"},
		{"vllm:kv_cache_usage_perc", "0.25"},
	} {
		fmt.Fprintf(w, "%s{model_name=%q} %s%s\n", series.name, e.model, series.value, at)
	}
}

// serveCluster answers what the API server of Kubernetes answers of a Deployment
// with two pods that are ready.
func serveCluster(w http.ResponseWriter, r *http.Request) {
	const ready = `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`
	object, ok := map[string]string{
		"/apis/apps/v1": `{"resources":[{"name":"deployments","kind":"Deployment"}]}`,
		"/apis/apps/v1/namespaces/chat/deployments/decode/scale": fmt.Sprintf(`{"spec":{"replicas":%d},"status":{"selector":"app=decode"}}`, replicas),
		"/api/v1/namespaces/chat/pods":                           `{"items":[` + strings.TrimSuffix(strings.Repeat(ready+",", replicas), ",") + `]}`,
	}[r.URL.Path]
	if !ok || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = io.WriteString(w, object)
}

// station is a server over TLS at one address, which can be stopped and started
// there, and made to answer otherwise.
type station struct {
	t           *testing.T
	address     string
	handler     http.Handler
	broken      atomic.Pointer[http.HandlerFunc]
	certificate atomic.Pointer[tls.Certificate]
	server      *httptest.Server
}

var silent = log.New(io.Discard, "", 0)

func newStation(t *testing.T, trust *authority, handler http.Handler) *station {
	t.Helper()
	s := &station{t: t, address: "127.0.0.1:0", handler: handler}
	s.certificate.Store(trust.valid)
	s.start()
	s.address = s.server.Listener.Addr().String()
	t.Cleanup(func() { s.server.Close() })
	return s
}

func (s *station) url() string { return "https://" + s.address }

func (s *station) port() string { return s.address[strings.LastIndex(s.address, ":")+1:] }

func (s *station) start() {
	s.t.Helper()
	var listener net.Listener
	var err error
	wait(s.t, func() bool { listener, err = net.Listen("tcp", s.address); return err == nil }, func() string { return fmt.Sprint(err) })
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken := s.broken.Load(); broken != nil {
			(*broken)(w, r)
			return
		}
		s.handler.ServeHTTP(w, r)
	}))
	_ = s.server.Listener.Close() // the one of another address
	s.server.Listener, s.server.Config.ErrorLog = listener, silent
	s.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*s.certificate.Load()}}, nil
	}}
	s.server.StartTLS()
}

func (s *station) stop() {
	s.server.CloseClientConnections()
	s.server.Close()
}

// answer makes it answer everything with a status and a text.
func (s *station) answer(status int, text string) {
	s.broken.Store(new(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})))
}

// hang makes it answer nothing until who asks gives up.
func (s *station) hang() {
	s.broken.Store(new(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that a client has gone
		<-r.Context().Done()
	})))
}

// recover makes it answer as it did at first.
func (s *station) recover() { s.broken.Store(nil) }

// authority issued two certificates of all servers, one of which has expired.
type authority struct {
	file           string
	valid, expired *tls.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	issue := func(template *x509.Certificate) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, root, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	leaf := func(until time.Time) *tls.Certificate {
		return &tls.Certificate{PrivateKey: key, Certificate: [][]byte{issue(&x509.Certificate{
			SerialNumber: big.NewInt(until.Unix()), Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"*.test"},
			NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})}}
	}
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem"), valid: leaf(time.Now().Add(24 * time.Hour)), expired: leaf(time.Now().Add(-time.Hour))}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issue(root)}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// nameServer answers the questions of this process, by the protocol of DNS over
// UDP: each name under test is that of the loopback interface, unless it is told
// otherwise.
type nameServer struct {
	mu    sync.Mutex
	codes map[string]dnsmessage.RCode
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{codes: map[string]dnsmessage.RCode{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.serve(socket)
	}()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		socket.Close()
		<-done
	})
	return n
}

// answer sets how questions of a name are answered.
func (n *nameServer) answer(name string, code dnsmessage.RCode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.codes[name+"."] = code
}

func (n *nameServer) serve(socket net.PacketConn) {
	packet := make([]byte, 1<<12)
	for {
		size, from, err := socket.ReadFrom(packet)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(packet[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		asked := m.Questions[0]
		n.mu.Lock()
		code := n.codes[asked.Name.String()]
		n.mu.Unlock()
		answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RCode: code}, Questions: m.Questions}
		if code == dnsmessage.RCodeSuccess && asked.Type == dnsmessage.TypeA {
			answer.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: asked.Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			}}
		}
		if reply, err := answer.Pack(); err == nil {
			_, _ = socket.WriteTo(reply, from) // who does not hear it asks again
		}
	}
}
