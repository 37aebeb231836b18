package forecast_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tidemark.dev/pkg/model/forecast"
)

// TestStateContinues cuts a series anywhere: a predictor that was written to
// JSON and read back says the same as one that was not, to the last bit, and
// ends in the same state.
func TestStateContinues(t *testing.T) {
	for _, kind := range forecast.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				params := anyParams(t, kind)
				values := traffic(2, 40).Draw(t, "traffic")
				cut := rapid.IntRange(0, len(values)-1).Draw(t, "cut")
				asked := rapid.Bool().Draw(t, "forecast before the cut")
				whole := mustNew(t, kind, params)
				for _, v := range values[:cut] {
					if err := whole.Observe(v); err != nil {
						t.Fatal(err)
					}
				}
				if asked {
					whole.Forecast()
				}
				restored := throughJSON(t, kind, params, whole)
				for i, v := range values[cut:] {
					if got, want := restored.Forecast(), whole.Forecast(); math.Float64bits(got.Value) != math.Float64bits(want.Value) || got.Warning != want.Warning {
						t.Fatalf("%d values after the cut at %d, the forecast is %v, and was %v", i, cut, got, want)
					}
					if err := whole.Observe(v); err != nil {
						t.Fatal(err)
					}
					if err := restored.Observe(v); err != nil {
						t.Fatal(err)
					}
				}
				whole.Forecast()
				restored.Forecast()
				if got, want := encode(t, restored), encode(t, whole); got != want {
					t.Fatalf("the state is\n%s\nand was\n%s", got, want)
				}
			})
		})
	}
}

