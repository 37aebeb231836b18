package forecast_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tidemark.dev/pkg/model/forecast"
)

const intervalS = 180

func newPredictor(t testing.TB, kind forecast.Kind, params forecast.Params) *forecast.Predictor {
	t.Helper()
	p, err := forecast.New(kind, params, intervalS)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func observe(t testing.TB, p *forecast.Predictor, values ...float64) {
	t.Helper()
	for _, v := range values {
		if err := p.Observe(v); err != nil {
			t.Fatal(err)
		}
	}
}

// forEachKind runs a test for every kind, on both scales.
func forEachKind(t *testing.T, test func(t *testing.T, kind forecast.Kind, params forecast.Params)) {
	for _, kind := range forecast.Kinds() {
		t.Run(string(kind), func(t *testing.T) { test(t, kind, forecast.Params{}) })
		t.Run(string(kind)+"/log1p", func(t *testing.T) { test(t, kind, forecast.Params{Log1p: true}) })
	}
}

func TestObserveRefuses(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind forecast.Kind, params forecast.Params) {
		p := newPredictor(t, kind, params)
		observe(t, p, 3, 5, 4, 6, 5, 7)
		want := p.Forecast()
		for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e101, -1e101} {
			if err := p.Observe(v); err == nil {
				t.Errorf("%v was taken", v)
			}
		}
		if got := p.Forecast(); got != want {
			t.Errorf("after values that were refused, the forecast is %v, and was %v", got, want)
		}
	})
}

func TestLeadingZeros(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind forecast.Kind, params forecast.Params) {
		skipped, plain := newPredictor(t, kind, params), newPredictor(t, kind, params)
		observe(t, skipped, 0, 0, 0)
		if got := skipped.Forecast(); got != (forecast.Forecast{}) {
			t.Errorf("of zeros only, the forecast is %v", got)
		}
		values := []float64{4, 0, 6, 5, 8, 7, 9}
		for _, v := range values {
			observe(t, skipped, v)
			observe(t, plain, v)
			if got, want := skipped.Forecast(), plain.Forecast(); got != want {
				t.Fatalf("after leading zeros and %v, the forecast is %v, without them %v", v, got, want)
			}
		}
	})
}

func TestWarmUpRearmsLeadingZeros(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind forecast.Kind, params forecast.Params) {
		p := newPredictor(t, kind, params)
		if err := p.WarmUp([]float64{0, 10, 12, 0, 11, 13, 12, 14}); err != nil {
			t.Fatal(err)
		}
		want := p.State()
		if !want.Waiting {
			t.Error("after the warm-up, zeros are not skipped")
		}
		before := p.Forecast()
		observe(t, p, 0, 0)
		if got := p.Forecast(); got != before {
			t.Errorf("after zeros that are skipped, the forecast is %v, and was %v", got, before)
		}
		observe(t, p, 15, 0)
		if p.State().Waiting || p.State().Last != 0 {
			t.Error("a zero after another value was skipped")
		}
	})
	p := newPredictor(t, forecast.Constant, forecast.Params{})
	if err := p.WarmUp([]float64{1, math.NaN()}); err == nil {
		t.Error("a warm-up with a value that is not a number was taken")
	}
}

// TestTooFewValues wants the last value, and no warning, where there is too
// little to fit a model to.
func TestTooFewValues(t *testing.T) {
	for _, kind := range forecast.Kinds() {
		p := newPredictor(t, kind, forecast.Params{})
		for _, v := range []float64{30, 10, 20, 40} {
			observe(t, p, v)
			if got := p.Forecast(); got != (forecast.Forecast{Value: v}) {
				t.Errorf("%s forecasts %v after %v", kind, got, v)
			}
		}
	}
}

func TestEqualValues(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind forecast.Kind, params forecast.Params) {
		p := newPredictor(t, kind, params)
		for range 400 {
			observe(t, p, 42)
			if got := p.Forecast(); got.Warning != "" || !near(got.Value, 42, 1e-12) {
				t.Fatalf("of a level series, the forecast is %v", got)
			}
		}
		// What changes at last is seen.
		observe(t, p, slices.Repeat([]float64{60, 61}, 40)...)
		if got := p.Forecast(); got.Warning != "" || got.Value < 50 {
			t.Errorf("after a step from 42 to 60, the forecast is %v", got)
		}
	})
}

