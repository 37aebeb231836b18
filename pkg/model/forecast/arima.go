package forecast

import (
	"fmt"
	"slices"
)

// arimaPredictor forecasts with an ARIMA model that is fitted to the history up
// to the last refit, and filters what came since with the parameters as they
// are.
type arimaPredictor struct {
	// window is the number of values that a fit looks back on.
	window int
	// model is nil before the fit; failed says that the fit did.
	model  *arimaModel
	failed bool
	// filter is nil until it has taken the whole history.
	filter *armaFilter
}

func (a *arimaPredictor) observe(s *series, _ float64) {
	if s.recent.refitDue() {
		*a = arimaPredictor{window: a.window}
		return
	}
	if a.filter != nil {
		a.filter.step(a.model.deviation(s.recent.values))
	}
}

func (a *arimaPredictor) forecast(s *series, out []float64) verdict {
	if s.recent.fitted == 0 {
		return forecastLast
	}
	fitted, all := s.recent.model(a.window)
	if a.model == nil && !a.failed {
		model, ok := fitARIMA(fitted)
		a.model, a.failed = &model, !ok
	}
	if a.filter == nil && !a.failed {
		a.filter, a.failed = a.model.follow(all)
	}
	if a.failed {
		return forecastFailed
	}
	a.model.extrapolate(a.filter, all, out)
	return forecastMade
}

// deviation returns the last difference of the series, less the mean.
func (m *arimaModel) deviation(values []float64) float64 {
	n := len(values)
	switch m.differences {
	case 0:
		return values[n-1] - m.mean
	case 1:
		return values[n-1] - values[n-2] - m.mean
	default:
		return (values[n-1] - values[n-2]) - (values[n-2] - values[n-3]) - m.mean
	}
}

// follow returns the filter of the model after all values.
func (m *arimaModel) follow(values []float64) (filter *armaFilter, failed bool) {
	f, ok := newARMAFilter(m.process)
	if !ok {
		return nil, true
	}
	for n := m.differences + 1; n <= len(values); n++ {
		f.step(m.deviation(values[:n]))
	}
	return &f, false
}

// extrapolate writes forecasts of what follows the values that the filter took.
func (m *arimaModel) extrapolate(f *armaFilter, values, out []float64) {
	state := f.mean
	n := len(values)
	level, slope := values[n-1], 0.0
	if m.differences == 2 {
		slope = values[n-1] - values[n-2]
	}
	for i := range out {
		w := m.mean + state[0]
		f.move(&state, 0)
		switch m.differences {
		case 0:
			level = w
		case 1:
			level += w
		default:
			slope += w
			level += slope
		}
		out[i] = level
	}
}

// ARIMAState is a fitted ARIMA(len(AR), D, len(MA)) model, in JSON.
type ARIMAState struct {
	D    int       `json:"d"`
	AR   []float64 `json:"ar,omitempty"`
	MA   []float64 `json:"ma,omitempty"`
	Mean float64   `json:"mean,omitzero"`
}

func (a *arimaPredictor) save(to *State) {
	if a.model == nil || a.failed {
		return // what failed fails again
	}
	m := a.model
	to.ARIMA = &ARIMAState{D: m.differences, AR: slices.Clone(m.process.ar), MA: slices.Clone(m.process.ma), Mean: m.mean}
}

func (a *arimaPredictor) load(from *State, s *series) error {
	m := from.ARIMA
	if m == nil {
		return nil
	}
	if s.recent.fitted == 0 {
		return fmt.Errorf("the state has an ARIMA model, and no values that it is fitted to")
	}
	if m.D < 0 || m.D > maxDifferences || len(m.AR) > maxLag || len(m.MA) > maxLag {
		return fmt.Errorf("the state has an ARIMA(%d,%d,%d) model, want at most (%d,%d,%d)", len(m.AR), m.D, len(m.MA), maxLag, maxDifferences, maxLag)
	}
	for _, v := range slices.Concat(m.AR, m.MA, []float64{m.Mean}) {
		if !bounded(v) {
			return fmt.Errorf("the ARIMA model of the state holds %v", v)
		}
	}
	process := arma{ar: slices.Clone(m.AR), ma: slices.Clone(m.MA)}
	if !isStationary(process.ar) {
		return fmt.Errorf("the ARIMA model of the state is not stationary")
	}
	if _, ok := newARMAFilter(process); !ok {
		return fmt.Errorf("the ARIMA model of the state has no likelihood")
	}
	a.model = &arimaModel{differences: m.D, process: process, mean: m.Mean}
	return nil
}
