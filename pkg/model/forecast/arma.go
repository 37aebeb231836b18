package forecast

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
)

// maxLag is the largest number of autoregressive and of moving average terms;
// a process of that size has one state more.
const (
	maxLag    = 5
	maxStates = maxLag + 1
)

// arma is a stationary process of mean 0 and innovations e of variance 1:
//
//	w(t) = ar[0] w(t-1) + ar[1] w(t-2) + ... + e(t) + ma[0] e(t-1) + ...
type arma struct{ ar, ma []float64 }

// armaFilter is the Kalman filter of an arma process in Harvey's form, with
// states a(0) = w and a(i) what past values and innovations put into w i steps
// on. It holds what is known before the next value. See Gardner, Harvey and
// Phillips (1980), Algorithm AS 154.
type armaFilter struct {
	states int
	// ar[i] is the coefficient of lag i+1, ma[i] that of lag i with ma[0] = 1;
	// both are 0 beyond the order.
	ar, ma [maxStates]float64
	// mean is the expected state; variance, the first column and the upper
	// triangle of its covariance.
	mean     [maxStates]float64
	variance [maxStates][maxStates]float64
	// steady is true once the covariance no longer changes: what is left unknown
	// of the next value is its innovation.
	steady bool
}

// steadyTolerance is the variance, of innovations of variance 1, under which
// what is unknown of the past no longer counts.
const steadyTolerance = 1e-9

// newARMAFilter returns the filter before the first value, when the state has
// the process's own distribution. It is false where the process has none.
func newARMAFilter(process arma) (armaFilter, bool) {
	f := armaFilter{states: max(len(process.ar), len(process.ma)+1)}
	copy(f.ar[:], process.ar)
	f.ma[0] = 1
	copy(f.ma[1:], process.ma)
	p, q := len(process.ar), len(process.ma)

	// weight[j] is the effect of an innovation after j steps.
	var weight [maxStates]float64
	for j := range q + 1 {
		weight[j] = f.ma[j]
		for i := range min(j, p) {
			weight[j] += f.ar[i] * weight[j-1-i]
		}
	}
	covariance, ok := autocovariances(&f, p, q, &weight)
	if !ok {
		return armaFilter{}, false
	}
	// The first row is the covariance of the value with each state, and the rest
	// follows from variance = T variance T' + R R', from the last states back.
	n := f.states
	f.variance[0][0] = covariance[0]
	for k := 1; k < n; k++ {
		var c float64
		for j := k; j < n; j++ {
			if j < p {
				c += f.ar[j] * covariance[j-k+1]
			}
			c += f.ma[j] * weight[j-k]
		}
		f.variance[0][k], f.variance[k][0] = c, c
	}
	at := func(i, k int) float64 { // for i <= k, and 0 beyond the last state
		if k < n {
			return f.variance[i][k]
		}
		return 0
	}
	for i := n - 1; i > 0; i-- {
		for k := n - 1; k >= i; k-- {
			v := f.ar[i]*f.ar[k]*covariance[0] + f.ar[i]*at(0, k+1) + f.ar[k]*at(0, i+1) + at(i+1, k+1) + f.ma[i]*f.ma[k]
			f.variance[i][k] = v
		}
	}
	return f, finite(covariance[0]) && covariance[0] > 0
}

// autocovariances solves, for the process's covariances c at lags 0 to p,
//
//	c(k) - sum over j of ar[j-1] c(|k-j|) = sum over j >= k of ma[j] weight[j-k]
func autocovariances(f *armaFilter, p, q int, weight *[maxStates]float64) ([maxStates]float64, bool) {
	var system [maxStates * maxStates]float64
	var c [maxStates]float64
	n := p + 1
	for k := range n {
		system[k*n+k]++
		for j := 1; j <= p; j++ {
			lag := k - j
			system[k*n+max(lag, -lag)] -= f.ar[j-1]
		}
		for j := k; j <= q; j++ {
			c[k] += f.ma[j] * weight[j-k]
		}
	}
	a := blas64.General{Rows: n, Cols: n, Data: system[:n*n], Stride: n}
	b := blas64.General{Rows: n, Cols: 1, Data: c[:n], Stride: 1}
	var pivots [maxStates]int
	if !lapack64.Getrf(a, pivots[:n]) {
		return c, false
	}
	lapack64.Getrs(blas.NoTrans, a, b, pivots[:n])
	return c, true
}

// step takes the next value, which moves the state by one, and returns the
// innovation and its variance.
func (f *armaFilter) step(w float64) (innovation, variance float64) {
	innovation, variance = w-f.mean[0], f.variance[0][0]
	f.move(&f.mean, innovation)
	if !f.steady {
		f.moveVariance()
	}
	return innovation, variance
}

// move predicts a state's mean one step on, given the innovation of this step.
func (f *armaFilter) move(mean *[maxStates]float64, innovation float64) {
	first, scaled := mean[0], innovation/f.variance[0][0]
	for i := range f.states {
		next, shared := 0.0, 0.0
		if i+1 < f.states {
			next, shared = mean[i+1], f.variance[i+1][0]
		}
		mean[i] = f.ar[i]*(first+innovation) + next + shared*scaled
	}
}

