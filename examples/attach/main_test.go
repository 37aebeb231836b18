package main

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

// TestAttach runs the example twice: the second time it goes on where the first
// one was. A hold is not printed, and what is no event holds nothing up.
func TestAttach(t *testing.T) {
	url := "sqlite://" + filepath.Join(t.TempDir(), "tidemark.db")
	log, err := drivers.OpenURL(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	publish := func(second int, action model.Action) {
		t.Helper()
		sealed, err := events.Seal(&model.ScalingDecision{
			Deployment: "chat", ObservationID: string(action), PlannerVersion: "1", Mode: model.Advisory, Action: action,
			ObservedAt: time.Date(2026, 11, 23, 20, 0, second, 0, time.UTC),
		}, events.About{Source: "/test"})
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Publisher().Publish("tidemark.decisions", message.NewMessage("", []byte("no event")), sealed.Message()); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, model.Hold)
	publish(2, model.ScaleUp)
	want(t, url, "20:00:02 chat scale_up (advisory)")
	publish(3, model.ScaleDown)
	want(t, url, "20:00:03 chat scale_down (advisory)")
}

// want runs the example until it prints a line.
func want(t *testing.T, url, line string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := attach(ctx, url, writer)
		_ = writer.CloseWithError(io.EOF)
		ended <- err
	}()
	lines := bufio.NewScanner(reader)
	if !lines.Scan() || lines.Text() != line {
		t.Errorf("printed %q, want %q", lines.Text(), line)
	}
	stop()
	_ = reader.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
