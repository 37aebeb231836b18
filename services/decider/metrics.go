package decider

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"tidemark.dev/pkg/model"
)

// metrics are the decider's own figures. Gauges about deployments are the
// reporter's: they are rebuilt from the log alone.
type metrics struct {
	registerer prometheus.Registerer
	decisions  *prometheus.CounterVec
	repeated   prometheus.Counter
	latency    prometheus.Histogram
	restores   prometheus.Histogram
	folded     prometheus.Counter
}

// newMetrics registers the decider's metrics.
func newMetrics(registerer prometheus.Registerer) *metrics {
	factory := promauto.With(registerer)
	return &metrics{
		registerer: registerer,
		decisions: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_decider_decisions_total", Help: "Decisions published, by action.",
		}, []string{"action"}),
		repeated: factory.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_decider_repeated_observations_total", Help: "Observations that were delivered again and decided once.",
		}),
		latency: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "tidemark_decider_decision_latency_seconds", Help: "Time from an observation's arrival in the log to its decision in the log.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		restores: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "tidemark_decider_restore_duration_seconds", Help: "Time to restore the state of one deployment.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		folded: factory.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_decider_folded_observations_total", Help: "Observations folded into restored states without publishing.",
		}),
	}
}

func (m *metrics) decided(decision *model.ScalingDecision, latency time.Duration) {
	m.decisions.WithLabelValues(string(decision.Action)).Inc()
	m.latency.Observe(latency.Seconds())
}

func (m *metrics) restored(folded int, took time.Duration) {
	m.folded.Add(float64(folded))
	m.restores.Observe(took.Seconds())
}
