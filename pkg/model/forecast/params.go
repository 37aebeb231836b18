package forecast

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"tidemark.dev/pkg/model"
)

// The defaults of the parameters.
const (
	defaultQLevel     = 1.0
	defaultQTrend     = 0.1
	defaultR          = 10.0
	defaultRefitEvery = 12
	// defaultWindow is what ARIMA and Holt-Winters are fitted to: enough to tell
	// orders apart, and the length up to which Hyndman and Khandakar's own search
	// does without approximations.
	defaultWindow = 150
	// defaultProphetWindow keeps the trend local.
	defaultProphetWindow = 50
	// minWindow is two values for each parameter of a smoothing; maxWindow bounds
	// the state, and the time that a fit takes.
	minWindow = 10
	maxWindow = 4096
	// maxRefitEvery bounds what is kept beyond the window.
	maxRefitEvery = 1000
)

// Params are the parameters of a predictor. Those left out have defaults:
// q_level 1, q_trend 0.1, r 10 and min_points 5 for kalman; a window of 50
// values for prophet, of 150 for arima, and of 150 or three seasons for holt-winters;
// a model fitted anew after refit_every 12 values, and earlier while the series
// is young; no season_s.
type Params struct {
	// Log1p models the logarithm of 1 + value instead of the value.
	Log1p bool
	model.PredictorParams
}

// parameter is what is known of one of Params.
type parameter struct {
	key   string
	kinds []Kind // Auto has them all
	given func(p *Params) bool
	clear func(p *Params)
	parse func(p *Params, text string) error
	check func(p *Params) string // what is wrong with a given value, or ""
}

// parameters lists every parameter, in the order in which messages name them.
var parameters = []parameter{
	{
		key: "log1p", kinds: Kinds(),
		given: func(p *Params) bool { return p.Log1p },
		clear: func(p *Params) { p.Log1p = false },
		parse: func(p *Params, text string) (err error) { p.Log1p, err = strconv.ParseBool(text); return err },
		check: func(*Params) string { return "" },
	},
	number("q_level", func(p *Params) **float64 { return &p.QLevel }, atLeastZero, Kalman),
	number("q_trend", func(p *Params) **float64 { return &p.QTrend }, atLeastZero, Kalman),
	number("r", func(p *Params) **float64 { return &p.R }, positive, Kalman),
	count("min_points", func(p *Params) **int { return &p.MinPoints }, 1, math.MaxInt32, Kalman),
	number("season_s", func(p *Params) **float64 { return &p.SeasonS }, positive, Prophet, HoltWinters),
	count("window", func(p *Params) **int { return &p.Window }, minWindow, maxWindow, ARIMA, Prophet, HoltWinters),
	count("refit_every", func(p *Params) **int { return &p.RefitEvery }, 1, maxRefitEvery, ARIMA, HoltWinters),
}

func number(key string, field func(*Params) **float64, check func(float64) string, kinds ...Kind) parameter {
	return parameter{
		key: key, kinds: kinds,
		given: func(p *Params) bool { return *field(p) != nil },
		clear: func(p *Params) { *field(p) = nil },
		parse: func(p *Params, text string) error {
			v, err := strconv.ParseFloat(text, 64)
			*field(p) = &v
			return err
		},
		check: func(p *Params) string { return check(**field(p)) },
	}
}

func atLeastZero(v float64) string {
	if v >= 0 && v <= maxMagnitude {
		return ""
	}
	return "want a number of at least 0"
}

func positive(v float64) string {
	if v > 0 && v <= maxMagnitude {
		return ""
	}
	return "want a number over 0"
}

func count(key string, field func(*Params) **int, least, most int, kinds ...Kind) parameter {
	return parameter{
		key: key, kinds: kinds,
		given: func(p *Params) bool { return *field(p) != nil },
		clear: func(p *Params) { *field(p) = nil },
		parse: func(p *Params, text string) error {
			v, err := strconv.Atoi(text)
			*field(p) = &v
			return err
		},
		check: func(p *Params) string {
			if v := **field(p); v < least || v > most {
				return fmt.Sprintf("want a whole number from %d to %d", least, most)
			}
			return ""
		},
	}
}

func (q *parameter) appliesTo(kind Kind) bool { return kind == Auto || slices.Contains(q.kinds, kind) }

// allowed names the parameters that apply to a kind.
func allowed(kind Kind) string {
	var keys []string
	for i := range parameters {
		if parameters[i].appliesTo(kind) {
			keys = append(keys, parameters[i].key)
		}
	}
	return strings.Join(keys, ", ")
}

// ParseKind returns the kind that a name stands for.
func ParseKind(name string) (Kind, error) {
	if slices.Contains(Kinds(), Kind(name)) {
		return Kind(name), nil
	}
	names := make([]string, len(Kinds()))
	for i, k := range Kinds() {
		names[i] = string(k)
	}
	return "", fmt.Errorf("predictor %q is unknown, want one of %s", name, strings.Join(names, ", "))
}

