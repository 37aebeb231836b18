// Package reporter shows what Tidemark sees, decides and does: a summary line
// for each decision, Prometheus metrics, and HTML reports.
//
// Everything it shows is a projection of the log: started again, it shows the
// same. It holds no code and no credentials that could change a fleet.
package reporter

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/metrics"
)

// Config configures a reporter.
type Config struct {
	// ReportDir is where periodic reports are written.
	ReportDir string
	// ReportFilename is a fixed name, written anew each time; empty names each
	// report by its time.
	ReportFilename string
	// ReportInterval is the period of the reports; 0 writes none.
	ReportInterval time.Duration
	// History is how far the metrics and the live page reach back.
	History time.Duration
	// SummaryFormat is text or json.
	SummaryFormat string
}

// DefaultConfig returns the configuration of a reporter that is told nothing.
func DefaultConfig() Config {
	return Config{ReportDir: ".", History: 24 * time.Hour, SummaryFormat: "text"}
}

// Validate reports what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.ReportInterval < 0:
		return fmt.Errorf("report interval is %v, want 0 for none or a positive duration", c.ReportInterval)
	case c.History <= 0:
		return fmt.Errorf("history is %v, want a positive duration", c.History)
	case c.SummaryFormat != "text" && c.SummaryFormat != "json":
		return fmt.Errorf("summary format is %q, want text or json", c.SummaryFormat)
	}
	return nil
}

// Reporter follows the log.
type Reporter struct {
	config      Config
	log         events.Log
	topics      events.Topics
	logger      *slog.Logger
	router      events.RouterConfig
	metrics     *metrics.Projection
	deployments *events.DeploymentTable
	known       sync.Map // of revisionOf: the revisions that are folded
	summaries   io.Writer
	now         func() time.Time
}

// Run reports until the context is done.
func (r *Reporter) Run(ctx context.Context, ready func()) error {
	if err := r.deployments.Start(ctx); err != nil {
		return err
	}
	r.announce()
	follow, err := r.load(ctx)
	if err != nil {
		return err
	}
	router, err := events.NewRouter(r.router)
	if err != nil {
		return err
	}
	subscriber, err := r.log.Subscriber("reporter")
	if err != nil {
		return err
	}
	router.AddConsumerHandler("summarize", r.topics.Name(events.TopicDecisions), subscriber, r.summarize)
	working, ctx := errgroup.WithContext(ctx)
	for _, one := range follow {
		working.Go(one)
	}
	working.Go(func() error { return router.Run(ctx) })
	working.Go(func() error { return r.writeReports(ctx) })
	working.Go(func() error {
		select {
		case <-router.Running():
			ready()
		case <-ctx.Done():
		}
		return nil
	})
	return working.Wait()
}

// announce says of each deployment whether it is advisory or active.
func (r *Reporter) announce() {
	for _, configured := range r.deployments.All() {
		r.logger.Info("deployment", "deployment", configured.Deployment, "mode", configured.Spec.Mode(),
			"revision", configured.Revision, "epoch", configured.Epoch)
	}
}

// summarize prints one line for a decision. The group's position is durable, so
// that a restart prints what came meanwhile and repeats at most the line in hand.
func (r *Reporter) summarize(msg *message.Message) error {
	event, err := events.EventOf(msg)
	if err != nil {
		return err
	}
	fact, err := event.Fact()
	if err != nil {
		return err
	}
	decision, ok := fact.(*model.ScalingDecision)
	if !ok {
		return events.Permanent(fmt.Errorf("event %s is a %s; summaries are of decisions", event.ID, event.Type))
	}
	line := Summary(decision)
	if r.config.SummaryFormat == "json" {
		line = string(event.Data)
	}
	if _, err := fmt.Fprintln(r.summaries, line); err != nil {
		return fmt.Errorf("print summary: %w", err)
	}
	return nil
}
