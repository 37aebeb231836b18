package forecast

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Evaluation is how a predictor would have done on a series.
type Evaluation struct {
	Kind   Kind
	Params Params
	// Forecasts has one entry more than the series: the forecast made before
	// each value was seen, then the one for the value after the last.
	Forecasts []Forecast
	Errors    Errors
}

// Errors measure forecasts by the values that came. Forecasts made before
// anything but zeros was seen know nothing and are left out.
type Errors struct {
	// Points is the number of forecasts that were measured.
	Points int
	// MAE is the mean absolute error, in the unit of the series; nil without
	// points.
	MAE *float64
	// MAPE is the mean of |error / value| in percent, over the values that are
	// not 0; nil if there are none.
	MAPE *float64
	// SMAPE is the mean of 2|error| / (|value| + |forecast|) in percent, 0 where
	// both are 0; nil without points.
	SMAPE *float64
}

// Evaluate forecasts each value of a series from those before it, and then the
// next one.
func Evaluate(kind Kind, params Params, intervalS float64, series []float64) (Evaluation, error) {
	p, err := New(kind, params, intervalS)
	if err != nil {
		return Evaluation{}, err
	}
	e := Evaluation{Kind: kind, Params: params, Forecasts: make([]Forecast, 0, len(series)+1)}
	var absolute, relative, symmetric mean
	for i, value := range series {
		known := p.series.seen
		f := p.Forecast()
		e.Forecasts = append(e.Forecasts, f)
		if err := p.Observe(value); err != nil {
			return Evaluation{}, fmt.Errorf("evaluate predictor %s at value %d: %w", kind, i+1, err)
		}
		if !known {
			continue
		}
		miss := math.Abs(f.Value - value)
		absolute.add(miss)
		if value != 0 {
			relative.add(100 * miss / math.Abs(value))
		}
		if miss == 0 {
			symmetric.add(0)
		} else {
			symmetric.add(200 * miss / (math.Abs(value) + math.Abs(f.Value)))
		}
	}
	e.Forecasts = append(e.Forecasts, p.Forecast())
	e.Errors = Errors{Points: absolute.n, MAE: absolute.value(), MAPE: relative.value(), SMAPE: symmetric.value()}
	return e, nil
}

// Compare evaluates every kind on a series, each with those of the parameters
// that apply to it, and returns the evaluations by mean absolute error, the
// least first; where that is equal, the simpler kind comes first. Before
// each kind it calls progress with the number of those that it is done with.
func Compare(params Params, intervalS float64, series []float64, progress func(done int)) ([]Evaluation, error) {
	var all []Evaluation
	var problems []error
	for done, kind := range Kinds() {
		progress(done)
		e, err := Evaluate(kind, params.For(kind), intervalS, series)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		all = append(all, e)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("compare predictors: %w", err)
	}
	slices.SortStableFunc(all, func(a, b Evaluation) int {
		if a.Errors.MAE == nil || b.Errors.MAE == nil {
			return 0 // of one series, all have points or none
		}
		return cmp.Compare(*a.Errors.MAE, *b.Errors.MAE)
	})
	return all, nil
}

// mean is that of the values added so far.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(v float64) {
	m.sum += v
	m.n++
}

func (m *mean) value() *float64 {
	if m.n == 0 {
		return nil
	}
	v := m.sum / float64(m.n)
	return &v
}
