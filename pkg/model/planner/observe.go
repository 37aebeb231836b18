package planner

import (
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/perf"
)

// observe learns from the evidence: traffic feeds the predictors, engine
// samples train the performance models. It does so without an inventory too.
func (d *decision) observe() {
	if d.obs.Loops.Throughput && d.throughputOn() {
		d.observeTraffic()
	}
	if e := d.obs.Engines; d.obs.Loops.Load && e != nil && e.Status == model.Measured {
		for i := range e.Samples {
			// A young engine is slower than it will be. One of unknown age is not
			// known to be old.
			if s := &e.Samples[i]; d.spec.Load.WarmupS == 0 || s.AgeS != nil && *s.AgeS >= d.spec.Load.WarmupS {
				d.state.models.observe(s)
			}
		}
	}
}

func (d *decision) throughputOn() bool {
	return d.spec.Throughput.Enabled && d.spec.Target == model.TargetSLA
}

// trafficClass returns what is known of the traffic. A window that is measured
// to have had no requests is idle, whatever averages it claims.
func (d *decision) trafficClass() model.Evidence {
	t := d.obs.Traffic
	switch {
	case t == nil:
		return model.Absent
	case t.Status == model.Measured && *t.Requests == 0:
		return model.Idle
	}
	return t.Status
}

func (d *decision) observeTraffic() {
	t, seen := &d.state.traffic, d.obs.Traffic
	switch d.trafficClass() {
	case model.Measured:
		t.idle = 0
		t.isl, t.osl = seen.MeanISL, seen.MeanOSL
		t.fed(*seen.Requests)
		if t.predictors != nil && seen.KVHitRate != nil && t.predictors.hitRate.Observe(*seen.KVHitRate) == nil {
			forecast := t.predictors.hitRate.Forecast()
			d.warn(forecast.Warning)
			t.hitRate = &forecast.Value
		}
	case model.Idle:
		t.idle++
		t.fed(0)
	default:
		return
	}
	t.evidenceAt = d.now
}

// fed feeds a window's requests and the last lengths known.
func (t *traffic) fed(requests float64) {
	// Observations are validated: no figure of theirs is one that a predictor refuses.
	_ = t.feed(requests)
}

func (t *traffic) feed(requests float64) error {
	if t.predictors == nil {
		return nil
	}
	if err := t.predictors.requests.Observe(requests); err != nil {
		return err
	}
	if t.isl != nil {
		if err := t.predictors.isl.Observe(*t.isl); err != nil {
			return err
		}
	}
	if t.osl != nil {
		return t.predictors.osl.Observe(*t.osl)
	}
	return nil
}

// build makes the models of a specification, trained with its samples.
func (m *models) build(spec *model.Deployment) {
	*m = models{}
	if spec.Target != model.TargetSLA {
		return
	}
	for _, role := range spec.Topology.Roles() {
		settings := modelSettings(spec, role)
		switch role {
		case model.Prefill:
			m.prefill = perf.NewPrefill(settings)
		case model.Decode:
			m.decode = perf.NewDecode(settings)
		case model.Aggregated:
			m.aggregated = perf.NewAggregated(settings)
		}
	}
	for i := range spec.Throughput.Samples {
		m.observe(&spec.Throughput.Samples[i])
	}
}

func modelSettings(spec *model.Deployment, role model.Role) perf.Settings {
	r, _ := spec.Roles.Get(role)
	l := &spec.Load
	return perf.Settings{MinObservations: l.MinObservations, MaxSamples: l.MaxSamples, Buckets: l.Buckets, Engine: r.Engine}
}

// configure gives the models the settings of a specification.
func (m *models) configure(spec *model.Deployment) {
	if m.prefill != nil {
		m.prefill.Configure(modelSettings(spec, model.Prefill))
	}
	if m.decode != nil {
		m.decode.Configure(modelSettings(spec, model.Decode))
	}
	if m.aggregated != nil {
		m.aggregated.Configure(modelSettings(spec, model.Aggregated))
	}
}

// observe trains the model of the sample's role, if there is one.
func (m *models) observe(s *model.EngineSample) {
	switch {
	case s.Role == model.Prefill && m.prefill != nil:
		m.prefill.Observe(s)
	case s.Role == model.Decode && m.decode != nil:
		m.decode.Observe(s)
	case s.Role == model.Aggregated && m.aggregated != nil:
		m.aggregated.Observe(s)
	}
}
