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
	"tidemark.dev/services/reporter/internal/report"
	"tidemark.dev/services/reporter/internal/web"
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
	// History is how far the live page reaches back.
	History time.Duration
	// DigestInterval is the period of the digests, which each sum up the last
	// such stretch; 0 prints none.
	DigestInterval time.Duration
	// SummaryFormat is the form of the lines, text or json; empty is that of the
	// process's log.
	SummaryFormat string
	// AuthFile names the file of those who may read the page and the API; empty
	// lets everyone read.
	AuthFile string
	// AllowAnonymous lets everyone read although others than this machine can
	// reach the page. Without it, that is refused.
	AllowAnonymous bool
}

// DefaultConfig returns the configuration of a reporter that is told nothing.
func DefaultConfig() Config {
	return Config{ReportDir: ".", History: 24 * time.Hour, DigestInterval: time.Hour}
}

// Validate reports what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.ReportInterval < 0:
		return fmt.Errorf("report interval is %v, want 0 for none or a positive duration", c.ReportInterval)
	case c.History <= 0:
		return fmt.Errorf("history is %v, want a positive duration", c.History)
	case c.DigestInterval < 0:
		return fmt.Errorf("digest interval is %v, want 0 for none or a positive duration", c.DigestInterval)
	case c.SummaryFormat != "" && c.SummaryFormat != "text" && c.SummaryFormat != "json":
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
	live        *web.Live
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
	if err := r.announce(); err != nil {
		return err
	}
	follow, err := r.load(ctx)
	if err != nil {
		return err
	}
	router, err := events.NewRouter(r.router)
	if err != nil {
		return err
	}
	subscriber, err := r.log.Subscriber(r.topics.Group("reporter"))
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
	working.Go(func() error { return r.digest(ctx) })
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
func (r *Reporter) announce() error {
	for _, configured := range r.deployments.All() {
		if err := r.say(modeLine(configured), modeOf(configured)); err != nil {
			return err
		}
	}
	return nil
}

// digest prints the digests of all deployments every interval.
func (r *Reporter) digest(ctx context.Context) error {
	if r.config.DigestInterval == 0 {
		return nil
	}
	ticker := time.NewTicker(r.config.DigestInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		data := r.live.Data(report.Options{Last: r.config.DigestInterval})
		for i := range data.Deployments {
			if d := &data.Deployments[i]; !d.Retired {
				if err := r.say(digestLine(d, r.config.DigestInterval), digestOf(d)); err != nil {
					return err
				}
			}
		}
	}
}

// summarize prints one line for a decision. The group's position is durable, so
// that a restart prints what came meanwhile and repeats at most the line in hand.
func (r *Reporter) summarize(msg *message.Message) error {
	event, err := events.EventOf(msg)
	if err != nil {
		return err
	}
	decision, err := events.As[*model.ScalingDecision](event)
	if err != nil {
		return err
	}
	return r.say(Summary(decision), summaryOf(event.ID, decision))
}
