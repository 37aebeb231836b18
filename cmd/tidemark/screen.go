package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// screen shares a terminal between lines and a progress bar. In a pipe there is
// no bar.
type screen struct {
	mu      sync.Mutex
	out     io.Writer
	err     io.Writer
	verbose bool
	bar     *progressbar.ProgressBar
	start   time.Time
}

func newScreen(out, err io.Writer, verbose bool) *screen {
	return &screen{out: out, err: err, verbose: verbose}
}

// onTerminal reports whether a writer is a terminal.
func onTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// begin shows the bar of a run, on a terminal.
func (s *screen) begin(start, end time.Time, speed float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start = start
	if onTerminal(s.err) {
		s.bar = progressbar.NewOptions64(int64(end.Sub(start).Seconds()), progressbar.OptionSetWriter(s.err),
			progressbar.OptionSetDescription(fmt.Sprintf("simulating at %gx", speed)), progressbar.OptionSetWidth(30),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	}
}

// reading shows a bar of records, on a terminal, once it is told of the first.
func (s *screen) reading(what string) func(done, of int64) {
	return func(done, of int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.bar == nil {
			if !onTerminal(s.err) {
				return
			}
			s.bar = progressbar.NewOptions64(of, progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription(what),
				progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(), progressbar.OptionShowCount(), progressbar.OptionShowIts())
		}
		_ = s.bar.Set64(min(done, of))
	}
}

// advance moves the bar to an instant.
func (s *screen) advance(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Set64(int64(now.Sub(s.start).Seconds()))
	}
}

// finish removes the bar.
func (s *screen) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Finish()
		s.bar = nil
	}
}

func (s *screen) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.out, format, args...)
}

func (s *screen) clear() {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
}

// Write prints lines of a logger to stderr.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	return s.err.Write(p)
}

// summaries prints summary lines. Unless the screen is verbose, those of holds
// are left out, and those that recommend what the line before them did.
func (s *screen) summaries() io.Writer { return &summaries{screen: s} }

type summaries struct {
	*screen
	// last is the recommendation that was printed last.
	last []byte
}

var holdPrefix = []byte("[summary] HOLD")

func (s *summaries) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.verbose {
		recommendation, _, _ := bytes.Cut(p, []byte(" | load_reason="))
		if bytes.HasPrefix(p, holdPrefix) || bytes.Equal(recommendation, s.last) {
			return len(p), nil
		}
		s.last = bytes.Clone(recommendation)
	}
	s.clear()
	return s.out.Write(p)
}
