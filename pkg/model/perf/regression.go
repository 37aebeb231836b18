package perf

import (
	"math"

	"tidemark.dev/pkg/model"
)

// Settings shape the models of a role.
type Settings struct {
	// MinObservations is the number of samples that a fit needs.
	MinObservations int
	// MaxSamples bounds the samples, and the window of the averages; Buckets, a
	// perfect square, is the number of cells over which they are kept spread.
	MaxSamples, Buckets int
	// Engine holds the limits of one engine; one that is 0 is unknown.
	Engine model.Engine
}

// regression is what the models share: samples, and the line fitted to them.
// The line is a function of the samples alone; it is made when it is asked for.
type regression struct {
	settings  Settings
	clippable [2]bool
	samples   samples

	fresh  bool // line and fitted are those of the samples
	line   line
	fitted bool
}

func newRegression(axes int, clippable [2]bool) regression {
	return regression{clippable: clippable, samples: samples{axes: axes}}
}

// configure sets the settings. Samples that no longer fit in leave.
func (r *regression) configure(settings Settings) {
	if r.settings == settings {
		return
	}
	r.settings = settings
	r.samples.shape(partsOf(settings.Buckets, r.samples.axes), settings.MaxSamples)
	r.fresh = false
}

// observe stores an iteration. One that took no time is the heartbeat of an
// idle engine, and says nothing of how long work takes.
func (r *regression) observe(wallS *float64, x [2]float64) {
	if wallS == nil || *wallS == 0 {
		return
	}
	r.samples.add(x, *wallS)
	r.fresh = false
}

// Ready says whether predictions can be made: there are enough samples, and
// the line through them is not absurd.
func (r *regression) Ready() bool {
	if !r.fresh {
		r.line, r.fitted = line{}, false
		if len(r.samples.kept) >= r.settings.MinObservations {
			r.line, r.fitted = fit(r.samples.kept, r.samples.axes, r.clippable)
		}
		r.fresh = true
	}
	return r.fitted
}

// wall returns the predicted duration of an iteration in seconds. Ready must hold.
func (r *regression) wall(x0, x1 float64) float64 {
	r.Ready()
	return r.line.at(x0, x1)
}

// msPerS converts seconds to milliseconds.
const msPerS = 1000

// passes returns the duration in seconds of a prompt of total tokens that is
// cut into chunks of at most chunk tokens, each one iteration.
func passes(total float64, chunk int, wall func(tokens float64) float64) float64 {
	if total <= 0 {
		return 0
	}
	full := math.Floor(total / float64(chunk))
	sum := 0.0
	if full > 0 {
		sum = full * wall(float64(chunk))
	}
	if rest := total - float64(full*float64(chunk)); rest > 0 {
		sum += wall(rest)
	}
	return sum
}

// minTokens is the mean length under which there is no output to speak of; a
// forecast that fades towards 0 passes it.
const minTokens = 1e-6

// whole truncates a count that is not negative to an integer; beyond 2^53, where
// floats have no fractions, it says 2^53.
func whole(count float64) int { return int(min(max(count, 0), 1<<53)) }

// given returns the value of an optional count.
func given(n *int) (float64, bool) {
	if n == nil {
		return 0, false
	}
	return float64(*n), true
}

// perRequest adds tokens per request to an average, if both are known and there
// are requests.
func perRequest(to *average, tokens, requests *int) {
	t, known := given(tokens)
	if r, counted := given(requests); known && counted && r > 0 {
		to.add(t / r)
	}
}
