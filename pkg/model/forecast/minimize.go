package forecast

import (
	"math"

	"gonum.org/v1/gonum/diff/fd"
	"gonum.org/v1/gonum/optimize"
)

// The effort of one minimisation, in calls of the objective and of its
// gradient, which itself takes two calls of the objective per parameter. They
// bound the time of a fit, where a limit of time would make it depend on the
// machine.
const (
	maxIterations  = 80
	maxEvaluations = 200
	// gradientStep is wide against the rounding of a likelihood, and narrow
	// against the range of parameters, which is some units.
	gradientStep = 1e-4
)

// minimize searches for a minimum of f near start by BFGS with central
// differences, and returns the best point that it met and its value. It is
// false where not even the start has a finite value.
func minimize(f func(x []float64) float64, start []float64) ([]float64, float64, bool) {
	if len(start) == 0 {
		value := f(start)
		return start, value, finite(value)
	}
	if !finite(f(start)) {
		return nil, 0, false
	}
	problem := optimize.Problem{
		Func: f,
		Grad: func(gradient, x []float64) {
			fd.Gradient(gradient, f, x, &fd.Settings{Formula: fd.Central, Step: gradientStep})
		},
	}
	// An error means that the search stopped early, at a wall of infinite values
	// or where rounding hides the slope. The best point so far stands.
	result, err := optimize.Minimize(problem, start, &optimize.Settings{
		GradientThreshold: 1e-4,
		Converger:         &optimize.FunctionConverge{Absolute: 1e-7, Iterations: 2},
		MajorIterations:   maxIterations,
		FuncEvaluations:   maxEvaluations,
		GradEvaluations:   maxIterations,
	}, &optimize.BFGS{})
	if result == nil || (err != nil && !finite(result.F)) {
		return nil, 0, false
	}
	return result.X, result.F, finite(result.F)
}

// finite says that v is a number.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
