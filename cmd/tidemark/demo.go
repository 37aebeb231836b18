package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/dig"
	"go.uber.org/fx"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/actuator"
	"tidemark.dev/services/collector"
	"tidemark.dev/services/decider"
	"tidemark.dev/services/reporter"
)

// demoConfiguration is the deployment that the demo runs: a Llama 3.1 70B fleet
// on H200, prefill and decode apart, with the measured profile of its engines.
//
//go:embed demo.yaml
var demoConfiguration []byte

type demo struct {
	trace    string
	speed    float64
	dir      string
	listen   string
	verbose  bool
	advisory bool
}

func newDemo() *cobra.Command {
	d := demo{}
	cmd := &cobra.Command{
		Use: "demo", Short: "Run the whole pipeline on a simulated fleet: advisory first, then activated half way", Args: arguments(cobra.NoArgs),
		Long: `Run all four services over an embedded log, on a simulated fleet under a day of
generated traffic that is compressed into two hours, or under a trace of real
requests. The deployment is advisory first; half way it is activated, so that
both can be seen. At the end stand a summary and an HTML report.`,
	}
	cmd.Flags().StringVar(&d.trace, "trace", "", "file of requests: Azure CSV, Mooncake JSON lines, or t_ms,isl,osl")
	cmd.Flags().Float64Var(&d.speed, "speed", 120, "times real time at which the simulated fleet lives")
	cmd.Flags().StringVar(&d.dir, "dir", "tidemark-demo", "folder for the log and the report")
	cmd.Flags().StringVar(&d.listen, "listen", "127.0.0.1:0", "address of the live page and of /metrics")
	cmd.Flags().BoolVar(&d.verbose, "verbose", false, "print every summary line, not only what is recommended anew")
	cmd.Flags().BoolVar(&d.advisory, "advisory", false, "stay advisory to the end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !(d.speed > 0) {
			return usageError{fmt.Errorf("--speed is %v, want more than 0", d.speed)}
		}
		return d.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// spec returns the demo's deployment, and how long its workload lasts. Its
// simulation starts when it is applied.
func (d *demo) spec() (model.Deployment, time.Duration, error) {
	specs, err := model.DecodeDeployments(demoConfiguration)
	if err != nil {
		return model.Deployment{}, 0, err
	}
	spec := specs[0]
	source := spec.Source.Simulated
	source.Speed = d.speed
	duration := time.Duration(source.Generator.DurationS * float64(time.Second))
	if d.trace != "" {
		if source.Trace, err = filepath.Abs(d.trace); err != nil {
			return model.Deployment{}, 0, err
		}
		if duration, err = traceDuration(d.trace); err != nil {
			return model.Deployment{}, 0, err
		}
	}
	return spec, duration, spec.Validate()
}

func (d *demo) run(ctx context.Context, stdout, stderr io.Writer) error {
	spec, duration, err := d.spec()
	if err != nil {
		return err
	}
	run := filepath.Join(d.dir, time.Now().UTC().Format("20060102-150405"))
	if err := os.MkdirAll(run, 0o755); err != nil {
		return err
	}
	config := service.DefaultConfig("demo")
	config.Log = "sqlite://" + filepath.Join(run, "tidemark.db")
	config.Listen, config.LogLevel = d.listen, "warn"
	screen := newScreen(stdout, stderr, d.verbose)

	var parts parts
	pipeline := fx.New(
		service.Module(config, screen, drivers.OpenURL), service.WithLogger(), fx.StopTimeout(service.StopTimeout),
		decider.Module(decider.DefaultConfig()), actuator.Module(actuator.DefaultConfig()),
		reporter.Module(reporter.DefaultConfig(), screen.summaries()),
		fx.Populate(&parts.log, &parts.topics, &parts.health, &parts.logger, &parts.registry, &parts.mux),
	)
	if err := start(ctx, pipeline); err != nil {
		return err
	}
	screen.printf("Live page   http://%s/\n", parts.health.Address())
	screen.printf("Log         %s\n", config.Log)
	screen.printf("Workload    %s, %v at %gx\n", workloadName(d.trace), duration.Round(time.Second), d.speed)
	if !d.verbose {
		screen.printf("Summaries   of what is recommended anew; --verbose prints one for each decision\n")
	}
	screen.printf("\n")
	working := d.drive(ctx, pipeline, parts, spec, duration, screen)
	if err := errors.Join(working, stop(ctx, pipeline)); err != nil {
		return err
	}
	return d.conclude(context.WithoutCancel(ctx), run, config, &spec, stdout)
}

// parts are what the demo's two applications share. The collector is one of its
// own: it stops first, and what it observed is decided before the others do.
type parts struct {
	log      events.Log
	topics   events.Topics
	health   *service.Health
	logger   *slog.Logger
	registry *prometheus.Registry
	mux      *http.ServeMux
}

func (p parts) observer() *fx.App {
	return fx.New(
		fx.Supply(p.topics, p.health, p.logger, p.registry, p.mux), fx.Provide(func() events.Log { return p.log }),
		service.WithLogger(), fx.StopTimeout(service.StopTimeout), collector.Module(collector.DefaultConfig()),
	)
}

func start(ctx context.Context, app *fx.App) error {
	bound, cancel := context.WithTimeout(ctx, app.StartTimeout())
	defer cancel()
	if err := app.Start(bound); err != nil {
		return dig.RootCause(err)
	}
	return nil
}

func stop(ctx context.Context, app *fx.App) error {
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), app.StopTimeout())
	defer cancel()
	return app.Stop(bound)
}

