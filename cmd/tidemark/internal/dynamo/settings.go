package dynamo

import (
	"strings"

	"tidemark.dev/pkg/model"
)

// settings are the planner's, with its defaults.
type settings struct {
	// name is the deployment's, where it is given beside the file.
	name      string
	modelName string
	// prometheus is the address of the server that the traffic is read from.
	prometheus, metricsSource, namespace string
	prometheusTimeoutS                   float64
	tokenFile, caBundle                  string
	// sslVerify is nil where the file does not say; the planner then trusts anyone.
	sslVerify *bool

	mode, target                          string
	ttftMs, itlMs                         float64
	minGPUs, maxGPUs                      int
	minReplicas                           int
	prefillMinReplicas, decodeMinReplicas *int
	// prefillGPUs and decodeGPUs are 0 where the planner asks the fleet.
	prefillGPUs, decodeGPUs int

	// load and throughput switch the loops, and are nil where the file does not.
	load, throughput                     *bool
	loadIntervalS, throughputIntervalS   float64
	throughputStep                       int
	sensitivity                          float64
	minObservations, maxSamples, buckets int
	prefillUp, prefillDown               *float64
	decodeUp, decodeDown                 *float64
	predictor, warmupTrace               string
	log1p                                *bool
	prophetWindow, kalmanMinPoints       *int
	kalmanQLevel, kalmanQTrend, kalmanR  *float64

	// advisory, and what was there before it; nil and empty where not given.
	advisory, noOperation *bool
	scalingMode           string
}

func defaults() settings {
	return settings{
		mode: "disagg", target: "throughput", ttftMs: 500, itlMs: 50,
		minGPUs: model.Unbounded, maxGPUs: 8, minReplicas: 1,
		loadIntervalS: 5, throughputIntervalS: 180, throughputStep: 8,
		sensitivity: 80, minObservations: 5, maxSamples: 64, buckets: 16,
		predictor: "arima", metricsSource: "frontend", prometheusTimeoutS: 4,
	}
}

// manyReplicas is a bound that no fleet reaches.
const manyReplicas = 1000

// deployment makes a deployment of the settings, and notes what it assumes.
func (c *converter) deployment() model.Deployment {
	d := model.DefaultDeployment()
	d.Name = c.name
	d.Advisory = c.isAdvisory()
	d.Topology = map[string]model.Topology{
		"disagg": model.TopologyDisaggregated, "prefill": model.TopologyPrefill,
		"decode": model.TopologyDecode, "agg": model.TopologyAggregated,
	}[c.mode]
	d.Target = model.Target(c.target)
	d.SLA = model.SLA{TTFTMs: c.ttftMs, ITLMs: c.itlMs}
	d.Budget = model.Budget{MinGPUs: gpus(c.minGPUs), MaxGPUs: gpus(c.maxGPUs)}
	c.setRoles(&d)
	c.setLoops(&d)
	c.setSource(&d)
	c.assume("actuator", "say what carries decisions out; a deployment without one stays as it is, active or not")
	return d
}

// gpus returns a bound of a budget: any negative one is none.
func gpus(bound int) int { return max(bound, model.Unbounded) }

// nameDeployment names the deployment after the model, if it has no name yet.
func (c *converter) nameDeployment() {
	if c.name != "" {
		return
	}
	c.name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(c.modelName[strings.LastIndex(c.modelName, "/")+1:]))
	if c.name = strings.Trim(c.name[:min(len(c.name), 63)], "-"); c.name == "" {
		c.name = "dynamo"
		c.assume("name", "%s: the file has no model_name to name the deployment after; choose one with --name", c.name)
	}
}

// isAdvisory tells whether decisions are only shown. Where the file says nothing
// the planner acts, and a deployment that is new here starts advisory.
func (c *converter) isAdvisory() bool {
	off := func(b *bool) bool { return b != nil && !*b }
	on := func(b *bool) bool { return b != nil && *b }
	switch {
	case on(c.advisory), on(c.noOperation), c.scalingMode == "advisory", c.scalingMode == "noop":
		return true
	case off(c.advisory), off(c.noOperation), c.scalingMode == "active":
		c.assume("advisory", "false, as in the file: from tidemark apply on, the actuator acts on decisions; write true to watch them first")
		return false
	}
	c.assume("advisory", "true, where the planner would act: watch the decisions, then run tidemark activate %s --reason WHY", c.name)
	return true
}

// setSource makes a source of traffic of what the file says of Prometheus.
func (c *converter) setSource(d *model.Deployment) {
	if withoutPrometheus(&c.settings) != "" {
		c.assume("source", "say where observations come from; decide and simulate need none")
		return
	}
	source := &model.PrometheusSource{URL: c.prometheus, Preset: model.PresetDynamo, Model: c.modelName, Namespace: c.namespace, MaxAgeS: 60, TimeoutS: c.prometheusTimeoutS}
	if c.metricsSource == "router" {
		source.Preset, source.Model = model.PresetDynamoRouter, ""
		// The router's label has no dashes.
		source.Namespace = strings.ReplaceAll(c.namespace, "-", "_")
		if source.Namespace == "" {
			source.Namespace = "dynamo"
			c.assume("source.prometheus.namespace", "dynamo, which is the planner's where neither the file nor its environment names one")
		}
	}
	c.setClient(source)
	d.Source = &model.Source{Prometheus: source}
	c.assume("source.engines", "say where the state of engines comes from, and under source.fleet where the number of replicas does")
}

