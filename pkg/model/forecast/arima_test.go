package forecast

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
)

// knownSeries reads the series of testdata/series.json.
func knownSeries(t testing.TB) map[string][]float64 {
	t.Helper()
	var all map[string][]float64
	readJSON(t, "testdata/series.json", &all)
	return all
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
}

// wantNear fails where got is off want by more than the tolerance.
func wantNear(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %.8g, want %.8g within %.2g", what, got, want, tolerance)
	}
}

func wantAllNear(t *testing.T, what string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
	for i := range want {
		wantNear(t, fmt.Sprintf("%s %d", what, i+1), got[i], want[i], tolerance)
	}
}

// newBudget returns that of one search.
func newBudget() *effort { return new(effort(maxEffort)) }

// fitKnown fits an order to the d-th differences of a series, and returns the
// fit, the differences and the variance of the innovations.
func fitKnown(t *testing.T, values []float64, d int, o order) (candidate, float64) {
	t.Helper()
	w := slices.Clone(values)
	for range d {
		w = differences(w)
	}
	c, ok := fitOrder(w, o, newBudget())
	if !ok {
		t.Fatalf("found no ARIMA(%d,%d,%d)", o.p, d, o.q)
	}
	c.model.differences = d
	for i := range w {
		w[i] -= c.model.mean
	}
	l, ok := c.model.process.profile(w, false)
	if !ok {
		t.Fatal("the fit has no likelihood")
	}
	return c, l.variance
}

