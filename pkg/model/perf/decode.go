package perf

import (
	"sort"

	"tidemark.dev/pkg/model"
)

// Decode is the performance model of a decode engine: the duration of an
// iteration over its requests and their KV tokens. An iteration gives each
// request one token, so its duration is the inter-token latency.
type Decode struct {
	regression
	requests average // requests of an iteration
	length   average // KV tokens per request
}

// NewDecode returns a model that has seen nothing.
func NewDecode(settings Settings) *Decode {
	// More requests of the same KV may look cheaper where the two move together.
	m := &Decode{regression: newRegression(2, [2]bool{true, false})}
	m.Configure(settings)
	return m
}

// Configure changes the settings. Samples over the new limit leave.
func (m *Decode) Configure(settings Settings) {
	m.configure(settings)
	for _, a := range [...]*average{&m.requests, &m.length} {
		a.limit = settings.MaxSamples
		a.trim()
	}
}

// Observe takes an iteration. What it does not say is left out.
func (m *Decode) Observe(s *model.EngineSample) {
	requests, counted := given(s.Scheduled.DecodeRequests)
	if counted {
		m.requests.add(requests)
	}
	perRequest(&m.length, s.Scheduled.DecodeKVTokens, s.Scheduled.DecodeRequests)
	if kv, known := given(s.Scheduled.DecodeKVTokens); known && counted {
		m.observe(s.WallTimeS, [2]float64{requests, kv})
	}
}

// ITLMs returns the inter-token latency, in ms, once a request of average
// length has joined kvTokens of scheduled and queued KV. Ready must hold.
func (m *Decode) ITLMs(kvTokens int) float64 {
	return msPerS * m.wall(m.requests.mean()+1, float64(kvTokens)+m.length.mean())
}

// unknownKVRequests is the batch that a decode engine is believed to hold while
// nothing is known of its KV cache: what engines allow by default.
const unknownKVRequests = 256

// Rate returns the requests per second that one engine serves within an ITL of
// itlMs, at mean lengths of isl and osl tokens, and whether a batch of one
// stays within it; if not, the rate is that of a batch of one. It is 0 while
// the model is not ready or nothing is to be computed.
func (m *Decode) Rate(itlMs, isl, osl float64) (rps float64, reachable bool) {
	// A request is on average half way through its output.
	context := isl + osl/2
	if !m.Ready() || !(context > 0) || !(osl >= minTokens) {
		return 0, true
	}
	wall := func(batch int) float64 { return m.wall(float64(batch), float64(batch)*context) }
	if msPerS*wall(1) > itlMs {
		return 1 / (osl * wall(1)), false
	}
	most := max(1, atMost(m.room(context), m.settings.Engine.MaxNumSeqs))
	// The duration does not fall with the batch, so the batches that are too slow come last.
	batch := sort.Search(most, func(i int) bool { return msPerS*wall(i+1) > itlMs })
	return float64(batch) / (osl * wall(batch)), true
}

// room returns the requests of a context that the KV cache holds.
func (m *Decode) room(context float64) int {
	capacity := float64(m.settings.Engine.MaxKVTokens)
	if capacity == 0 {
		capacity = m.samples.largest()
	}
	if capacity == 0 {
		return unknownKVRequests
	}
	return max(1, whole(capacity/context))
}

// atMost returns n, or the limit if it is known and smaller.
func atMost(n, limit int) int {
	if limit > 0 {
		return min(n, limit)
	}
	return n
}
