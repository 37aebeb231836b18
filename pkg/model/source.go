package model

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Source says where observations come from: Simulated alone, or any of the
// others together. What has no source is not in the observation.
type Source struct {
	Simulated *SimulatedSource `json:"simulated,omitempty"`
	// Prometheus measures the traffic.
	Prometheus *PrometheusSource `json:"prometheus,omitempty"`
	// Engines reads the state of each engine.
	Engines *EnginesSource `json:"engines,omitempty"`
	// Fleet counts the replicas.
	Fleet *FleetSource `json:"fleet,omitempty"`
}

// Real reports whether the source is anything but a simulation.
func (s *Source) Real() bool { return s.Prometheus != nil || s.Engines != nil || s.Fleet != nil }

// Preset names the families of metrics that a server exports.
type Preset string

// The presets.
const (
	// PresetDynamo is the frontend of NVIDIA Dynamo.
	PresetDynamo Preset = "dynamo"
	// PresetDynamoRouter is the KV router of NVIDIA Dynamo.
	PresetDynamoRouter Preset = "dynamo-router"
	// PresetVLLM is the server of vLLM.
	PresetVLLM Preset = "vllm"
	// PresetSGLang is the server of SGLang.
	PresetSGLang Preset = "sglang"
	// PresetTRTLLM is the server of TensorRT-LLM.
	PresetTRTLLM Preset = "trtllm"
	// PresetCustom is nothing but queries of the deployment's own.
	PresetCustom Preset = "custom"
)

// PrometheusSource measures the traffic of a deployment by the HTTP API of
// Prometheus, or of anything that speaks it.
type PrometheusSource struct {
	// URL is the server's base address.
	URL string `json:"url"`
	// Preset names the metrics that are read.
	Preset Preset `json:"preset"`
	// Model and Namespace are the values of the preset's labels for them.
	Model     string `json:"model,omitzero"`
	Namespace string `json:"namespace,omitzero"`
	// Labels are further labels that the deployment's series have.
	Labels map[string]string `json:"labels,omitempty"`
	// Queries measure single figures in place of the preset's metrics.
	Queries PrometheusQueries `json:"queries,omitzero"`
	// MaxAgeS is the age above which the newest sample is stale.
	MaxAgeS float64 `json:"max_age_s"`
	// TimeoutS bounds each query.
	TimeoutS float64    `json:"timeout_s"`
	HTTP     HTTPClient `json:"http,omitzero"`
}

// PrometheusQueries are PromQL expressions that give one number each. In them
// $selector stands for the deployment's label matchers and $window for the
// length of the window, such as 180s. Each must hold $selector, so that no
// query sees the series of another deployment.
type PrometheusQueries struct {
	// Requests counts the requests of the window.
	Requests      string `json:"requests,omitzero"`
	MeanISL       string `json:"mean_isl,omitzero"`
	MeanOSL       string `json:"mean_osl,omitzero"`
	KVHitRate     string `json:"kv_hit_rate,omitzero"`
	MeanTTFTS     string `json:"mean_ttft_s,omitzero"`
	P95TTFTS      string `json:"p95_ttft_s,omitzero"`
	MeanITLS      string `json:"mean_itl_s,omitzero"`
	P95ITLS       string `json:"p95_itl_s,omitzero"`
	MeanDurationS string `json:"mean_duration_s,omitzero"`
}

// Named returns the queries that are given, by their keys.
func (q *PrometheusQueries) Named() map[string]string {
	named := map[string]string{
		"requests": q.Requests, "mean_isl": q.MeanISL, "mean_osl": q.MeanOSL, "kv_hit_rate": q.KVHitRate,
		"mean_ttft_s": q.MeanTTFTS, "p95_ttft_s": q.P95TTFTS, "mean_itl_s": q.MeanITLS, "p95_itl_s": q.P95ITLS,
		"mean_duration_s": q.MeanDurationS,
	}
	maps.DeleteFunc(named, func(_, query string) bool { return query == "" })
	return named
}