// TestYoungSeriesIsFollowed climbs to another level after the first fit: a model
// of five values does not stand for long.
func TestYoungSeriesIsFollowed(t *testing.T) {
	values := []float64{103, 97, 101, 99, 100, 140, 180, 220, 260, 300, 302, 299, 301}
	for _, kind := range []forecast.Kind{forecast.ARIMA, forecast.HoltWinters, forecast.Auto} {
		p := newPredictor(t, kind, forecast.Params{})
		observe(t, p, values...)
		if got := p.Forecast().Value; got < 250 {
			t.Errorf("after %v, %s forecasts %v", values, kind, got)
		}
	}
}

// TestRefitsAreRationed counts the values that models stand for: more and more
// while the series is young, then refit_every.
func TestRefitsAreRationed(t *testing.T) {
	for _, c := range []struct {
		window, refitEvery int
		want               []int // the numbers of values after which a model is fitted
	}{
		{150, 12, []int{5, 7, 9, 12, 15, 19, 24, 30, 38, 48, 60, 72}},
		{150, 3, []int{5, 7, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36}},
		{20, 12, []int{5, 7, 9, 12, 15, 19, 24, 36, 48, 60, 72}},
	} {
		params := forecast.Params{}
		params.Window, params.RefitEvery = &c.window, &c.refitEvery
		p := newPredictor(t, forecast.ARIMA, params)
		var got []int
		for n := 1; n <= c.want[len(c.want)-1]; n++ {
			observe(t, p, 100+float64(n*n%7))
			if s := p.State(); s.Fitted > 0 && s.Fitted == len(s.Values) {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("with a window of %d and a refit every %d, models are fitted after %v values, want %v", c.window, c.refitEvery, got, c.want)
		}
	}
}

// TestShortPatterns are series on which fits meet walls: no noise at all, two
// values in turn, one outlier, nothing but zeros after a first value.
func TestShortPatterns(t *testing.T) {
	patterns := map[string][]float64{
		"ramp":      {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18},
		"in turn":   {1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2},
		"outlier":   {5, 5, 5, 5, 5, 5, 5, 500, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5},
		"gone":      {9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"quadratic": {0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 196, 225, 256, 289},
		"tiny":      {1e-90, 3e-90, 2e-90, 4e-90, 2e-90, 5e-90, 1e-90, 3e-90, 2e-90, 4e-90, 2e-90, 5e-90},
		"huge":      {1e99, 3e99, 2e99, 4e99, 2e99, 5e99, 1e99, 3e99, 2e99, 4e99, 2e99, 5e99},
	}
	forEachKind(t, func(t *testing.T, kind forecast.Kind, params forecast.Params) {
		for name, values := range patterns {
			e, err := forecast.Evaluate(kind, params, intervalS, values)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range e.Forecasts {
				if !(f.Value >= 0 && f.Value <= 1e100) || f.Warning != "" {
					t.Errorf("%s: forecast %d is %v %q", name, i, f.Value, f.Warning)
				}
			}
		}
	})
	for _, kind := range []forecast.Kind{forecast.ARIMA, forecast.Prophet} {
		e, err := forecast.Evaluate(kind, forecast.Params{}, intervalS, patterns["ramp"])
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Forecasts[len(e.Forecasts)-1].Value; !near(got, 19, 1e-6) {
			t.Errorf("%s continues a ramp to 18 with %v, want 19", kind, got)
		}
	}
}

// traffic draws series as an autoscaler meets them: levels with noise, ramps,
// steps, silence, and now and then any magnitude.
func traffic(least, most int) *rapid.Generator[[]float64] {
	return rapid.Custom(func(t *rapid.T) []float64 {
		n := rapid.IntRange(least, most).Draw(t, "points")
		values := make([]float64, 0, n)
		for len(values) < n {
			length := rapid.IntRange(1, 12).Draw(t, "length")
			level := rapid.Float64Range(0, 1000).Draw(t, "level")
			slope := rapid.Float64Range(-20, 20).Draw(t, "slope")
			noise := rapid.SampledFrom([]float64{0, 0.1, 50}).Draw(t, "noise")
			switch rapid.IntRange(0, 9).Draw(t, "shape") {
			case 0:
				level, slope, noise = 0, 0, 0
			case 1:
				level *= rapid.SampledFrom([]float64{1e-300, 1e-9, 1e9, 1e90, 1e97}).Draw(t, "magnitude")
			}
			for i := range length {
				v := level + slope*float64(i) + noise*rapid.Float64Range(-1, 1).Draw(t, "deviation")
				values = append(values, max(0, v))
			}
		}
		return values[:n]
	})
}

func anyParams(t *rapid.T, kind forecast.Kind) forecast.Params {
	params := forecast.Params{Log1p: rapid.Bool().Draw(t, "log1p")}
	window := rapid.SampledFrom([]int{10, 20, 40}).Draw(t, "window")
	refitEvery := rapid.SampledFrom([]int{1, 3, 12}).Draw(t, "refit_every")
	seasonS := rapid.SampledFrom([]float64{2 * intervalS, 3.5 * intervalS, 5 * intervalS}).Draw(t, "season_s")
	minPoints := rapid.IntRange(1, 6).Draw(t, "min_points")
	params.Window, params.RefitEvery, params.SeasonS, params.MinPoints = &window, &refitEvery, &seasonS, &minPoints
	return params.For(kind)
}

// TestForecastsAreFigures wants every forecast finite and not negative, and the
// same whether or not forecasts were asked for before.
func TestForecastsAreFigures(t *testing.T) {
	for _, kind := range forecast.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				params := anyParams(t, kind)
				asked, silent := mustNew(t, kind, params), mustNew(t, kind, params)
				for _, v := range traffic(1, 40).Draw(t, "traffic") {
					if err := asked.Observe(v); err != nil {
						t.Fatal(err)
					}
					if err := silent.Observe(v); err != nil {
						t.Fatal(err)
					}
					f := asked.Forecast()
					horizon := asked.Horizon(4)
					if again := asked.Forecast(); again != f {
						t.Fatalf("forecast again, %v becomes %v", f, again)
					}
					if horizon[0] != f.Value {
						t.Fatalf("one step on, the horizon is %v, and the forecast %v", horizon[0], f.Value)
					}
					for _, v := range horizon {
						if !(v >= 0 && v <= 1e100) {
							t.Fatalf("the forecasts are %v", horizon)
						}
					}
				}
				if got, want := silent.Forecast(), asked.Forecast(); got != want {
					t.Fatalf("the forecast is %v, and %v if some were asked for before", got, want)
				}
			})
		})
	}
}

