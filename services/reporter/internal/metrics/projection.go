// Package metrics is the projection of the log onto Prometheus metrics.
//
// Every figure is the newest that an event carried, or a count of events. A
// figure that an event does not carry keeps its value; what was never measured
// has no series, and nothing that is unknown is ever 0. The series of a
// deployment that is retired go, as do those of a mode that it left and of an
// engine that is gone.
//
// The same events give the same metrics, a repetition counts once, and memory
// is bounded per deployment. Facts of one kind come in the order of their log;
// of kinds that are read one beside the other, the order does not matter, as
// long as they are less than maxPending windows of traffic apart and a
// configuration comes before what names its revision.
package metrics

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"tidemark.dev/pkg/model"
)

const (
	// maxEngines bounds the engines of a deployment that have series of their own.
	maxEngines = 64
	// maxSeries bounds the series of one counter of a deployment: reasons are few,
	// but what is in the log may have been written by anyone.
	maxSeries = 200
	// maxSeen bounds the actuations and dead letters whose repetition is known.
	maxSeen = 4096
	// maxPending bounds the forecasts and windows that wait for their counterpart.
	maxPending = 64
	// flapWindow is the time within which the opposite of a recommended change is a flap.
	flapWindow = 10 * time.Minute
	// gapFactor is how many intervals may pass between two decisions for the time
	// between them to count.
	gapFactor = 3
)

// other stands for the labels of a counter that has too many series.
const other = "other"

// Projection folds facts into metrics. It is a prometheus.Collector. Its methods
// may be called by several goroutines.
type Projection struct {
	mu          sync.Mutex
	deployments map[string]*figures
	deadLetters map[letterLabels]float64
	seenLetters seen
}

// New returns a projection that has seen nothing.
func New() *Projection {
	return &Projection{deployments: map[string]*figures{}, deadLetters: map[letterLabels]float64{}, seenLetters: newSeen()}
}

// The labels of counters.
type (
	letterLabels   struct{ topic, service string }
	actionLabels   struct{ action, load, throughput string }
	evidenceLabels struct{ source, class string }
	windowLabels   struct{ signal, statistic, result string }
)

// figures are those of one deployment.
type figures struct {
	latest   *model.DeploymentConfigured
	settings map[int]setting
	// retired is the revision that retired it, 0 for none.
	retired int

	decidedAt, observedAt time.Time

	current, desired, target, delta, floors model.PerRole[int]
	gpus                                    *model.GPUs
	estimates                               model.Estimates
	capacity                                model.Capacity
	forecast                                *model.Forecast
	gpuSecondsSet, gpuSecondsRecommended    float64
	gpuSecondsKnown                         bool
	actions                                 map[actionLabels]float64
	warnings                                map[string]float64
	directions                              map[model.Role]direction
	flaps                                   float64

	traffic model.TrafficObservation
	rps     *float64
	ready   model.PerRole[model.RoleReplicas]
	engines []model.EngineSample
	// reporting counts the engine ranks by role, the unlisted ones too; it is nil
	// until engines were measured.
	reporting map[model.Role]int
	unlisted  int
	evidence  map[string]evidence
	classes   map[evidenceLabels]float64
	windows   map[windowLabels]float64

	// forecasts and observed wait for each other: rates by the end of their window.
	forecasts, observed []rate
	errors              forecastErrors

	seen     seen
	outcomes map[string]float64
	rejected map[string]float64
	settles  settles
}

// setting is what a revision says that other facts are held against.
type setting struct {
	sla                model.SLA
	judged             bool
	interval, throughs time.Duration
}

type evidence struct {
	class model.Evidence
	ageS  *float64
}

type direction struct {
	up bool
	at time.Time
}

type rate struct {
	end   time.Time
	value float64
}

type forecastErrors struct {
	newest   time.Time
	last     float64
	absolute float64
	signed   float64
	pairs    uint64
}

