package service

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"go.uber.org/fx"
)

// Worker is a service's work: Run works until the context is done and then
// finishes what it has in hand. It calls ready once it is at work. An error
// while the context is not done ends the process with code 1.
type Worker interface {
	Run(ctx context.Context, ready func()) error
}

// Work runs a worker from the start of the process to its stop.
func Work(lifecycle fx.Lifecycle, stop fx.Shutdowner, health *Health, logger *slog.Logger, name string, worker Worker) {
	ctx, cancel := context.WithCancel(context.Background())
	ready := sync.OnceFunc(health.Expect(name))
	done := make(chan struct{})
	lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() {
				defer close(done)
				if err := worker.Run(ctx, ready); err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) {
					logger.Error("service ended", "service", name, "error", err)
					_ = stop.Shutdown(fx.ExitCode(1))
				}
			}()
			return nil
		},
		OnStop: func(stopping context.Context) error {
			cancel()
			select {
			case <-done:
				return nil
			case <-stopping.Done():
				return stopping.Err()
			}
		},
	})
}
