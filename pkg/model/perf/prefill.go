package perf

import (
	"math"

	"tidemark.dev/pkg/model"
)

// Prefill is the performance model of a prefill engine: the duration of an
// iteration over its prompt tokens.
type Prefill struct {
	regression
	isl average // prompt tokens per request
}

// NewPrefill returns a model that has seen nothing.
func NewPrefill(settings Settings) *Prefill {
	m := &Prefill{regression: newRegression(1, [2]bool{})}
	m.Configure(settings)
	return m
}

// Configure changes the settings. Samples over the new limit leave.
func (m *Prefill) Configure(settings Settings) {
	m.configure(settings)
	m.isl.limit = settings.MaxSamples
	m.isl.trim()
}

// Observe takes an iteration. What it does not say is left out.
func (m *Prefill) Observe(s *model.EngineSample) {
	perRequest(&m.isl, s.Scheduled.PrefillTokens, s.Scheduled.PrefillRequests)
	if tokens, known := given(s.Scheduled.PrefillTokens); known {
		m.observe(s.WallTimeS, [2]float64{tokens})
	}
}

// Estimates says whether TTFTMs can be called: the model is ready, and
// max_num_batched_tokens is known.
func (m *Prefill) Estimates() bool { return m.settings.Engine.MaxNumBatchedTokens > 0 && m.Ready() }

// TTFTMs returns the time to first token, in ms, of a prompt of average length
// behind queued prompt tokens, of which hit (0..1) are in the cache already.
// Estimates must hold.
func (m *Prefill) TTFTMs(queuedTokens int, hit float64) float64 {
	total := (float64(queuedTokens) + m.isl.mean()) * (1 - hit)
	return msPerS * passes(total, m.settings.Engine.MaxNumBatchedTokens, func(tokens float64) float64 { return m.wall(tokens, 0) })
}

// Rate returns the requests per second that one engine serves at a mean prompt
// of isl tokens, and the TTFT of one of them in ms. It is 0 while the model is
// not ready or nothing is to be computed.
func (m *Prefill) Rate(isl float64) (rps, ttftMs float64) {
	if !m.Ready() || !(isl > 0) {
		return 0, 0
	}
	wall := 0.0
	if chunk := m.settings.Engine.MaxNumBatchedTokens; chunk > 0 && isl > float64(chunk) {
		before := math.Ceil(isl/float64(chunk)) - 1
		wall = float64(before*m.wall(float64(chunk), 0)) + m.wall(isl-before*float64(chunk), 0)
	} else {
		wall = m.wall(isl, 0)
	}
	return 1 / wall, msPerS * wall
}
