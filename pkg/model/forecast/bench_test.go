package forecast

import (
	"fmt"
	"math"
	"testing"
)

// BenchmarkFitARIMA is one search for an order: what a refit costs.
func BenchmarkFitARIMA(b *testing.B) {
	for name, values := range knownSeries(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := fitARIMA(values[max(0, len(values)-defaultWindow):]); !ok {
					b.Fatal("no fit")
				}
			}
		})
	}
	for _, window := range []int{defaultWindow, 1000, maxWindow} {
		b.Run(fmt.Sprintf("days/window=%d", window), func(b *testing.B) {
			values := days(window)
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := fitARIMA(values); !ok {
					b.Fatal("no fit")
				}
			}
		})
	}
}

// BenchmarkPredictor is one value observed and the next one forecast, with the
// history full and refits as they fall due: the mean cost of a value. What the
// worst one costs is a fit, see BenchmarkFitARIMA.
func BenchmarkPredictor(b *testing.B) {
	for _, kind := range Kinds() {
		b.Run(string(kind), func(b *testing.B) {
			values := days(4000)
			p, err := New(kind, Params{}, 180)
			if err != nil {
				b.Fatal(err)
			}
			if err := p.WarmUp(values[:200]); err != nil {
				b.Fatal(err)
			}
			n := 200
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Observe(values[n]); err != nil {
					b.Fatal(err)
				}
				p.Forecast()
				if n++; n == len(values) {
					n = 200
				}
			}
		})
	}
}

// days is traffic by the 180 seconds: days with a peak at noon, and noise.
func days(n int) []float64 {
	values := make([]float64, n)
	state := uint64(1)
	for i := range values {
		state = state*6364136223846793005 + 1442695040888963407 // a linear congruential generator
		noise := float64(state>>40)/(1<<24) - 0.5
		values[i] = 900 - 600*math.Cos(2*math.Pi*float64(i)/480) + 120*noise
	}
	return values
}
