package perf

import (
	"sort"

	"tidemark.dev/pkg/model"
)

// Aggregated is the performance model of an engine that prefills and decodes in
// one batch: the duration of an iteration over its prompt tokens and the KV
// tokens of the requests that decode beside them.
type Aggregated struct {
	regression
	isl     average // prompt tokens per request
	length  average // KV tokens per decoding request
	prefill average // prompt tokens of an iteration
}

// NewAggregated returns a model that has seen nothing.
func NewAggregated(settings Settings) *Aggregated {
	m := &Aggregated{regression: newRegression(2, [2]bool{})}
	m.Configure(settings)
	return m
}

// Configure changes the settings. Samples over the new limit leave.
func (m *Aggregated) Configure(settings Settings) {
	m.configure(settings)
	for _, a := range [...]*average{&m.isl, &m.length, &m.prefill} {
		a.limit = settings.MaxSamples
		a.trim()
	}
}

// Observe takes an iteration. What it does not say is left out.
func (m *Aggregated) Observe(s *model.EngineSample) {
	perRequest(&m.isl, s.Scheduled.PrefillTokens, s.Scheduled.PrefillRequests)
	perRequest(&m.length, s.Scheduled.DecodeKVTokens, s.Scheduled.DecodeRequests)
	tokens, counted := given(s.Scheduled.PrefillTokens)
	if counted {
		m.prefill.add(tokens)
	}
	if kv, known := given(s.Scheduled.DecodeKVTokens); known && counted {
		m.observe(s.WallTimeS, [2]float64{tokens, kv})
	}
}

// EstimatesTTFT says whether TTFTMs can be called: the model is ready, and
// max_num_batched_tokens is known. ITLMs needs the model alone.
func (m *Aggregated) EstimatesTTFT() bool {
	return m.settings.Engine.MaxNumBatchedTokens > 0 && m.Ready()
}

// TTFTMs returns the time to first token, in ms, of a prompt of average length
// behind queued prompt tokens, of which hit (0..1) are in the cache already,
// beside kvTokens that decode. EstimatesTTFT must hold.
func (m *Aggregated) TTFTMs(queuedTokens int, hit float64, kvTokens int) float64 {
	total := (float64(queuedTokens) + m.isl.mean()) * (1 - hit)
	return msPerS * passes(total, m.settings.Engine.MaxNumBatchedTokens, func(tokens float64) float64 { return m.wall(tokens, float64(kvTokens)) })
}

// ITLMs returns the inter-token latency, in ms, once a request of average
// length has joined kvTokens, beside the average prefill. Ready must hold.
func (m *Aggregated) ITLMs(kvTokens int) float64 {
	return msPerS * m.wall(m.prefill.mean(), float64(kvTokens)+m.length.mean())
}

// unknownKVBatch is the batch that an aggregated engine is believed to hold
// while nothing is known of its KV cache.
const unknownKVBatch = 1024

// Reach says which limits a batch of one request stays within.
type Reach struct{ TTFT, ITL bool }

// Rate returns the requests per second that one engine serves within a TTFT of
// ttftMs and an ITL of itlMs, at mean lengths of isl and osl tokens of which
// hit (0..1) of the prompt is in the cache already, and which of the limits a
// batch of one stays within; if not both, the rate is that of a batch of one.
// It is 0 while the model is not ready, max_num_batched_tokens is unknown or
// nothing is to be computed.
func (m *Aggregated) Rate(ttftMs, itlMs, isl, osl, hit float64) (float64, Reach) {
	context := isl + osl/2
	if !m.EstimatesTTFT() || !(context > 0) || !(osl >= minTokens) {
		return 0, Reach{TTFT: true, ITL: true}
	}
	budget := m.settings.Engine.MaxNumBatchedTokens
	// In a steady state each request prefills its prompt while another decodes
	// its whole output: isl tokens over osl iterations.
	try := func(batch int) (wall float64, within Reach) {
		prefill := min(float64(batch)*isl*(1-hit)/max(1, osl), float64(budget))
		kv := float64(batch) * context
		wall = m.wall(prefill, kv)
		return wall, Reach{TTFT: m.TTFTMs(whole(prefill), hit, whole(kv)) <= ttftMs, ITL: msPerS*wall <= itlMs}
	}
	wall, first := try(1)
	if !first.TTFT || !first.ITL {
		return 1 / (osl * wall), first
	}
	most := max(1, min(m.room(context), budget-1, m.balanced(isl, osl)))
	// Neither latency falls with the batch, so the batches that violate come last.
	batch := sort.Search(most, func(i int) bool {
		_, within := try(i + 1)
		return !within.TTFT || !within.ITL
	})
	wall, _ = try(batch)
	return float64(batch) / (osl * wall), first
}

// room returns the requests of a context that the KV cache and the scheduler hold.
func (m *Aggregated) room(context float64) int {
	room := unknownKVBatch
	if capacity := m.settings.Engine.MaxKVTokens; capacity > 0 {
		room = max(1, whole(float64(capacity)/context))
	}
	return atMost(room, m.settings.Engine.MaxNumSeqs)
}

// balanced returns the largest batch that leaves enough of each iteration's
// token budget for the prompts of those that follow: isl/(budget−batch) ≤ osl.
func (m *Aggregated) balanced(isl, osl float64) int {
	budget := m.settings.Engine.MaxNumBatchedTokens
	batch := whole(float64(budget) - isl/osl)
	for batch > 0 && isl/float64(budget-batch) > osl {
		batch--
	}
	return batch
}