// EnginesSource reads the state of each engine from the engine itself.
type EnginesSource struct {
	// Preset names the engine whose metrics are scraped: vllm, sglang or trtllm. It
	// is left out where no role is scraped.
	Preset Preset `json:"preset,omitzero"`
	// Path is where an engine serves its metrics; empty is where the preset does.
	Path string `json:"path,omitzero"`
	// Roles says where the engines of each role are.
	Roles PerRole[EnginePool] `json:"roles"`
	// MaxAgeS is the age above which what an engine last said is stale.
	MaxAgeS float64 `json:"max_age_s"`
	// TimeoutS bounds each scrape.
	TimeoutS float64    `json:"timeout_s"`
	HTTP     HTTPClient `json:"http,omitzero"`
}

// EnginePool says how the engines of one role are seen: by scraping those at
// Endpoints, DNS or Kubernetes, or by the forward-pass metrics that they publish.
type EnginePool struct {
	// Endpoints are base addresses of engines.
	Endpoints []string `json:"endpoints,omitempty"`
	// DNS is a base address whose host name resolves to one address for each
	// engine, as that of a headless service does.
	DNS string `json:"dns,omitzero"`
	// Kubernetes finds engines by their pods.
	Kubernetes *EnginePods `json:"kubernetes,omitempty"`
	// ZMQ are the addresses, such as tcp://host:port, of the PUB sockets at which
	// engines publish forward-pass metrics.
	ZMQ []string `json:"zmq,omitempty"`
	// NATS is a subject on which engines publish them.
	NATS *NATSStream `json:"nats,omitempty"`
	// Push takes them by HTTP POST.
	Push *PushStream `json:"push,omitempty"`
}

// Scraped reports whether the engines are scraped.
func (p *EnginePool) Scraped() bool {
	return len(p.Endpoints) > 0 || p.DNS != "" || p.Kubernetes != nil
}

// EnginePods names the pods of engines. The address of the API server and the
// credentials belong to the collector's process.
type EnginePods struct {
	Namespace string `json:"namespace"`
	// Selector is a label selector in the form of kubectl: app=chat,role=decode.
	Selector string `json:"selector"`
	// Port is where an engine of a pod serves its metrics.
	Port int `json:"port"`
	// Scheme is http or https.
	Scheme string `json:"scheme"`
}

func (p *EnginePods) setDefaults() { p.Scheme = "http" }

// selectorPattern admits the characters of label selectors; the API server says
// what is wrong with one of them.
var selectorPattern = regexp.MustCompile(`^[-A-Za-z0-9._/=!,() ]+$`)

func (p *EnginePods) check(c *checks, at string, h *HTTPClient) {
	if !namePattern.MatchString(p.Namespace) {
		c.fail(at+".namespace", "is %q, want the name of a namespace", p.Namespace)
	}
	switch {
	case strings.TrimSpace(p.Selector) == "":
		c.fail(at+".selector", "is missing; without it every pod of the namespace would be an engine")
	case !selectorPattern.MatchString(p.Selector):
		c.fail(at+".selector", "is %q, want a label selector such as app=chat,role=decode", p.Selector)
	}
	if p.Port < 1 || p.Port > 65535 {
		c.fail(at+".port", "is %d, want the port at which the engines serve their metrics", p.Port)
	}
	if c.oneOf(at+".scheme", p.Scheme, "http", "https") {
		h.checkAddress(c, at+".scheme", p.Scheme+"://pod")
	}
}

// NATSStream is a subject of a NATS server.
type NATSStream struct {
	URL     string `json:"url"`
	Subject string `json:"subject"`
	// CredentialsFile is a NATS credentials file.
	CredentialsFile string `json:"credentials_file,omitzero"`
}

// PushStream takes messages by HTTP POST from who knows a token.
type PushStream struct {
	TokenFile string `json:"token_file"`
}

// FleetSource counts the replicas: exactly one is set.
type FleetSource struct {
	// Static is the number of replicas of a fleet that nothing changes.
	Static *PerRole[int] `json:"static,omitempty"`
	// Kubernetes counts the pods of Kubernetes objects.
	Kubernetes *KubernetesFleet `json:"kubernetes,omitempty"`
}

// KubernetesFleet names the objects whose pods are the replicas of the roles.
// The address of the API server and the credentials belong to the collector's
// process.
type KubernetesFleet struct {
	Namespace string                    `json:"namespace"`
	Roles     PerRole[KubernetesTarget] `json:"roles"`
}

