package forecast

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// airTransport is passengers of Australian airlines, in millions, 1990 to 2016,
// and visitorNights is holidays in Australia, in millions of nights a quarter,
// 2005 to 2015: both from Hyndman and Athanasopoulos (2018), Forecasting:
// Principles and Practice, 2nd edition.
var (
	airTransport = []float64{
		17.55, 21.86, 23.89, 26.93, 26.89, 28.83, 30.08, 30.95, 30.19, 31.58, 32.58, 33.48, 39.02, 41.39,
		41.60, 44.66, 46.95, 48.73, 51.49, 50.03, 60.64, 63.36, 66.36, 68.20, 68.12, 69.78, 72.60,
	}
	visitorNights = []float64{
		42.20566386, 24.64917133, 32.66733514, 37.25735401, 45.24246027, 29.35048127, 36.34420728, 41.78208136,
		49.27659843, 31.27540139, 37.85062549, 38.83704413, 51.23690034, 31.83855162, 41.32342126, 42.79900337,
		55.70835836, 33.40714492, 42.31663797, 45.15712257, 59.57607996, 34.83733016, 44.84168072, 46.97124960,
		60.01903094, 38.37117851, 46.97586413, 50.73379646, 61.64687319, 39.29956937, 52.67120908, 54.33231689,
		66.83435838, 40.87118847, 51.82853579, 57.49190993, 65.25146985, 43.06120822, 54.76075713, 59.83447494,
		73.25702747, 47.69662373, 61.09776802, 66.05576122,
	}
)

// undamped is the trend of Holt's own method.
var undamped = span{1, 1}

// run smooths the values, and returns the sum of squared errors and forecasts.
func (m *smoothing) run(s smoother, values []float64, steps int) (squares float64, forecasts []float64) {
	for _, y := range values {
		e := s.step(m, y)
		squares += e * e
	}
	forecasts = make([]float64, steps)
	s.extrapolate(m, forecasts)
	return squares, forecasts
}

// TestPublishedSmoothing holds fits against the tables of the textbook. The
// fits there search for the first season too, and ours takes it from the first
// cycles: the forecasts differ by some hundredths.
func TestPublishedSmoothing(t *testing.T) {
	holt, ok := fitSmoothing(airTransport, 0, undamped)
	if !ok {
		t.Fatal("Holt's method was not fitted")
	}
	// Table 7.3 and the text before it, section 7.2.
	wantNear(t, "alpha", holt.alpha, 0.8321, 0.012)
	wantNear(t, "beta", holt.beta, 0.0001, 1e-4)
	wantNear(t, "first level", holt.level, 15.57, 0.3)
	wantNear(t, "first trend", holt.trend, 2.102, 0.006)
	_, forecasts := holt.run(holt.start(airTransport), airTransport, 5)
	wantAllNear(t, "passengers", forecasts, []float64{74.60, 76.70, 78.80, 80.91, 83.01}, 0.025)

	// Table 7.4, section 7.3.
	winters, ok := fitSmoothing(visitorNights, 4, undamped)
	if !ok {
		t.Fatal("Holt and Winters' method was not fitted")
	}
	_, forecasts = winters.run(winters.start(visitorNights), visitorNights, 8)
	wantAllNear(t, "nights", forecasts, []float64{76.10, 51.60, 63.97, 68.37, 78.90, 54.41, 66.77, 71.18}, 0.17)
}

// TestSmoothing holds the recursions against those of R, at its parameters, and
// wants fits that are no worse.
func TestSmoothing(t *testing.T) {
	all := knownSeries(t)
	var fits []struct {
		Series                      string
		Alpha, Beta, Gamma, Damping float64
		Level, Trend, Squares       float64
		Season, Forecasts           []float64
	}
	readJSON(t, "testdata/smoothing.json", &fits)
	for _, want := range fits {
		t.Run(fmt.Sprintf("%s/%d", want.Series, len(want.Season)), func(t *testing.T) {
			values := all[want.Series]
			theirs := smoothing{alpha: want.Alpha, beta: want.Beta, gamma: want.Gamma, damping: want.Damping}
			squares, forecasts := theirs.run(smoother{level: want.Level, trend: want.Trend, season: slices.Clone(want.Season)}, values, len(want.Forecasts))
			wantNear(t, "squares at R's parameters", squares, want.Squares, 1e-7*want.Squares)
			wantAllNear(t, "forecast at R's parameters", forecasts, want.Forecasts, 1e-7*math.Abs(want.Forecasts[0]))

			ours, ok := fitSmoothing(values, len(want.Season), dampingSpan)
			if !ok {
				t.Fatal("found no fit")
			}
			squares, _ = ours.run(ours.start(values), values, 1)
			if squares > 1.0001*want.Squares {
				t.Errorf("squares of errors are %v, want at most %v: %+v", squares, want.Squares, ours)
			}
		})
	}
}

// TestFirstStateIsBest moves the first level and trend of a fit: no other has
// less squared error.
func TestFirstStateIsBest(t *testing.T) {
	m, ok := fitSmoothing(visitorNights, 4, dampingSpan)
	if !ok {
		t.Fatal("found no fit")
	}
	least, _ := m.run(m.start(visitorNights), visitorNights, 1)
	for _, move := range [][2]float64{{0.1, 0}, {-0.1, 0}, {0, 0.02}, {0, -0.02}, {0.1, -0.02}, {-0.1, 0.02}} {
		moved := m
		moved.level += move[0]
		moved.trend += move[1]
		if squares, _ := moved.run(moved.start(visitorNights), visitorNights, 1); squares < least {
			t.Errorf("moved by %v, squares fall from %v to %v", move, least, squares)
		}
	}
}
