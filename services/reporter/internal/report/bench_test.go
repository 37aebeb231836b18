package report

import (
	"io"
	"testing"
	"time"
)

// BenchmarkDay folds, builds and renders a day of 5 s ticks of one deployment.
func BenchmarkDay(b *testing.B) {
	facts := day("chat-70b", 1, 12*time.Hour)
	folded := fold(facts)
	data := folded.Build(Options{})
	b.Run("fold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fold(facts)
		}
		b.ReportMetric(float64(b.N)*float64(len(facts))/b.Elapsed().Seconds(), "facts/s")
	})
	b.Run("build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			folded.Build(Options{})
		}
	})
	b.Run("render", func(b *testing.B) {
		b.ReportAllocs()
		var n counter
		for b.Loop() {
			n = 0
			if err := Render(io.Writer(&n), data); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n), "page-bytes")
	})
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
