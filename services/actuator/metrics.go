package actuator

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"tidemark.dev/pkg/model"
)

// metrics are the actuator's own figures.
type metrics struct {
	registerer prometheus.Registerer
	subscribed prometheus.Gauge
	actuations *prometheus.CounterVec
	rejections *prometheus.CounterVec
	settle     prometheus.Histogram
	frozen     *prometheus.GaugeVec
	room       *prometheus.GaugeVec
	limited    prometheus.Counter
	waiting    *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	factory := promauto.With(registerer)
	return &metrics{
		registerer: registerer,
		subscribed: factory.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_actuator_subscribed", Help: "1 while some deployment is active and decisions are consumed, else 0.",
		}),
		actuations: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_actuator_actuations_total", Help: "Actuation events recorded, by outcome; proposed is a decision that waits for an approval, started a write that was about to begin.",
		}, []string{"outcome"}),
		rejections: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_actuator_rejections_total", Help: "Decisions that were not acted on, by reason.",
		}, []string{"reason"}),
		frozen: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidemark_actuator_frozen", Help: "1 while the actuator is frozen for a deployment, by a person or by a freeze window, else 0.",
		}, []string{"deployment"}),
		waiting: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidemark_actuator_unapproved_decisions", Help: "Decisions that wait for an approval.",
		}, []string{"deployment"}),
		room: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidemark_actuator_change_room_replicas", Help: "Replicas by which a role may change now, within limits.max_change_replicas.",
		}, []string{"deployment", "role"}),
		limited: factory.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_actuator_limited_total", Help: "Decisions that were carried out in part, since limits held the rest back.",
		}),
		settle: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "tidemark_actuator_settle_duration_seconds", Help: "Time from a change to the fleet having reached it, on the deployment's clock.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 14),
		}),
	}
}

func (m *metrics) recorded(fact any) {
	switch fact := fact.(type) {
	case *model.ScalingProposed:
		m.actuations.WithLabelValues("proposed").Inc()
	case *model.ScalingStarted:
		m.actuations.WithLabelValues("started").Inc()
	case *model.ScalingApplied:
		m.actuations.WithLabelValues("applied").Inc()
		if fact.Limited != "" {
			m.limited.Inc()
		}
	case *model.ScalingRejected:
		m.actuations.WithLabelValues("rejected").Inc()
		m.rejections.WithLabelValues(string(fact.Reason)).Inc()
	case *model.ScalingFailed:
		m.actuations.WithLabelValues("failed").Inc()
	case *model.ScalingSettled:
		m.actuations.WithLabelValues("settled").Inc()
		m.settle.Observe(fact.SettleS)
	}
}
