// Package perf predicts how long an engine's iterations take, and so its TTFT,
// its ITL and the rate at which it can serve.
//
// A model per role is a straight line through the iterations that were seen,
// over what was in them: prompt tokens for prefill, requests and KV tokens for
// decode, prompt and KV tokens for aggregated engines. Samples come from engines
// at work and, before the first of them, from a profile measured on a bench.
// Models are deterministic: equal samples in equal order give equal figures.
//
// It refuses to guess: a model with too few samples, or a line that says that
// more work takes less time, is not ready and predicts nothing.
//
// A model is not safe for concurrent use.
package perf

import (
	"encoding/json"
	"fmt"
	"math"

	"tidemark.dev/pkg/model"
)

// Profile is a table of engine measurements: TTFT over the input length, ITL
// over KV usage and context length, and iterations as an observation has them.
type Profile struct {
	prefill []prefillPoint
	decode  []decodePoint
	samples []model.EngineSample
}

type prefillPoint struct {
	islTokens int
	ttftS     float64
}

type decodePoint struct {
	requests, kvTokens int
	itlS               float64
}

// profileFile is the wire form of a profile.
type profileFile struct {
	About struct {
		Units map[string]string `json:"units"`
	} `json:"_about"`
	PrefillISL    []float64 `json:"prefill_isl"`
	PrefillTTFT   []float64 `json:"prefill_ttft"`
	KVUsage       []float64 `json:"x_kv_usage"`
	ContextLength []float64 `json:"y_context_length"`
	ITL           []float64 `json:"z_itl"`
	MaxKVTokens   float64   `json:"max_kv_tokens"`

	Samples []model.EngineSample `json:"samples"`
}

// secondsPer holds the units in which a latency may be given.
var secondsPer = map[string]float64{"ms": 1e-3, "s": 1}

// longestS bounds a plausible latency, in seconds: one beyond it was written in
// another unit than the file says.
const longestS = 600

// DecodeProfile decodes a profile. Its units must be named: profiles whose
// latencies are in seconds and in milliseconds are both about.
func DecodeProfile(data []byte) (Profile, error) {
	var file profileFile
	if err := json.Unmarshal(data, &file); err != nil {
		return Profile{}, fmt.Errorf("decode profile: %w", err)
	}
	ttft, err := file.unit("prefill_ttft", len(file.PrefillTTFT))
	if err != nil {
		return Profile{}, err
	}
	itl, err := file.unit("z_itl", len(file.ITL))
	if err != nil {
		return Profile{}, err
	}
	if len(file.PrefillISL) != len(file.PrefillTTFT) {
		return Profile{}, fmt.Errorf("decode profile: prefill_isl has %d points and prefill_ttft %d", len(file.PrefillISL), len(file.PrefillTTFT))
	}
	if len(file.KVUsage) != len(file.ContextLength) || len(file.KVUsage) != len(file.ITL) {
		return Profile{}, fmt.Errorf("decode profile: x_kv_usage, y_context_length and z_itl have %d, %d and %d points", len(file.KVUsage), len(file.ContextLength), len(file.ITL))
	}
	if len(file.PrefillISL) == 0 && len(file.ITL) == 0 && len(file.Samples) == 0 {
		return Profile{}, fmt.Errorf("decode profile: it holds no point")
	}
	profile := Profile{samples: file.Samples}
	for i := range file.Samples {
		if err := checkSample(&file.Samples[i]); err != nil {
			return Profile{}, fmt.Errorf("decode profile: samples[%d]: %w", i, err)
		}
	}
	for i, isl := range file.PrefillISL {
		latency := file.PrefillTTFT[i] * ttft
		if !(isl >= 1 && isl <= math.MaxInt32) || !(latency > 0 && latency <= longestS) {
			return Profile{}, fmt.Errorf("decode profile: prefill point %d is %v tokens in %v s, want at least 1 token and a latency up to %d s", i, isl, latency, longestS)
		}
		profile.prefill = append(profile.prefill, prefillPoint{int(isl), latency})
	}
	for i, usage := range file.KVUsage {
		context, latency := file.ContextLength[i], file.ITL[i]*itl
		if !(usage >= 0 && usage <= 1) || !(context >= 1) || !(latency > 0 && latency <= longestS) || !(file.MaxKVTokens >= 1 && file.MaxKVTokens <= math.MaxInt32) {
			return Profile{}, fmt.Errorf("decode profile: decode point %d is usage %v, context %v and %v s of max_kv_tokens %v, want a usage of 0 to 1, a context of at least 1 and a latency up to %d s",
				i, usage, context, latency, file.MaxKVTokens, longestS)
		}
		kv := math.Round(usage * file.MaxKVTokens)
		profile.decode = append(profile.decode, decodePoint{max(1, int(math.Round(kv/context))), int(kv), latency})
	}
	return profile, nil
}

func checkSample(s *model.EngineSample) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.WallTimeS == nil || *s.WallTimeS > longestS {
		return fmt.Errorf("wall_time_s is missing or over %d s", longestS)
	}
	return nil
}

// unit returns the seconds in the unit of a column of latencies.
func (f *profileFile) unit(column string, points int) (float64, error) {
	name := f.About.Units[column]
	factor, known := secondsPer[name]
	if !known && points > 0 {
		return 0, fmt.Errorf("decode profile: _about.units.%s is %q, want ms or s", column, name)
	}
	return factor, nil
}

// Samples returns the points as engine samples of the roles of a topology, and
// then the profile's own samples in their order. Aggregated engines take the
// decode points, whose batches hold no prefill.
func (p Profile) Samples(topology model.Topology) []model.EngineSample {
	var samples []model.EngineSample
	for _, role := range topology.Roles() {
		if role == model.Prefill {
			for _, point := range p.prefill {
				samples = append(samples, sampleOf(role, point.ttftS, 1, point.islTokens, 0, 0))
			}
			continue
		}
		for _, point := range p.decode {
			samples = append(samples, sampleOf(role, point.itlS, 0, 0, point.requests, point.kvTokens))
		}
	}
	return append(samples, p.samples...)
}

func sampleOf(role model.Role, wallTimeS float64, prefillRequests, prefillTokens, decodeRequests, kvTokens int) model.EngineSample {
	return model.EngineSample{
		Role: role, Worker: "profile", WallTimeS: &wallTimeS,
		Scheduled: model.EngineLoad{PrefillRequests: &prefillRequests, PrefillTokens: &prefillTokens, DecodeRequests: &decodeRequests, DecodeKVTokens: &kvTokens},
		Queued:    model.EngineLoad{PrefillRequests: new(0), PrefillTokens: new(0), DecodeRequests: new(0), DecodeKVTokens: new(0)},
	}
}