func mustNew(t *rapid.T, kind forecast.Kind, params forecast.Params) *forecast.Predictor {
	p, err := forecast.New(kind, params, intervalS)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestHorizon follows known forms of a forecast over several steps.
func TestHorizon(t *testing.T) {
	p := newPredictor(t, forecast.Kalman, forecast.Params{})
	observe(t, p, 10, 20, 30, 40, 50, 60)
	h := p.Horizon(4)
	for i := 2; i < len(h); i++ {
		if !near(h[i]-h[i-1], h[1]-h[0], 1e-9) {
			t.Errorf("a local linear trend goes on in a line, got %v", h)
		}
	}
	if got := newPredictor(t, forecast.Kalman, forecast.Params{}).Horizon(2); !slices.Equal(got, []float64{0, 0}) {
		t.Errorf("before anything was seen, the horizon is %v", got)
	}
	if got := p.Horizon(0); len(got) != 0 {
		t.Errorf("a horizon of no steps is %v", got)
	}
}

// TestFallback makes a model run away on the logarithmic scale: what it says is
// no figure of traffic, so the last value is the forecast, with a warning.
func TestFallback(t *testing.T) {
	p := newPredictor(t, forecast.Kalman, forecast.Params{Log1p: true})
	observe(t, p, 1, 1e20, 1e40, 1e60, 1e80, 1e100)
	if got := p.Forecast(); got.Value != 1e100 || got.Warning != "forecast_fallback" {
		t.Errorf("the forecast is %v %q, want the last value and a warning", got.Value, got.Warning)
	}
	observe(t, p, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5)
	if got := p.Forecast(); got.Warning != "" {
		t.Errorf("back among figures of traffic, the warning is %q", got.Warning)
	}
}
