package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
	"tidemark.dev/pkg/model/sim"
	"tidemark.dev/pkg/model/sim/trial"
	"tidemark.dev/services/reporter"
)

// simulationStart is where the clock of a simulation begins that names no start:
// a whole multiple of every usual interval.
var simulationStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// simulation is a command line of tidemark simulate.
type simulation struct {
	file, engine, trace, html string
	names                     []string
	duration, coldStart       time.Duration
	rps, multiplier           float64
	seed                      uint64
	hold                      bool
	output                    string
	changed                   func(flag string) bool
}

func newSimulate() *cobra.Command {
	s := simulation{}
	cmd := &cobra.Command{
		Use: "simulate -f FILE", Short: "Try the policies of deployments on simulated fleets, faster than real time", Args: arguments(cobra.NoArgs),
		Long: `Try the policy of each deployment of a file on a simulated fleet, under a trace
of real requests or a generated workload. Ticks, observations and decisions are
those of the services; decisions are applied at once, whether the deployment is
advisory or not, unless --hold leaves the fleet as it is. No log is needed, and
nothing real is touched. The same command line gives the same figures.

ATTAINED is the share of all requests whose time to first token and inter-token
latency were within the deployment's sla; one that was not answered kept nothing.
FLAPS are decisions that reverse a change of the last ten minutes. GPU-HOURS
count from placing a replica until it is gone, cold starts included.

What the file says under source.simulated can be overridden. A deployment without
it needs --engine: ` + strings.Join(sim.FiguresNames(), ", ") + ".",
		Example: `  tidemark simulate -f deployments.yaml
  tidemark simulate -f deployments.yaml --engine h200-llama-3.1-70b-fp8-tp2 --trace requests.csv --rate 4 --html report.html`,
	}
	flags := cmd.Flags()
	flags.StringVarP(&s.file, "file", "f", "", "configuration file; - is standard input")
	flags.StringSliceVar(&s.names, "deployment", nil, "only these deployments")
	flags.StringVar(&s.engine, "engine", "", "figures of the simulated engine")
	flags.StringVar(&s.trace, "trace", "", "file of requests: Azure CSV, Mooncake JSON lines, or t_ms,isl,osl")
	flags.DurationVar(&s.duration, "duration", 0, "simulated time, in which a generated workload has one daily swing; without it, the trace's or the generator's own")
	flags.Float64Var(&s.rps, "rps", 0, "mean rate of the generated workload, in requests per second")
	flags.Float64Var(&s.multiplier, "rate", 1, "multiplies the rate of arrivals")
	flags.Uint64Var(&s.seed, "seed", 0, "seed of the generated workload")
	flags.DurationVar(&s.coldStart, "cold-start", time.Minute, "time from placing a replica to its being ready")
	flags.BoolVar(&s.hold, "hold", false, "make decisions and leave the fleet as it is")
	flags.StringVar(&s.html, "html", "", "write an HTML report to this file")
	flags.StringVarP(&s.output, "output", "o", "table", "table, json or yaml")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s.changed = flags.Changed
		return s.run(cmd)
	}
	return cmd
}

func (s *simulation) run(cmd *cobra.Command) error {
	if s.file == "" {
		return usageError{errors.New("no file is given; usage: tidemark simulate -f FILE")}
	}
	if err := checkOutput(s.output); err != nil {
		return err
	}
	specs, err := loadDeployments(cmd.InOrStdin(), s.file)
	if err != nil {
		return err
	}
	if specs, err = s.choose(specs); err != nil {
		return err
	}
	record := func(trial.Step) error { return nil }
	var log events.Log
	if s.html != "" {
		if log, err = drivers.OpenURL(cmd.Context(), "memory://"); err != nil {
			return err
		}
		defer log.Close()
		record = recorder{log: log}.record
	}
	var results []trial.Result
	for i := range specs {
		result, err := s.try(cmd.Context(), cmd.ErrOrStderr(), &specs[i], record)
		if err != nil {
			return err
		}
		results = append(results, result)
	}
	if s.html != "" {
		page, err := reporter.WriteReport(cmd.Context(), log, recorded, reporter.ReportOptions{Title: "Simulation", GeneratedAt: simulationStart})
		if err != nil {
			return err
		}
		if err := reporter.SaveReport(s.html, page); err != nil {
			return err
		}
	}
	if s.output != "table" {
		return printValue(cmd.OutOrStdout(), results, s.output)
	}
	return printResults(cmd.OutOrStdout(), results)
}

// choose returns the deployments that are named, all if none are.
func (s *simulation) choose(specs []model.Deployment) ([]model.Deployment, error) {
	for _, name := range s.names {
		if !slices.ContainsFunc(specs, func(d model.Deployment) bool { return d.Name == name }) {
			return nil, fmt.Errorf("%s: there is no deployment %q", s.file, name)
		}
	}
	if len(s.names) == 0 {
		return specs, nil
	}
	return slices.DeleteFunc(specs, func(d model.Deployment) bool { return !slices.Contains(s.names, d.Name) }), nil
}

