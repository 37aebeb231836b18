package reporter

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/report"
)

// ReportOptions select what a report shows.
type ReportOptions struct {
	// From and To bound what is shown, both included, by when it was observed and
	// done on the deployments' clock; zero is open.
	From, To time.Time
	// Deployments are those shown; none means all.
	Deployments []string
	Title       string
	GeneratedAt time.Time
}

// WriteReport builds an HTML report from the log alone and returns it. Equal
// logs and options give equal bytes.
func WriteReport(ctx context.Context, log events.Log, topics events.Topics, options ReportOptions) ([]byte, error) {
	data, err := buildReport(ctx, log, topics, options)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	if err := report.Render(&page, data); err != nil {
		return nil, err
	}
	return page.Bytes(), nil
}

// buildReport folds the log into the data of a report.
func buildReport(ctx context.Context, log events.Log, topics events.Topics, options ReportOptions) (report.Data, error) {
	builder := report.NewBuilder()
	// What was observed at an instant is in the log from then on, but not of a
	// deployment that lives faster: of that, it may be anywhere.
	simulated := false
	for _, name := range reported {
		topic := topics.Name(name)
		var window events.Range
		if name != events.TopicDeployments && !simulated && !options.From.IsZero() {
			window.From.Time = options.From.Add(-slack)
		}
		for record, err := range log.Read(ctx, topic, window) {
			if err != nil {
				return report.Data{}, fmt.Errorf("read %s for the report: %w", topic, err)
			}
			event, err := record.Event()
			if err != nil {
				continue // It is in the dead letters, with the reason.
			}
			fact, err := event.Fact()
			if err != nil {
				continue
			}
			if configured, ok := fact.(*model.DeploymentConfigured); ok {
				simulated = simulated || configured.Spec.Source != nil && configured.Spec.Source.Simulated != nil
			}
			if options.shows(event, name) {
				builder.Add(event.ID, fact)
			}
		}
	}
	return builder.Build(report.Options{
		From: options.From, To: options.To, Deployments: options.Deployments, Title: options.Title, GeneratedAt: options.GeneratedAt,
	}), nil
}

// slack is how far the clocks of services may be apart.
const slack = time.Hour

// shows reports whether an event of a topic belongs in the report. What is
// configured belongs there always.
func (o ReportOptions) shows(event events.Event, topic string) bool {
	return topic == events.TopicDeployments ||
		!(!o.From.IsZero() && event.Time.Before(o.From) || !o.To.IsZero() && event.Time.After(o.To))
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
// Each goes back to the one before it, the first for one interval: a reporter
// that is started again leaves nothing out.
func (r *Reporter) writeReports(ctx context.Context) error {
	if r.config.ReportInterval == 0 {
		return nil
	}
	ticker := time.NewTicker(r.config.ReportInterval)
	defer ticker.Stop()
	from := r.now().Add(-r.config.ReportInterval)
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
