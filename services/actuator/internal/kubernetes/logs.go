package kubernetes

import (
	"context"
	"log/slog"
	"sync/atomic"

	"k8s.io/klog/v2"
)

// logs takes what the packages of the client log. They do so by one logger of the
// whole process, which may only be set while none of them runs: it is set before
// main begins, and hands on to the logger of the newest connector.
var logs handOn

func init() { klog.SetSlogLogger(slog.New(&logs)) }

// handOn is a handler that hands on to another, and to none until there is one.
type handOn struct{ to atomic.Pointer[slog.Logger] }

func (h *handOn) handler() slog.Handler {
	if logger := h.to.Load(); logger != nil {
		return logger.Handler()
	}
	return slog.DiscardHandler
}

func (h *handOn) Enabled(ctx context.Context, level slog.Level) bool {
	return h.handler().Enabled(ctx, level)
}

func (h *handOn) Handle(ctx context.Context, record slog.Record) error {
	return h.handler().Handle(ctx, record)
}

func (h *handOn) WithAttrs(attrs []slog.Attr) slog.Handler { return h.handler().WithAttrs(attrs) }

func (h *handOn) WithGroup(name string) slog.Handler { return h.handler().WithGroup(name) }
