package report

import (
	"slices"
	"strconv"
	"time"

	"tidemark.dev/pkg/model"
)

// The bounds of what a builder keeps per deployment.
const (
	// maxBuckets bounds the buckets of a track: a day of 5 s ticks fits in
	// buckets of 32 s, about one for each pixel that it could be drawn on.
	maxBuckets = 2880
	// maxEngineBuckets bounds those of one engine: there may be many engines.
	maxEngineBuckets = 720
	maxEngines       = 64
	// maxDecisions bounds the listed decisions: a day of 5 s ticks has 17,280.
	maxDecisions  = 20_000
	maxActuations = 5_000
)

// Builder folds facts into what a report shows. It is a pure projection: the
// same facts give the same report, and facts of different kinds may come one
// kind after the other or mixed, as long as each kind of a deployment comes in
// the order of its log and a configuration before what names its revision. A
// fact that is repeated counts once. Memory is bounded per deployment, engine
// and revision. A Builder is not safe for concurrent use.
type Builder struct {
	deployments map[string]*deployment
}

// NewBuilder returns a builder that has seen nothing.
func NewBuilder() *Builder { return &Builder{deployments: map[string]*deployment{}} }

// Add folds one fact. The id is that of its event; it becomes the link to a
// decision. Facts that no report shows are passed over.
func (b *Builder) Add(id string, fact any) {
	switch f := fact.(type) {
	case *model.DeploymentConfigured:
		b.of(f.Deployment).configured(f)
	case *model.DeploymentRetired:
		d := b.of(f.Deployment)
		d.retired = max(d.retired, f.Revision)
	case *model.Observation:
		b.of(f.Deployment).observed(f)
	case *model.ScalingDecision:
		b.of(f.Deployment).decided(id, f)
	case *model.ScalingApplied:
		b.of(f.Deployment).actuated(id, &f.Actuation, Actuation{Outcome: OutcomeApplied, Detail: f.Limited})
	case *model.ScalingRejected:
		b.of(f.Deployment).actuated(id, &f.Actuation, Actuation{Outcome: OutcomeRejected, Reason: string(f.Reason), Detail: f.Detail})
	case *model.ScalingFailed:
		b.of(f.Deployment).actuated(id, &f.Actuation, Actuation{Outcome: OutcomeFailed, Detail: f.Error, Attempt: f.Attempt})
	case *model.ScalingSettled:
		settle := f.SettleS
		b.of(f.Deployment).actuated(id, &f.Actuation, Actuation{Outcome: OutcomeSettled, SettleS: &settle})
	}
}

func (b *Builder) of(name string) *deployment {
	d, ok := b.deployments[name]
	if !ok {
		d = newDeployment(name)
		b.deployments[name] = d
	}
	return d
}

// engine is the track of one engine rank.
type engine struct {
	role   model.Role
	worker string
	rank   int
	*track
}

// deployment is all that is folded of one.
type deployment struct {
	name string
	// retired is the revision that retired it, 0 for none.
	retired int
	// latest is the newest configuration; settings are the parts of every
	// revision that charts show.
	latest   *model.DeploymentConfigured
	settings map[int]Setting

	fleet, traffic, load, evidence, decisions, forecasts *track
	engines                                              map[string]*engine
	// unlisted counts the engines beyond maxEngines, as far as they are known.
	unlisted map[string]struct{}

	ledger     ledger
	modes      []ModeChange
	revisions  []Setting
	planners   []string
	directions map[model.Role]direction

	complaints complaints

	actuations        []Actuation
	actuationIDs      map[string]struct{}
	droppedActuations int
}

// perRole names a column for each role.
func perRole(names ...string) []string {
	var out []string
	for _, name := range names {
		for _, role := range model.AllRoles {
			out = append(out, name+"."+string(role))
		}
	}
	return out
}

