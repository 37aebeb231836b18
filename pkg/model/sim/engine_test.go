package sim

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark.dev/pkg/model"
)

// answer is when the first and the last token of a request came.
type answer struct{ First, Last time.Duration }

// firsts and lasts list the instants at which first and last tokens were made.
func firsts(f *Fleet) []time.Duration {
	var at []time.Duration
	for _, r := range f.traffic.firstTokens.all() {
		at = append(at, r.at)
	}
	return at
}

func lasts(f *Fleet) []time.Duration {
	var at []time.Duration
	for _, r := range f.traffic.completions.all() {
		at = append(at, r.at)
	}
	return at
}

// TestTiming holds single engines against arithmetic by hand.
func TestTiming(t *testing.T) {
	tests := []struct {
		name        string
		topology    model.Topology
		engine      func(*Engine)
		requests    []Request
		first, last []time.Duration
	}{
		{
			// 10 + 1000·0.01 = 20; then 10 + 1 + 1.001, and 10 + 1 + 1.002.
			name: "one request", topology: model.TopologyAggregated,
			requests: []Request{{0, 1000, 3}},
			first:    []time.Duration{ms(20)},
			last:     []time.Duration{ms(44.003)},
		},
		{
			name: "one token is made by the prefill", topology: model.TopologyAggregated,
			requests: []Request{{ms(5), 1000, 1}},
			first:    []time.Duration{ms(25)},
			last:     []time.Duration{ms(25)},
		},
		{
			// The second waits for the iteration that ends at 32.001. The next
			// one has its prompt and the first's third token: 10 + 1 + 1 + 1.002.
			// Then both decode: 10 + 2 + 1.003 + 0.101.
			name: "a request joins between iterations", topology: model.TopologyAggregated,
			requests: []Request{{0, 1000, 4}, {ms(25), 100, 2}},
			first:    []time.Duration{ms(20), ms(45.003)},
			last:     []time.Duration{ms(58.107), ms(58.107)},
		},
		{
			// An arrival at the end of an iteration is in time for the next.
			name: "a request joins at an end", topology: model.TopologyAggregated,
			requests: []Request{{0, 1000, 4}, {ms(32.001), 100, 2}},
			first:    []time.Duration{ms(20), ms(45.003)},
			last:     []time.Duration{ms(58.107), ms(58.107)},
		},
		{
			// Chunks of 8, 8 and 4: 10 + 0.08 + 0.064, 10 + 0.08 + 0.192 and
			// 10 + 0.04 + 0.144; the squares add up to 20².
			name: "a prompt in chunks", topology: model.TopologyPrefill,
			engine:   func(e *Engine) { e.MaxNumBatchedTokens, e.MaxNumSeqs, e.Timing.PerPrefillTokenSquaredS = 8, 8, 1e-6 },
			requests: []Request{{0, 20, 7}},
			first:    []time.Duration{ms(30.6)},
			last:     []time.Duration{ms(30.6)},
		},
		{
			// The first iteration has the first prompt alone. The second takes
			// the second whole and 3 tokens of the third, 10.08; the third the
			// rest, 10.03.
			name: "prompts share an iteration", topology: model.TopologyPrefill,
			engine:   func(e *Engine) { e.MaxNumBatchedTokens, e.MaxNumSeqs = 8, 8 },
			requests: []Request{{0, 8, 7}, {0, 5, 7}, {0, 6, 7}},
			first:    []time.Duration{ms(10.08), ms(20.16), ms(30.19)},
			last:     []time.Duration{ms(10.08), ms(20.16), ms(30.19)},
		},
		{
			// One decoding sequence leaves one token of two for the prompt: the
			// first's tokens come at 10.02, then with chunks of one prompt token.
			// 10 + 1 + 0.003 + 0.01 = 11.013 → 21.033 (first's second token, its last),
			// and then 2 tokens in an iteration: 10.02 → 31.053.
			name: "decoding comes before prompts", topology: model.TopologyAggregated,
			engine:   func(e *Engine) { e.MaxNumBatchedTokens, e.MaxNumSeqs = 2, 2 },
			requests: []Request{{0, 2, 2}, {0, 3, 1}},
			first:    []time.Duration{ms(10.02), ms(31.053)},
			last:     []time.Duration{ms(21.033), ms(31.053)},
		},
		{
			// 10.1, then 11.101 to the second token of the first; only then the second.
			name: "sequences are bounded", topology: model.TopologyAggregated,
			engine:   func(e *Engine) { e.MaxNumSeqs = 1 },
			requests: []Request{{0, 10, 2}, {0, 10, 1}},
			first:    []time.Duration{ms(10.1), ms(31.211)},
			last:     []time.Duration{ms(21.111), ms(31.211)},
		},
		{
			// The first takes 101 of 150 tokens. The second needs 60 and waits for
			// them; the third would fit, but comes after it.
			name: "the head of the queue waits for KV cache", topology: model.TopologyAggregated,
			engine:   func(e *Engine) { e.MaxKVTokens = 150 },
			requests: []Request{{0, 100, 2}, {ms(1), 60, 1}, {ms(2), 10, 1}},
			first:    []time.Duration{ms(11), ms(32.801), ms(32.801)}, // 11 + 11.101 + 10.7
			last:     []time.Duration{ms(22.101), ms(32.801), ms(32.801)},
		},
		{
			// Prefill elsewhere: 10 + 1 + 0.101, 10 + 1 + 0.102.
			name: "decode alone", topology: model.TopologyDecode,
			requests: []Request{{ms(3), 100, 3}, {ms(4), 100, 1}},
			last:     []time.Duration{ms(4), ms(25.203)},
		},
		{
			// Prefills one after the other, 11 each: the prefill engine does not
			// decode. The first decodes from 11: 11.101 to 22.101. The second comes at 22,
			// and joins at 22.101: 10 + 2 + 0.102 + 0.101 = 12.203 → 34.304.
			name: "disaggregated", topology: model.TopologyDisaggregated,
			requests: []Request{{0, 100, 3}, {ms(1), 100, 2}},
			first:    []time.Duration{ms(11), ms(22)},
			last:     []time.Duration{ms(34.304), ms(34.304)},
		},
		{
			// The third prompt ends at 34.304, with the first's last token. It is
			// handed over before the decode engine goes on: 10 + 2 + 0.102 + 0.101.
			name: "handed over at an end", topology: model.TopologyDisaggregated,
			requests: []Request{{0, 100, 3}, {0, 100, 5}, {ms(23.304), 100, 2}},
			first:    []time.Duration{ms(11), ms(22), ms(34.304)},
			last:     []time.Duration{ms(34.304), ms(46.507), ms(68.714)},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			engine := plainEngine()
			if test.engine != nil {
				test.engine(&engine)
			}
			f := newFleet(t, fleetOf(test.topology, RoleConfig{Replicas: 1, Engine: engine}), test.requests...)
			advance(t, f, time.Second)
			if !f.Done() {
				t.Errorf("not done: %+v", f.Totals())
			}
			if diff := gocmp.Diff(test.first, firsts(f)); diff != "" {
				t.Errorf("first tokens (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(test.last, lasts(f)); diff != "" {
				t.Errorf("last tokens (-want +got):\n%s", diff)
			}
		})
	}
}