// TestPublishedFits holds fits against figures as they are printed. The
// tolerances are half a unit of the last digit printed, or what the estimators
// differ by: Box and Jenkins, and Moran, minimise sums of squares, and R stops
// where an iteration gains little. R's package forecast prints variances over
// n - k, and ours are over n.
func TestPublishedFits(t *testing.T) {
	all := knownSeries(t)
	sunspots1770 := all["sunspots"][70:170] // the series begins in 1700
	for _, c := range []struct {
		name, source        string
		series              []float64
		d                   int
		order               order
		ar, ma              []float64
		mean, variance      float64
		coefficients, means float64
		variances           float64
		forecasts           []float64
	}{
		{
			name: "lh AR(1)", source: "R, example(arima); Venables and Ripley (2002), Modern Applied Statistics with S, section 14.2",
			series: all["lh"], order: order{1, 0, true}, ar: []float64{0.5739}, mean: 2.4133, variance: 0.1975,
			coefficients: 6e-5, means: 6e-5, variances: 6e-5,
		},
		{
			name: "lh AR(3)", source: "as above; forecasts from R, example(predict.Arima)",
			series: all["lh"], order: order{3, 0, true}, ar: []float64{0.6448, -0.0634, -0.2198}, mean: 2.3931, variance: 0.1787,
			coefficients: 6e-5, means: 6e-5, variances: 6e-5,
			forecasts: []float64{2.460173, 2.270829, 2.198597, 2.260696, 2.346939, 2.414479},
		},
		{
			name: "WWWusage ARIMA(3,1,0)", source: "R, example(WWWusage); the model of Durbin and Koopman (2001), Time Series Analysis by State Space Methods",
			series: all["WWWusage"], d: 1, order: order{3, 0, false}, ar: []float64{1.1513, -0.6612, 0.3407}, variance: 9.363,
			coefficients: 6e-5, variances: 6e-4,
		},
		{
			name: "Lake Huron AR(2)", source: "Brockwell and Davis (2002), Introduction to Time Series and Forecasting, section 5.2, around the sample mean",
			series: all["LakeHuron"], order: order{2, 0, true}, ar: []float64{1.0441, -0.2503}, mean: 579.0041, variance: 0.4789,
			coefficients: 1e-3, means: 0.06, variances: 1e-3,
		},
		{
			name: "Lake Huron ARMA(1,1)", source: "as above",
			series: all["LakeHuron"], order: order{1, 1, true}, ar: []float64{0.7446}, ma: []float64{0.3213}, mean: 579.0041, variance: 0.4750,
			coefficients: 1e-3, means: 0.06, variances: 1e-3,
		},
		{
			// The local level with variances e and h is an ARIMA(0,1,1): with
			// q = h/e, ma = (sqrt(q² + 4q) - 2 - q)/2, and the innovations have -e/ma.
			name: "Nile local level", source: "Durbin and Koopman (2001), section 2.10.3: variances 15099 and 1469.1",
			series: all["Nile"], d: 1, order: order{0, 1, false}, ma: []float64{-0.73296}, variance: 15099 / 0.73296,
			coefficients: 1e-4, variances: 5,
		},
		{
			name: "Nile ARIMA(1,1,1)", source: "R's package forecast, auto.arima(Nile), as printed",
			series: all["Nile"], d: 1, order: order{1, 1, false}, ar: []float64{0.2544}, ma: []float64{-0.8741}, variance: 20177.0 * 97 / 99,
			coefficients: 6e-5, variances: 1,
		},
		{
			name: "WWWusage ARIMA(1,1,1)", source: "R's package forecast, auto.arima(WWWusage), as printed",
			series: all["WWWusage"], d: 1, order: order{1, 1, false}, ar: []float64{0.6504}, ma: []float64{0.5256}, variance: 9.995 * 97 / 99,
			coefficients: 6e-5, variances: 6e-4,
		},
		{
			name: "lynx ARMA(2,2)", source: "R's package forecast, auto.arima(lynx), as printed",
			series: all["lynx"], order: order{2, 2, true}, ar: []float64{1.3421, -0.6738}, ma: []float64{-0.2027, -0.2564}, mean: 1544.4039, variance: 761965.0 * 109 / 114,
			coefficients: 3e-4, means: 0.1, variances: 50,
		},
		{
			name: "sunspots 1770 to 1869 AR(2)", source: "Box and Jenkins (1976), Time Series Analysis, table 7.13, series E: 14.9 + 1.42 z - 0.73 z, variance 227.8",
			series: sunspots1770, order: order{2, 0, true}, ar: []float64{1.42, -0.73}, mean: 14.9 / (1 - 1.42 + 0.73), variance: 227.8,
			coefficients: 0.02, means: 1, variances: 2,
		},
		{
			name: "log10 lynx AR(2)", source: "Moran (1953), The statistical analysis of the Canadian lynx cycle: 1.05 + 1.41 x - 0.77 x, variance 0.0459",
			series: all["log10lynx"], order: order{2, 0, true}, ar: []float64{1.41, -0.77}, mean: 1.05 / (1 - 1.41 + 0.77), variance: 0.0459,
			coefficients: 0.04, means: 0.02, variances: 0.006,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Logf("source: %s", c.source)
			got, variance := fitKnown(t, c.series, c.d, c.order)
			wantAllNear(t, "ar", got.model.process.ar, c.ar, c.coefficients)
			wantAllNear(t, "ma", got.model.process.ma, c.ma, c.coefficients)
			if c.order.withMean {
				wantNear(t, "mean", got.model.mean, c.mean, c.means)
			}
			wantNear(t, "variance", variance, c.variance, c.variances)
			filter, failed := got.model.follow(c.series)
			if failed {
				t.Fatal("the fit has no filter")
			}
			forecasts := make([]float64, len(c.forecasts))
			got.model.extrapolate(filter, c.series, forecasts)
			wantAllNear(t, "forecast", forecasts, c.forecasts, 2e-5)
		})
	}
}

