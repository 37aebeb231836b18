package forecast

import (
	"fmt"
	"math"
	"testing"
)

// TestSeasonalRegression holds forecasts against those of another solver.
func TestSeasonalRegression(t *testing.T) {
	all := knownSeries(t)
	var cases []struct {
		Series      string
		First, Last int
		Periods     []float64
		Forecasts   []float64
	}
	readJSON(t, "testdata/seasonal.json", &cases)
	for _, want := range cases {
		t.Run(fmt.Sprintf("%s/%d", want.Series, want.First), func(t *testing.T) {
			values := all[want.Series][want.First:want.Last]
			got := make([]float64, len(want.Forecasts))
			if !newDesign(len(values), want.Periods).forecast(values, got) {
				t.Fatal("the regression has no solution")
			}
			wantAllNear(t, "forecast", got, want.Forecasts, 1e-7*math.Abs(want.Forecasts[0]))
		})
	}
}

// hourly is an hour in seconds.
const hourly = 3600

func TestSeasonalContinuesLines(t *testing.T) {
	p, err := New(Prophet, Params{}, hourly)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 80 {
		if err := p.Observe(7 + 3*float64(n)); err != nil {
			t.Fatal(err)
		}
		if n+1 >= minPoints {
			wantAllNear(t, fmt.Sprintf("after %d values, forecast", n+1), p.Horizon(3), []float64{10 + 3*float64(n), 13 + 3*float64(n), 16 + 3*float64(n)}, 1e-7)
		}
	}
}

// TestSeasonsThatFit counts the Fourier terms that the window makes room for.
func TestSeasonsThatFit(t *testing.T) {
	season := func(s float64) Params {
		p := Params{}
		p.SeasonS = &s
		return p
	}
	window := func(n int) Params {
		p := Params{}
		p.Window = &n
		return p
	}
	for _, c := range []struct {
		name      string
		params    Params
		intervalS float64
		points    int
		want      int
	}{
		{"no day in fifty intervals of 180 s", Params{}, 180, 50, 0},
		{"two days in fifty hours", Params{}, hourly, 50, harmonics},
		{"not two days yet", Params{}, hourly, 47, 0},
		{"two days, and two weeks", window(336), hourly, 336, 2 * harmonics},
		{"two weeks of days: of a period of 7, three harmonics", Params{}, dayS, 50, 3},
		{"a season of the user's own, in place of days", season(600), 60, 50, harmonics},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := c.params.settings(Prophet, c.intervalS)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(newDesign(c.points, newSeasonal(set).periods).frequencies); got != c.want {
				t.Errorf("the regression has %d harmonics, want %d", got, c.want)
			}
		})
	}
}

// TestSeasonIsAwaited wants forecasts of a predictor that has not seen two days
// yet to be those of one that knows of no days.
func TestSeasonIsAwaited(t *testing.T) {
	wide := 96
	params := Params{}
	params.Window = &wide
	values := make([]float64, 60)
	for n := range values {
		values[n] = 100 + 40*math.Sin(2*math.Pi*float64(n)/24) + float64(n*n%7)
	}
	daily, err := Evaluate(Prophet, params, hourly, values)
	if err != nil {
		t.Fatal(err)
	}
	dayless, err := Evaluate(Prophet, Params{}, 60, values)
	if err != nil {
		t.Fatal(err)
	}
	for n := range daily.Forecasts {
		if same := daily.Forecasts[n] == dayless.Forecasts[n]; n >= minPoints && same != (n < 48) {
			t.Errorf("after %d hours, the forecast is %v, and %v without days", n, daily.Forecasts[n].Value, dayless.Forecasts[n].Value)
		}
	}
}

// TestSeasonIsForecast wants the daily peak to be seen coming by the predictors
// that know of days, and better than by the last value.
func TestSeasonIsForecast(t *testing.T) {
	values := make([]float64, 96)
	for n := range values {
		hour := 2 * math.Pi * float64(n) / 24
		values[n] = 100 + 40*math.Sin(hour) + 15*math.Cos(2*hour)
	}
	constant, err := Evaluate(Constant, Params{}, hourly, values)
	if err != nil {
		t.Fatal(err)
	}
	daily := Params{}
	day := float64(dayS)
	daily.SeasonS = &day
	for _, c := range []struct {
		kind   Kind
		params Params
	}{{Prophet, Params{}}, {Prophet, daily}, {HoltWinters, daily}} {
		got, err := Evaluate(c.kind, c.params, hourly, values)
		if err != nil {
			t.Fatal(err)
		}
		var late, base mean
		for n := 72; n < 96; n++ {
			late.add(math.Abs(got.Forecasts[n].Value - values[n]))
			base.add(math.Abs(constant.Forecasts[n].Value - values[n]))
		}
		if *late.value() > 0.1**base.value() {
			t.Errorf("%s errs by %.3g on the fourth day, the last value by %.3g", c.kind, *late.value(), *base.value())
		}
	}
}