// naive is one aggregated engine, simulated iteration by iteration and token
// by token, by the rules of the package comment.
func naive(e Engine, list []Request) []answer {
	type running struct{ request, computed, made int }
	var batch []running
	var queue []int
	answers := make([]answer, len(list))
	cost := e.Timing.picoseconds()
	now, next, reserved := time.Duration(0), 0, 0
	for next < len(list) || len(batch)+len(queue) > 0 {
		if len(batch)+len(queue) == 0 {
			now = max(now, list[next].At)
			queue = append(queue, next) // wakes the engine
			next++
		}
		budget := e.MaxNumBatchedTokens
		for _, s := range batch {
			if s.made > 0 {
				budget--
			}
		}
		ps, chunks := cost.base, make([]int, len(batch), e.MaxNumSeqs)
		for i, s := range batch {
			if s.made > 0 {
				ps += cost.sequence + cost.kvToken*int64(list[s.request].ISL+s.made)
			} else {
				chunks[i] = min(budget, list[s.request].ISL-s.computed)
				budget -= chunks[i]
			}
		}
		for len(queue) > 0 && len(batch) < e.MaxNumSeqs && budget > 0 {
			r := list[queue[0]]
			if need := r.ISL + r.OSL - 1; reserved+need <= e.MaxKVTokens {
				reserved += need
			} else {
				break
			}
			chunk := min(budget, r.ISL)
			budget -= chunk
			batch, chunks, queue = append(batch, running{request: queue[0]}), append(chunks, chunk), queue[1:]
		}
		for i, s := range batch {
			from, to := int64(s.computed), int64(s.computed+chunks[i])
			ps += cost.prefillToken*(to-from) + cost.prefillTokenSquared*(to*to-from*from)
		}
		now += time.Duration(ps / picosecondsPerNanosecond)
		left := batch[:0]
		for i, s := range batch {
			r := list[s.request]
			if s.computed += chunks[i]; s.computed == r.ISL {
				if s.made++; s.made == 1 {
					answers[s.request].First = now
				}
			}
			if s.made < r.OSL {
				left = append(left, s)
				continue
			}
			answers[s.request].Last = now
			reserved -= r.ISL + r.OSL - 1
		}
		batch = left
		for next < len(list) && list[next].At <= now {
			queue = append(queue, next)
			next++
		}
	}
	return answers
}

