package forecast

import (
	"fmt"
	"math"
)

// holtWinters forecasts by a smoothing that is fitted to the history up to the
// last refit and has smoothed what came since.
type holtWinters struct {
	// window is the number of values that a fit looks back on.
	window int
	// seasonPoints is the length of the season that is asked for; a fit has it
	// once it looks back on two of them.
	seasonPoints int

	// model is nil before the fit; failed says that the fit did.
	model  *smoothing
	failed bool
	// smoother is nil until it has taken the whole history.
	smoother *smoother
}

func newHoltWinters(s settings) *holtWinters {
	return &holtWinters{window: s.holtWintersWindow(), seasonPoints: int(math.Round(s.seasonPoints()))}
}

func (w *holtWinters) observe(s *series, z float64) {
	if s.recent.refitDue() {
		*w = holtWinters{window: w.window, seasonPoints: w.seasonPoints}
		return
	}
	if w.smoother != nil {
		w.smoother.step(w.model, z)
	}
}

func (w *holtWinters) forecast(s *series, out []float64) verdict {
	fitted, all := s.recent.model(w.window)
	if len(fitted) < minWindow || allEqual(fitted) {
		return forecastLast
	}
	if w.model == nil && !w.failed {
		season := w.seasonPoints
		if len(fitted) < 2*season {
			season = 0
		}
		model, ok := fitSmoothing(fitted, season, dampingSpan)
		w.model, w.failed = &model, !ok
	}
	if w.failed {
		return forecastFailed
	}
	if w.smoother == nil {
		smoother := w.model.start(fitted)
		for _, z := range all {
			smoother.step(w.model, z)
		}
		w.smoother = &smoother
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

func (w *holtWinters) save(to *State) {
	if w.model == nil || w.failed {
		return // what failed fails again
	}
	m := w.model
	to.HoltWinters = &HoltWintersState{
		Alpha: m.alpha, Beta: m.beta, Gamma: m.gamma, Damping: m.damping,
		SeasonPoints: m.seasonPoints, Level: m.level, Trend: m.trend,
	}
}

func (w *holtWinters) load(from *State, s *series) error {
	m := from.HoltWinters
	if m == nil {
		return nil
	}
	if s.recent.fitted == 0 {
		return fmt.Errorf("the state has a smoothing, and no values that it is fitted to")
	}
	fitted, _ := s.recent.model(w.window)
	if m.SeasonPoints < 0 || m.SeasonPoints == 1 || m.SeasonPoints > len(fitted)/2 {
		return fmt.Errorf("the smoothing of the state has a season of %d values, and is fitted to %d", m.SeasonPoints, len(fitted))
	}
	for _, v := range [...]float64{m.Alpha, m.Beta, m.Gamma, m.Damping} {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("the smoothing of the state has a weight of %v, want 0 to 1", v)
		}
	}
	for _, v := range [...]float64{m.Level, m.Trend} {
		if !bounded(v) {
			return fmt.Errorf("the smoothing of the state holds %v", v)
		}
	}
	w.model = &smoothing{
		alpha: m.Alpha, beta: m.Beta, gamma: m.Gamma, damping: m.Damping,
		seasonPoints: m.SeasonPoints, level: m.Level, trend: m.Trend,
	}
	return nil
}
