package reporter

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tidemark.dev/services/reporter/internal/report"
	"tidemark.dev/services/reporter/internal/reporttest"
	"tidemark.dev/services/reporter/internal/web"
)

// TestLinesAsJSON holds that each kind of line is JSON where lines are JSON.
func TestLinesAsJSON(t *testing.T) {
	log := openLog(t)
	publish(t, log, recordedLog(t)[:20])
	config := DefaultConfig()
	config.SummaryFormat = "json"
	r := start(t, log, config)
	eventually(t, "whether summaries are printed", "true", func() string {
		if strings.Contains(r.printed.String(), `"kind":"summary"`) {
			return "true"
		}
		return "false"
	})
	first, _, _ := strings.Cut(r.printed.String(), "\n")
	want := `{"kind":"deployment","deployment":"chat-70b","mode":"advisory","epoch":0,"revision":1,"topology":"disaggregated","target":"sla"}`
	if first != want {
		t.Errorf("the first line is\n%s\nwant\n%s", first, want)
	}
	for line := range strings.Lines(r.printed.String()) {
		var summary struct {
			Kind, Deployment, Action string
			EstTTFTMs                *float64 `json:"est_ttft_ms"`
		}
		if err := json.Unmarshal([]byte(line), &summary); err != nil || summary.Kind == "" || summary.Deployment == "" {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestDigest holds that every interval each deployment is summed up over the
// last such stretch of its own time.
func TestDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for format, want := range map[string][]string{
			"text": {"[digest] chat-70b mode=advisory last=1h0m0s | decisions=721 hold=", " | flaps=", " | sla_ttft=100.0% sla_itl=100.0% windows=", "gpu_hours: set=20.0 recommended="},
			"json": {`{"kind":"digest","deployment":"chat-70b","mode":"advisory","from_ms":1795395595000,`, `"decisions":721`},
		} {
			printed := &lines{}
			r := &Reporter{config: DefaultConfig(), live: web.NewLive(24 * time.Hour), summaries: printed}
			r.config.SummaryFormat = format
			day := reporttest.Day{Name: "chat-70b", Seed: 1, Ticks: 1440, Step: 5 * time.Second, ActiveAt: reporttest.Midnight.Add(24 * time.Hour)}
			for _, f := range day.Generate() {
				r.live.Add(f.ID, f.Fact)
			}
			done := make(chan error)
			ctx, stop := context.WithCancel(t.Context())
			go func() { done <- r.digest(ctx) }()
			time.Sleep(time.Hour + time.Second)
			synctest.Wait()
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			for _, part := range want {
				if !strings.Contains(printed.String(), part) {
					t.Errorf("%s: got\n%swant %q in it", format, printed.String(), part)
				}
			}
			if n := strings.Count(printed.String(), "\n"); n != 1 {
				t.Errorf("%s: %d lines, want 1", format, n)
			}
		}
	})
}

func TestDigestOfNothing(t *testing.T) {
	d := &report.Deployment{Name: "a", Mode: "advisory"}
	want := "[digest] a mode=advisory last=1h0m0s | decisions=0 | flaps=0 holds_without_evidence=0 | sla_ttft=n/a sla_itl=n/a windows=0 | gpu_hours: set=n/a recommended=n/a"
	if got := digestLine(d, time.Hour); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPeriodicReports holds that a report is written every interval and at the
// stop, each under its time or all under one name.
func TestPeriodicReports(t *testing.T) {
	for name, test := range map[string]struct {
		filename string
		want     []string
	}{
		"by their time": {"", []string{"tidemark_report_20000101_060000.html", "tidemark_report_20000101_120000.html", "tidemark_report_20000101_130000.html"}},
		"one name":      {"report.html", []string{"report.html"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := openLog(t)
				publish(t, log, recordedLog(t)[:20])
				config := DefaultConfig()
				config.ReportDir, config.ReportFilename, config.ReportInterval = t.TempDir(), test.filename, 6*time.Hour
				r := &Reporter{config: config, log: log, topics: topics, logger: quiet, now: time.Now}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- r.writeReports(ctx) }()
				time.Sleep(13 * time.Hour)
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
				entries, err := os.ReadDir(config.ReportDir)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, entry := range entries {
					got = append(got, entry.Name())
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}
