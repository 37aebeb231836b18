package forecast

import (
	"fmt"
	"math"
	"slices"
)

// stateVersion is the form of State that this package writes and reads.
const stateVersion = 1

// State is all that a predictor has to keep across a restart. It is plain data
// for JSON, which carries a float64 without loss: Restore(State()) continues bit
// for bit. It holds what was observed and which models were fitted to it, and
// nothing that follows from these.
type State struct {
	Version int  `json:"version"`
	Kind    Kind `json:"kind"`
	// Log1p is the scale that Values and Kalman are on.
	Log1p bool `json:"log1p,omitzero"`
	// Last is the last value that was not skipped; Seen, that there was one.
	Last float64 `json:"last,omitzero"`
	Seen bool    `json:"seen,omitzero"`
	// Waiting is true while zeros are skipped.
	Waiting bool `json:"waiting,omitzero"`
	// Values are the latest values, at most 5096 of them; the first Fitted of
	// them are what the present models are fitted to.
	Values []float64 `json:"values,omitempty"`
	Fitted int       `json:"fitted,omitzero"`

	Kalman      *TrendState       `json:"kalman,omitempty"`
	ARIMA       *ARIMAState       `json:"arima,omitempty"`
	HoltWinters *HoltWintersState `json:"holt_winters,omitempty"`
	// Costs are the recent costs of auto's predictors, in the order of Kinds.
	Costs []float64 `json:"costs,omitempty"`
}

// State returns the predictor's state. It shares nothing with the predictor.
func (p *Predictor) State() State {
	s := State{
		Version: stateVersion, Kind: p.kind, Log1p: p.series.scale.log1p,
		Last: p.series.last, Seen: p.series.seen, Waiting: p.series.waiting,
		Values: slices.Clone(p.series.recent.values), Fitted: p.series.recent.fitted,
	}
	p.method.save(&s)
	return s
}

// Restore returns a predictor of the given configuration that continues from a
// state. The kind and the scale must be those of the state; other parameters
// may have changed, and hold from the next value, or the next fit, on. A state
// that cannot be continued from is an error.
func Restore(kind Kind, params Params, intervalS float64, state State) (*Predictor, error) {
	p, err := New(kind, params, intervalS)
	if err != nil {
		return nil, err
	}
	if err := p.load(&state); err != nil {
		return nil, fmt.Errorf("restore predictor %s: %w", kind, err)
	}
	return p, nil
}

func (p *Predictor) load(s *State) error {
	h := &p.series.recent
	switch {
	case s.Version != stateVersion:
		return fmt.Errorf("the state has version %d, want %d", s.Version, stateVersion)
	case s.Kind != p.kind:
		return fmt.Errorf("the state is of predictor %q", s.Kind)
	case s.Log1p != p.series.scale.log1p:
		return fmt.Errorf("the state has log1p %v, want %v", s.Log1p, p.series.scale.log1p)
	case !s.Seen && (!s.Waiting || s.Last != 0 || len(s.Values) > 0):
		return fmt.Errorf("the state has values, and says that none was seen")
	case len(s.Values) > maxWindow+maxRefitEvery:
		return fmt.Errorf("the state has %d values, want at most %d", len(s.Values), maxWindow+maxRefitEvery)
	case s.Seen && (h.limit > 0) != (len(s.Values) > 0):
		return fmt.Errorf("the state has %d values, which predictor %s does not write", len(s.Values), p.kind)
	case s.Fitted != 0 && (s.Fitted < minPoints || s.Fitted > len(s.Values)):
		return fmt.Errorf("the state has models of %d values, and holds %d", s.Fitted, len(s.Values))
	}
	for _, v := range append([]float64{s.Last}, s.Values...) {
		if !(math.Abs(v) <= maxMagnitude) {
			return fmt.Errorf("the state holds %v", v)
		}
	}
	p.series.last, p.series.seen, p.series.waiting = s.Last, s.Seen, s.Waiting
	h.values, h.fitted = slices.Clone(s.Values), s.Fitted
	return p.method.load(s, &p.series)
}

// bounded says that v is what a state may hold beside values of the series: no
// filter over such numbers leaves the range of float64.
func bounded(v float64) bool { return math.Abs(v) <= maxMagnitude*maxMagnitude }