// HTTPClient says how a source is reached. It holds no secret, since every
// revision of a configuration is in the log: secrets stand in files on the
// collector's machine, which are read again when they change.
type HTTPClient struct {
	BearerTokenFile string     `json:"bearer_token_file,omitzero"`
	Basic           *BasicAuth `json:"basic,omitempty"`
	// Headers are sent with each request, HeaderFiles with values from files.
	Headers     map[string]string `json:"headers,omitempty"`
	HeaderFiles map[string]string `json:"header_files,omitempty"`
	TLS         ClientTLS         `json:"tls,omitzero"`
	// AllowCredentialsOverHTTP lets credentials travel unencrypted.
	AllowCredentialsOverHTTP bool `json:"allow_credentials_over_http,omitzero"`
}

// BasicAuth is a user name and the file of its password.
type BasicAuth struct {
	Username     string `json:"username"`
	PasswordFile string `json:"password_file"`
}

// ClientTLS says whom to trust, and as whom to come. Without CAFile the
// system's authorities are trusted.
type ClientTLS struct {
	CAFile     string `json:"ca_file,omitzero"`
	CertFile   string `json:"cert_file,omitzero"`
	KeyFile    string `json:"key_file,omitzero"`
	ServerName string `json:"server_name,omitzero"`
	// InsecureSkipVerify trusts anyone.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitzero"`
}

// Credentials reports whether anything secret would be sent.
func (h *HTTPClient) Credentials() bool {
	return h.BearerTokenFile != "" || h.Basic != nil || len(h.HeaderFiles) > 0
}

func (p *PrometheusSource) setDefaults() { p.MaxAgeS, p.TimeoutS = 60, 4 }
func (e *EnginesSource) setDefaults()    { e.MaxAgeS, e.TimeoutS = 30, 2 }

// labelPattern is what a label of Prometheus is named.
var labelPattern = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// headerPattern is the token of which RFC 9110 makes header names.
var headerPattern = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// checkSource checks where observations come from.
func (d *Deployment) checkSource(c *checks) {
	s := d.Source
	switch {
	case s.Simulated == nil && !s.Real():
		c.fail("source", "names nothing; want simulated, or any of prometheus, engines and fleet")
	case s.Simulated != nil && s.Real():
		c.fail("source.simulated", "stands beside a real source; a fleet is simulated or it is real")
	}
	if s.Simulated != nil {
		s.Simulated.check(c)
	}
	if s.Prometheus != nil {
		s.Prometheus.check(c)
	}
	if s.Engines != nil {
		s.Engines.check(c, d.Topology)
	}
	if s.Fleet != nil {
		s.Fleet.check(c, d.Topology)
	}
}

func (s *SimulatedSource) check(c *checks) {
	c.positive("source.simulated.speed", s.Speed)
	c.positive("source.simulated.rate_multiplier", s.RateMultiplier)
	c.atLeast("source.simulated.cold_start_s", s.ColdStartS, 0)
	c.atLeast("source.simulated.generator.duration_s", s.Generator.DurationS, 0)
	c.atLeast("source.simulated.generator.mean_rps", s.Generator.MeanRPS, 0)
	for _, role := range AllRoles {
		if n, given := s.Replicas.Get(role); given && n < 0 {
			c.fail("source.simulated.replicas."+string(role), "is %d, want at least 0", n)
		}
	}
}

