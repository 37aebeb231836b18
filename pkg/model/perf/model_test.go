package perf

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tidemark.dev/pkg/model"
)

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-9*math.Max(1, math.Abs(want)) }

// prefillOf returns a prefill engine that takes 2 ms and 1 ms a token.
func prefillOf(chunk int) *Prefill {
	m := NewPrefill(Settings{MinObservations: 5, MaxSamples: 64, Buckets: 16, Engine: model.Engine{MaxNumBatchedTokens: chunk}})
	for tokens := 500; tokens <= 2500; tokens += 500 {
		m.Observe(sampleOfLoad(model.Prefill, 0.002+0.001*float64(tokens), 1, tokens, 0, 0))
	}
	return m
}

func TestPrefill(t *testing.T) {
	m := prefillOf(2048)
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"empty queue: one average prompt", m.TTFTMs(0, 0), 1502},
		{"2100 tokens in two passes", m.TTFTMs(600, 0), 2104},
		{"half of them cached", m.TTFTMs(600, 0.5), 1052},
		{"all of them cached", m.TTFTMs(600, 1), 0},
	} {
		if !near(c.got, c.want) {
			t.Errorf("%s: TTFT %v ms, want %v", c.what, c.got, c.want)
		}
	}
	for _, c := range []struct{ isl, wallS float64 }{{1000, 1.002}, {2048, 2.05}, {4096, 4.1}, {5000, 5.006}} {
		rps, ttftMs := m.Rate(c.isl)
		if !near(rps, 1/c.wallS) || !near(ttftMs, 1000*c.wallS) {
			t.Errorf("isl %v: %v requests/s and %v ms, want %v and %v", c.isl, rps, ttftMs, 1/c.wallS, 1000*c.wallS)
		}
	}
	if rps, _ := m.Rate(0); rps != 0 {
		t.Errorf("rate of nothing is %v, want 0: there is no model of it", rps)
	}
	if unbatched := prefillOf(0); unbatched.Estimates() {
		t.Error("without max_num_batched_tokens there is no TTFT behind a queue")
	} else if _, ttftMs := unbatched.Rate(5000); !near(ttftMs, 5002) {
		t.Errorf("without it a prompt is one pass: %v ms, want 5002", ttftMs)
	}
}

func TestModelsNeedEnoughSamples(t *testing.T) {
	m := NewPrefill(Settings{MinObservations: 2, MaxSamples: 8, Buckets: 4, Engine: model.Engine{MaxNumBatchedTokens: 2048}})
	m.Observe(sampleOfLoad(model.Prefill, 0.5, 1, 500, 0, 0))
	m.Observe(sampleOfLoad(model.Prefill, 0, 1, 900, 0, 0)) // a heartbeat is no sample
	unknown := sampleOfLoad(model.Prefill, 0.9, 1, 900, 0, 0)
	unknown.Scheduled.PrefillTokens = nil
	m.Observe(unknown)
	if m.Ready() {
		t.Error("ready with one sample of two")
	}
	if rps, _ := m.Rate(1000); rps != 0 {
		t.Errorf("rate %v, want 0", rps)
	}
	m.Observe(sampleOfLoad(model.Prefill, 0.9, 1, 900, 0, 0))
	if !m.Ready() {
		t.Error("not ready with two samples")
	}
}

// decodeOf returns a decode engine that takes 10 ms, 0.1 ms a request and 1 µs
// a KV token.
func decodeOf(engine model.Engine) *Decode {
	m := NewDecode(Settings{MinObservations: 4, MaxSamples: 64, Buckets: 16, Engine: engine})
	for _, x := range [][2]int{{1, 1000}, {10, 5000}, {20, 50_000}, {40, 20_000}, {60, 90_000}} {
		m.Observe(sampleOfLoad(model.Decode, 0.01+0.0001*float64(x[0])+1e-6*float64(x[1]), 0, 0, x[0], x[1]))
	}
	return m
}