func encode(t rapid.TB, p *forecast.Predictor) string {
	t.Helper()
	raw, err := json.Marshal(p.State())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func throughJSON(t rapid.TB, kind forecast.Kind, params forecast.Params, p *forecast.Predictor) *forecast.Predictor {
	t.Helper()
	var state forecast.State
	if err := json.Unmarshal([]byte(encode(t, p)), &state); err != nil {
		t.Fatal(err)
	}
	restored, err := forecast.Restore(kind, params, intervalS, state)
	if err != nil {
		t.Fatalf("restore %s: %v", encode(t, p), err)
	}
	return restored
}

// TestStateIsBounded feeds far more than a predictor may keep.
func TestStateIsBounded(t *testing.T) {
	window, refitEvery := 20, 7
	for _, kind := range forecast.Kinds() {
		params := forecast.Params{}
		params.Window, params.RefitEvery = &window, &refitEvery
		p := newPredictor(t, kind, params.For(kind))
		for n := range 500 {
			observe(t, p, 100+float64(n%9)*3.25)
			most := window + refitEvery
			if kind == forecast.Prophet { // has no refit_every of its own
				most = window + 12
			}
			if got := len(p.State().Values); got > most {
				t.Fatalf("%s keeps %d values after %d, want at most %d", kind, got, n+1, most)
			}
		}
	}
}

// TestStateSharesNothing changes a state that was taken.
func TestStateSharesNothing(t *testing.T) {
	p := newPredictor(t, forecast.Auto, forecast.Params{})
	observe(t, p, 3, 6, 4, 8, 5, 9, 7, 8, 6, 9, 8, 12, 11, 9, 14, 12, 10, 15, 14, 13)
	want := encode(t, p)
	state := p.State()
	for i := range state.Values {
		state.Values[i] = -1
	}
	for i := range state.Costs {
		state.Costs[i] = -1
	}
	state.Kalman.Level = -1
	if state.ARIMA != nil {
		state.ARIMA.D = -1
		for i := range state.ARIMA.AR {
			state.ARIMA.AR[i] = -1
		}
	}
	if got := encode(t, p); got != want {
		t.Errorf("the predictor's state is %s, and was %s", got, want)
	}
}

func TestRestoreRefuses(t *testing.T) {
	values := []float64{3, 6, 4, 8, 5, 9, 7, 8, 6, 9, 8, 12, 11, 9, 14, 12, 10, 15, 14, 13}
	for _, c := range []struct {
		name, message string
		kind          forecast.Kind
		params        forecast.Params
		spoil         func(s *forecast.State)
	}{
		{"another version", "version 2", forecast.Constant, forecast.Params{}, func(s *forecast.State) { s.Version = 2 }},
		{"no version", "version 0", forecast.Kalman, forecast.Params{}, func(s *forecast.State) { *s = forecast.State{} }},
		{"another kind", `of predictor "arima"`, forecast.Kalman, forecast.Params{}, func(s *forecast.State) { s.Kind = forecast.ARIMA }},
		{"another scale", "log1p", forecast.Kalman, forecast.Params{Log1p: true}, func(s *forecast.State) { s.Log1p = false }},
		{"values of nothing", "none was seen", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.Seen, s.Waiting = false, true }},
		{"no values", "0 values", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.Values = nil }},
		{"values that are not kept", "20 values", forecast.Kalman, forecast.Params{}, func(s *forecast.State) { s.Values = values }},
		{"too many values", "at most 5096", forecast.Prophet, forecast.Params{}, func(s *forecast.State) { s.Values = make([]float64, 5097) }},
		{"no number", "holds NaN", forecast.Prophet, forecast.Params{}, func(s *forecast.State) { s.Values[3] = math.NaN() }},
		{"no last number", "holds +Inf", forecast.Constant, forecast.Params{}, func(s *forecast.State) { s.Last = math.Inf(1) }},
		{"fitted to too few", "models of 2 values", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.Fitted = 2 }},
		{"fitted to too many", "models of 21 values", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.Fitted = 21 }},
		{"no filter", "filter is missing", forecast.Kalman, forecast.Params{}, func(s *forecast.State) { s.Kalman = nil }},
		{"a filter of nothing", "0 points", forecast.Kalman, forecast.Params{}, func(s *forecast.State) { s.Kalman.Points = 0 }},
		{"a filter with no number", "filter holds NaN", forecast.Kalman, forecast.Params{}, func(s *forecast.State) { s.Kalman.Cov = math.NaN() }},
		{"a model of nothing", "no values", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.Fitted = 0 }},
		{"too many differences", "(1,3,0)", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.ARIMA = &forecast.ARIMAState{D: 3, AR: []float64{0.5}} }},
		{"too many terms", "(6,0,0)", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.ARIMA = &forecast.ARIMAState{AR: make([]float64, 6)} }},
		{"a model that explodes", "not stationary", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.ARIMA = &forecast.ARIMAState{AR: []float64{1.2}} }},
		{"a model with no number", "holds NaN", forecast.ARIMA, forecast.Params{}, func(s *forecast.State) { s.ARIMA = &forecast.ARIMAState{Mean: math.NaN()} }},
		{"a season without two periods", "season of 11", forecast.HoltWinters, forecast.Params{}, func(s *forecast.State) { s.HoltWinters.SeasonPoints = 11 }},
		{"a weight over 1", "weight of 1.5", forecast.HoltWinters, forecast.Params{}, func(s *forecast.State) { s.HoltWinters.Alpha = 1.5 }},
		{"a level that is no number", "holds +Inf", forecast.HoltWinters, forecast.Params{}, func(s *forecast.State) { s.HoltWinters.Level = math.Inf(1) }},
		{"costs of too few", "costs of 2", forecast.Auto, forecast.Params{}, func(s *forecast.State) { s.Costs = s.Costs[:2] }},
		{"a negative cost", "cost of -1", forecast.Auto, forecast.Params{}, func(s *forecast.State) { s.Costs[0] = -1 }},
		{"a member's filter", "filter is missing", forecast.Auto, forecast.Params{}, func(s *forecast.State) { s.Kalman = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPredictor(t, c.kind, c.params)
			observe(t, p, values...)
			p.Forecast()
			state := p.State()
			if _, err := forecast.Restore(c.kind, c.params, intervalS, state); err != nil {
				t.Fatalf("the state as it was: %v", err)
			}
			c.spoil(&state)
			if _, err := forecast.Restore(c.kind, c.params, intervalS, state); err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("the error is %v, want one that says %q", err, c.message)
			}
		})
	}
}

// FuzzRestore reads states from bytes. Whatever is restored goes on: it takes
// values, and its forecasts are figures.
func FuzzRestore(f *testing.F) {
	for _, kind := range forecast.Kinds() {
		for _, n := range []int{0, 1, 4, 20, 60} {
			p := newPredictor(f, kind, forecast.Params{})
			for i := range n {
				observe(f, p, 50+float64(i*i%17))
			}
			p.Forecast()
			raw, err := json.Marshal(p.State())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var state forecast.State
		if json.Unmarshal(raw, &state) != nil {
			return
		}
		p, err := forecast.Restore(state.Kind, forecast.Params{Log1p: state.Log1p}, intervalS, state)
		if err != nil {
			return
		}
		for _, v := range []float64{10, 0, 25, 3} {
			for _, got := range p.Horizon(3) {
				if !(got >= 0 && got <= 1e100) {
					t.Fatalf("the forecast is %v", got)
				}
			}
			if err := p.Observe(v); err != nil {
				t.Fatal(err)
			}
			if _, err := forecast.Restore(state.Kind, forecast.Params{Log1p: state.Log1p}, intervalS, p.State()); err != nil {
				t.Fatalf("the state after %v: %v", v, err)
			}
		}
	})
}