// settleBounds are the upper bounds of the histogram of settle times, in seconds.
var settleBounds = []float64{5, 15, 30, 60, 120, 300, 600, 1800}

type settles struct {
	buckets map[float64]uint64
	sum     float64
	count   uint64
}

// seen tells what came before, as far as it remembers.
type seen struct {
	ids   map[string]struct{}
	order []string
}

func newSeen() seen { return seen{ids: map[string]struct{}{}} }

func (s *seen) again(id string) bool {
	if _, ok := s.ids[id]; ok {
		return true
	}
	if len(s.order) == maxSeen {
		delete(s.ids, s.order[0])
		s.order = s.order[1:]
	}
	s.ids[id] = struct{}{}
	s.order = append(s.order, id)
	return false
}

// count adds one to a counter, whose series are bounded.
func count[K comparable](counters map[K]float64, key, rest K) {
	if _, ok := counters[key]; !ok && len(counters) >= maxSeries {
		key = rest
	}
	counters[key]++
}

func (p *Projection) of(deployment string) *figures {
	f := p.deployments[deployment]
	if f == nil {
		f = &figures{
			settings: map[int]setting{}, actions: map[actionLabels]float64{}, warnings: map[string]float64{},
			directions: map[model.Role]direction{}, evidence: map[string]evidence{}, classes: map[evidenceLabels]float64{},
			windows: map[windowLabels]float64{}, seen: newSeen(), outcomes: map[string]float64{}, rejected: map[string]float64{},
			settles: settles{buckets: map[float64]uint64{}},
		}
		for _, bound := range settleBounds {
			f.settles.buckets[bound] = 0
		}
		p.deployments[deployment] = f
	}
	return f
}

// Add folds one fact; the id is that of its event. Facts that no metric is made
// of are passed over.
func (p *Projection) Add(id string, fact any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch fact := fact.(type) {
	case *model.DeploymentConfigured:
		p.of(fact.Deployment).configured(fact)
	case *model.DeploymentRetired:
		f := p.of(fact.Deployment)
		f.retired = max(f.retired, fact.Revision)
	case *model.Observation:
		if f := p.of(fact.Deployment); fact.ObservedAt.After(f.observedAt) {
			f.observe(fact)
		}
	case *model.ScalingDecision:
		if f := p.of(fact.Deployment); fact.ObservedAt.After(f.decidedAt) {
			f.decide(fact)
		}
	case *model.ScalingProposed:
		p.of(fact.Deployment).actuated(id, "proposed")
	case *model.ScalingStarted:
		p.of(fact.Deployment).actuated(id, "started")
	case *model.ScalingApplied:
		p.of(fact.Deployment).actuated(id, "applied")
	case *model.ScalingFailed:
		p.of(fact.Deployment).actuated(id, "failed")
	case *model.ScalingRejected:
		if f := p.of(fact.Deployment); f.actuated(id, "rejected") {
			count(f.rejected, string(fact.Reason), other)
		}
	case *model.ScalingSettled:
		if f := p.of(fact.Deployment); f.actuated(id, "settled") {
			f.settles.sum += fact.SettleS
			f.settles.count++
			for _, bound := range settleBounds {
				if fact.SettleS <= bound {
					f.settles.buckets[bound]++
				}
			}
		}
	case *model.DeadLetter:
		if !p.seenLetters.again(id) {
			count(p.deadLetters, letterLabels{fact.Topic, fact.Service}, letterLabels{other, other})
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (f *figures) configured(c *model.DeploymentConfigured) {
	if f.latest == nil || c.Revision > f.latest.Revision {
		f.latest = c
	}
	s := setting{sla: c.Spec.SLA, judged: c.Spec.Target == model.TargetSLA, throughs: seconds(c.Spec.Throughput.IntervalS)}
	s.interval = s.throughs
	if c.Spec.Load.Enabled {
		s.interval = seconds(c.Spec.Load.IntervalS)
	}
	f.settings[c.Revision] = s
}

// gone reports whether the deployment was retired and not configured since.
func (f *figures) gone() bool { return f.latest == nil || f.retired > f.latest.Revision }

func (f *figures) actuated(id, outcome string) bool {
	if f.seen.again(id) {
		return false
	}
	f.outcomes[outcome]++
	return true
}

func (f *figures) observe(o *model.Observation) {
	f.observedAt = o.ObservedAt
	heard := func(source string, class model.Evidence, ageS *float64) bool {
		f.evidence[source] = evidence{class, ageS}
		count(f.classes, evidenceLabels{source, string(class)}, evidenceLabels{source, other})
		return class == model.Measured || class == model.Idle
	}
	if o.Fleet != nil && heard("fleet", o.Fleet.Status, o.Fleet.AgeS) {
		f.ready = o.Fleet.Roles
	}
	if o.Engines != nil && heard("engines", o.Engines.Status, o.Engines.AgeS) {
		f.observeEngines(o.Engines.Samples)
	}
	if o.Traffic != nil && heard("traffic", o.Traffic.Status, o.Traffic.AgeS) {
		f.observeTraffic(o)
	}
}

// observeEngines takes over what the engines report; those that do not report
// any more are gone.
func (f *figures) observeEngines(samples []model.EngineSample) {
	f.engines = slices.Clone(samples)
	slices.SortFunc(f.engines, func(a, b model.EngineSample) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.DPRank, b.DPRank))
	})
	f.engines = slices.CompactFunc(f.engines, func(a, b model.EngineSample) bool {
		return a.Role == b.Role && a.Worker == b.Worker && a.DPRank == b.DPRank
	})
	f.reporting = map[model.Role]int{}
	for i := range f.engines {
		f.reporting[f.engines[i].Role]++
	}
	f.unlisted = max(0, len(f.engines)-maxEngines)
	f.engines = f.engines[:len(f.engines)-f.unlisted]
}