// ParseParams reads parameters of the form KEY=VALUE. A key that does not apply
// to the kind, or comes twice, is an error that names what is allowed.
func ParseParams(kind Kind, pairs []string) (Params, error) {
	var params Params
	var problems []error
	seen := make([]bool, len(parameters))
	for _, pair := range pairs {
		key, text, found := strings.Cut(pair, "=")
		i := slices.IndexFunc(parameters, func(q parameter) bool { return q.key == key })
		switch {
		case !found:
			problems = append(problems, fmt.Errorf("parameter %q has no value, want KEY=VALUE", pair))
		case i < 0 || !parameters[i].appliesTo(kind):
			problems = append(problems, fmt.Errorf("parameter %q does not apply to predictor %s, which takes %s", key, kind, allowed(kind)))
		case seen[i]:
			problems = append(problems, fmt.Errorf("parameter %s is given twice", key))
		default:
			seen[i] = true
			if err := parameters[i].parse(&params, text); err != nil {
				parameters[i].clear(&params)
				problems = append(problems, fmt.Errorf("read parameter %s: %w", key, err))
			}
		}
	}
	if err := errors.Join(problems...); err != nil {
		return Params{}, err
	}
	return params, nil
}

// For returns the parameters of p that apply to the kind.
func (p Params) For(kind Kind) Params {
	for i := range parameters {
		if !parameters[i].appliesTo(kind) {
			parameters[i].clear(&p)
		}
	}
	return p
}

// Check returns every problem that New would have with the parameters, joined.
func (p Params) Check(kind Kind, intervalS float64) error {
	_, err := p.settings(kind, intervalS)
	return err
}

// settings are the parameters with their defaults filled in.
type settings struct {
	qLevel, qTrend, r float64
	minPoints         int
	// seasonS is 0 where there is no season of the user's own.
	seasonS, intervalS float64
	// window is 0 where the kind's default holds.
	window     int
	refitEvery int
}

func (p Params) settings(kind Kind, intervalS float64) (settings, error) {
	if _, err := ParseKind(string(kind)); err != nil {
		return settings{}, err
	}
	var problems []error
	if !(intervalS > 0) || math.IsInf(intervalS, 0) {
		problems = append(problems, fmt.Errorf("interval_s is %v, want more than 0", intervalS))
	}
	for i := range parameters {
		switch q := &parameters[i]; {
		case !q.given(&p):
		case !q.appliesTo(kind):
			problems = append(problems, fmt.Errorf("parameter %q does not apply to predictor %s, which takes %s", q.key, kind, allowed(kind)))
		default:
			if wrong := q.check(&p); wrong != "" {
				problems = append(problems, fmt.Errorf("parameter %s is out of range: %s", q.key, wrong))
			}
		}
	}
	s := settings{
		qLevel: orDefault(p.QLevel, defaultQLevel), qTrend: orDefault(p.QTrend, defaultQTrend), r: orDefault(p.R, defaultR),
		minPoints: orDefault(p.MinPoints, minPoints), seasonS: orDefault(p.SeasonS, 0), intervalS: intervalS,
		window: orDefault(p.Window, 0), refitEvery: orDefault(p.RefitEvery, defaultRefitEvery),
	}
	if len(problems) == 0 {
		if wrong := s.checkSeason(kind); wrong != nil {
			problems = append(problems, wrong)
		}
	}
	return s, errors.Join(problems...)
}

func orDefault[T any](given *T, value T) T {
	if given != nil {
		return *given
	}
	return value
}

// seasonPoints returns the length of the season in values; 0 without one.
func (s settings) seasonPoints() float64 { return s.seasonS / s.intervalS }

// limit returns the number of values that a fit of the kind looks back on.
func (s settings) limit(kind Kind) int {
	switch kind {
	case Constant, Kalman:
		return 0
	case Prophet:
		return s.prophetWindow()
	case ARIMA:
		return s.arimaWindow()
	case HoltWinters:
		return s.holtWintersWindow()
	}
	return max(s.prophetWindow(), s.arimaWindow(), s.holtWintersWindow())
}

func (s settings) prophetWindow() int { return s.windowOr(max(defaultProphetWindow, s.seasons(3))) }

func (s settings) arimaWindow() int { return s.windowOr(defaultWindow) }

func (s settings) holtWintersWindow() int { return s.windowOr(max(defaultWindow, s.seasons(3))) }

func (s settings) windowOr(value int) int {
	if s.window > 0 {
		return s.window
	}
	return min(value, maxWindow)
}

// seasons returns the number of values in n seasons of the user's own.
func (s settings) seasons(n float64) int { return int(math.Ceil(min(n*s.seasonPoints(), maxWindow))) }

// checkSeason sees to it that a season that is asked for can be fitted.
func (s settings) checkSeason(kind Kind) error {
	if s.seasonS == 0 {
		return nil
	}
	window := s.limit(kind)
	if kind == Auto {
		window = min(s.prophetWindow(), s.holtWintersWindow())
	}
	switch points := s.seasonPoints(); {
	case points < 2:
		return fmt.Errorf("parameter season_s is %v, less than two intervals of %v s", s.seasonS, s.intervalS)
	case 2*points > float64(window):
		return fmt.Errorf("parameter season_s is %v, and the window of %d intervals of %v s does not hold two seasons; raise window (at most %d) or interval_s", s.seasonS, window, s.intervalS, maxWindow)
	}
	return nil
}
