package sim

import (
	"fmt"
	"slices"
	"strings"

	"tidemark.dev/pkg/model"
)

// DefaultFigures names the figures that were best validated against measured
// serving runs: the time per output token is within 4.0 % on average.
const DefaultFigures = "h200-llama-3.1-70b-fp8-tp2"

// Figures are closed forms of the speed of one engine serving one model,
//
//	prefill of n tokens:                c0 + c1·n + c2·n² ms
//	decode of b sequences, kv tokens:   a + b·sequences + c·kv ms
//
// fitted to operator timings measured with vLLM 0.24.0: NVIDIA AIConfigurator
// at commit 095f58a5 (Apache-2.0), without scheduler, sampling, tokenizer and
// network time. MaxKVTokens is 0.9 of the GPUs' memory, less the weights and
// 3.5 GiB, with KV in bf16.
type Figures struct {
	Name string
	// GPUs per replica: the tensor parallelism.
	GPUs        int
	MaxKVTokens int

	PrefillC0Ms, PrefillC1Ms, PrefillC2Ms float64
	DecodeAMs, DecodeBMs, DecodeCMs       float64
}

// figures lists the closed forms whose terms are all positive, as a simulation
// needs them.
var figures = []Figures{
	{"h100-llama-3.1-70b-fp8-tp2", 2, 231026, 19.8046, 0.069711, 1.0425e-06, 16.7238, 0.074482, 4.5942e-05},
	{"h100-llama-3.1-70b-fp8-tp4", 4, 677506, 9.5660, 0.048827, 3.7205e-07, 10.5668, 0.056809, 2.5158e-05},
	{"h100-llama-3.1-8b-fp8-tp1", 1, 499887, 3.1365, 0.014114, 4.1967e-07, 4.4345, 0.017101, 4.1093e-05},
	{"h100-qwen3-32b-bf16-tp2", 2, 307856, 6.4072, 0.050716, 8.1864e-07, 13.6599, 0.031400, 4.1467e-05},
	{"h100-qwen3-32b-bf16-tp4", 4, 865956, 5.9816, 0.029519, 4.3543e-07, 8.2115, 0.023539, 2.1002e-05},
	{"h200-llama-3.1-70b-fp8-tp1", 1, 188903, 7.8060, 0.107126, 2.1740e-06, 21.6596, 0.118331, 7.5630e-05},
	{"h200-llama-3.1-70b-fp8-tp2", 2, 590818, 6.0591, 0.069139, 9.0833e-07, 13.2619, 0.071135, 3.7310e-05},
	{"h200-llama-3.1-70b-fp8-tp4", 4, 1397091, 6.4431, 0.045774, 3.8075e-07, 9.1648, 0.057312, 1.8686e-05},
	{"h200-llama-3.1-8b-fp8-tp1", 1, 949628, 2.6404, 0.012386, 3.9537e-07, 3.6810, 0.019515, 2.9805e-05},
	{"h200-qwen3-32b-fp8-tp1", 1, 380324, 6.0097, 0.053356, 1.5929e-06, 11.9120, 0.069270, 5.9253e-05},
}

// FiguresNames lists the names that FiguresOf knows, sorted.
func FiguresNames() []string {
	names := make([]string, len(figures))
	for i, f := range figures {
		names[i] = f.Name
	}
	return names
}

// FiguresOf returns the figures of a name; the empty name means DefaultFigures.
func FiguresOf(name string) (Figures, error) {
	if name == "" {
		name = DefaultFigures
	}
	i := slices.IndexFunc(figures, func(f Figures) bool { return f.Name == name })
	if i < 0 {
		return Figures{}, fmt.Errorf("engine %q has no figures, want one of %s", name, strings.Join(FiguresNames(), ", "))
	}
	return figures[i], nil
}

// The limits of an engine where nothing else is said: those of the engine
// simulator that comes with NVIDIA Dynamo.
const (
	DefaultMaxNumBatchedTokens = 8192
	DefaultMaxNumSeqs          = 256
)

// Engine returns an engine of a role with these figures and the default
// limits. The constant term of an iteration is c0 on a prefill engine and a on
// the others: the weights are read once, whatever is in the batch.
func (f Figures) Engine(role model.Role) Engine {
	timing := Timing{
		BaseS:                   f.DecodeAMs / 1e3,
		PerPrefillTokenS:        f.PrefillC1Ms / 1e3,
		PerPrefillTokenSquaredS: f.PrefillC2Ms / 1e3,
		PerSequenceS:            f.DecodeBMs / 1e3,
		PerKVTokenS:             f.DecodeCMs / 1e3,
	}
	if role == model.Prefill {
		timing.BaseS = f.PrefillC0Ms / 1e3
	}
	return Engine{
		MaxNumBatchedTokens: DefaultMaxNumBatchedTokens,
		MaxNumSeqs:          DefaultMaxNumSeqs,
		MaxKVTokens:         f.MaxKVTokens,
		Timing:              timing,
	}
}