func workloadName(trace string) string {
	if trace == "" {
		return "a generated day of traffic, compressed"
	}
	return filepath.Base(trace)
}

// drive configures the deployment, lets simulated time pass, activates the
// deployment half way, and waits until every observation has its decision.
func (d *demo) drive(ctx context.Context, pipeline *fx.App, parts parts, spec model.Deployment, duration time.Duration, screen *screen) error {
	control, err := newControl(ctx, parts.log, parts.topics, whoami())
	if err != nil {
		return err
	}
	observer := parts.observer()
	if err := start(ctx, observer); err != nil {
		return err
	}
	if err := errors.Join(d.live(ctx, pipeline, observer, control, spec, duration, screen), stop(ctx, observer)); err != nil {
		return err
	}
	return drain(ctx, parts)
}

// live lets the simulated fleet live for the duration of its workload.
func (d *demo) live(ctx context.Context, pipeline, observer *fx.App, control *control, spec model.Deployment, duration time.Duration, screen *screen) error {
	configured, _, _, err := control.apply(ctx, spec, "the demo starts advisory")
	if err != nil {
		return err
	}
	clock, begin := configured.Spec.Clock(), *configured.Spec.Source.Simulated.StartedAt
	half, end := begin.Add(duration/2), begin.Add(duration)
	screen.begin(begin, end, d.speed)
	defer screen.finish()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	activated := d.advisory
	for {
		now := clock.At(time.Now())
		screen.advance(now)
		if !activated && now.After(half) {
			if _, err := control.switchMode(ctx, spec.Name, model.Active, "half way: the demo lets the decisions act"); err != nil {
				return err
			}
			activated = true
			screen.printf("\n%s is active from here on: the actuator subscribes and acts\n\n", spec.Name)
		}
		if now.After(end) {
			return control.retire(ctx, spec.Name, "the demo is over")
		}
		var ended fx.ShutdownSignal
		select {
		case <-ticker.C:
			continue
		case ended = <-pipeline.Wait():
		case ended = <-observer.Wait():
		case <-ctx.Done():
		}
		if ended.ExitCode == 0 {
			return errors.New("the demo was stopped before its end")
		}
		return errors.New("a service ended; the lines above say why")
	}
}

// drain waits for the decisions of the observations that came.
func drain(ctx context.Context, parts parts) error {
	const bound = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		observed, decided, err := counts(ctx, parts.log, parts.topics)
		if err != nil {
			return err
		}
		if observed == decided {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d observations and %d decisions after waiting for %v: tidemark tail dead-letters says what was not decided", observed, decided, bound)
		}
	}
}

func counts(ctx context.Context, log events.Log, topics events.Topics) (observed, decided int64, err error) {
	observations, err := log.Ends(ctx, topics.Name(events.TopicObservations))
	if err != nil {
		return 0, 0, err
	}
	decisions, err := log.Ends(ctx, topics.Name(events.TopicDecisions))
	for _, end := range observations {
		observed += end
	}
	for _, end := range decisions {
		decided += end
	}
	return observed, decided, err
}

// traceDuration returns how long the requests of a trace go on.
func traceDuration(path string) (time.Duration, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	requests, err := sim.LoadTrace(file, path)
	if err != nil {
		return 0, err
	}
	return requests[len(requests)-1].At, nil
}
