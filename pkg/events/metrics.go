package events

import (
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
)

// routerMetrics are the figures of all routers of a process.
type routerMetrics struct {
	handled     *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	retries     *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
}

func newRouterMetrics(registerer prometheus.Registerer) (*routerMetrics, error) {
	m := &routerMetrics{
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_events_handled_total",
			Help: "Messages handled, by whether they were acknowledged (ack) or will be delivered again (nack).",
		}, []string{"service", "handler", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tidemark_events_handling_seconds",
			Help:    "Time that a message was in hand, repetitions and the pauses between them included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}, []string{"service", "handler"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_events_retries_total",
			Help: "Attempts to handle a message that failed with a transient error and were followed by another.",
		}, []string{"service"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_events_dead_letters_total",
			Help: "Messages that could not be handled and went to the dead letters.",
		}, []string{"service"}),
	}
	return m, errors.Join(
		register(registerer, &m.handled), register(registerer, &m.seconds),
		register(registerer, &m.retries), register(registerer, &m.deadLetters),
	)
}

// register registers a collector, or takes the one that is there already.
func register[C prometheus.Collector](registerer prometheus.Registerer, collector *C) error {
	err := registerer.Register(*collector)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			*collector = existing
			return nil
		}
	}
	return err
}

// measure counts and times what becomes of messages.
func (r *Router) measure(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		handler, began := message.HandlerNameFromCtx(msg.Context()), time.Now()
		produced, err := next(msg)
		outcome := "ack"
		if err != nil {
			outcome = "nack"
		}
		r.metrics.handled.WithLabelValues(r.config.Service, handler, outcome).Inc()
		r.metrics.seconds.WithLabelValues(r.config.Service, handler).Observe(time.Since(began).Seconds())
		return produced, err
	}
}
