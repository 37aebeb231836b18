package forecast

import "math"

// smoothing is exponential smoothing with an additive, damped trend and an
// additive season, in the error correction form of Hyndman, Koehler, Ord and
// Snyder (2008), Forecasting with Exponential Smoothing: ETS(A,Ad,A), or
// ETS(A,Ad,N) without a season. With the error e = y - (level + damping trend +
// season) of a value y,
//
//	level'  = level + damping trend + alpha e
//	trend'  = damping trend + beta e
//	season' = season + gamma e, of this phase
type smoothing struct {
	alpha, beta, gamma, damping float64
	// seasonPoints is the length of the season in values; 0 without one.
	seasonPoints int
	// level and trend are those before the first value.
	level, trend float64
}

// smoother is the state of a smoothing.
type smoother struct {
	level, trend float64
	// season holds the effect of each phase; phase is that of the next value.
	season []float64
	phase  int
}

// step takes the next value and returns its error.
func (s *smoother) step(m *smoothing, y float64) float64 {
	trend := m.damping * s.trend
	level := s.level + trend
	e := y - level
	if len(s.season) > 0 {
		e -= s.season[s.phase]
		s.season[s.phase] += m.gamma * e
		if s.phase++; s.phase == len(s.season) {
			s.phase = 0
		}
	}
	s.level, s.trend = level+m.alpha*e, trend+m.beta*e
	return e
}

// extrapolate writes forecasts of the values that follow.
func (s *smoother) extrapolate(m *smoothing, out []float64) {
	trend, level := s.trend, s.level
	for i := range out {
		trend *= m.damping
		level += trend
		out[i] = level
		if n := len(s.season); n > 0 {
			out[i] += s.season[(s.phase+i)%n]
		}
	}
}

// span is a range that a parameter is fitted in.
type span struct{ from, to float64 }

// at maps the reals onto the span.
func (s span) at(x float64) float64 { return s.from + (s.to-s.from)/(1+math.Exp(-x)) }

var (
	// dampingSpan is that of Hyndman and others: nearer to 1 a trend is hardly
	// damped, and under 0.8 hardly one.
	dampingSpan = span{0.8, 0.98}
	// weightSpan keeps every weight off the ends, where a state never learns or
	// forgets all at once.
	weightSpan = span{1e-4, 1 - 1e-4}
)

// smoothingStarts are the points from which a fit searches: alpha, beta as a
// share of alpha, damping, and gamma as a share of 1 - alpha, on the real line.
// The first learns slowly, the second fast.
var smoothingStarts = [][4]float64{{-1.4, -2.2, 1, -2.2}, {1.4, -2.2, 1, -2.2}}

// fitSmoothing returns the smoothing of least squared one-step errors over the
// values, with a season if it is not 0. The values are at least two seasons. It
// is false where there is no such smoothing.
func fitSmoothing(values []float64, seasonPoints int, damping span) (smoothing, bool) {
	center := average(values)
	centered := make([]float64, len(values))
	total := 0.0
	for i, v := range values {
		centered[i] = v - center
		total += centered[i] * centered[i]
	}
	f := smoothingFit{values: centered, season: initialSeason(centered, seasonPoints)}
	for i := range f.runs {
		f.runs[i].season = make([]float64, seasonPoints)
	}
	at := func(x []float64) smoothing {
		m := smoothing{seasonPoints: seasonPoints, alpha: weightSpan.at(x[0]), damping: damping.at(x[2])}
		m.beta = m.alpha * weightSpan.at(x[1])
		if seasonPoints > 0 {
			m.gamma = (1 - m.alpha) * weightSpan.at(x[3])
		}
		return m
	}
	parameters := 3
	if seasonPoints > 0 {
		parameters = 4
	}
	var best smoothing
	least := math.Inf(1)
	n := float64(len(values))
	for _, start := range smoothingStarts {
		x, _, ok := minimize(func(x []float64) float64 {
			m := at(x)
			// Values that are fitted without error have no best parameters.
			return n * math.Log(max(f.squares(&m), 1e-20*total))
		}, start[:parameters])
		if !ok {
			continue
		}
		m := at(x)
		if squares := f.squares(&m); squares < least {
			best, least = m, squares
		}
	}
	best.level += center
	return best, finite(least) && bounded(best.level) && bounded(best.trend)
}

// smoothingFit finds the first level and trend that suit the other parameters.
type smoothingFit struct {
	values, season []float64
	// runs have room for the smoothers that squares needs.
	runs [3]smoother
}

// squares sets the smoothing's first level and trend to those of least squared
// errors, and returns the sum of these. The errors are linear in the two: they
// are those of the values with neither, and those that each of the two makes
// for a series of zeros.
func (f *smoothingFit) squares(m *smoothing) float64 {
	for i := range f.runs {
		r := &f.runs[i]
		*r = smoother{season: r.season}
		clear(r.season)
	}
	base, level, trend := &f.runs[0], &f.runs[1], &f.runs[2]
	copy(base.season, f.season)
	level.level, trend.trend = 1, 1

	var bb, ll, tt, bl, bt, lt float64
	for _, y := range f.values {
		b, l, t := base.step(m, y), level.step(m, 0), trend.step(m, 0)
		bb += b * b
		ll += l * l
		tt += t * t
		bl += b * l
		bt += b * t
		lt += l * t
	}
	determinant := ll*tt - lt*lt
	m.level = (bt*lt - bl*tt) / determinant
	m.trend = (bl*lt - bt*ll) / determinant
	squares := bb + m.level*bl + m.trend*bt
	if !finite(squares) {
		return math.Inf(1)
	}
	return max(squares, 0)
}

// start returns the smoother before the first of the values.
func (m *smoothing) start(values []float64) smoother {
	return smoother{level: m.level, trend: m.trend, season: initialSeason(values, m.seasonPoints)}
}

// initialSeason returns the mean effect of each phase over the first whole
// cycles, at most three, each around its own mean and the trend between cycles.
func initialSeason(values []float64, points int) []float64 {
	if points == 0 {
		return nil
	}
	cycles := min(3, len(values)/points)
	means := make([]float64, cycles)
	for c := range means {
		means[c] = average(values[c*points : (c+1)*points])
	}
	slope := (means[cycles-1] - means[0]) / float64((cycles-1)*points)
	season := make([]float64, points)
	for i := range season {
		for c, mean := range means {
			season[i] += values[c*points+i] - mean
		}
		season[i] = season[i]/float64(cycles) - slope*(float64(i)-float64(points-1)/2)
	}
	return season
}
