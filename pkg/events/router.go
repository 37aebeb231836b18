package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/prometheus/client_golang/prometheus"
)

// The bounds of a message's handling. Waiting stays well below the minute after
// which a consumer group takes a member that handles nothing for dead, and
// closing well below the time that a process has to stop.
const (
	retries      = 6
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
	retryFor     = 30 * time.Second
	closeTimeout = 8 * time.Second
)

// RouterConfig says what a router works for.
type RouterConfig struct {
	// Service is the name that dead letters and metrics carry.
	Service string
	// Log takes the dead letters.
	Log    Log
	Topics Topics
	Logger *slog.Logger
	// Registerer takes the metrics. Several routers may share one.
	Registerer prometheus.Registerer
}

// Router is a Watermill router that handles messages as all services do.
// Outermost first: a handler's outcome is measured; a fatal error ends Run; what
// cannot be handled becomes a dead letter; transient errors are tried again,
// with growing pauses; a panic becomes an error like any permanent one.
//
// Handlers are added with AddConsumerHandler; they publish by the log's
// publisher, which no router closes.
type Router struct {
	*message.Router
	config  RouterConfig
	metrics *routerMetrics

	mu     sync.Mutex
	closed bool
	fatal  error
}

// NewRouter returns a router without handlers.
func NewRouter(config RouterConfig) (*Router, error) {
	metrics, err := newRouterMetrics(config.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of %s's router: %w", config.Service, err)
	}
	// What Watermill tells at level info is about its own parts.
	logger := watermill.NewSlogLoggerWithLevelMapping(config.Logger.With("service", config.Service),
		map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug})
	inner, err := message.NewRouter(message.RouterConfig{CloseTimeout: closeTimeout}, logger)
	if err != nil {
		return nil, fmt.Errorf("make %s's router: %w", config.Service, err)
	}
	r := &Router{Router: inner, metrics: metrics, config: config}
	r.AddMiddleware(
		r.measure,
		r.endOnFatal,
		r.deadLetters,
		middleware.Retry{
			MaxRetries: retries, InitialInterval: firstPause, MaxInterval: longestPause, Multiplier: 2,
			RandomizationFactor: 0.5, MaxElapsedTime: retryFor, ResetContextOnRetry: true,
			ShouldRetry: r.shouldRetry,
		}.Middleware,
		middleware.Recoverer,
	)
	return r, nil
}

// Run handles messages until the context is done or Close is called. It returns
// the fatal error of a handler, and an error when the handlers ended although
// nobody asked them to.
func (r *Router) Run(ctx context.Context) error {
	err := r.Router.Run(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.fatal != nil:
		return r.fatal
	case err != nil:
		return fmt.Errorf("run %s's handlers: %w", r.config.Service, err)
	case !r.closed && ctx.Err() == nil:
		return fmt.Errorf("run %s's handlers: their subscriptions ended", r.config.Service)
	}
	return nil
}

// Close ends Run once the messages in hand are handled.
func (r *Router) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	if err := r.Router.Close(); err != nil {
		return fmt.Errorf("close %s's router: %w", r.config.Service, err)
	}
	return nil
}

// endOnFatal closes the router at a fatal error. The message is not
// acknowledged: whoever comes after handles it.
func (r *Router) endOnFatal(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		produced, err := next(msg)
		if errors.Is(err, ErrFatal) {
			r.mu.Lock()
			first := r.fatal == nil
			if first {
				r.fatal = err
			}
			r.mu.Unlock()
			if first {
				// Close waits for the handlers, of which this is one.
				go func() {
					if err := r.Close(); err != nil {
						r.config.Logger.Error("router is not closed", "service", r.config.Service, "error", err)
					}
				}()
			}
		}
		return produced, err
	}
}

// shouldRetry reports whether a failed attempt is worth another.
func (r *Router) shouldRetry(params middleware.RetryParams) bool {
	if decided(params.Err) {
		return false
	}
	if params.RetryNum < retries {
		r.metrics.retries.WithLabelValues(r.config.Service).Inc()
	}
	return true
}

// decided reports whether an error is of a class that no repetition mends.
func decided(err error) bool {
	var panicked middleware.RecoveredPanicError
	return errors.Is(err, ErrPermanent) || errors.Is(err, ErrFatal) || errors.As(err, &panicked)
}