func TestDecodeRate(t *testing.T) {
	for _, c := range []struct {
		name          string
		engine        model.Engine
		itlMs         float64
		wantBatch     int
		wantReachable bool
	}{
		// A request of 1000 and 100 tokens holds 1050: 10 + 0.1 b + 1.05 b ms.
		{"limited by the SLA", model.Engine{MaxKVTokens: 1_000_000}, 50, 34, true},
		{"limited by the KV cache", model.Engine{MaxKVTokens: 10_500}, 50, 10, true},
		{"limited by max_num_seqs", model.Engine{MaxKVTokens: 1_000_000, MaxNumSeqs: 8}, 50, 8, true},
		{"limited by the largest KV that was seen", model.Engine{}, 500, 85, true},
		{"at least one request", model.Engine{MaxKVTokens: 100}, 50, 1, true},
		{"out of reach", model.Engine{MaxKVTokens: 1_000_000}, 11, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rps, reachable := decodeOf(c.engine).Rate(c.itlMs, 1000, 100)
			wallS := 0.01 + 0.00115*float64(c.wantBatch)
			if want := float64(c.wantBatch) / (100 * wallS); !near(rps, want) || reachable != c.wantReachable {
				t.Errorf("%v requests/s, reachable %v; want %v (a batch of %d), %v", rps, reachable, want, c.wantBatch, c.wantReachable)
			}
		})
	}
}

// aggregatedOf returns an aggregated engine that takes 5 ms, 0.1 ms a prompt
// token and 1 µs a KV token; its prompts have 500 tokens.
func aggregatedOf(engine model.Engine) *Aggregated {
	m := NewAggregated(Settings{MinObservations: 4, MaxSamples: 64, Buckets: 16, Engine: engine})
	for _, x := range [][2]int{{500, 1000}, {1000, 30_000}, {1500, 5000}, {500, 60_000}} {
		m.Observe(sampleOfLoad(model.Aggregated, 0.005+0.0001*float64(x[0])+1e-6*float64(x[1]), x[0]/500, x[0], 10, x[1]))
	}
	return m
}

// TestAggregatedRateIsTheLastBatchWithinTheSLA walks the batches one by one.
func TestAggregatedRateIsTheLastBatchWithinTheSLA(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		engine := model.Engine{
			MaxNumBatchedTokens: rapid.IntRange(2, 3000).Draw(t, "max_num_batched_tokens"),
			MaxNumSeqs:          rapid.IntRange(0, 300).Draw(t, "max_num_seqs"),
			MaxKVTokens:         rapid.IntRange(0, 400_000).Draw(t, "max_kv_tokens"),
		}
		m := aggregatedOf(engine)
		isl, osl := float64(rapid.IntRange(1, 4000).Draw(t, "isl")), float64(rapid.IntRange(1, 800).Draw(t, "osl"))
		hit := float64(rapid.IntRange(0, 95).Draw(t, "hit")) / 100
		ttftMs, itlMs := float64(rapid.IntRange(1, 900).Draw(t, "ttft")), float64(rapid.IntRange(1, 200).Draw(t, "itl"))
		got, reach := m.Rate(ttftMs, itlMs, isl, osl, hit)

		context, budget := isl+osl/2, float64(engine.MaxNumBatchedTokens)
		cap := 1024
		if engine.MaxKVTokens > 0 {
			cap = max(1, int(float64(engine.MaxKVTokens)/context))
		}
		if engine.MaxNumSeqs > 0 {
			cap = min(cap, engine.MaxNumSeqs)
		}
		cap = min(cap, engine.MaxNumBatchedTokens-1)
		for cap > 1 && isl/(budget-float64(cap)) > osl {
			cap--
		}
		want, first := 0.0, Reach{}
		for batch := 1; batch <= max(cap, 1); batch++ {
			b := float64(batch)
			prefill := math.Min(b*isl*(1-hit)/math.Max(1, osl), budget)
			wallS := m.line.at(prefill, b*context)
			within := Reach{TTFT: m.TTFTMs(int(prefill), hit, int(b*context)) <= ttftMs, ITL: 1000*wallS <= itlMs}
			if batch == 1 {
				want, first = 1/(osl*wallS), within
			}
			if !within.TTFT || !within.ITL {
				break
			}
			want = b / (osl * wallS)
		}
		if !near(got, want) || reach != first {
			t.Fatalf("%v requests/s, reach %+v; want %v, %+v", got, reach, want, first)
		}
	})
}

func TestAggregatedEstimates(t *testing.T) {
	m := aggregatedOf(model.Engine{MaxNumBatchedTokens: 2048})
	// 2500 tokens in two passes, each beside 10,000 KV tokens.
	if got, want := m.TTFTMs(2000, 0, 10_000), 2*(5+10)+250.0; !near(got, want) {
		t.Errorf("TTFT %v ms, want %v", got, want)
	}
	// The average iteration prefills 875 tokens, the average request holds 2400.
	if got, want := m.ITLMs(10_000), 5+87.5+12.4; !near(got, want) {
		t.Errorf("ITL %v ms, want %v", got, want)
	}
	if aggregatedOf(model.Engine{}).EstimatesTTFT() {
		t.Error("without max_num_batched_tokens there is no TTFT")
	}
}

