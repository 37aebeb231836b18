// Package forecast predicts the next value of a series of traffic figures, one
// Predictor per series: requests of an interval, mean input and output lengths,
// and the KV hit rate each have their own.
//
// Every predictor is a deterministic function of what it observed, in that
// order, and of its parameters. It reads no clock, draws no random number and
// starts nothing; equal inputs give equal bits on one architecture. What it
// keeps is bounded, and State and Restore carry it across a restart without
// changing any later forecast by a bit.
//
// The package refuses to guess: values that are not finite are errors, a
// forecast that cannot be made is the last value, and says so with a warning
// where a model should have made it. Forecasts are finite and not negative.
//
// A Predictor is not safe for concurrent use.
package forecast

import (
	"fmt"
	"math"

	"tidemark.dev/pkg/model"
)

// Kind names a way to predict. Its values are those of the configuration.
type Kind string

// The kinds.
const (
	// Constant forecasts the last value.
	Constant Kind = "constant"
	// Kalman filters a local linear trend with fixed variances.
	Kalman Kind = "kalman"
	// ARIMA fits ARIMA(p,d,q) models and takes the one of least AICc.
	ARIMA Kind = "arima"
	// Prophet fits a piecewise-linear trend with daily and weekly seasons.
	Prophet Kind = "prophet"
	// HoltWinters smooths exponentially, with a damped trend and one season.
	HoltWinters Kind = "holt-winters"
	// Auto runs all others and forecasts with the one that erred least of late.
	Auto Kind = "auto"
)

// Kinds returns every kind, the simplest first.
func Kinds() []Kind { return []Kind{Constant, Kalman, ARIMA, Prophet, HoltWinters, Auto} }

// minPoints is the number of values under which no model is fitted.
const minPoints = 5

// maxMagnitude bounds what a series may hold. No traffic comes near it, and
// sums of squares of what is under it stay finite.
const maxMagnitude = 1e100

// Forecast is what a predictor expects of the next value.
type Forecast struct {
	// Value is finite and not negative; 0 while nothing was observed.
	Value float64
	// Warning is empty, or forecast_fallback: the model failed, and Value is
	// the last value.
	Warning model.Warning
}

// Predictor predicts one series.
type Predictor struct {
	kind   Kind
	method method
	series series
}

// series is what every predictor keeps of what it observed.
type series struct {
	scale scale
	// last is the last value observed, zeros that were skipped apart.
	last float64
	// seen is false until a value was observed that was not skipped.
	seen bool
	// waiting is true while zeros are skipped, until the first other value.
	waiting bool
	// recent holds the latest values, on the scale of the model.
	recent history
}

// verdict says how a method came to a forecast.
type verdict int

const (
	// forecastMade means that the method wrote a forecast.
	forecastMade verdict = iota
	// forecastLast means that the last value is the forecast: by definition, or
	// because there is too little to fit a model to.
	forecastLast
	// forecastFailed means that there is enough to fit a model to, and no model.
	forecastFailed
)

// method is what the kinds differ in. Its values are on the scale of the model.
type method interface {
	// observe takes the value that the series now ends with.
	observe(s *series, value float64)
	// forecast writes the forecasts of the next len(out) values. It may fit a
	// model on demand, but only as a function of what the series says: whether
	// and when it is called changes nothing that follows.
	forecast(s *series, out []float64) verdict
	// save and load carry what does not follow from the series.
	save(to *State)
	load(from *State, s *series) error
}

// New returns a predictor that has observed nothing. The interval is the time
// between two values in seconds; seasons are counted in it. Parameters that do
// not apply to the kind, or have no meaning, are errors.
func New(kind Kind, params Params, intervalS float64) (*Predictor, error) {
	set, err := params.settings(kind, intervalS)
	if err != nil {
		return nil, fmt.Errorf("make predictor: %w", err)
	}
	return &Predictor{
		kind:   kind,
		method: newMethod(kind, set),
		series: series{
			scale:   scale{log1p: params.Log1p},
			waiting: true,
			recent:  history{limit: set.limit(kind), refitEvery: set.refitEvery},
		},
	}, nil
}