// TestMaximumLikelihood holds fits, and forecasts five steps on, against those
// of R. Where R stops at a lesser maximum, ours has to be the better one.
func TestMaximumLikelihood(t *testing.T) {
	all := knownSeries(t)
	var fits []struct {
		Series               string
		P, D, Q              int
		WithMean             bool `json:"with_mean"`
		AR, MA, Forecasts    []float64
		Mean, Variance, AICC float64
	}
	readJSON(t, "testdata/arima.json", &fits)
	same := 0
	for _, want := range fits {
		t.Run(fmt.Sprintf("%s(%d,%d,%d)", want.Series, want.P, want.D, want.Q), func(t *testing.T) {
			values := all[want.Series]
			got, variance := fitKnown(t, values, want.D, order{want.P, want.Q, want.WithMean})
			if got.aicc > want.AICC+1e-4 {
				t.Fatalf("AICc is %.8g, want %.8g", got.aicc, want.AICC)
			}
			if got.aicc < want.AICC-1e-3 {
				t.Skipf("AICc is %.6g, and R's %.6g", got.aicc, want.AICC)
			}
			same++
			spread := math.Sqrt(want.Variance)
			wantAllNear(t, "ar", got.model.process.ar, want.AR, 1e-4)
			wantAllNear(t, "ma", got.model.process.ma, want.MA, 1e-4)
			wantNear(t, "mean", got.model.mean, want.Mean, 1e-4*spread)
			wantNear(t, "variance", variance, want.Variance, 1e-4*want.Variance)
			filter, failed := got.model.follow(values)
			if failed {
				t.Fatal("the fit has no filter")
			}
			forecasts := make([]float64, len(want.Forecasts))
			got.model.extrapolate(filter, values, forecasts)
			wantAllNear(t, "forecast", forecasts, want.Forecasts, 1e-3*spread)
		})
	}
	if same < len(fits)-2 {
		t.Errorf("only %d of %d fits are those of R", same, len(fits))
	}
}

// TestSearch wants models that are no worse than those that R's search finds,
// with as many differences.
func TestSearch(t *testing.T) {
	all := knownSeries(t)
	var orders []struct {
		Series  string
		P, D, Q int
		AICC    float64
	}
	readJSON(t, "testdata/orders.json", &orders)
	for _, want := range orders {
		t.Run(want.Series, func(t *testing.T) {
			model, ok := fitARIMA(all[want.Series])
			if !ok {
				t.Fatal("found no model")
			}
			if model.differences != want.D {
				t.Fatalf("took %d differences, want %d", model.differences, want.D)
			}
			w := slices.Clone(all[want.Series])
			for range model.differences {
				w = differences(w)
			}
			got := search(w, model.differences < 2, newBudget())
			t.Logf("order (%d,%d), AICc %.6g; R has (%d,%d), %.6g", got.order.p, got.order.q, got.aicc, want.P, want.Q, want.AICC)
			if got.aicc > want.AICC+1e-3 {
				t.Errorf("AICc of (%d,%d) is %v, want at most %v, that of (%d,%d)", got.order.p, got.order.q, got.aicc, want.AICC, want.P, want.Q)
			}
		})
	}
}

// TestSearchIsBounded ends searches at any moment: what stands is a model that
// was fitted, or none, and never a better one than of a search with more time.
func TestSearchIsBounded(t *testing.T) {
	w := differences(slices.Clone(knownSeries(t)["AirPassengers"]))
	best := math.Inf(1)
	for _, least := range []int{1, 100, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, maxEffort} {
		budget := effort(least)
		got := search(w, true, &budget)
		if math.IsNaN(got.aicc) || got.aicc > best {
			t.Errorf("with a budget of %d, the AICc is %v, and was %v with less", least, got.aicc, best)
		}
		best = got.aicc
		if got.aicc < math.Inf(1) && !(isStationary(got.model.process.ar) && bounded(got.model.mean)) {
			t.Errorf("with a budget of %d, the model is %+v", least, got.model)
		}
	}
	if math.IsInf(best, 1) {
		t.Error("no budget was enough for a model")
	}
}