// moveVariance predicts the covariance one step on. In this form it does not
// depend on the autoregressive part: what is unknown of a state is what was
// unknown of it a step before, less what the value told, and the innovation.
func (f *armaFilter) moveVariance() {
	last := f.states - 1
	var column, told [maxStates]float64
	for i := range last {
		column[i] = f.variance[i+1][0]
		told[i] = column[i] / f.variance[0][0]
	}
	unknown := 0.0
	for i := range last {
		row, shifted := &f.variance[i], &f.variance[i+1]
		for k := i; k < last; k++ {
			row[k] = shifted[k+1] - told[i]*column[k]
		}
		unknown += math.Abs(row[i])
	}
	f.steady = unknown < steadyTolerance
	for i := range last + 1 {
		row := &f.variance[i]
		for k := i; k <= last; k++ {
			known := f.ma[i] * f.ma[k]
			if k < last && !f.steady {
				known += row[k]
			}
			row[k] = known
			f.variance[k][0] = f.variance[0][k]
		}
	}
}

// likelihood is what a series says of an arma process whose mean and variance
// of innovations are unknown and take their best values.
type likelihood struct {
	// deviance is -2 log L, up to a constant of the length of the series.
	deviance       float64
	mean, variance float64
}

// profile returns the exact Gaussian likelihood of w under the process. The
// mean is that of generalised least squares if withMean is set, and 0 if not.
// It is false where there is none, as for a series that the process fits
// without error.
func (process arma) profile(w []float64, withMean bool) (likelihood, bool) {
	f, ok := newARMAFilter(process)
	if !ok {
		return likelihood{}, false
	}
	// The filter is linear: what it makes of w less a mean is what it makes of w,
	// less the mean times what it makes of a series of ones.
	var ones [maxStates]float64
	var logs, ww, w1, sum11 float64
	product := 1.0 // of variances, of which a logarithm is taken now and then
	for _, value := range w {
		if withMean {
			v := f.variance[0][0]
			one := 1 - ones[0]
			w1 += (value - f.mean[0]) * one / v
			sum11 += one * one / v
			f.move(&ones, one)
		}
		innovation, v := f.step(value)
		ww += innovation * innovation / v
		if product *= v; product > 1e100 {
			logs += math.Log(product)
			product = 1
		}
	}
	var l likelihood
	if withMean {
		l.mean = w1 / sum11
		ww -= l.mean * w1
	}
	n := float64(len(w))
	l.variance = ww / n
	l.deviance = n*math.Log(l.variance) + logs + math.Log(product)
	return l, l.variance > 0 && finite(l.deviance)
}

// maxMemory bounds the rate at which what drives a process dies away: the
// inverse roots of its polynomials lie within it. Closer to a unit root,
// differencing or one term less says the same.
const maxMemory = 1 / 1.01

// stationary returns the coefficients c of a polynomial 1 - c[0] z - c[1] z² ...
// whose inverse roots are under maxMemory in modulus: every x gives one, and
// every such polynomial has an x. The partial autocorrelations of an
// autoregressive process with the inverse roots less maxMemory are tanh(x), see
// Monahan (1984).
func stationary(x []float64) []float64 {
	c, previous := make([]float64, len(x)), make([]float64, len(x))
	for k := range x {
		partial := math.Tanh(x[k])
		copy(previous, c[:k])
		for j := range k {
			c[j] = previous[j] - partial*previous[k-1-j]
		}
		c[k] = partial
	}
	scale := 1.0
	for k := range c {
		scale *= maxMemory
		c[k] *= scale
	}
	return c
}

// isStationary says whether the inverse roots of 1 - c[0] z - c[1] z² ... are
// all under 1 in modulus: whether the recursion of stationary, run backwards,
// meets partial autocorrelations under 1 only.
func isStationary(c []float64) bool {
	current, next := slices.Clone(c), make([]float64, len(c))
	for k := len(c) - 1; k >= 0; k-- {
		partial := current[k]
		if !(math.Abs(partial) < 1) {
			return false
		}
		for j := range k {
			next[j] = (current[j] + partial*current[k-1-j]) / (1 - partial*partial)
		}
		current, next = next, current
	}
	return true
}

// partialAutocorrelations returns those of a series of mean 0 at lags 1 to n,
// by the recursion of Levinson and Durbin.
func partialAutocorrelations(w []float64, n int) []float64 {
	covariance := make([]float64, n+1)
	for lag := range covariance {
		for t := lag; t < len(w); t++ {
			covariance[lag] += w[t] * w[t-lag]
		}
	}
	partials, coefficients, previous := make([]float64, n), make([]float64, n), make([]float64, n)
	variance := covariance[0]
	for k := range n {
		if variance <= 0 {
			break
		}
		c := covariance[k+1]
		for j := range k {
			c -= coefficients[j] * covariance[k-j]
		}
		partial := c / variance
		copy(previous, coefficients[:k])
		for j := range k {
			coefficients[j] = previous[j] - partial*previous[k-1-j]
		}
		coefficients[k] = partial
		partials[k] = partial
		variance *= 1 - partial*partial
	}
	return partials
}