// try runs one deployment.
func (s *simulation) try(ctx context.Context, terminal io.Writer, spec *model.Deployment, record func(trial.Step) error) (trial.Result, error) {
	workload, duration, err := s.prepare(spec)
	if err != nil {
		return trial.Result{}, fmt.Errorf("%s: %s: %w", s.file, spec.Name, err)
	}
	bar := progressbar.DefaultSilent(0)
	if onTerminal(terminal) {
		bar = progressbar.NewOptions64(int64(duration.Seconds()), progressbar.OptionSetWriter(terminal),
			progressbar.OptionSetDescription("simulating "+spec.Name), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	}
	defer func() { _ = bar.Finish() }()
	start := *spec.Source.Simulated.StartedAt
	return trial.Run(spec, workload, trial.Options{
		Start: start, Duration: duration, Hold: s.hold,
		ObservationID: func(at time.Time) string { return events.ObservationID(spec.Name, at) },
		Stepped: func(step trial.Step) error {
			_ = bar.Set64(int64(step.Observation.ObservedAt.Sub(start).Seconds()))
			if err := ctx.Err(); err != nil {
				return err
			}
			return record(step)
		},
	})
}

// prepare gives a deployment the simulated source that the command line asks
// for, and returns its workload and how long that goes on.
func (s *simulation) prepare(spec *model.Deployment) (sim.Workload, time.Duration, error) {
	simulated := model.SimulatedSource{Speed: 1, RateMultiplier: 1, ColdStartS: s.coldStart.Seconds()}
	switch {
	case spec.Source != nil && spec.Source.Simulated != nil:
		simulated = *spec.Source.Simulated
	case s.engine == "":
		return nil, 0, usageError{errors.New("the deployment has no source.simulated; name the figures of its engine with --engine")}
	}
	if s.changed("engine") {
		simulated.Engine = s.engine
	}
	if s.changed("cold-start") {
		simulated.ColdStartS = s.coldStart.Seconds()
	}
	if s.changed("rate") {
		simulated.RateMultiplier = s.multiplier
	}
	if s.changed("rps") {
		simulated.Generator.MeanRPS, simulated.Trace = s.rps, ""
	}
	if s.changed("seed") {
		simulated.Generator.Seed = s.seed
	}
	if s.changed("trace") {
		simulated.Trace = s.trace
	}
	if simulated.StartedAt == nil {
		simulated.StartedAt = &simulationStart
	}
	simulated.Speed = 1
	duration := s.duration
	var requests []sim.Request
	if simulated.Trace != "" {
		file, err := os.Open(simulated.Trace)
		if err != nil {
			return nil, 0, err
		}
		defer file.Close()
		if requests, err = sim.LoadTrace(file, simulated.Trace); err != nil {
			return nil, 0, err
		}
		if duration == 0 {
			duration = requests[len(requests)-1].At + time.Nanosecond
		}
	} else {
		if duration == 0 {
			duration = sim.DefaultGeneratorConfig().Duration
			if d := simulated.Generator.DurationS; d > 0 {
				duration = time.Duration(d * float64(time.Second))
			}
		}
		simulated.Generator.DurationS = duration.Seconds()
	}
	spec.Source, spec.Actuator = &model.Source{Simulated: &simulated}, &model.Actuator{Simulated: &model.SimulatedActuator{}}
	if err := spec.Validate(); err != nil {
		return nil, 0, oneLine(err)
	}
	workload, err := sim.WorkloadOf(spec, requests)
	return workload, duration, err
}

// recorded are the topics of a simulation's own log.
var recorded = events.Topics{Prefix: events.DefaultPrefix}

// recorder writes the facts of trials into a log, as the services would.
type recorder struct{ log events.Log }

// simulationSource is the source of a simulation's events.
const simulationSource = "/tidemark/simulate"

func (r recorder) record(step trial.Step) error {
	at := step.Observation.ObservedAt
	if step.Decision.PreviousDigest == "" {
		if err := r.publish(events.TopicDeployments, step.Configured, at); err != nil {
			return err
		}
	}
	if err := r.publish(events.TopicObservations, step.Observation, at); err != nil {
		return err
	}
	decision, err := events.SealData(step.Decision, step.Data, events.About{Source: simulationSource, CausationID: step.Decision.ObservationID})
	if err != nil {
		return err
	}
	if err := r.log.Publisher().Publish(recorded.Name(events.TopicDecisions), decision.Message()); err != nil {
		return err
	}
	if step.Applied.Empty() {
		return nil
	}
	return r.publish(events.TopicActuations, &model.ScalingApplied{Actuation: model.Actuation{
		Deployment: step.Decision.Deployment, Epoch: step.Decision.Epoch, ObservedAt: at, OccurredAt: at, Connector: "simulated",
		DecisionID: events.DecisionID(step.Decision.Deployment, step.Decision.ObservationID, planner.Version), Roles: step.Applied,
	}}, at)
}

func (r recorder) publish(topic string, fact any, at time.Time) error {
	sealed, err := events.Seal(fact, events.About{Source: simulationSource, Time: at})
	if err != nil {
		return err
	}
	return r.log.Publisher().Publish(recorded.Name(topic), sealed.Message())
}

// printResults prints a line for each trial.
func printResults(out io.Writer, results []trial.Result) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "DEPLOYMENT\tSIMULATED\tREQUESTS\tATTAINED\tTTFT P95\tITL P95\tGPU-HOURS\tMOST GPUS\tUP\tDOWN\tREBALANCE\tHOLD\tFLAPS")
	for i := range results {
		r := &results[i]
		name := r.Deployment
		if r.Held {
			name += " (held)"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%.1f\t%d\t%d\t%d\t%d\t%d\t%d\n", name, durationText(r.DurationS), r.Requests.Arrived,
			percentText(r.SLA.Attained), p95Text(r.TTFTMs), p95Text(r.ITLMs), r.GPUs.Hours, r.GPUs.HighestSet,
			r.Decisions.ScaleUp, r.Decisions.ScaleDown, r.Decisions.Rebalance, r.Decisions.Hold, r.Flaps)
	}
	return table.Flush()
}

func durationText(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

func percentText(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100**share)
}

func p95Text(q *trial.Quantiles) string {
	if q == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", q.P95)
}
