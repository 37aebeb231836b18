package collector

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"tidemark.dev/pkg/model"
)

// metrics are the collector's own figures.
type metrics struct {
	deployments  prometheus.Gauge
	observations *prometheus.CounterVec
	evidence     *prometheus.CounterVec
	skipped      *prometheus.CounterVec
	unpublished  prometheus.Counter
	queries      *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	factory := promauto.With(registerer)
	return &metrics{
		deployments: factory.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_collector_deployments", Help: "Deployments that this collector observes.",
		}),
		observations: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_collector_observations_total", Help: "Observations published.",
		}, []string{"deployment"}),
		evidence: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_collector_evidence_total", Help: "Evidence gathered, by source and class.",
		}, []string{"source", "class"}),
		skipped: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_collector_skipped_ticks_total", Help: "Ticks that came too late and were left out.",
		}, []string{"deployment"}),
		unpublished: factory.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_collector_unpublished_observations_total", Help: "Observations that the log did not take.",
		}),
		queries: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_collector_failed_queries_total", Help: "Queries of single figures that failed, so that the figure was left out.",
		}, []string{"deployment", "query"}),
	}
}

func (m *metrics) observed(observation *model.Observation) {
	m.observations.WithLabelValues(observation.Deployment).Inc()
	if f := observation.Fleet; f != nil {
		m.evidence.WithLabelValues("fleet", string(f.Status)).Inc()
	}
	if t := observation.Traffic; t != nil {
		m.evidence.WithLabelValues("traffic", string(t.Status)).Inc()
	}
	if e := observation.Engines; e != nil {
		m.evidence.WithLabelValues("engines", string(e.Status)).Inc()
	}
}

// queryFailed returns the function that counts a deployment's failed queries.
func (m *metrics) queryFailed(deployment string) func(query string) {
	return func(query string) { m.queries.WithLabelValues(deployment, query).Inc() }
}