// The columns of the tracks. Those of a role are in the order of model.AllRoles.
var (
	fleetColumns   = perRole("ready", "desired", "pending")
	trafficColumns = []string{
		"rps", "isl", "osl", "kv_hit_rate", "ttft_mean_ms", "ttft_p95_ms", "itl_mean_ms", "itl_p95_ms", "window_s",
		"ttft_mean_kept", "ttft_p95_kept", "itl_mean_kept", "itl_p95_kept", "kept",
	}
	loadColumns     = append(perRole("engines", "queue_max", "queue_mean", "kv_max", "kv_mean"), "reporting")
	engineColumns   = []string{"queued_prefill_tokens", "kv_tokens"}
	evidenceColumns = []string{"fleet", "traffic", "engines", "incomplete"}
	decisionColumns = append(append(perRole("target", "floor", "capacity_rps"),
		"ttft_est_ms", "itl_est_ms", "gpus_set", "gpus_recommended",
		"hold", "scale_up", "scale_down", "rebalance", "unsupported", "flap", "active", "unreachable"), perRole("set")...)
	forecastColumns = []string{"rps", "isl", "osl"}
)

func newDeployment(name string) *deployment {
	return &deployment{
		name: name, settings: map[int]Setting{},
		fleet: newTrack(maxBuckets, fleetColumns...), traffic: newTrack(maxBuckets, trafficColumns...),
		load: newTrack(maxBuckets, loadColumns...), evidence: newTrack(maxBuckets, evidenceColumns...),
		decisions: newTrack(maxBuckets, decisionColumns...), forecasts: newTrack(maxBuckets, forecastColumns...),
		engines: map[string]*engine{}, unlisted: map[string]struct{}{}, ledger: newLedger(maxDecisions),
		directions: map[model.Role]direction{}, complaints: complaints{}, actuationIDs: map[string]struct{}{},
	}
}

func (d *deployment) configured(f *model.DeploymentConfigured) {
	if d.latest == nil || f.Revision >= d.latest.Revision {
		d.latest = f
	}
	setting := Setting{
		Revision: f.Revision, TTFTMs: f.Spec.SLA.TTFTMs, ITLMs: f.Spec.SLA.ITLMs,
		MinGPUs: f.Spec.Budget.MinGPUs, MaxGPUs: f.Spec.Budget.MaxGPUs,
	}
	for _, role := range f.Spec.Topology.Roles() {
		if spec, ok := f.Spec.Roles.Get(role); ok {
			setting.Roles.Set(role, Bounds{Min: spec.MinReplicas, Max: spec.MaxReplicas, MaxKVTokens: spec.Engine.MaxKVTokens})
		}
	}
	d.settings[f.Revision] = setting
}

// setting returns what held at a revision, or what is known to hold now.
func (d *deployment) setting(revision int) (Setting, bool) {
	if s, ok := d.settings[revision]; ok {
		return s, true
	}
	if d.latest != nil {
		return d.settings[d.latest.Revision], true
	}
	return Setting{}, false
}

// evidenceCodes orders the classes from good to bad: the worst of a bucket is
// the one that is shown. Their order is that of EvidenceClasses.
var evidenceCodes = map[model.Evidence]float64{model.Measured: 0, model.Idle: 1, model.Stale: 2, model.Absent: 3, model.Failed: 4}

// EvidenceClasses are the names of the values of evidence spans.
var EvidenceClasses = []string{"measured", "idle", "stale", "absent", "failed"}

