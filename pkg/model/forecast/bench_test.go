package forecast

import "testing"

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
}
