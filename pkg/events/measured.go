package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
)

// Measured is a log with figures about it: how long publishing takes, and how
// far the groups that this process is a member of lag behind.
type Measured struct {
	Log
	logger *slog.Logger

	seconds  *prometheus.HistogramVec
	failures *prometheus.CounterVec
	lag      *prometheus.GaugeVec

	mu     sync.Mutex
	joined map[subscribed]int
}

// subscribed is a topic that a group is subscribed to.
type subscribed struct{ topic, group string }

// Measure registers the figures of a log.
func Measure(log Log, logger *slog.Logger, registerer prometheus.Registerer) (*Measured, error) {
	m := &Measured{
		Log: log, logger: logger, joined: map[subscribed]int{},
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tidemark_events_publish_seconds",
			Help:    "Time until the log had taken what was published.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"topic"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_events_publish_failures_total",
			Help: "Publications that the log did not take.",
		}, []string{"topic"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidemark_events_consumer_lag_messages",
			Help: "Messages that a consumer group has not acknowledged yet. Every member reports the whole group's; a partition in which it never acknowledged one is left out.",
		}, []string{"group", "topic", "partition"}),
	}
	return m, errors.Join(register(registerer, &m.seconds), register(registerer, &m.failures), register(registerer, &m.lag))
}

// Publisher returns the log's publisher, measured.
func (m *Measured) Publisher() message.Publisher { return measuredPublisher{m.Log.Publisher(), m} }

type measuredPublisher struct {
	message.Publisher
	m *Measured
}

func (p measuredPublisher) Publish(topic string, messages ...*message.Message) error {
	began := time.Now()
	err := p.Publisher.Publish(topic, messages...)
	if err != nil {
		p.m.failures.WithLabelValues(topic).Inc()
		return err
	}
	p.m.seconds.WithLabelValues(topic).Observe(time.Since(began).Seconds())
	return nil
}

// Subscriber returns a subscriber whose group's lag is watched while it is open.
func (m *Measured) Subscriber(group string) (message.Subscriber, error) {
	subscriber, err := m.Log.Subscriber(group)
	if err != nil {
		return nil, err
	}
	return &measuredSubscriber{Subscriber: subscriber, m: m, group: group}, nil
}

type measuredSubscriber struct {
	message.Subscriber
	m      *Measured
	group  string
	mu     sync.Mutex
	topics []string
}

func (s *measuredSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	messages, err := s.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics = append(s.topics, topic)
	s.m.count(subscribed{topic, s.group}, 1)
	return messages, nil
}

func (s *measuredSubscriber) Close() error {
	err := s.Subscriber.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, topic := range s.topics {
		s.m.count(subscribed{topic, s.group}, -1)
	}
	s.topics = nil
	return err
}

// count adds to the members of a group. The figures of one that has none here
// any more go: nobody here would bring them up to date.
func (m *Measured) count(s subscribed, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.joined[s] += n; m.joined[s] <= 0 {
		delete(m.joined, s)
		m.lag.DeletePartialMatch(prometheus.Labels{"group": s.group, "topic": s.topic})
	}
}

// Watch brings the lag up to date now and then until the context is done.
func (m *Measured) Watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := m.look(ctx); err != nil && ctx.Err() == nil {
			m.logger.Warn("consumer lag is not known for now", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// look brings the lag up to date.
func (m *Measured) look(ctx context.Context) error {
	m.mu.Lock()
	joined := make([]subscribed, 0, len(m.joined))
	for s := range m.joined {
		joined = append(joined, s)
	}
	m.mu.Unlock()
	var problems []error
	for _, s := range joined {
		// The positions first: what is acknowledged in between makes no lag
		// below zero.
		positions, err := m.Log.Positions(ctx, s.topic, s.group)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		ends, err := m.Log.Ends(ctx, s.topic)
		if err != nil {
			problems = append(problems, fmt.Errorf("lag of %s: %w", s.group, err))
			continue
		}
		m.mu.Lock()
		for partition, position := range positions {
			if m.joined[s] > 0 {
				m.lag.WithLabelValues(s.group, s.topic, strconv.Itoa(int(partition))).Set(float64(max(ends[partition]-position, 0)))
			}
		}
		m.mu.Unlock()
	}
	return errors.Join(problems...)
}
