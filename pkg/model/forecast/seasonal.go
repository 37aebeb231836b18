package forecast

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

const (
	dayS  = 24 * 60 * 60
	weekS = 7 * dayS
	// harmonics is the number of sine and cosine pairs of a season: enough for
	// a peak at noon and a dip at night, too few for single intervals.
	harmonics = 4
	// maxChangepoints and changepointShare place the changes of slope as Prophet
	// does, see Taylor and Letham (2018), Forecasting at Scale: evenly over the
	// first part of the window, so that the last slope rests on some values.
	maxChangepoints  = 25
	changepointShare = 0.8
	// trendRidge and seasonRidge are the weights of squared coefficients beside
	// squared errors, with time scaled to 1 over the window. The trend's follows
	// a turn within some values, and not a single value; the season's only keeps
	// the equations regular where the season says nothing.
	trendRidge  = 0.01
	seasonRidge = 0.1
)

// seasonal forecasts by a ridge regression on the latest values: a
// piecewise-linear trend, plus Fourier terms of every season of which the
// values hold two periods. The level and the first slope are free of penalty,
// so that straight lines continue as they are.
type seasonal struct {
	window int
	// periods are those of the seasons, in values.
	periods []float64
	// design is that of the present number of values; nil before the first
	// forecast. It is a function of that number, and so no part of the state.
	design *design
}

func newSeasonal(s settings) *seasonal {
	p := &seasonal{window: s.prophetWindow(), periods: []float64{dayS / s.intervalS, weekS / s.intervalS}}
	if s.seasonS > 0 {
		p.periods = []float64{s.seasonPoints()}
	}
	return p
}

func (p *seasonal) observe(*series, float64) {}

func (p *seasonal) forecast(s *series, out []float64) verdict {
	values := s.recent.latest(p.window)
	if p.awaitsSeason(len(values)) {
		values = s.recent.latest(min(p.window, defaultProphetWindow))
	}
	if len(values) < minPoints {
		return forecastLast
	}
	if p.design == nil || p.design.points != len(values) {
		p.design = newDesign(len(values), p.periods)
	}
	if !p.design.forecast(values, out) {
		return forecastFailed
	}
	return forecastMade
}

// awaitsSeason says that a season will be fitted, and that the values do not hold
// two periods of any yet. A window that is wide for the sake of a season is too
// wide for a trend alone.
func (p *seasonal) awaitsSeason(points int) bool {
	awaits := false
	for _, period := range p.periods {
		if !fits(period, p.window) {
			continue
		}
		if fits(period, points) {
			return false
		}
		awaits = true
	}
	return awaits
}

// fits says whether so many values are enough for a season.
func fits(period float64, points int) bool { return period >= 2 && 2*period <= float64(points) }

func (p *seasonal) save(*State) {}

func (p *seasonal) load(*State, *series) error { return nil }

// design is the regression of a number of equidistant values.
type design struct {
	points       int
	changepoints []float64 // on the scale of time
	frequencies  []float64 // in cycles a value

	normal mat.Cholesky
	ok     bool
	// Room for one regression. Rows are made when they are needed: all of them
	// together are larger than everything else that a predictor keeps.
	moments, coefficients *mat.VecDense
	row                   []float64
}

func newDesign(points int, periods []float64) *design {
	d := &design{points: points}
	covered := changepointShare * float64(points-1)
	count := min(maxChangepoints, int(covered))
	for j := 1; j <= count; j++ {
		d.changepoints = append(d.changepoints, covered/float64(points-1)*float64(j)/float64(count+1))
	}
	for _, period := range periods {
		if !fits(period, points) {
			continue
		}
		for k := 1; k <= harmonics && float64(2*k) <= period; k++ {
			d.frequencies = append(d.frequencies, float64(k)/period)
		}
	}
	columns := 2 + len(d.changepoints) + 2*len(d.frequencies)
	rows := mat.NewDense(points, columns, nil)
	for t := range points {
		d.fill(rows.RawRowView(t), t)
	}
	var normal mat.SymDense
	normal.SymOuterK(1, rows.T())
	for i := 2; i < columns; i++ {
		ridge := float64(trendRidge)
		if i >= 2+len(d.changepoints) {
			ridge = seasonRidge
		}
		normal.SetSym(i, i, normal.At(i, i)+ridge)
	}
	d.ok = d.normal.Factorize(&normal)
	d.moments, d.coefficients = mat.NewVecDense(columns, nil), mat.NewVecDense(columns, nil)
	d.row = make([]float64, columns)
	return d
}

// fill writes the regressors of the value at t, counted from the first.
func (d *design) fill(row []float64, t int) {
	time := float64(t) / float64(d.points-1)
	row[0], row[1] = 1, time
	row = row[2:]
	for j, changepoint := range d.changepoints {
		row[j] = max(0, time-changepoint)
	}
	row = row[len(d.changepoints):]
	for k, frequency := range d.frequencies {
		row[2*k], row[2*k+1] = math.Sincos(2 * math.Pi * frequency * float64(t))
	}
}

// forecast writes forecasts of what follows the values, which are as many as
// the design is of. It is false where the regression has no solution.
func (d *design) forecast(values, out []float64) bool {
	if !d.ok {
		return false
	}
	center := average(values)
	moments := d.moments.RawVector().Data
	clear(moments)
	for t, v := range values {
		d.fill(d.row, t)
		floats.AddScaled(moments, v-center, d.row)
	}
	if err := d.normal.SolveVecTo(d.coefficients, d.moments); err != nil {
		return false
	}
	for i := range out {
		d.fill(d.row, d.points+i)
		out[i] = center + floats.Dot(d.row, d.coefficients.RawVector().Data)
	}
	return true
}