// TestWidestWindowIsFitted wants a model of the most values that one may be
// fitted to, within the budget.
func TestWidestWindowIsFitted(t *testing.T) {
	values := make([]float64, maxWindow)
	state := uint64(1)
	for i := 1; i < len(values); i++ {
		state = state*6364136223846793005 + 1442695040888963407 // a linear congruential generator's noise
		values[i] = 0.7*values[i-1] + float64(state>>40)/(1<<24) - 0.5
	}
	model, ok := fitARIMA(values)
	if !ok {
		t.Fatal("no model was fitted")
	}
	f, failed := model.follow(values)
	if failed {
		t.Fatal("the model has no filter")
	}
	var next [1]float64
	model.extrapolate(f, values, next[:])
	wantNear(t, "forecast", next[0], 0.7*values[len(values)-1], 0.1)
}

// TestARMAFilterIsExact compares the filter with the textbook definition: the
// density of the whole series under its covariance matrix.
func TestARMAFilterIsExact(t *testing.T) {
	process := arma{ar: []float64{1.1, -0.5, 0.2}, ma: []float64{0.4, 0.3}}
	w := []float64{0.3, -1.2, 0.7, 2.1, -0.4, -1.9, 0.6, 0.2}
	// An ARMA process is a moving average of infinite order.
	weights := make([]float64, 4000)
	for j := range weights {
		if j == 0 {
			weights[j] = 1
		} else if j <= len(process.ma) {
			weights[j] = process.ma[j-1]
		}
		for i, c := range process.ar {
			if j > i {
				weights[j] += c * weights[j-1-i]
			}
		}
	}
	n := len(w)
	covariance := make([]float64, n)
	for lag := range covariance {
		for j := range len(weights) - lag {
			covariance[lag] += weights[j] * weights[j+lag]
		}
	}
	// The Cholesky factor of the covariance gives the innovations.
	factor := make([][]float64, n)
	var squares, logs float64
	innovations := make([]float64, n)
	for i := range n {
		factor[i] = make([]float64, i+1)
		rest := w[i]
		for j := range i + 1 {
			v := covariance[i-j]
			for k := range j {
				v -= factor[i][k] * factor[j][k]
			}
			if i == j {
				factor[i][j] = math.Sqrt(v)
			} else {
				factor[i][j] = v / factor[j][j]
				rest -= factor[i][j] * innovations[j]
			}
		}
		innovations[i] = rest / factor[i][i]
		squares += innovations[i] * innovations[i]
		logs += 2 * math.Log(factor[i][i])
	}
	got, ok := process.profile(w, false)
	if !ok {
		t.Fatal("the process has no likelihood")
	}
	wantNear(t, "variance", got.variance, squares/float64(n), 1e-10)
	wantNear(t, "deviance", got.deviance, float64(n)*math.Log(squares/float64(n))+logs, 1e-9)
}

func TestKPSS(t *testing.T) {
	// Of Nile and its differences, R 4.2.2 with urca 1.3.3:
	// ur.kpss(Nile, type = "mu", use.lag = 2)@teststat.
	nile := knownSeries(t)["Nile"]
	wantNear(t, "statistic", kpss(nile), 1.3152264632, 1e-9)
	wantNear(t, "statistic of differences", kpss(differences(slices.Clone(nile))), 0.0196221315, 1e-9)
}

func TestStationary(t *testing.T) {
	for _, c := range []struct {
		c    []float64
		want bool
	}{
		{nil, true},
		{[]float64{0.99}, true},
		{[]float64{1}, false},
		{[]float64{-1.01}, false},
		{[]float64{1.3, -0.4}, true},
		{[]float64{1.3, -0.3}, false},
		{[]float64{0.5, 0.2, 0.31}, false},
		{[]float64{math.NaN()}, false},
	} {
		if got := isStationary(c.c); got != c.want {
			t.Errorf("isStationary(%v) is %v", c.c, got)
		}
	}
	for _, x := range [][]float64{{100}, {-100, 100}, {5, -5, 5, -5, 5}, {0.1, 0.2, -3, 0, 0}} {
		if c := stationary(x); !isStationary(c) {
			t.Errorf("stationary(%v) is %v, which is not", x, c)
		}
	}
}
