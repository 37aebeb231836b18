package planner

import (
	"encoding/json"
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/forecast"
	"tidemark.dev/pkg/model/perf"
)

// stateVersion is the form of the encoding that this package writes and reads.
const stateVersion = 1

// encoded is the encoded form of a state: JSON, which carries a float64 without
// loss, with the many figures of the models in flat lists.
type encoded struct {
	Version  int      `json:"version"`
	Built    settings `json:"built"`
	Revision int      `json:"revision"`
	Digest   string   `json:"digest,omitzero"`

	Fleet    model.PerRole[replicas]   `json:"fleet,omitzero"`
	Models   model.PerRole[perf.State] `json:"models,omitzero"`
	Traffic  encodedTraffic            `json:"traffic"`
	Floors   model.PerRole[int]        `json:"floors,omitzero"`
	Proposed model.PerRole[window]     `json:"proposed,omitzero"`
}

type encodedTraffic struct {
	Predicting predicting `json:"predicting"`
	// Predictors are those of requests, ISL, OSL and hit rate.
	Predictors []forecast.State `json:"predictors,omitempty"`
	ISL        *float64         `json:"isl,omitempty"`
	OSL        *float64         `json:"osl,omitempty"`
	HitRate    *float64         `json:"hit_rate,omitempty"`
	Idle       int              `json:"idle,omitzero"`
	EvidenceAt time.Time        `json:"evidence_at,omitzero"`
}

// MarshalBinary returns the state's versioned encoding.
func (s *State) MarshalBinary() ([]byte, error) {
	t := &s.traffic
	e := encoded{
		Version: stateVersion, Built: s.built, Revision: s.revision, Digest: s.digest,
		Fleet: s.fleet, Floors: s.floors, Proposed: s.proposed,
		Traffic: encodedTraffic{
			Predicting: t.predicting, ISL: t.isl, OSL: t.osl, HitRate: t.hitRate, Idle: t.idle, EvidenceAt: t.evidenceAt,
		},
	}
	if t.predictors != nil {
		for _, p := range t.predictors.all() {
			e.Traffic.Predictors = append(e.Traffic.Predictors, p.State())
		}
	}
	if m := s.models.prefill; m != nil {
		e.Models.Set(model.Prefill, m.State())
	}
	if m := s.models.decode; m != nil {
		e.Models.Set(model.Decode, m.State())
	}
	if m := s.models.aggregated; m != nil {
		e.Models.Set(model.Aggregated, m.State())
	}
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode planner state: %w", err)
	}
	return data, nil
}

// UnmarshalState decodes what MarshalBinary encoded. It refuses what is
// damaged or of another version, and the state that it returns decides as the
// encoded one would have.
func UnmarshalState(data []byte) (*State, error) {
	var e encoded
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("decode planner state: %w", err)
	}
	if e.Version != stateVersion {
		return nil, fmt.Errorf("decode planner state: it has version %d, want %d", e.Version, stateVersion)
	}
	s := &State{
		built: e.Built, revision: e.Revision, digest: e.Digest, fleet: e.Fleet, floors: e.Floors, proposed: e.Proposed,
		traffic: traffic{
			predicting: e.Traffic.Predicting, isl: e.Traffic.ISL, osl: e.Traffic.OSL, hitRate: e.Traffic.HitRate,
			idle: e.Traffic.Idle, evidenceAt: e.Traffic.EvidenceAt,
		},
	}
	if err := s.models.restore(&e); err != nil {
		return nil, fmt.Errorf("decode planner state: %w", err)
	}
	if err := s.traffic.restore(e.Traffic.Predictors); err != nil {
		return nil, fmt.Errorf("decode planner state: %w", err)
	}
	return s, nil
}

// restore makes the models that the encoded state's settings ask for.
func (m *models) restore(e *encoded) error {
	for _, role := range model.AllRoles {
		state, have := e.Models.Get(role)
		_, wanted := e.Built.Engines.Get(role)
		wanted = wanted && e.Built.Target == model.TargetSLA
		if have != wanted {
			return fmt.Errorf("a model of role %s is there: %v, want %v", role, have, wanted)
		}
		if !have {
			continue
		}
		var err error
		switch role {
		case model.Prefill:
			m.prefill, err = perf.RestorePrefill(state)
		case model.Decode:
			m.decode, err = perf.RestoreDecode(state)
		case model.Aggregated:
			m.aggregated, err = perf.RestoreAggregated(state)
		}
		if err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
	}
	return nil
}

func (t *traffic) restore(states []forecast.State) error {
	p := &predictors{}
	slots := p.slots()
	switch {
	case len(states) == 0:
		// Off, or the predictor could not be made.
		return nil
	case !t.predicting.Enabled || len(states) != len(slots):
		return fmt.Errorf("it has %d predictors, enabled: %v", len(states), t.predicting.Enabled)
	}
	for i, slot := range slots {
		restored, err := forecast.Restore(forecast.Kind(t.predicting.Kind), t.predicting.params(), t.predicting.IntervalS, states[i])
		if err != nil {
			return err
		}
		*slot = restored
	}
	t.predictors = p
	return nil
}