func figure(v *float64) float64 {
	if v == nil {
		return none
	}
	return *v
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (d *deployment) observed(o *model.Observation) {
	row := []float64{none, none, none, 0}
	class := func(i int, status model.Evidence, said string) {
		row[i] = evidenceCodes[status]
		d.complaints.hear(o.ObservedAt, evidenceColumns[i], status, said)
		if status != model.Measured && status != model.Idle {
			row[3] = 1
		}
	}
	if o.Fleet != nil {
		class(0, o.Fleet.Status, o.Fleet.Error)
	}
	if o.Traffic != nil {
		class(1, o.Traffic.Status, o.Traffic.Error)
	}
	if o.Engines != nil {
		class(2, o.Engines.Status, o.Engines.Error)
	}
	if !d.evidence.add(o.ObservedAt, row) {
		return
	}
	if o.Fleet != nil {
		d.observedFleet(o.ObservedAt, o.Fleet)
	}
	if o.Traffic != nil {
		d.observedTraffic(o)
	}
	if o.Engines != nil {
		d.observedEngines(o.ObservedAt, o.Engines)
	}
}

func (d *deployment) observedFleet(at time.Time, f *model.FleetObservation) {
	row := nones(len(fleetColumns))
	if f.Status == model.Measured {
		for i, role := range model.AllRoles {
			if r, ok := f.Roles.Get(role); ok {
				row[i], row[3+i], row[6+i] = float64(r.Ready), float64(r.Desired), float64(r.Pending)
			}
		}
	}
	d.fleet.add(at, row)
}

func (d *deployment) observedTraffic(o *model.Observation) {
	t := o.Traffic
	row := nones(len(trafficColumns))
	switch t.Status {
	case model.Idle:
		row[0], row[8] = 0, t.WindowS
	case model.Measured:
		if t.Requests != nil && t.WindowS > 0 {
			row[0] = *t.Requests / t.WindowS
		}
		latencies := [...]*float64{t.MeanTTFTMs, t.P95TTFTMs, t.MeanITLMs, t.P95ITLMs}
		row[1], row[2], row[3], row[8] = figure(t.MeanISL), figure(t.MeanOSL), figure(t.KVHitRate), t.WindowS
		setting, known := d.setting(o.ConfigRevision)
		limits := [...]float64{setting.TTFTMs, setting.TTFTMs, setting.ITLMs, setting.ITLMs}
		for i, v := range latencies {
			row[4+i] = figure(v)
			if known && v != nil {
				row[9+i] = truth(*v <= limits[i])
			}
		}
		// A window is kept when both means are; one that lacks a mean is neither.
		if known && t.MeanTTFTMs != nil && t.MeanITLMs != nil {
			row[13] = row[9] * row[11]
		}
	}
	d.traffic.add(o.ObservedAt, row)
}

func (d *deployment) observedEngines(at time.Time, e *model.EnginesObservation) {
	row := nones(len(loadColumns))
	if e.Status != model.Measured {
		d.load.add(at, row)
		return
	}
	var queues, kvs [len(model.AllRoles)]gauge
	for i := range e.Samples {
		s := &e.Samples[i]
		role := slices.Index(model.AllRoles[:], s.Role)
		if role < 0 {
			continue
		}
		queue, kv := tokens(s.Queued.PrefillTokens), tokens(s.Scheduled.DecodeKVTokens)
		queues[role].add(queue)
		kvs[role].add(kv)
		d.observedEngine(at, s, queue, kv)
	}
	for i := range model.AllRoles {
		if queues[i].samples > 0 {
			row[i] = float64(queues[i].samples)
			row[3+i], row[6+i] = queues[i].max, queues[i].mean()
			row[9+i], row[12+i] = kvs[i].max, kvs[i].mean()
		}
	}
	row[15] = float64(len(e.Samples))
	d.load.add(at, row)
}

func (d *deployment) observedEngine(at time.Time, s *model.EngineSample, queue, kv float64) {
	key := string(s.Role) + "/" + s.Worker + "/" + strconv.Itoa(s.DPRank)
	e, ok := d.engines[key]
	if !ok {
		if len(d.engines) >= maxEngines {
			if len(d.unlisted) < maxEngines {
				d.unlisted[key] = struct{}{}
			}
			return
		}
		e = &engine{role: s.Role, worker: s.Worker, rank: s.DPRank, track: newTrack(maxEngineBuckets, engineColumns...)}
		d.engines[key] = e
	}
	e.add(at, []float64{queue, kv})
}

func tokens(n *int) float64 {
	if n == nil {
		return none
	}
	return float64(*n)
}

// gauge sums up one figure of several engines.
type gauge struct {
	samples, n int
	sum, max   float64
}

func (g *gauge) add(v float64) {
	if g.samples == 0 {
		g.max = none
	}
	g.samples++
	if v != v {
		return
	}
	if g.n == 0 || v > g.max {
		g.max = v
	}
	g.n++
	g.sum += v
}

func (g *gauge) mean() float64 {
	if g.n == 0 {
		return none
	}
	return g.sum / float64(g.n)
}

func nones(n int) []float64 {
	row := make([]float64, n)
	for i := range row {
		row[i] = none
	}
	return row
}

// direction is the last change that was recommended for a role.
type direction struct {
	up bool
	at time.Time
}

// flapWindow is the time within which the opposite of a recommended change is
// a flap. Load that rises in the morning and falls in the evening is none.
const flapWindow = 10 * time.Minute

// flaps reports whether the decision reverses the direction of a role's last
// change within flapWindow.
func (d *deployment) flaps(at time.Time, delta model.PerRole[int]) bool {
	flap := false
	for _, role := range model.AllRoles {
		n, ok := delta.Get(role)
		if !ok || n == 0 {
			continue
		}
		last, known := d.directions[role]
		flap = flap || known && last.up != (n > 0) && at.Sub(last.at) <= flapWindow
		d.directions[role] = direction{up: n > 0, at: at}
	}
	return flap
}

// unsupported are the reasons that say that a loop lacked evidence.
var unsupported = map[model.Reason]bool{
	model.ReasonNoFleetData: true, model.ReasonNoFPMData: true, model.ReasonNoTrafficData: true,
	model.ReasonInsufficientData: true, model.ReasonWorkerCountMismatch: true, model.ReasonPredictFailed: true,
	model.ReasonModelNotReady: true, model.ReasonPartnerNotReady: true,
}

func (d *deployment) decided(id string, s *model.ScalingDecision) {
	row := nones(len(decisionColumns))
	capacity := [...]*float64{s.Capacity.PrefillRPS, s.Capacity.DecodeRPS, s.Capacity.AggregatedRPS}
	for i, role := range model.AllRoles {
		if n, ok := s.Target.Get(role); ok {
			row[i] = float64(n)
		}
		if n, ok := s.Floors.Get(role); ok {
			row[3+i] = float64(n)
		}
		row[6+i] = figure(capacity[i])
		if n, ok := s.Desired.Get(role); ok {
			row[21+i] = float64(n)
		}
	}
	row[9], row[10] = figure(s.Estimates.TTFTMs), figure(s.Estimates.ITLMs)
	if s.GPUs != nil {
		row[11], row[12] = float64(s.GPUs.Current), float64(s.GPUs.Target)
	}
	for i, action := range Actions {
		row[13+i] = truth(string(s.Action) == action)
	}
	row[17] = truth(s.Action == model.Hold && (unsupported[s.Reasons.Load] || unsupported[s.Reasons.Throughput]))
	row[19] = truth(s.Mode == model.Active)
	row[20] = truth(slices.Contains(s.Warnings, model.WarningTTFTUnreachable) || slices.Contains(s.Warnings, model.WarningITLUnreachable))
	if n := len(d.decisions.buckets); n > 0 && !s.ObservedAt.After(d.decisions.buckets[n-1].last) {
		return // A repetition must not touch what follows either.
	}
	row[18] = truth(d.flaps(s.ObservedAt, s.Delta))
	d.decisions.add(s.ObservedAt, row)

	d.ledger.add(id, s)
	if !slices.Contains(d.planners, s.PlannerVersion) {
		d.planners = append(d.planners, s.PlannerVersion)
	}
	at := s.ObservedAt.UnixMilli()
	if n := len(d.modes); n == 0 || d.modes[n-1].Mode != s.Mode || d.modes[n-1].Epoch != s.Epoch {
		d.modes = append(d.modes, ModeChange{AtMs: at, Mode: s.Mode, Epoch: s.Epoch})
	}
	if n := len(d.revisions); n == 0 || d.revisions[n-1].Revision != s.ConfigRevision {
		if setting, ok := d.settings[s.ConfigRevision]; ok {
			setting.AtMs = at
			d.revisions = append(d.revisions, setting)
		}
	}
	if f := s.Forecast; f != nil && s.Reasons.Throughput != model.ReasonNotDue {
		// A forecast is of the window that begins now: it can be held against
		// what is observed when that window ends.
		d.forecasts.add(s.ObservedAt.Add(d.horizon()), []float64{f.RPS, f.ISL, f.OSL})
	}
}

// horizon is how far ahead the throughput loop looks: one of its intervals.
func (d *deployment) horizon() time.Duration {
	if d.latest == nil {
		return 0
	}
	return time.Duration(d.latest.Spec.Throughput.IntervalS * float64(time.Second))
}

func (d *deployment) actuated(id string, f *model.Actuation, a Actuation) {
	if _, repeated := d.actuationIDs[id]; repeated {
		return
	}
	a.ID, a.DecisionID, a.AtMs, a.Epoch, a.Connector, a.Roles = id, f.DecisionID, f.OccurredAt.UnixMilli(), f.Epoch, f.Connector, f.Roles
	a.ApprovedBy = f.ApprovedBy
	if len(d.actuations) == maxActuations {
		delete(d.actuationIDs, d.actuations[0].ID)
		d.actuations = slices.Delete(d.actuations, 0, 1)
		d.droppedActuations++
	}
	d.actuations = append(d.actuations, a)
	d.actuationIDs[id] = struct{}{}
}