func (f *figures) observeTraffic(o *model.Observation) {
	t := o.Traffic
	replace := func(into **float64, value *float64) {
		if value != nil {
			*into = value
		}
	}
	replace(&f.traffic.MeanISL, t.MeanISL)
	replace(&f.traffic.MeanOSL, t.MeanOSL)
	replace(&f.traffic.KVHitRate, t.KVHitRate)
	replace(&f.traffic.MeanTTFTMs, t.MeanTTFTMs)
	replace(&f.traffic.P95TTFTMs, t.P95TTFTMs)
	replace(&f.traffic.MeanITLMs, t.MeanITLMs)
	replace(&f.traffic.P95ITLMs, t.P95ITLMs)
	replace(&f.traffic.MeanDurationS, t.MeanDurationS)
	switch {
	case t.Status == model.Idle:
		f.rps = new(float64)
	case t.Requests != nil && t.WindowS > 0:
		rps := *t.Requests / t.WindowS
		f.rps = &rps
		f.observed = pend(f.observed, rate{o.ObservedAt, rps})
		f.pair()
	}
	s, known := f.settings[o.ConfigRevision]
	if !known || !s.judged {
		return
	}
	for _, w := range []struct {
		signal, statistic string
		value             *float64
		limit             float64
	}{
		{"ttft", "mean", t.MeanTTFTMs, s.sla.TTFTMs},
		{"ttft", "p95", t.P95TTFTMs, s.sla.TTFTMs},
		{"itl", "mean", t.MeanITLMs, s.sla.ITLMs},
		{"itl", "p95", t.P95ITLMs, s.sla.ITLMs},
	} {
		if w.value == nil {
			continue
		}
		result := "kept"
		if *w.value > w.limit {
			result = "violated"
		}
		f.windows[windowLabels{w.signal, w.statistic, result}]++
	}
}

func pend(rates []rate, r rate) []rate {
	if len(rates) == maxPending {
		rates = rates[1:]
	}
	return append(rates, r)
}

