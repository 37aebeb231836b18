package forecast

import (
	"math"
	"slices"
)

const (
	maxDifferences = 2
	// kpssCritical is the critical value of the KPSS statistic for a level at
	// 5 %, from table 1 of Kwiatkowski, Phillips, Schmidt and Shin (1992).
	kpssCritical = 0.463
	// maxModels bounds the models that one search fits.
	maxModels = 94
	// maxEffort bounds what one search costs, in values filtered: about half a
	// second on one core of 2025. It is counted, as a limit of time would make
	// the model depend on the machine. Over the default window a search takes a
	// tenth of it, a hard one a half; over the widest one it ends early, with the
	// best model so far.
	maxEffort = 6_000_000
)

// effort counts down the values that a search may still filter.
type effort int

// spend takes n from what is left, and says whether there was any.
func (e *effort) spend(n int) bool {
	*e -= effort(n)
	return *e > 0
}

// arimaModel is an ARIMA(p,d,q) model: the d-th differences of the series, less
// their mean, are an arma process.
type arimaModel struct {
	differences int
	process     arma
	mean        float64
}

// order says which parameters of the differences' process are fitted.
type order struct {
	p, q     int
	withMean bool
}

// candidate is a fitted model and its AICc.
type candidate struct {
	order order
	model arimaModel
	aicc  float64
}

// fitARIMA returns the model that the stepwise search of Hyndman and Khandakar
// (2008) finds: d by KPSS tests, then p, q and the mean by AICc, from five
// common models on, one step at a time. It is false where no model can be
// fitted.
func fitARIMA(values []float64) (arimaModel, bool) {
	w, d := slices.Clone(values), 0
	for d < maxDifferences && kpss(w) > kpssCritical {
		w = differences(w)
		d++
	}
	if allEqual(w) {
		return arimaModel{differences: d, mean: w[0]}, true
	}
	budget := effort(maxEffort)
	best := search(w, d < 2, &budget)
	best.model.differences = d
	return best.model, best.aicc < math.Inf(1) && bounded(best.model.mean)
}

// search returns the best model that it met for the differences w before the
// budget was spent; of infinite AICc if there is none.
func search(w []float64, mayHaveMean bool, budget *effort) candidate {
	most := min(maxLag, len(w)/3)
	var tried []order
	best := candidate{aicc: math.Inf(1)}
	improves := func(o order) bool {
		if o.p < 0 || o.q < 0 || o.p > most || o.q > most || (o.withMean && !mayHaveMean) {
			return false
		}
		if len(tried) >= maxModels || *budget <= 0 || slices.Contains(tried, o) {
			return false
		}
		tried = append(tried, o)
		c, ok := fitOrder(w, o, budget)
		if !ok || !(c.aicc < best.aicc) {
			return false
		}
		best = c
		return true
	}
	improves(order{min(2, most), min(2, most), mayHaveMean})
	improves(order{0, 0, mayHaveMean})
	improves(order{1, 0, mayHaveMean})
	improves(order{0, 1, mayHaveMean})
	improves(order{0, 0, false})
	for moved := true; moved; {
		at := best.order
		moved = improves(order{at.p - 1, at.q, at.withMean}) ||
			improves(order{at.p, at.q - 1, at.withMean}) ||
			improves(order{at.p + 1, at.q, at.withMean}) ||
			improves(order{at.p, at.q + 1, at.withMean}) ||
			improves(order{at.p - 1, at.q - 1, at.withMean}) ||
			improves(order{at.p - 1, at.q + 1, at.withMean}) ||
			improves(order{at.p + 1, at.q - 1, at.withMean}) ||
			improves(order{at.p + 1, at.q + 1, at.withMean}) ||
			improves(order{at.p, at.q, !at.withMean})
	}
	return best
}

// fitOrder fits one order to w by maximum likelihood, as well as the budget
// allows. It is false where that fails, and where the series is too short for
// AICc.
func fitOrder(w []float64, o order, budget *effort) (candidate, bool) {
	parameters := float64(o.p + o.q + 1)
	if o.withMean {
		parameters++
	}
	n := float64(len(w))
	if n-parameters-1 <= 0 {
		return candidate{}, false
	}
	// Likelihoods are computed off the sample mean, where they lose no digits.
	center := 0.0
	centered := slices.Clone(w)
	if o.withMean {
		center = average(w)
		for i := range centered {
			centered[i] -= center
		}
	}
	processAt := func(x []float64) arma {
		process := arma{ar: stationary(x[:o.p]), ma: stationary(x[o.p:])}
		for i := range process.ma {
			process.ma[i] = -process.ma[i]
		}
		return process
	}
	start := make([]float64, o.p+o.q)
	for i, partial := range partialAutocorrelations(centered, o.p) {
		start[i] = math.Atanh(max(-0.95, min(0.95, partial)))
	}
	x, deviance, ok := minimize(func(x []float64) float64 {
		if !budget.spend(len(w)) {
			return math.Inf(1)
		}
		l, ok := processAt(x).profile(centered, o.withMean)
		if !ok {
			return math.Inf(1)
		}
		return l.deviance
	}, start)
	if !ok {
		return candidate{}, false
	}
	process := processAt(x)
	l, _ := process.profile(centered, o.withMean)
	deviance += n * (1 + math.Log(2*math.Pi))
	return candidate{
		order: o,
		model: arimaModel{process: process, mean: center + l.mean},
		aicc:  deviance + 2*parameters*n/(n-parameters-1),
	}, true
}

// kpss returns the KPSS statistic of the hypothesis that the series is
// stationary around a level, with Bartlett weights on ⌊3√n/13⌋ lags; 0 for a
// constant series.
func kpss(values []float64) float64 {
	n := len(values)
	center := average(values)
	deviations := make([]float64, n)
	var sum, squares, variance float64
	for i, v := range values {
		deviations[i] = v - center
		sum += deviations[i]
		squares += sum * sum
		variance += deviations[i] * deviations[i]
	}
	lags := int(3 * math.Sqrt(float64(n)) / 13)
	for lag := 1; lag <= lags; lag++ {
		var c float64
		for i := lag; i < n; i++ {
			c += deviations[i] * deviations[i-lag]
		}
		variance += 2 * (1 - float64(lag)/float64(lags+1)) * c
	}
	if variance <= 0 {
		return 0
	}
	return squares / (float64(n) * variance)
}

func average(values []float64) float64 {
	var m mean
	for _, v := range values {
		m.add(v)
	}
	return m.sum / float64(m.n)
}

// differences returns those of each value to the one before, in place.
func differences(values []float64) []float64 {
	for i := range len(values) - 1 {
		values[i] = values[i+1] - values[i]
	}
	return values[:len(values)-1]
}
