package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
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
	trace   string
	speed   float64
	dir     string
	listen  string
	verbose bool
	advise  bool
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
	cmd.Flags().BoolVar(&d.verbose, "verbose", false, "print every summary line, those of holds too")
	cmd.Flags().BoolVar(&d.advise, "advisory", false, "stay advisory to the end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !(d.speed > 0) {
			return usageError{fmt.Errorf("--speed is %v, want more than 0", d.speed)}
		}
		return d.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// spec returns the demo's deployment, and how long its workload lasts.
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
	source.StartedAt = new(time.Now().UTC().Truncate(time.Millisecond))
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

	var log events.Log
	var health *service.Health
	app := fx.New(
		service.Module(config, screen, drivers.OpenURL), service.WithLogger(), fx.StopTimeout(service.StopTimeout),
		collector.Module(collector.DefaultConfig()), decider.Module(decider.DefaultConfig()),
		actuator.Module(actuator.DefaultConfig()), reporter.Module(reporter.DefaultConfig(), screen.summaries()),
		fx.Populate(&log, &health),
	)
	starting, cancel := context.WithTimeout(ctx, app.StartTimeout())
	defer cancel()
	if err := app.Start(starting); err != nil {
		return err
	}
	screen.printf("Live page   http://%s/\n", health.Address())
	screen.printf("Log         %s\n", config.Log)
	screen.printf("Workload    %s, %v at %gx\n\n", workloadName(d.trace), duration.Round(time.Second), d.speed)

	working := d.drive(ctx, app, log, config.Topics(), spec, duration, screen)
	stopping, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), app.StopTimeout())
	defer cancelStop()
	if err := errors.Join(working, app.Stop(stopping)); err != nil {
		return err
	}
	return d.conclude(context.WithoutCancel(ctx), run, config, spec.Name, stdout)
}

func workloadName(trace string) string {
	if trace == "" {
		return "a generated day of traffic, compressed"
	}
	return filepath.Base(trace)
}

// drive configures the deployment, lets simulated time pass, activates the
// deployment half way, and waits until every observation has its decision.
func (d *demo) drive(ctx context.Context, app *fx.App, log events.Log, topics events.Topics, spec model.Deployment, duration time.Duration, screen *screen) error {
	control, err := newControl(ctx, log, topics, whoami())
	if err != nil {
		return err
	}
	if _, _, _, err := control.apply(ctx, spec, "the demo starts advisory"); err != nil {
		return err
	}
	clock := spec.Clock()
	start, end := *spec.Source.Simulated.StartedAt, spec.Source.Simulated.StartedAt.Add(duration)
	screen.begin(start, end, d.speed)
	defer screen.finish()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	activated := d.advise
	for {
		now := clock.At(time.Now())
		screen.advance(now)
		if !activated && now.After(start.Add(duration/2)) {
			if _, err := control.switchMode(ctx, spec.Name, model.Active, "half way: the demo lets the decisions act"); err != nil {
				return err
			}
			activated = true
			screen.printf("\n%s is active from here on: the actuator subscribes and acts\n\n", spec.Name)
		}
		if now.After(end) {
			break
		}
		select {
		case <-ticker.C:
		case signal := <-app.Wait():
			return fmt.Errorf("a service ended with code %d", signal.ExitCode)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return d.drain(ctx, log, topics, control, spec.Name, ticker)
}

// drain retires the deployment, so that no observation comes any more, and waits
// for the decisions of those that came.
func (d *demo) drain(ctx context.Context, log events.Log, topics events.Topics, control *control, name string, ticker *time.Ticker) error {
	if err := control.retire(ctx, name, "the demo is over"); err != nil {
		return err
	}
	bound, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		observed, decided, err := counts(bound, log, topics)
		if err != nil {
			return err
		}
		if observed == decided {
			return nil
		}
		select {
		case <-ticker.C:
		case <-bound.Done():
			return fmt.Errorf("%d observations and %d decisions after waiting for 30 s: tidemark tail dead-letters says what was not decided", observed, decided)
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
