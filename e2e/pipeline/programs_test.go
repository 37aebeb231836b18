//go:build e2e

package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: a loaded machine is slow, and nothing here is a
// measurement.
const patience = 2 * time.Minute

// bin is the folder of the programs under test.
var bin string

func TestMain(m *testing.M) {
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (code int, err error) {
	if bin, err = os.MkdirTemp("", "tidemark-programs-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	build := exec.CommandContext(context.Background(), "go", "build", "-o", bin+string(filepath.Separator),
		"tidemark.dev/cmd/tidemark", "tidemark.dev/services/collector/cmd/collector", "tidemark.dev/services/decider/cmd/decider",
		"tidemark.dev/services/actuator/cmd/actuator", "tidemark.dev/services/reporter/cmd/reporter")
	if output, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs: %w\n%s", err, output)
	}
	return m.Run(), nil
}

// shared returns a file of real input, or skips the test: such files lie beside
// the tree and are no part of it.
func shared(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "..", "shared", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("real input is not there: %v", err)
	}
	return path
}

// outcome is what a program came to.
type outcome struct {
	code           int
	stdout, stderr string
}

// tidemark runs the command line to its end.
func tidemark(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(bin, "tidemark"), args...)
	command.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("tidemark %s: %v\n%s", strings.Join(args, " "), errors.Join(err, ctx.Err()), &stderr)
	}
	return outcome{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// succeed is tidemark for a command line that must succeed.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	got := tidemark(t, "", args...)
	if got.code != 0 {
		t.Fatalf("tidemark %s: exit code %d\n%s%s", strings.Join(args, " "), got.code, got.stdout, got.stderr)
	}
	return got.stdout
}

// wantLine checks that a command line failed with one line that holds a text.
func (o outcome) wantLine(t *testing.T, text string) {
	t.Helper()
	if o.code != 1 || !strings.Contains(o.stderr, text) || strings.Count(o.stderr, "\n") != 1 {
		t.Errorf("exit code %d, errors %q; want code 1 and one line with %q", o.code, o.stderr, text)
	}
}

// wantLines checks that a command line failed, and that each of its lines stands
// for a problem, one of which is given.
func (o outcome) wantLines(t *testing.T, text string) {
	t.Helper()
	if o.code != 1 || !strings.Contains(o.stderr, text) {
		t.Errorf("exit code %d, errors %q; want code 1 and a line with %q", o.code, o.stderr, text)
	}
}

func readFile(path string) (string, error) {
	content, err := os.ReadFile(path)
	return string(content), err
}

// process is a running service.
type process struct {
	name    string
	command *exec.Cmd
	ended   chan struct{}
	address string
}

// buffer is written by a program while a test reads it.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// start starts a program, which is killed when the test ends. What it prints
// goes to out and errs.
func start(t *testing.T, out, errs io.Writer, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, address: freeAddress(t), ended: make(chan struct{})}
	p.command = exec.Command(filepath.Join(bin, name), append(args, "--listen", p.address)...) //nolint:noctx // it ends by kill or stop
	p.command.Stdout, p.command.Stderr = out, errs
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.command.Wait() // how it ended is in its ProcessState
	}()
	t.Cleanup(p.kill)
	return p
}

// freeAddress returns a local address that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// kill is SIGKILL: nothing is finished, published or committed any more.
func (p *process) kill() {
	_ = p.command.Process.Kill() // it may have ended
	<-p.ended
}

// stop asks the process to end and checks that it ends well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s has not ended after %v", p.name, patience)
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("%s was stopped and ended with %s", p.name, p.command.ProcessState)
	}
}

// get reads one of the process's pages.
func (p *process) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// ready waits until the process is at work.
func (p *process) ready(t *testing.T) {
	t.Helper()
	until(t, p.name+" is ready", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("%s ended with %s", p.name, p.command.ProcessState)
		default:
		}
		status, _ := p.get(t, "/readyz")
		return status == http.StatusOK
	})
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v until %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at another process
	}
}
