package sim

import (
	"testing"
	"time"

	"tidemark.dev/pkg/model"
)

// fleetOfFigures has the default engines behind both roles.
func fleetOfFigures(tb testing.TB, prefill, decode int) Config {
	tb.Helper()
	f, err := FiguresOf(DefaultFigures)
	if err != nil {
		tb.Fatal(err)
	}
	config := Config{Topology: model.TopologyDisaggregated}
	config.Roles.Set(model.Prefill, RoleConfig{Replicas: prefill, GPUsPerReplica: f.GPUs, ColdStart: time.Minute, Engine: f.Engine(model.Prefill)})
	config.Roles.Set(model.Decode, RoleConfig{Replicas: decode, GPUsPerReplica: f.GPUs, ColdStart: time.Minute, Engine: f.Engine(model.Decode)})
	return config
}

// chat is an hour at the rate and with the lengths of a real one: Azure's
// conversation trace of 2023 has 5.53 requests per second.
func chat(tb testing.TB, rps float64) []Request {
	tb.Helper()
	config := DefaultGeneratorConfig()
	config.Duration, config.MeanRPS, config.PeakToTrough = time.Hour, rps, 1.5
	w, err := Generate(config)
	if err != nil {
		tb.Fatal(err)
	}
	return collect(tb, w)
}

// observe runs a workload to its end, with the looks at the fleet that the
// load loop and the throughput loop take.
func observe(b *testing.B, config Config, list []Request) {
	b.ReportAllocs()
	tokens := 0
	for _, r := range list {
		tokens += r.OSL
	}
	for b.Loop() {
		f, err := New(config, NewRequests(list))
		if err != nil {
			b.Fatal(err)
		}
		for tick := 1; !f.Done(); tick++ {
			advance(b, f, time.Duration(tick)*5*time.Second)
			f.Inventory()
			f.Engines()
			if tick%36 == 0 {
				if _, err := f.Traffic(3 * time.Minute); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	// Three events of each request: its arrival, its first and its last token.
	b.ReportMetric(3*float64(len(list))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(tokens)*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkHour(b *testing.B) {
	for _, bench := range []struct {
		name            string
		rps             float64
		prefill, decode int
	}{
		{"6_engines", 5.53, 2, 4},
		{"40_engines", 110.6, 30, 10},
	} {
		b.Run(bench.name, func(b *testing.B) {
			observe(b, fleetOfFigures(b, bench.prefill, bench.decode), chat(b, bench.rps))
		})
	}
}

func BenchmarkRealHour(b *testing.B) {
	for _, file := range []string{"AzureLLMInferenceTrace_conv.csv", "AzureLLMInferenceTrace_code.csv", "mooncake_conversation_trace.jsonl"} {
		b.Run(file, func(b *testing.B) {
			observe(b, fleetOfFigures(b, 4, 4), sharedTrace(b, file))
		})
	}
}

// BenchmarkOverload has queues that only grow.
func BenchmarkOverload(b *testing.B) {
	observe(b, fleetOfFigures(b, 1, 1), chat(b, 30))
}

func BenchmarkGenerate(b *testing.B) {
	b.ReportAllocs()
	config := DefaultGeneratorConfig()
	requests := 0
	for b.Loop() {
		w, err := Generate(config)
		if err != nil {
			b.Fatal(err)
		}
		requests = len(collect(b, w))
	}
	b.ReportMetric(float64(requests)*float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
