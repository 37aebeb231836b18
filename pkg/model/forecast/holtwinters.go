package forecast

import (
	"fmt"
	"math"
)

// holtWinters forecasts by a smoothing that is fitted to the history up to the
// last refit and has smoothed what came since.
type holtWinters struct {
	// seasonPoints is the length of the season that is asked for; a fit has it
	// once the history holds two of them.
	seasonPoints int

	// model is nil before the fit; failed says that the fit did.
	model  *smoothing
	failed bool
	// smoother is nil until it has taken the whole history.
	smoother *smoother
}

func newHoltWinters(s settings) *holtWinters {
	return &holtWinters{seasonPoints: int(math.Round(s.seasonPoints()))}
}

func (w *holtWinters) observe(h *history, z float64) {
	if h.refitDue() {
		*w = holtWinters{seasonPoints: w.seasonPoints}
		return
	}
	if w.smoother != nil {
		w.smoother.step(w.model, z)
	}
}

func (w *holtWinters) forecast(h *history, out []float64) verdict {
	if h.fitted == 0 {
		return forecastLast
	}
	if w.model == nil && !w.failed {
		season := w.seasonPoints
		if h.fitted < 2*season {
			season = 0
		}
		model, ok := fitSmoothing(h.values[:h.fitted], season, dampingSpan)
		w.model, w.failed = &model, !ok
	}
	if w.failed {
		return forecastFailed
	}
	if w.smoother == nil {
		s := w.model.start(h.values[:h.fitted])
		for _, z := range h.values {
			s.step(w.model, z)
		}
		w.smoother = &s
	}
	w.smoother.extrapolate(w.model, out)
	return forecastMade
}

// HoltWintersState is a fitted smoothing, in JSON. Level and Trend are those
// before the first of the values.
type HoltWintersState struct {
	Alpha        float64 `json:"alpha"`
	Beta         float64 `json:"beta"`
	Gamma        float64 `json:"gamma,omitzero"`
	Damping      float64 `json:"damping"`
	SeasonPoints int     `json:"season_points,omitzero"`
	Level        float64 `json:"level"`
	Trend        float64 `json:"trend"`
}

func (w *holtWinters) save(s *State) {
	if w.model == nil || w.failed {
		return // what failed fails again
	}
	m := w.model
	s.HoltWinters = &HoltWintersState{
		Alpha: m.alpha, Beta: m.beta, Gamma: m.gamma, Damping: m.damping,
		SeasonPoints: m.seasonPoints, Level: m.level, Trend: m.trend,
	}
}

func (w *holtWinters) load(s *State, h *history) error {
	m := s.HoltWinters
	if m == nil {
		return nil
	}
	if h.fitted == 0 {
		return fmt.Errorf("the state has a smoothing, and no values that it is fitted to")
	}
	if m.SeasonPoints < 0 || m.SeasonPoints == 1 || m.SeasonPoints > h.fitted/2 {
		return fmt.Errorf("the smoothing of the state has a season of %d values, and is fitted to %d", m.SeasonPoints, h.fitted)
	}
	for _, v := range [...]float64{m.Alpha, m.Beta, m.Gamma, m.Damping} {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("the smoothing of the state has a weight of %v, want 0 to 1", v)
		}
	}
	for _, v := range [...]float64{m.Level, m.Trend} {
		if !(math.Abs(v) <= maxMagnitude*maxMagnitude) {
			return fmt.Errorf("the smoothing of the state holds %v", v)
		}
	}
	w.model = &smoothing{
		alpha: m.Alpha, beta: m.Beta, gamma: m.Gamma, damping: m.Damping,
		seasonPoints: m.SeasonPoints, level: m.Level, trend: m.Trend,
	}
	return nil
}