// pair holds forecasts against the windows that they were for: those that end
// within half an interval of the forecast's.
func (f *figures) pair() {
	for i := 0; i < len(f.forecasts); i++ {
		forecast := f.forecasts[i]
		at := slices.IndexFunc(f.observed, func(o rate) bool {
			return o.end.Sub(forecast.end).Abs() <= f.tolerance()
		})
		if at < 0 {
			continue
		}
		actual := f.observed[at].value
		f.observed = slices.Delete(f.observed, at, at+1)
		f.forecasts = slices.Delete(f.forecasts, i, i+1)
		i--
		if actual == 0 {
			continue // No share of nothing.
		}
		relative := (forecast.value - actual) / actual
		f.errors.absolute += math.Abs(relative)
		f.errors.signed += relative
		f.errors.pairs++
		if forecast.end.After(f.errors.newest) {
			f.errors.newest, f.errors.last = forecast.end, relative
		}
	}
}

func (f *figures) tolerance() time.Duration {
	if f.latest == nil {
		return 0
	}
	return seconds(f.latest.Spec.Throughput.IntervalS) / 2
}

func (f *figures) decide(d *model.ScalingDecision) {
	f.integrate(d)
	f.decidedAt = d.ObservedAt
	for _, role := range model.AllRoles {
		for _, values := range []struct{ into, from *model.PerRole[int] }{
			{&f.current, &d.Current},
			{&f.desired, &d.Desired},
			{&f.target, &d.Target},
			{&f.delta, &d.Delta},
			{&f.floors, &d.Floors},
		} {
			if n, ok := values.from.Get(role); ok {
				values.into.Set(role, n)
			}
		}
	}
	if d.GPUs != nil {
		f.gpus = d.GPUs
	}
	if d.Estimates.TTFTMs != nil {
		f.estimates.TTFTMs = d.Estimates.TTFTMs
	}
	if d.Estimates.ITLMs != nil {
		f.estimates.ITLMs = d.Estimates.ITLMs
	}
	if d.Capacity != (model.Capacity{}) {
		f.capacity = d.Capacity
	}
	if d.Forecast != nil {
		f.forecast = d.Forecast
		if s, ok := f.settings[d.ConfigRevision]; ok && d.Reasons.Throughput != model.ReasonNotDue {
			// It is of the window that begins now.
			f.forecasts = pend(f.forecasts, rate{d.ObservedAt.Add(s.throughs), d.Forecast.RPS})
			f.pair()
		}
	}
	count(f.actions, actionLabels{string(d.Action), string(d.Reasons.Load), string(d.Reasons.Throughput)}, actionLabels{other, other, other})
	for _, warning := range d.Warnings {
		count(f.warnings, string(warning), other)
	}
	flap := false
	for _, role := range model.AllRoles {
		n, ok := d.Delta.Get(role)
		if !ok || n == 0 {
			continue
		}
		last, known := f.directions[role]
		flap = flap || known && last.up != (n > 0) && d.ObservedAt.Sub(last.at) <= flapWindow
		f.directions[role] = direction{up: n > 0, at: d.ObservedAt}
	}
	if flap {
		f.flaps++
	}
}

// integrate adds the GPU-seconds from the decision before to this one, by what
// held meanwhile. Of a time in which nothing was decided nothing is known.
func (f *figures) integrate(d *model.ScalingDecision) {
	if f.gpus == nil || f.decidedAt.IsZero() {
		return
	}
	s, ok := f.settings[d.ConfigRevision]
	if !ok {
		return
	}
	passed := d.ObservedAt.Sub(f.decidedAt)
	if passed > gapFactor*s.interval {
		passed = s.interval
	}
	f.gpuSecondsKnown = true
	f.gpuSecondsSet += float64(f.gpus.Current) * passed.Seconds()
	f.gpuSecondsRecommended += float64(f.gpus.Target) * passed.Seconds()
}