// setClient says how the server is reached. A bundle of authorities makes the
// planner verify, whatever else it is told.
func (c *converter) setClient(source *model.PrometheusSource) {
	encrypted := strings.HasPrefix(c.prometheus, "https://")
	source.HTTP.BearerTokenFile = c.tokenFile
	if c.tokenFile != "" && !encrypted {
		source.HTTP.AllowCredentialsOverHTTP = true
		c.assume("source.prometheus.http.allow_credentials_over_http", "true, as the planner sends its token over plain http too; use https if you can")
	}
	tls := &source.HTTP.TLS
	tls.CAFile = c.caBundle
	tls.InsecureSkipVerify = c.caBundle == "" && c.sslVerify != nil && !*c.sslVerify
	if encrypted && c.caBundle == "" && c.sslVerify == nil {
		c.assume("source.prometheus.http.tls", "the server's certificate is verified, which the planner does not do unless it is told to; name your authority in ca_file")
	}
}

func (c *converter) setRoles(d *model.Deployment) {
	roles := d.Topology.Roles()
	specs := make([]model.RoleSpec, len(roles))
	least := 0
	for i, role := range roles {
		specs[i] = model.RoleSpec{MinReplicas: c.minReplicasOf(role), GPUsPerReplica: c.gpusPerReplica(d, role)}
		least += specs[i].MinReplicas * specs[i].GPUsPerReplica
	}
	for i, role := range roles {
		spec := &specs[i]
		if d.Budget.MaxGPUs == model.Unbounded {
			spec.MaxReplicas = max(manyReplicas, spec.MinReplicas)
			c.assume("roles."+string(role)+".max_replicas", "%d: without max_gpu_budget the planner has no bound; set yours", spec.MaxReplicas)
		} else {
			others := least - spec.MinReplicas*spec.GPUsPerReplica
			spec.MaxReplicas = max((d.Budget.MaxGPUs-others)/spec.GPUsPerReplica, spec.MinReplicas)
		}
		d.Roles.Set(role, *spec)
		c.assume("roles."+string(role)+".engine", "the planner reads the limits of engines from their model cards; write max_num_batched_tokens, max_num_seqs, context_length and max_kv_tokens")
	}
}

func (c *converter) minReplicasOf(role model.Role) int {
	least := c.minReplicas
	if own := c.decodeMinReplicas; role == model.Decode && own != nil {
		least = *own
	}
	if own := c.prefillMinReplicas; role == model.Prefill && own != nil {
		least = *own
	}
	if least == 0 {
		c.assume(minReplicasOf(string(role)), "1: a fleet is not scaled to zero here")
		return 1
	}
	return least
}

// gpusPerReplica returns the GPUs of a replica; one is assumed where a budget
// has to be kept and nothing is known.
func (c *converter) gpusPerReplica(d *model.Deployment, role model.Role) int {
	known := c.decodeGPUs
	if role == model.Prefill {
		known = c.prefillGPUs
	}
	if known == 0 && (d.Budget.MinGPUs != model.Unbounded || d.Budget.MaxGPUs != model.Unbounded) {
		c.assume(gpusOf(string(role)), "1: the planner reads it from the fleet where the file does not say; correct it and max_replicas, as the GPU budget rests on them")
		return 1
	}
	return known
}

func (c *converter) setLoops(d *model.Deployment) {
	l := &d.Load
	l.Enabled, l.IntervalS, l.ScaleDownSensitivity = isTrue(c.load), c.loadIntervalS, c.sensitivity
	l.MinObservations, l.MaxSamples, l.Buckets = c.minObservations, c.maxSamples, c.buckets
	t := &d.Throughput
	t.Enabled, t.IntervalS, t.MaxStep = c.throughput == nil || *c.throughput, c.throughputIntervalS, c.throughputStep
	t.Predictor, t.Log1p, t.WarmupTrace = c.predictor, isTrue(c.log1p), c.warmupTrace
	switch c.predictor {
	case "kalman":
		t.PredictorParams = model.PredictorParams{QLevel: c.kalmanQLevel, QTrend: c.kalmanQTrend, R: c.kalmanR, MinPoints: c.kalmanMinPoints}
	case "prophet":
		t.PredictorParams = model.PredictorParams{Window: c.prophetWindow}
	}
	if d.Target != model.TargetSLA {
		l.Enabled, t.Enabled = true, false
	}
	if d.Target == model.TargetLoad {
		if c.mode == "disagg" || c.mode == "prefill" {
			l.PrefillScaleUpQueueTokens, l.PrefillScaleDownQueueTokens = c.prefillUp, c.prefillDown
		}
		if c.mode != "prefill" {
			l.DecodeScaleUpKVPercent, l.DecodeScaleDownKVPercent = c.decodeUp, c.decodeDown
		}
	}
	if t.Enabled {
		c.assume("throughput.profile", "name a profile of the engines, or let the performance models learn from live ones before the throughput loop speaks")
	}
}

func isTrue(b *bool) bool { return b != nil && *b }