func newMethod(kind Kind, s settings) method {
	switch kind {
	case Kalman:
		return newTrendFilter(s)
	case ARIMA:
		return &arimaPredictor{window: s.arimaWindow()}
	case Prophet:
		return newSeasonal(s)
	case HoltWinters:
		return newHoltWinters(s)
	case Auto:
		return newSelection(s)
	}
	return lastValue{}
}

// CheckValue returns the error that Observe has with a value: a series holds
// finite numbers of a magnitude up to 1e100.
func CheckValue(value float64) error {
	if !(math.Abs(value) <= maxMagnitude) {
		return fmt.Errorf("observe value: %v is not a figure of traffic; leave the value out if it is unknown", value)
	}
	return nil
}

// Observe takes the next value of the series. Zeros before the first other
// value are skipped. A value that is not finite, or of a magnitude over 1e100,
// is an error and changes nothing.
func (p *Predictor) Observe(value float64) error {
	if err := CheckValue(value); err != nil {
		return err
	}
	s := &p.series
	if s.waiting && value == 0 {
		return nil
	}
	s.waiting, s.seen, s.last = false, true, value
	z := s.scale.to(value)
	s.recent.add(z)
	p.method.observe(s, z)
	return nil
}

// Forecast returns the forecast of the next value. It changes nothing that
// follows, however often it is called.
func (p *Predictor) Forecast() Forecast {
	var out [1]float64
	warning := p.forecast(out[:])
	return Forecast{Value: out[0], Warning: warning}
}

// Horizon returns the forecasts of the next steps values, the nearest first.
func (p *Predictor) Horizon(steps int) []float64 {
	out := make([]float64, max(steps, 0))
	p.forecast(out)
	return out
}

func (p *Predictor) forecast(out []float64) model.Warning {
	if !p.series.seen {
		clear(out)
		return ""
	}
	if p.series.forecastBy(p.method, out) == forecastFailed {
		return model.WarningForecastFallback
	}
	return ""
}

// forecastBy writes the forecasts of a method on the scale of the series: finite
// and not negative, and the last value from where on the method has none.
func (s *series) forecastBy(m method, out []float64) verdict {
	v, made := m.forecast(s, out), 0
	if v == forecastMade {
		if made = s.scale.back(out); made < len(out) {
			v = forecastFailed
		}
	}
	for i := made; i < len(out); i++ {
		out[i] = max(s.last, 0)
	}
	return v
}

// WarmUp observes the values of a past series, and lets the rule of leading
// zeros start afresh after it.
func (p *Predictor) WarmUp(values []float64) error {
	for i, v := range values {
		if err := p.Observe(v); err != nil {
			return fmt.Errorf("warm up with value %d: %w", i+1, err)
		}
	}
	p.RearmLeadingZeros()
	return nil
}

// RearmLeadingZeros lets zeros be skipped again until the next other value.
func (p *Predictor) RearmLeadingZeros() { p.series.waiting = true }

// scale is the scale on which a series is modelled.
type scale struct{ log1p bool }

// to returns the value on the scale of the model. On the logarithmic scale a
// negative value, which no figure of traffic has, counts as 0.
func (s scale) to(value float64) float64 {
	if s.log1p {
		return math.Log1p(max(value, 0))
	}
	return value
}

// back takes forecasts from the scale of the model to that of the series, none
// of them negative, up to the first that is no figure of traffic. It returns
// the number of those before that.
func (s scale) back(values []float64) int {
	for i, v := range values {
		if s.log1p {
			v = math.Expm1(v)
		}
		if !(v <= maxMagnitude) {
			return i
		}
		values[i] = max(v, 0)
	}
	return len(values)
}

// lastValue is the method of Constant.
type lastValue struct{}

func (lastValue) observe(*series, float64) {}

func (lastValue) forecast(*series, []float64) verdict { return forecastLast }

func (lastValue) save(*State) {}

func (lastValue) load(*State, *series) error { return nil }