func (p *PrometheusSource) check(c *checks) {
	const at = "source.prometheus"
	p.HTTP.checkAddress(c, at+".url", p.URL)
	p.HTTP.check(c, at+".http")
	known := c.oneOf(at+".preset", string(p.Preset), string(PresetDynamo), string(PresetDynamoRouter),
		string(PresetVLLM), string(PresetSGLang), string(PresetTRTLLM), string(PresetCustom))
	switch {
	case p.Preset == PresetDynamoRouter && p.Namespace == "":
		c.fail(at+".namespace", "is missing; the router's metrics are told apart by dynamo_namespace")
	case p.Preset == PresetDynamoRouter && p.Model != "":
		c.fail(at+".model", "is given, and the router's metrics carry no model; leave it out")
	case p.Preset == PresetCustom && (p.Model != "" || p.Namespace != ""):
		c.fail(at+".labels", "is where preset custom finds its labels: which labels hold model and namespace is not known")
	case p.Preset == PresetCustom && len(p.Labels) == 0:
		c.fail(at+".labels", "is missing; without it the queries would see every deployment's series")
	case known && p.Preset != PresetCustom && p.Preset != PresetDynamoRouter && p.Model == "":
		c.fail(at+".model", "is missing; without it the series of every model would be read")
	}
	for _, label := range slices.Sorted(maps.Keys(p.Labels)) {
		if !labelPattern.MatchString(label) || strings.HasPrefix(label, "__") {
			c.fail(at+".labels."+label, "is not the name of a label: want letters, digits and underscores, not starting with a digit or with two underscores")
		}
	}
	queries := p.Queries.Named()
	for _, name := range slices.Sorted(maps.Keys(queries)) {
		if !strings.Contains(queries[name], "$selector") {
			c.fail(at+".queries."+name, "lacks $selector, so that it would see the series of other deployments; write metric{$selector}")
		}
	}
	if p.Preset == PresetCustom {
		for _, name := range [...]string{"requests", "mean_isl", "mean_osl"} {
			if queries[name] == "" {
				c.fail(at+".queries."+name, "is missing; preset custom needs requests, mean_isl and mean_osl")
			}
		}
	}
	c.positive(at+".max_age_s", p.MaxAgeS)
	c.positive(at+".timeout_s", p.TimeoutS)
}

func (e *EnginesSource) check(c *checks, topology Topology) {
	const at = "source.engines"
	scraped := slices.ContainsFunc(AllRoles[:], func(role Role) bool { pool, _ := e.Roles.Get(role); return pool.Scraped() })
	switch {
	case scraped:
		c.oneOf(at+".preset", string(e.Preset), string(PresetVLLM), string(PresetSGLang), string(PresetTRTLLM))
	case e.Preset != "":
		c.fail(at+".preset", "is given, and no role is scraped")
	}
	if e.Path != "" && (!strings.HasPrefix(e.Path, "/") || strings.ContainsAny(e.Path, "?#")) {
		c.fail(at+".path", "is %q, want a path such as /metrics", e.Path)
	}
	checkRolesOf(c, at+".roles", topology, e.Roles)
	for _, role := range AllRoles {
		pool, given := e.Roles.Get(role)
		if !given {
			continue
		}
		path := at + ".roles." + string(role)
		ways := 0
		for _, way := range [...]bool{len(pool.Endpoints) > 0, pool.DNS != "", pool.Kubernetes != nil, len(pool.ZMQ) > 0, pool.NATS != nil, pool.Push != nil} {
			if way {
				ways++
			}
		}
		if ways != 1 {
			c.fail(path, "wants one of endpoints, dns, kubernetes, zmq, nats and push, and has %d", ways)
		}
		pool.checkStreams(c, path)
		seen := map[string]bool{}
		for i, endpoint := range pool.Endpoints {
			where := fmt.Sprintf("%s.endpoints[%d]", path, i)
			e.HTTP.checkAddress(c, where, endpoint)
			if seen[endpoint] {
				c.fail(where, "is in the list twice; an engine would be counted twice")
			}
			seen[endpoint] = true
		}
		if pool.DNS != "" {
			e.HTTP.checkAddress(c, path+".dns", pool.DNS)
		}
		if pool.Kubernetes != nil {
			pool.Kubernetes.check(c, path+".kubernetes", &e.HTTP)
		}
	}
	e.HTTP.check(c, at+".http")
	c.positive(at+".max_age_s", e.MaxAgeS)
	c.positive(at+".timeout_s", e.TimeoutS)
}

func (p *EnginePool) checkStreams(c *checks, at string) {
	for i, address := range p.ZMQ {
		if u, err := url.Parse(address); err != nil || u.Scheme != "tcp" || u.Port() == "" || u.User != nil {
			c.fail(fmt.Sprintf("%s.zmq[%d]", at, i), "is %q, want an address such as tcp://host:5557", redactURL(address))
		}
	}
	if n := p.NATS; n != nil {
		switch u, err := url.Parse(n.URL); {
		case err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Host == "":
			c.fail(at+".nats.url", "is %q, want an address such as nats://host:4222", redactURL(n.URL))
		case u.User != nil:
			c.fail(at+".nats.url", "holds credentials, and every revision is in the log; write credentials_file")
		}
		if n.Subject == "" || strings.ContainsAny(n.Subject, " \t\r\n") {
			c.fail(at+".nats.subject", "is %q, want a subject such as engines.prefill.*", n.Subject)
		}
	}
	if p.Push != nil && p.Push.TokenFile == "" {
		c.fail(at+".push.token_file", "is missing; without a token anyone could say what the engines do")
	}
}

