// Package prometheustest runs a real Prometheus server for tests.
package prometheustest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a Prometheus server on a free port of the loopback interface.
type Server struct {
	URL string

	args    []string
	command *exec.Cmd
	exited  chan struct{}
	output  buffer
}

// buffer is what a process wrote.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Require skips a test where there is no Prometheus, and fails it where
// TIDEMARK_REQUIRE_PROMETHEUS says that there must be.
func Require(t *testing.T) {
	t.Helper()
	for _, name := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("TIDEMARK_REQUIRE_PROMETHEUS") == "1" {
				t.Fatalf("%s is required: %v", name, err)
			}
			t.Skipf("no %s: run tools/prometheus to install it", name)
		}
	}
}

// Backfill makes the samples of an OpenMetrics text the data of a directory.
func Backfill(t *testing.T, dir, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "samples.om")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := exec.CommandContext(t.Context(), "promtool", "tsdb", "create-blocks-from", "openmetrics", file, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool: %v\n%s", err, output)
	}
}

// Start starts a server on the data of a directory, with a configuration, and
// stops it at the end of the test.
func Start(t *testing.T, dir, configuration string) *Server {
	t.Helper()
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(config, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	address := free(t)
	s := &Server{URL: "http://" + address, args: []string{
		"--config.file=" + config, "--storage.tsdb.path=" + dir, "--storage.tsdb.retention.time=10y", "--web.listen-address=" + address,
	}}
	s.run(t)
	t.Cleanup(s.Stop)
	return s
}

// Restart starts a server that was stopped, on its data and at its address.
func (s *Server) Restart(t *testing.T) {
	t.Helper()
	s.run(t)
}

// run starts the process and waits until it answers.
func (s *Server) run(t *testing.T) {
	t.Helper()
	s.exited = make(chan struct{})
	s.command = exec.Command("prometheus", s.args...)
	s.command.Stdout, s.command.Stderr = &s.output, &s.output
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.exited)
		_ = s.command.Wait()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := s.ready(ctx)
		if err == nil {
			return
		}
		select {
		case <-s.exited:
			t.Fatalf("Prometheus ended:\n%s", s.output.String())
		case <-ctx.Done():
			t.Fatalf("Prometheus is not ready: %v\n%s", err, s.output.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *Server) ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/-/ready", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

// Stop stops the server.
func (s *Server) Stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		_ = s.command.Process.Kill()
		<-s.exited
	}
}

// free returns an address whose port was free.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