// TestTokenByToken holds the closed form against the naive simulation, on
// costs of whole nanoseconds, on which both are exact.
func TestTokenByToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seqs := rapid.IntRange(1, 6).Draw(t, "max_num_seqs")
		engine := Engine{
			MaxNumSeqs:          seqs,
			MaxNumBatchedTokens: seqs + rapid.IntRange(0, 40).Draw(t, "more batched tokens"),
			MaxKVTokens:         rapid.IntRange(100, 400).Draw(t, "max_kv_tokens"),
			Timing: Timing{
				BaseS:                   float64(rapid.IntRange(1000, 20_000).Draw(t, "base")) * 1e-9,
				PerPrefillTokenS:        float64(rapid.IntRange(0, 100).Draw(t, "per prefill token")) * 1e-9,
				PerPrefillTokenSquaredS: float64(rapid.IntRange(0, 10).Draw(t, "per squared token")) * 1e-9,
				PerSequenceS:            float64(rapid.IntRange(0, 1000).Draw(t, "per sequence")) * 1e-9,
				PerKVTokenS:             float64(rapid.IntRange(0, 10).Draw(t, "per KV token")) * 1e-9,
			},
		}
		list := drawRequests(t, 40, 20*time.Microsecond, 60, 40)
		f, err := New(fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 1, Engine: engine}), NewRequests(list))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Advance(time.Second); err != nil {
			t.Fatal(err)
		}
		// Each token by its instant and by how long after the arrival it came.
		type token struct{ At, After time.Duration }
		var want, got struct{ First, Last []token }
		for i, a := range naive(engine, list) {
			want.First = append(want.First, token{a.First, a.First - list[i].At})
			want.Last = append(want.Last, token{a.Last, a.Last - list[i].At})
		}
		for _, r := range f.traffic.firstTokens.all() {
			got.First = append(got.First, token{r.at, r.ttft})
		}
		for _, r := range f.traffic.completions.all() {
			got.Last = append(got.Last, token{r.at, r.duration})
		}
		for _, tokens := range [...][]token{want.First, want.Last, got.First, got.Last} {
			slices.SortFunc(tokens, func(a, b token) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.After, b.After)) })
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("tokens (-want +got):\n%s", diff)
		}
	})
}

// drawRequests draws a workload in which arrivals are near each other.
func drawRequests(t *rapid.T, most int, gap time.Duration, maxISL, maxOSL int) []Request {
	at := time.Duration(0)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Request {
		at += time.Duration(rapid.Int64Range(0, int64(gap)).Draw(t, "gap"))
		return Request{
			At:  at,
			ISL: rapid.IntRange(1, maxISL).Draw(t, "isl"),
			OSL: rapid.IntRange(1, maxOSL).Draw(t, "osl"),
		}
	}), 1, most).Draw(t, "requests")
}

// TestLongOutput holds outputs longer than a run of iterations against the sum
// that their tokens take, also where that is as long as can be.
func TestLongOutput(t *testing.T) {
	for _, base := range []time.Duration{ms(10), 900 * time.Second} {
		t.Run(base.String(), func(t *testing.T) {
			const isl, osl = 1000, 5*maxRun + 5
			engine := plainEngine()
			engine.Timing.BaseS = base.Seconds()
			config := fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 1, Engine: engine})
			config.TrafficWindow = maxAt
			f := newFleet(t, config, Request{0, isl, osl})
			advance(t, f, maxAt)
			want := base + ms(10)
			for token := 1; token < osl; token++ {
				want += base + ms(1) + time.Duration(isl+token)*time.Microsecond
			}
			if diff := gocmp.Diff([]time.Duration{want}, lasts(f)); diff != "" {
				t.Errorf("last token (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRunCompletedAndCut(t *testing.T) {
	// Iterations of 3, 5, 7 and 9 ns end at 3, 8, 15 and 24 ns after 100.
	r := run{start: 100, iterations: 4, fixed: 1000, growth: 2000}
	for _, test := range []struct {
		now       time.Duration
		completed int
		cut       int
	}{
		{100, 0, 1}, {102, 0, 1}, {103, 1, 1}, {104, 1, 2}, {108, 2, 2}, {109, 2, 3}, {115, 3, 3}, {116, 3, 4}, {123, 3, 4},
	} {
		t.Run(fmt.Sprint(int64(test.now)), func(t *testing.T) {
			if got := r.completed(test.now); got != test.completed {
				t.Errorf("completed %d, want %d", got, test.completed)
			}
			shorter := r
			if shorter.cut(test.now); shorter.iterations != test.cut {
				t.Errorf("cut to %d, want %d", shorter.iterations, test.cut)
			}
		})
	}
}

// TestRunRounds shows that an end is rounded by itself: errors do not add up.
func TestRunRounds(t *testing.T) {
	r := run{iterations: 4, fixed: 1600}
	for j, want := range []time.Duration{0, 2, 3, 5, 6} {
		if got := r.after(j); got != want {
			t.Errorf("iteration %d ends after %d ns, want %d ns", j, got, want)
		}
	}
}