func (f *FleetSource) check(c *checks, topology Topology) {
	const at = "source.fleet"
	switch {
	case f.Static == nil && f.Kubernetes == nil:
		c.fail(at, "names nothing; want one of static and kubernetes")
		return
	case f.Static != nil && f.Kubernetes != nil:
		c.fail(at, "names static and kubernetes; give one")
		return
	case f.Kubernetes != nil:
		checkKubernetes(c, at+".kubernetes", topology, f.Kubernetes.Namespace, f.Kubernetes.Roles)
		return
	}
	checkRolesOf(c, at+".static", topology, *f.Static)
	for _, role := range AllRoles {
		if n, given := f.Static.Get(role); given && n < 0 {
			c.fail(at+".static."+string(role), "is %d, want at least 0", n)
		}
	}
}

// checkRolesOf checks that a setting is given for the roles of the topology and
// for no others.
func checkRolesOf[T any](c *checks, at string, topology Topology, given PerRole[T]) {
	for _, role := range AllRoles {
		_, is := given.Get(role)
		switch wanted := slices.Contains(topology.Roles(), role); {
		case wanted && !is:
			c.fail(at+"."+string(role), "is missing; topology %s has it", topology)
		case !wanted && is && len(topology.Roles()) > 0:
			c.fail(at+"."+string(role), "is given, and topology %s does not have it", topology)
		}
	}
}

// checkAddress checks the address of a server.
func (h *HTTPClient) checkAddress(c *checks, at, address string) {
	u, err := url.Parse(address)
	switch {
	case address == "":
		c.fail(at, "is missing; want an address such as http://host:8000")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		c.fail(at, "is %q, want an address such as http://host:8000", redactURL(address))
	case u.User != nil:
		c.fail(at, "holds credentials, and every revision is in the log; write http.basic with a password_file")
	case u.RawQuery != "" || u.Fragment != "":
		c.fail(at, "has a query or a fragment; want the base address alone")
	case u.Scheme == "http" && h.Credentials() && !h.AllowCredentialsOverHTTP:
		c.fail(at, "would be sent credentials unencrypted; use https, or allow it by http.allow_credentials_over_http: true")
	}
}

// check checks what is independent of the address.
func (h *HTTPClient) check(c *checks, at string) {
	if h.BearerTokenFile != "" && h.Basic != nil {
		c.fail(at+".basic", "stands beside bearer_token_file; a request carries one Authorization")
	}
	if h.Basic != nil && (h.Basic.Username == "" || h.Basic.PasswordFile == "") {
		c.fail(at+".basic", "needs username and password_file")
	}
	if (h.TLS.CertFile == "") != (h.TLS.KeyFile == "") {
		c.fail(at+".tls", "needs cert_file and key_file together")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		switch {
		case !headerPattern.MatchString(name) || strings.ContainsAny(h.Headers[name], "\r\n\x00"):
			c.fail(at+".headers."+name, "is not a header that can be sent")
		case secretHeader(name):
			c.fail(at+".headers."+name, "looks like a secret, and every revision is in the log; write header_files")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.HeaderFiles)) {
		switch {
		case !headerPattern.MatchString(name) || h.HeaderFiles[name] == "":
			c.fail(at+".header_files."+name, "is not a header with the name of a file")
		case strings.EqualFold(name, "Authorization"):
			c.fail(at+".header_files."+name, "is set by bearer_token_file or basic")
		}
	}
}

// secretHeader reports whether a header carries a secret by its name.
func secretHeader(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"authorization", "cookie", "token", "secret", "password", "api-key", "apikey"},
		func(mark string) bool { return strings.Contains(name, mark) })
}

// redactURL returns an address as it may be shown.
func redactURL(address string) string {
	if _, host, found := strings.Cut(address, "@"); found {
		return "...@" + host
	}
	return address
}
