// Package perf holds what is known of an engine's performance.
package perf

import (
	"encoding/json"
	"fmt"
	"math"

	"tidemark.dev/pkg/model"
)

// Profile is a table of engine measurements: TTFT over the input length, and ITL
// over KV usage and context length.
type Profile struct {
	prefill []prefillPoint
	decode  []decodePoint
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
	var profile Profile
	ttft, err := file.unit("prefill_ttft")
	if err != nil {
		return Profile{}, err
	}
	itl, err := file.unit("z_itl")
	if err != nil {
		return Profile{}, err
	}
	if len(file.PrefillISL) != len(file.PrefillTTFT) {
		return Profile{}, fmt.Errorf("decode profile: prefill_isl has %d points and prefill_ttft %d", len(file.PrefillISL), len(file.PrefillTTFT))
	}
	if len(file.KVUsage) != len(file.ContextLength) || len(file.KVUsage) != len(file.ITL) {
		return Profile{}, fmt.Errorf("decode profile: x_kv_usage, y_context_length and z_itl have %d, %d and %d points", len(file.KVUsage), len(file.ContextLength), len(file.ITL))
	}
	if len(file.PrefillISL) == 0 && len(file.ITL) == 0 {
		return Profile{}, fmt.Errorf("decode profile: it holds no point")
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

func (f *profileFile) unit(column string) (float64, error) {
	name := f.About.Units[column]
	factor, known := secondsPer[name]
	if !known {
		return 0, fmt.Errorf("decode profile: _about.units.%s is %q, want ms or s", column, name)
	}
	return factor, nil
}

// Samples returns the points as engine samples of the roles of a topology.
// Aggregated engines take the decode points, whose batches hold no prefill.
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
	return samples
}

func sampleOf(role model.Role, wallTimeS float64, prefillRequests, prefillTokens, decodeRequests, kvTokens int) model.EngineSample {
	return model.EngineSample{
		Role: role, Worker: "profile", WallTimeS: &wallTimeS,
		Scheduled: model.EngineLoad{PrefillRequests: &prefillRequests, PrefillTokens: &prefillTokens, DecodeRequests: &decodeRequests, DecodeKVTokens: &kvTokens},
		Queued:    model.EngineLoad{PrefillRequests: new(0), PrefillTokens: new(0), DecodeRequests: new(0), DecodeKVTokens: new(0)},
	}
}
