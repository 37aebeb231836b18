package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestSummaries(t *testing.T) {
	lines := []string{
		"[summary] HOLD deployment=chat mode=advisory | current: prefill=2 | load_reason=no_change",
		"[summary] SCALE_UP deployment=chat mode=advisory | current: prefill=2 | load_reason=scale_up est_ttft=1.0ms",
		"[summary] SCALE_UP deployment=chat mode=advisory | current: prefill=2 | load_reason=scale_up est_ttft=2.0ms",
		"[summary] SCALE_UP deployment=chat mode=active | current: prefill=2 | load_reason=scale_up est_ttft=2.0ms",
		"[summary] SCALE_UP deployment=chat mode=active | current: prefill=3 | load_reason=scale_up est_ttft=2.0ms",
	}
	for verbose, want := range map[bool][]int{true: {0, 1, 2, 3, 4}, false: {1, 3, 4}} {
		var out bytes.Buffer
		to := newScreen(&out, io.Discard, verbose).summaries()
		for _, line := range lines {
			fmt.Fprintln(to, line)
		}
		var kept strings.Builder
		for _, i := range want {
			kept.WriteString(lines[i] + "\n")
		}
		if out.String() != kept.String() {
			t.Errorf("verbose %v: printed\n%swant\n%s", verbose, &out, &kept)
		}
	}
}

// TestNoBarInPipe: what is no terminal gets lines and nothing else.
func TestNoBarInPipe(t *testing.T) {
	var out, errs bytes.Buffer
	s := newScreen(&out, &errs, false)
	begin := time.Now()
	s.begin(begin, begin.Add(time.Hour), 100)
	s.advance(begin.Add(time.Minute))
	s.printf("half way\n")
	s.finish()
	if out.String() != "half way\n" || errs.Len() > 0 {
		t.Errorf("printed %q and %q", &out, &errs)
	}
}
