package reporter

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/services/reporter/internal/report"
)

// ReportOptions select what a report shows.
type ReportOptions struct {
	// From and To bound the events by when the log took them in; zero is open.
	From, To time.Time
	// Deployments are those shown; none means all.
	Deployments []string
	Title       string
	GeneratedAt time.Time
}

// WriteReport builds an HTML report from the log alone and returns it. Equal
// logs and options give equal bytes.
func WriteReport(ctx context.Context, log events.Log, topics events.Topics, options ReportOptions) ([]byte, error) {
	builder := report.NewBuilder()
	for _, name := range followed {
		topic := topics.Name(name)
		window := events.Range{From: events.Bound{Time: options.From}, To: events.Bound{Time: options.To}}
		if name == events.TopicDeployments {
			window.From = events.Bound{}
		}
		for record, err := range log.Read(ctx, topic, window) {
			if err != nil {
				return nil, fmt.Errorf("read %s for the report: %w", topic, err)
			}
			event, err := record.Event()
			if err != nil {
				continue // It is in the dead letters, with the reason.
			}
			if fact, err := event.Fact(); err == nil {
				builder.Add(event.ID, fact)
			}
		}
	}
	var page bytes.Buffer
	err := report.Render(&page, builder.Build(report.Options{
		Deployments: options.Deployments, Title: options.Title, GeneratedAt: options.GeneratedAt,
	}))
	if err != nil {
		return nil, fmt.Errorf("render report: %w", err)
	}
	return page.Bytes(), nil
}

// SaveReport writes a report to a file, whole or not at all.
func SaveReport(path string, page []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	beside, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	defer os.Remove(beside.Name())
	_, err = beside.Write(page)
	if err == nil {
		err = beside.Chmod(0o644)
	}
	if closing := beside.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(beside.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	return nil
}

// writeReports writes a report every interval, and one when the reporter stops.
func (r *Reporter) writeReports(ctx context.Context) error {
	if r.config.ReportInterval == 0 {
		return nil
	}
	ticker := time.NewTicker(r.config.ReportInterval)
	defer ticker.Stop()
	from := r.now()
	for {
		stopping := false
		select {
		case <-ticker.C:
		case <-ctx.Done():
			stopping = true
		}
		now := r.now()
		page, err := WriteReport(context.WithoutCancel(ctx), r.log, r.topics, ReportOptions{From: from, To: now, GeneratedAt: now})
		if err == nil {
			err = SaveReport(filepath.Join(r.config.ReportDir, r.filename(now)), page)
		}
		if err != nil {
			r.logger.Error("report is not written", "error", err)
		} else {
			from = now
		}
		if stopping {
			return nil
		}
	}
}

func (r *Reporter) filename(now time.Time) string {
	if r.config.ReportFilename != "" {
		return r.config.ReportFilename
	}
	return "tidemark_report_" + now.UTC().Format("20060102_150405") + ".html"
}

// servePage serves the report of the recent past, built when it is asked for.
func (r *Reporter) servePage(w http.ResponseWriter, request *http.Request) {
	now := r.now()
	page, err := WriteReport(request.Context(), r.log, r.topics, ReportOptions{From: now.Add(-r.config.History), GeneratedAt: now})
	if err != nil {
		r.logger.Error("report is not served", "error", err)
		http.Error(w, "the report cannot be built: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if _, err := w.Write(page); err != nil {
		r.logger.Debug("report was not read to its end", "error", err)
	}
}
