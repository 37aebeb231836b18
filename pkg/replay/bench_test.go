package replay_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
	"tidemark.dev/pkg/replay/replaytest"
)

// BenchmarkVerify replays four hours of 5 s ticks of one deployment with two to
// eight engines, under each predictor: fitting forecasts is a part of deciding
// that no log makes faster. The figure to look at is that of decisions per second
// of processor time.
func BenchmarkVerify(b *testing.B) {
	defaults := model.DefaultDeployment().Throughput
	for _, predictor := range []struct {
		name      string
		intervalS float64
	}{{"constant", defaults.IntervalS}, {defaults.Predictor, defaults.IntervalS}, {"holt-winters", 60}} {
		for _, place := range []struct {
			name string
			url  func() string
		}{
			{"memory", func() string { return "memory://" }},
			{"sqlite", func() string { return "sqlite://" + filepath.Join(b.TempDir(), "log.db") }},
		} {
			b.Run(fmt.Sprintf("%s-%gs/%s", predictor.name, predictor.intervalS, place.name), func(b *testing.B) {
				log, err := drivers.OpenURL(b.Context(), place.url())
				if err != nil {
					b.Fatal(err)
				}
				defer log.Close()
				if err := replaytest.Write(log, topics, replaytest.Life{
					Deployment: "chat", Duration: 4 * time.Hour, ActiveFrom: 2 * time.Hour, CheckpointEvery: 500,
					Configure: func(spec *model.Deployment) {
						spec.Throughput.Predictor, spec.Throughput.IntervalS = predictor.name, predictor.intervalS
					},
				}); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				decisions, began := 0, processorTime(b)
				for b.Loop() {
					result := verify(b, log, replay.Options{})
					if !result.Clean() {
						b.Fatal(result.Findings[0])
					}
					decisions += result.Totals().Same
				}
				b.ReportMetric(float64(decisions)/b.Elapsed().Seconds(), "decisions/s")
				b.ReportMetric(float64(decisions)/(processorTime(b)-began).Seconds(), "decisions/cpu-s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// processorTime returns what the process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
