package planner

import (
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/forecast"
	"tidemark.dev/pkg/model/perf"
)

// State is all that the planner knows of one deployment beside its
// configuration: the whole of what a checkpoint must hold.
type State struct {
	built    settings
	revision int
	digest   string

	// fleet is the last inventory that was seen.
	fleet model.PerRole[replicas]
	// models are those of the topology's roles under target sla.
	models models
	// traffic is what is known of the traffic; its predictors exist where the
	// throughput loop runs.
	traffic traffic
	// floors are the results of the throughput loop.
	floors model.PerRole[int]
	// proposed are the raw proposals that the stabilization windows look at.
	proposed model.PerRole[window]

	scratch scratch
}

// scratch is memory that one step leaves to the next. It is no part of the
// state: what is in it is never read.
type scratch struct {
	ranks map[string]int
	loads []engineLoad
}

// replicas counts the replicas of one role.
type replicas struct {
	Ready   int `json:"ready"`
	Desired int `json:"desired"`
	Pending int `json:"pending,omitzero"`
}

// models holds the performance model of each role that has one.
type models struct {
	prefill    *perf.Prefill
	decode     *perf.Decode
	aggregated *perf.Aggregated
}

// traffic is what is known of the traffic.
type traffic struct {
	predicting predicting
	predictors *predictors

	// isl and osl are the last means seen: idle windows feed them again.
	isl, osl *float64
	// hitRate is the last forecast of the KV hit rate.
	hitRate *float64
	// idle counts the idle windows in a row.
	idle int
	// evidenceAt is the instant of the last window that was measured or idle.
	evidenceAt time.Time
}

// predicting are the parts of a configuration that the predictors were made for.
type predicting struct {
	Enabled   bool                  `json:"enabled"`
	Kind      string                `json:"kind,omitzero"`
	Log1p     bool                  `json:"log1p,omitzero"`
	Params    model.PredictorParams `json:"params,omitzero"`
	IntervalS float64               `json:"interval_s,omitzero"`
}

// predictors forecast one figure of the traffic each.
type predictors struct{ requests, isl, osl, hitRate *forecast.Predictor }

// settings are the parts of a configuration that the state was built for. What
// was learned under others means nothing.
type settings struct {
	Topology model.Topology              `json:"topology"`
	Target   model.Target                `json:"target"`
	Engines  model.PerRole[model.Engine] `json:"engines,omitzero"`
}

func settingsOf(spec *model.Deployment) settings {
	s := settings{Topology: spec.Topology, Target: spec.Target}
	for _, role := range spec.Topology.Roles() {
		r, _ := spec.Roles.Get(role)
		s.Engines.Set(role, r.Engine)
	}
	return s
}

// of says whether they are those of a specification.
func (s *settings) of(spec *model.Deployment) bool {
	if s.Topology != spec.Topology || s.Target != spec.Target {
		return false
	}
	for _, role := range spec.Topology.Roles() {
		built, _ := s.Engines.Get(role)
		r, _ := spec.Roles.Get(role)
		if built != r.Engine {
			return false
		}
	}
	return true
}

func predictingOf(spec *model.Deployment) predicting {
	t := &spec.Throughput
	if !t.Enabled || spec.Target != model.TargetSLA {
		return predicting{}
	}
	return predicting{Enabled: true, Kind: t.Predictor, Log1p: t.Log1p, Params: t.PredictorParams, IntervalS: t.IntervalS}
}

func (p *predicting) equal(other *predicting) bool {
	return p.Enabled == other.Enabled && p.Kind == other.Kind && p.Log1p == other.Log1p && p.IntervalS == other.IntervalS &&
		same(p.Params.QLevel, other.Params.QLevel) && same(p.Params.QTrend, other.Params.QTrend) && same(p.Params.R, other.Params.R) &&
		same(p.Params.MinPoints, other.Params.MinPoints) && same(p.Params.SeasonS, other.Params.SeasonS) &&
		same(p.Params.Window, other.Params.Window) && same(p.Params.RefitEvery, other.Params.RefitEvery)
}

func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

func (p *predicting) params() forecast.Params {
	return forecast.Params{Log1p: p.Log1p, PredictorParams: p.Params}
}

// New returns the state of a deployment that nothing has been seen of. The
// specification's samples and warm-up intervals are in it. It is an error if
// the predictor cannot be made as the specification says; a configuration for
// which New fails must not be applied.
func New(spec *model.Deployment) (*State, error) {
	state := &State{}
	if err := state.reset(spec); err != nil {
		return nil, fmt.Errorf("deployment %s: throughput: %w", spec.Name, err)
	}
	return state, nil
}

// reset starts afresh under a specification. The last revision and the digest
// chain survive: they belong to the log, not to what was seen. So does the last
// inventory, where it names the same roles.
func (s *State) reset(spec *model.Deployment) error {
	kept := *s
	*s = State{built: settingsOf(spec), revision: kept.revision, digest: kept.digest, scratch: kept.scratch}
	if kept.built.Topology == s.built.Topology {
		s.fleet = kept.fleet
	}
	s.models.build(spec)
	return s.traffic.restart(spec)
}

// restart makes the predictors anew and feeds them the warm-up intervals. What
// was seen of the traffic stays.
func (t *traffic) restart(spec *model.Deployment) error {
	t.predicting, t.predictors = predictingOf(spec), nil
	if !t.predicting.Enabled {
		return nil
	}
	made, err := makePredictors(&t.predicting)
	if err != nil {
		return err
	}
	t.predictors = made
	for _, interval := range spec.Throughput.Warmup {
		if interval.MeanISL != nil {
			t.isl = interval.MeanISL
		}
		if interval.MeanOSL != nil {
			t.osl = interval.MeanOSL
		}
		if err := t.feed(interval.Requests); err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
	}
	for _, p := range made.all() {
		p.RearmLeadingZeros()
	}
	return nil
}

func makePredictors(p *predicting) (*predictors, error) {
	made := &predictors{}
	for _, one := range made.slots() {
		predictor, err := forecast.New(forecast.Kind(p.Kind), p.params(), p.IntervalS)
		if err != nil {
			return nil, err
		}
		*one = predictor
	}
	return made, nil
}

func (p *predictors) slots() [4]**forecast.Predictor {
	return [...]**forecast.Predictor{&p.requests, &p.isl, &p.osl, &p.hitRate}
}

func (p *predictors) all() [4]*forecast.Predictor {
	return [...]*forecast.Predictor{p.requests, p.isl, p.osl, p.hitRate}
}
