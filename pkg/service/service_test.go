package service_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/fx"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/service"
)

func TestValidate(t *testing.T) {
	if err := service.DefaultConfig("decider").Validate(); err != nil {
		t.Errorf("the default configuration is refused: %v", err)
	}
	err := service.Config{LogFormat: "xml", LogLevel: "loud"}.Validate()
	for _, want := range []string{"log: is missing", `log-format: is "xml", want text or json`, `log-level: is "loud", want debug, info, warn or error`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestLogger(t *testing.T) {
	config := service.DefaultConfig("decider")
	config.LogFormat, config.LogLevel = "json", "warn"
	var out strings.Builder
	logger := service.NewLogger(config, &out)
	logger.Info("left out")
	logger.Warn("kept")
	if got := out.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"msg":"kept"`) || strings.Contains(got, "left out") {
		t.Errorf("logged %s", got)
	}
}

// TestFlags: a flag stands above its environment variable, which stands above
// the default.
func TestFlags(t *testing.T) {
	t.Setenv("TIDEMARK_LOG", "sqlite://environment.db")
	t.Setenv("TIDEMARK_LOG_FORMAT", "json")
	config := service.DefaultConfig("decider")
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	service.LogFlags(flags, &config)
	service.ProcessFlags(flags, &config)
	if err := flags.Parse([]string{"--log-format", "text", "--topic-prefix", "staging."}); err != nil {
		t.Fatal(err)
	}
	if config.Log != "sqlite://environment.db" || config.LogFormat != "text" || config.LogLevel != "info" || config.Topics().Name("decisions") != "staging.decisions" {
		t.Errorf("configuration is %+v", config)
	}
}

// openMemory opens a log and reports when it is closed.
func openMemory(closed *bool) func(context.Context, string) (events.Log, error) {
	return func(ctx context.Context, url string) (events.Log, error) {
		log, err := drivers.OpenURL(ctx, url)
		return closingLog{log, closed}, err
	}
}

type closingLog struct {
	events.Log
	closed *bool
}

func (l closingLog) Close() error {
	*l.closed = true
	return l.Log.Close()
}

// worker is a worker whose steps the test takes.
type worker struct {
	ready chan func()
	end   chan error
	log   *bool // whether the log is closed
	late  bool  // whether it was when the worker ended
}

func (w *worker) Run(ctx context.Context, ready func()) error {
	w.ready <- ready
	select {
	case err := <-w.end:
		return err
	case <-ctx.Done():
		w.late = *w.log
		return ctx.Err()
	}
}

func newWorker() *worker {
	return &worker{ready: make(chan func(), 1), end: make(chan error), log: new(bool)}
}

// application is a process around a worker.
func (w *worker) application(config service.Config, out io.Writer, health **service.Health) []fx.Option {
	options := []fx.Option{
		service.Module(config, out, openMemory(w.log)),
		fx.Invoke(func(lifecycle fx.Lifecycle, stop fx.Shutdowner, health *service.Health, logger *slog.Logger, _ events.Log) {
			service.Work(lifecycle, stop, health, logger, "worker", w)
		}),
	}
	if health != nil {
		options = append(options, fx.Populate(health))
	}
	return options
}

func configuration() service.Config {
	config := service.DefaultConfig("worker")
	config.Log = "memory://"
	return config
}

// TestEndpoints: alive at once, ready when the worker is, and metrics.
func TestEndpoints(t *testing.T) {
	w := newWorker()
	var health *service.Health
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	go func() { ended <- service.Run(ctx, w.application(configuration(), t.Output(), &health)...) }()
	ready := <-w.ready
	waitServed(t, health, ended)
	get := func(path string, code int, want string) {
		t.Helper()
		response, err := http.Get("http://" + health.Address() + path) //nolint:noctx // the server is the test's own
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != code || !strings.Contains(string(body), want) {
			t.Errorf("%s: status %d, body %q (%v); want %d with %q", path, response.StatusCode, body, err, code, want)
		}
	}
	get("/healthz", http.StatusOK, "ok")
	get("/readyz", http.StatusServiceUnavailable, "not ready: [worker]")
	ready()
	ready()
	get("/readyz", http.StatusOK, "ready")
	get("/metrics", http.StatusOK, "go_goroutines")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("a stop that was asked for ended with %v", err)
	}
	if w.late || !*w.log {
		t.Errorf("the log was closed before the worker ended (%v) or not at all (%v)", w.late, !*w.log)
	}
}

// waitServed waits until the endpoints are served.
func waitServed(t *testing.T, health *service.Health, ended <-chan error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); health.Address() == ""; {
		if time.Now().After(deadline) {
			t.Fatal("nothing is served after a minute")
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestEndpointsOverTLS: with a certificate, the endpoints are served to who
// trusts it, and to nobody in the clear.
func TestEndpointsOverTLS(t *testing.T) {
	// The certificate of a test server is one for the loopback interface.
	known := httptest.NewTLSServer(nil)
	defer known.Close()
	pair := known.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	config, dir := configuration(), t.TempDir()
	config.TLSCert, config.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		config.TLSCert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		config.TLSKey:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorker()
	var health *service.Health
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- service.Run(ctx, w.application(config, t.Output(), &health)...) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a stop that was asked for ended with %v", err)
		}
	}()
	<-w.ready
	waitServed(t, health, ended)
	response, err := known.Client().Get("https://" + health.Address() + "/healthz") //nolint:noctx // the server is the test's own
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK || response.TLS == nil {
		t.Errorf("status %d, TLS %v", response.StatusCode, response.TLS)
	}
	known.Client().CloseIdleConnections()
	clear, err := http.Get("http://" + health.Address() + "/healthz") //nolint:noctx // the server is the test's own
	if err == nil {
		clear.Body.Close()
		if clear.StatusCode == http.StatusOK {
			t.Error("the endpoints are served in the clear, too")
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestWorkerEnds: a process whose worker ends by itself ends with an error, and
// its log says why.
func TestWorkerEnds(t *testing.T) {
	w := newWorker()
	var mu sync.Mutex
	var out strings.Builder
	ended := make(chan error)
	config := configuration()
	config.Listen = ""
	go func() {
		ended <- service.Run(t.Context(), w.application(config, lockedWriter{&mu, &out}, nil)...)
	}()
	<-w.ready
	w.end <- errors.New("subscription lost")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "a service ended") {
		t.Errorf("error is %v, want one that says that a service ended", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(out.String(), "subscription lost") {
		t.Errorf("the log does not say why: %s", &out)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	to io.Writer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

// TestStart: what makes a start fail is one clear error.
func TestStart(t *testing.T) {
	taken := configuration()
	taken.Listen = "127.0.0.1:99999"
	for name, test := range map[string]struct {
		config service.Config
		open   func(context.Context, string) (events.Log, error)
		want   string
	}{
		"no such driver": {func() service.Config { c := configuration(); c.Log = "ftp://nowhere"; return c }(), drivers.OpenURL, "there is no driver for ftp://"},
		"no such port":   {taken, drivers.OpenURL, "serve HTTP at 127.0.0.1:99999"},
		"no certificate": {func() service.Config {
			c := configuration()
			c.TLSCert, c.TLSKey = "missing.pem", "missing.key"
			return c
		}(), drivers.OpenURL, "serve HTTPS with --tls-cert missing.pem and --tls-key missing.key: open missing.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			err := service.Run(t.Context(), service.Module(test.config, t.Output(), test.open), fx.Invoke(func(events.Log) {}))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, want one line with %q", err, test.want)
			}
		})
	}
}

// TestStopWhileStarting: a service that is asked to end before it has begun does
// so without an error.
func TestStopWhileStarting(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	err := service.Run(ctx, service.Module(configuration(), t.Output(), func(opening context.Context, url string) (events.Log, error) {
		stop() // while the log takes its time to open
		return drivers.OpenURL(opening, url)
	}), fx.Invoke(func(events.Log) {}))
	if err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestStopIsBounded: a worker that does not end is not waited for longer than
// the time that a stop has.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- service.Run(ctx, fx.Provide(func() *slog.Logger { return slog.New(slog.DiscardHandler) }, service.NewHealth),
				fx.Invoke(func(lifecycle fx.Lifecycle, stop fx.Shutdowner, health *service.Health, logger *slog.Logger) {
					service.Work(lifecycle, stop, health, logger, "stuck", stuckWorker(stuck))
				}))
		}()
		synctest.Wait()
		cancel()
		began := time.Now()
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want that the stop took too long", err)
		}
		if waited := time.Since(began); waited != service.StopTimeout {
			t.Errorf("waited %v, want %v", waited, service.StopTimeout)
		}
		close(stuck)
	})
}

type stuckWorker chan struct{}

func (w stuckWorker) Run(context.Context, func()) error {
	<-w
	return nil
}

// TestMainCodes covers the exit codes of a service's process.
func TestMainCodes(t *testing.T) {
	arguments := os.Args
	t.Cleanup(func() { os.Args = arguments })
	for name, test := range map[string]struct {
		args []string
		code int
	}{
		"help":        {[]string{"--help"}, 0},
		"no flag":     {[]string{"--nope"}, 2},
		"no level":    {[]string{"--log-level", "loud"}, 2},
		"no argument": {[]string{"extra"}, 2},
		"no driver":   {[]string{"--log", "ftp://nowhere"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			os.Args = append([]string{"tidemark-test"}, test.args...)
			got := service.Main("test", "A service of tests", drivers.OpenURL, func(*pflag.FlagSet) func() fx.Option {
				return func() fx.Option { return fx.Invoke(func(events.Log) {}) }
			})
			if got != test.code {
				t.Errorf("exit code %d, want %d", got, test.code)
			}
		})
	}
}
