package forecast

import "fmt"

// initialVariance is that of level and trend after the first value.
const initialVariance = 1000

// trendFilter is the Kalman filter of a local linear trend:
//
//	level' = level + trend + noise(qLevel)
//	trend' = trend + noise(qTrend)
//	value  = level + noise(r)
//
// Its state is that after the last update. A forecast is the prediction that
// the next update will use, so making one leaves no trace.
//
// Products are converted before they are added: no CPU may fuse the two, and
// the filter gives equal bits on all.
type trendFilter struct {
	qLevel, qTrend, r float64
	minPoints         int

	points       int
	level, trend float64
	// The covariance of level and trend.
	varLevel, cov, varTrend float64
}

func newTrendFilter(s settings) *trendFilter {
	return &trendFilter{qLevel: s.qLevel, qTrend: s.qTrend, r: s.r, minPoints: s.minPoints}
}

func (f *trendFilter) observe(_ *series, z float64) {
	f.points++
	if f.points == 1 {
		f.level, f.varLevel, f.varTrend = z, initialVariance, initialVariance
		return
	}
	level := f.level + f.trend
	varLevel := f.varLevel + 2*f.cov + f.varTrend + f.qLevel
	cov := f.cov + f.varTrend
	varTrend := f.varTrend + f.qTrend

	variance := varLevel + f.r
	gainLevel, gainTrend := varLevel/variance, cov/variance
	innovation := z - level
	f.level = level + float64(gainLevel*innovation)
	f.trend += float64(gainTrend * innovation)
	f.varLevel = varLevel - float64(gainLevel*varLevel)
	f.varTrend = varTrend - float64(gainTrend*cov)
	f.cov = cov - float64(gainLevel*cov)
}

func (f *trendFilter) forecast(_ *series, out []float64) verdict {
	if f.points < f.minPoints {
		return forecastLast
	}
	for i := range out {
		out[i] = f.level + float64(float64(i+1)*f.trend)
	}
	return forecastMade
}

// TrendState is the state of a Kalman filter after its last update, in JSON.
type TrendState struct {
	Points   int     `json:"points"`
	Level    float64 `json:"level"`
	Trend    float64 `json:"trend"`
	VarLevel float64 `json:"var_level"`
	Cov      float64 `json:"cov"`
	VarTrend float64 `json:"var_trend"`
}

func (f *trendFilter) save(to *State) {
	if f.points == 0 {
		return
	}
	to.Kalman = &TrendState{Points: f.points, Level: f.level, Trend: f.trend, VarLevel: f.varLevel, Cov: f.cov, VarTrend: f.varTrend}
}

func (f *trendFilter) load(from *State, s *series) error {
	t := from.Kalman
	if t == nil {
		if s.seen {
			return fmt.Errorf("the filter is missing")
		}
		return nil
	}
	if !s.seen || t.Points < 1 {
		return fmt.Errorf("the filter has %d points, and seen is %v", t.Points, s.seen)
	}
	for _, v := range [...]float64{t.Level, t.Trend, t.VarLevel, t.Cov, t.VarTrend} {
		if !bounded(v) {
			return fmt.Errorf("the filter holds %v", v)
		}
	}
	f.points, f.level, f.trend = t.Points, t.Level, t.Trend
	f.varLevel, f.cov, f.varTrend = t.VarLevel, t.Cov, t.VarTrend
	return nil
}