const profileWithEverything = `{"_about": {"units": {"prefill_ttft": "ms", "z_itl": "s"}},
	"prefill_isl": [100, 200], "prefill_ttft": [10, 20],
	"x_kv_usage": [0.5], "y_context_length": [100], "z_itl": [0.03], "max_kv_tokens": 1000,
	"samples": [{"role": "prefill", "worker": "b", "wall_time_s": 0.5, "scheduled": {"prefill_requests": 1, "prefill_tokens": 400}, "queued": {}}]}`

func TestProfileBecomesSamples(t *testing.T) {
	profile, err := DecodeProfile([]byte(profileWithEverything))
	if err != nil {
		t.Fatal(err)
	}
	samples := profile.Samples(model.TopologyDisaggregated)
	if len(samples) != 4 {
		t.Fatalf("%d samples, want two of prefill, one of decode and the profile's own", len(samples))
	}
	if s := samples[1]; *s.Scheduled.PrefillTokens != 200 || *s.WallTimeS != 0.02 || *s.Scheduled.PrefillRequests != 1 {
		t.Errorf("second prefill point: %+v", s)
	}
	if s := samples[2]; s.Role != model.Decode || *s.Scheduled.DecodeKVTokens != 500 || *s.Scheduled.DecodeRequests != 5 || *s.WallTimeS != 0.03 {
		t.Errorf("decode point: half of 1000 KV tokens in contexts of 100 are 5 requests: %+v", s)
	}
	if s := samples[3]; *s.WallTimeS != 0.5 || *s.Scheduled.PrefillTokens != 400 {
		t.Errorf("own sample: %+v", s)
	}
	if n := len(profile.Samples(model.TopologyAggregated)); n != 2 {
		t.Errorf("aggregated: %d samples, want the decode point and the profile's own", n)
	}
}

func TestProfileRefusesWhatItCannotMean(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"no unit":           {`"prefill_ttft": "ms", `, ``, "_about.units.prefill_ttft"},
		"wrong unit":        {`"z_itl": "s"`, `"z_itl": "min"`, "_about.units.z_itl"},
		"milliseconds as s": {`"z_itl": [0.03]`, `"z_itl": [30000]`, "decode point 0"},
		"uneven columns":    {`[10, 20]`, `[10]`, "2 points and prefill_ttft 1"},
		"negative latency":  {`[10, 20]`, `[-10, 20]`, "prefill point 0"},
		"usage in percent":  {`[0.5]`, `[50]`, "decode point 0"},
		"sample of no role": {`"role": "prefill"`, `"role": "router"`, "samples[0]"},
		"untimed sample":    {`"wall_time_s": 0.5, `, ``, "samples[0]"},
		"no JSON":           {`{"_about"`, `{`, "decode profile"},
	} {
		_, err := DecodeProfile([]byte(strings.Replace(profileWithEverything, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that names %s", name, err, c.want)
		}
	}
	if _, err := DecodeProfile([]byte(`{}`)); err == nil {
		t.Error("an empty profile is a profile")
	}
}

func FuzzDecodeProfile(f *testing.F) {
	f.Add([]byte(profileWithEverything))
	f.Fuzz(func(_ *testing.T, data []byte) {
		profile, err := DecodeProfile(data)
		if err != nil {
			return
		}
		m := NewDecode(Settings{MinObservations: 1, MaxSamples: 8, Buckets: 4})
		for _, s := range profile.Samples(model.TopologyDecode) {
			m.Observe(&s)
		}
		m.Ready()
	})
}

// TestMeasuredProfiles fits models to measured profiles, where they are at
// hand: they must be ready, and predict the points that they were fitted to.
func TestMeasuredProfiles(t *testing.T) {
	files, err := filepath.Glob("../../../../shared/profiles/*.json")
	if err != nil || len(files) == 0 {
		t.Skip("no measured profiles beside the project")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		profile, err := DecodeProfile(data)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		settings := Settings{MinObservations: 5, MaxSamples: 256, Buckets: 16, Engine: model.Engine{MaxNumBatchedTokens: 8192}}
		prefill, decode := NewPrefill(settings), NewDecode(settings)
		for _, s := range profile.Samples(model.TopologyDisaggregated) {
			if s.Role == model.Prefill {
				prefill.Observe(&s)
			} else {
				decode.Observe(&s)
			}
		}
		if !prefill.Ready() || !decode.Ready() {
			t.Errorf("%s: prefill ready %v, decode ready %v", filepath.Base(file), prefill.Ready(), decode.Ready())
		}
	}
}
