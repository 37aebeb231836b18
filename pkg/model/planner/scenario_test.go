package planner_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// TestScenarios plays the scripts of testdata/scenarios, which are also read
// from docs/planner.md. A script has three commands; -rewrite writes what they
// print.
//
//	deployment
//	<the YAML of one deployment, without its name>
//
//	bench role=prefill
//	<prompt tokens, ms>, one iteration a line; for decode <requests, KV tokens, ms>
//
//	observe at=5s [load] [throughput]
//	fleet prefill=2 decode=3/4+1      (ready, or ready/desired, +pending)
//	traffic requests=150 isl=1000 osl=150 [hit=0.3]   (or: traffic idle)
//	engines prefill queued=3000,0     (queued prompt tokens, one engine a number)
//	engines decode kv=70000,65000     (KV tokens that decode)
//	engines aggregated kv=70000 queued=500
//
// The fleet, the traffic or the engines may be failed, stale or absent instead:
// traffic failed.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "deployment":
				return s.deploy(d)
			case "bench":
				return s.bench(d)
			case "observe":
				return s.observe(t, d)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// scenarioStart is the instant that the scripts count from.
var scenarioStart = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)

type scenario struct {
	spec     model.Deployment
	state    *planner.State
	revision int
}

func (s *scenario) deploy(d *datadriven.TestData) string {
	indented := "    " + strings.ReplaceAll(d.Input, "\n", "\n    ")
	deployments, err := model.DecodeDeployments([]byte("deployments:\n  - name: chat\n" + indented))
	if err != nil {
		return err.Error()
	}
	// Bench samples outlive a new revision, as they would in its file.
	deployments[0].Throughput.Samples = s.spec.Throughput.Samples
	s.spec = deployments[0]
	s.revision++
	return fmt.Sprintf("revision %d", s.revision)
}

func (s *scenario) bench(d *datadriven.TestData) string {
	var role string
	for _, arg := range d.CmdArgs {
		if arg.Key == "role" {
			role = arg.Vals[0]
		}
	}
	count := 0
	for line := range strings.Lines(d.Input) {
		numbers, err := floats(strings.ReplaceAll(strings.TrimSpace(line), " ", ""))
		if err != nil {
			return err.Error()
		}
		sample := sampleAt(model.Role(role), "bench", engineFigures{ageS: 3600})
		wallS := numbers[len(numbers)-1] / 1000
		sample.WallTimeS = &wallS
		if role == "prefill" {
			*sample.Scheduled.PrefillRequests, *sample.Scheduled.PrefillTokens = 1, int(numbers[0])
		} else {
			*sample.Scheduled.DecodeRequests, *sample.Scheduled.DecodeKVTokens = int(numbers[0]), int(numbers[1])
		}
		s.spec.Throughput.Samples = append(s.spec.Throughput.Samples, sample)
		count++
	}
	return fmt.Sprintf("%d samples", count)
}

func (s *scenario) observe(t *testing.T, d *datadriven.TestData) string {
	obs := model.Observation{Deployment: "chat", ConfigRevision: s.revision}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "at":
			after, err := time.ParseDuration(arg.Vals[0])
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			obs.ObservedAt = scenarioStart.Add(after)
		case "load":
			obs.Loops.Load = true
		case "throughput":
			obs.Loops.Throughput = true
		}
	}
	for line := range strings.Lines(d.Input) {
		if err := s.read(&obs, strings.Fields(line)); err != nil {
			d.Fatalf(t, "%s: %v", strings.TrimSpace(line), err)
		}
	}
	if err := obs.Validate(); err != nil {
		return err.Error()
	}
	if s.state == nil {
		state, err := planner.New(&s.spec)
		if err != nil {
			return err.Error()
		}
		s.state = state
	}
	decision, _, err := planner.Decide(s.state, planner.Input{
		ObservationID: "observation", Observation: &obs,
		Configured: &model.DeploymentConfigured{Deployment: "chat", Revision: s.revision, Spec: s.spec},
	})
	if err != nil {
		return err.Error()
	}
	return render(&decision)
}

func (s *scenario) read(obs *model.Observation, words []string) error {
	figures := map[string]string{}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		figures[key] = value
	}
	status := model.Measured
	for _, class := range []model.Evidence{model.Idle, model.Absent, model.Stale, model.Failed} {
		if _, named := figures[string(class)]; named {
			status = class
		}
	}
	switch words[0] {
	case "fleet":
		obs.Fleet = &model.FleetObservation{Status: status}
		for _, role := range model.AllRoles {
			if text, given := figures[string(role)]; given {
				replicas, err := replicasOf(text)
				if err != nil {
					return err
				}
				obs.Fleet.Roles.Set(role, replicas)
			}
		}
		return nil
	case "traffic":
		obs.Traffic = &model.TrafficObservation{Status: status, WindowS: s.spec.Throughput.IntervalS}
		for _, figure := range []struct {
			key string
			to  **float64
		}{{"requests", &obs.Traffic.Requests}, {"isl", &obs.Traffic.MeanISL}, {"osl", &obs.Traffic.MeanOSL}, {"hit", &obs.Traffic.KVHitRate}} {
			if text, given := figures[figure.key]; given {
				v, err := strconv.ParseFloat(text, 64)
				if err != nil {
					return err
				}
				*figure.to = &v
			}
		}
		return nil
	case "engines":
		if obs.Engines == nil {
			obs.Engines = &model.EnginesObservation{Status: status}
		}
		if status != model.Measured {
			return nil
		}
		return readEngines(obs.Engines, model.Role(words[1]), figures)
	}
	return fmt.Errorf("unknown source %s", words[0])
}

func replicasOf(text string) (model.RoleReplicas, error) {
	text, pending, _ := strings.Cut(text, "+")
	ready, desired, set := strings.Cut(text, "/")
	if !set {
		desired = ready
	}
	var r model.RoleReplicas
	for _, one := range []struct {
		text string
		to   *int
	}{{ready, &r.Ready}, {desired, &r.Desired}, {pending, &r.Pending}} {
		if one.text == "" {
			continue
		}
		n, err := strconv.Atoi(one.text)
		if err != nil {
			return r, err
		}
		*one.to = n
	}
	return r, nil
}

func readEngines(to *model.EnginesObservation, role model.Role, figures map[string]string) error {
	count := 0
	columns := map[string][]float64{}
	for key, text := range figures {
		if key == string(role) {
			continue
		}
		numbers, err := floats(text)
		if err != nil {
			return err
		}
		columns[key] = numbers
		count = max(count, len(numbers))
	}
	at := func(key string, i int, otherwise float64) float64 {
		switch numbers := columns[key]; {
		case len(numbers) == 0:
			return otherwise
		case i < len(numbers):
			return numbers[i]
		default:
			return numbers[len(numbers)-1]
		}
	}
	for i := range count {
		sample := sampleAt(role, fmt.Sprintf("%s-%d", role, i), engineFigures{
			ageS: at("age", i, 3600), wallS: at("ms", i, 0) / 1000,
			queuedPrefill: int(at("queued", i, 0)), kv: int(at("kv", i, 0)),
		})
		if tokens := int(at("tokens", i, 0)); tokens > 0 {
			*sample.Scheduled.PrefillRequests, *sample.Scheduled.PrefillTokens = 1, tokens
		}
		to.Samples = append(to.Samples, sample)
	}
	return nil
}

// engineFigures are the figures of one engine that tests vary.
type engineFigures struct {
	ageS, wallS       float64
	queuedPrefill, kv int
}

func sampleAt(role model.Role, worker string, f engineFigures) model.EngineSample {
	requests := 0
	if f.kv > 0 {
		requests = 1
	}
	return model.EngineSample{
		Role: role, Worker: worker, AgeS: &f.ageS, WallTimeS: &f.wallS,
		Scheduled: model.EngineLoad{PrefillRequests: new(0), PrefillTokens: new(0), DecodeRequests: &requests, DecodeKVTokens: &f.kv},
		Queued:    model.EngineLoad{PrefillRequests: new(0), PrefillTokens: &f.queuedPrefill, DecodeRequests: new(0), DecodeKVTokens: new(0)},
	}
}

func floats(list string) ([]float64, error) {
	var numbers []float64
	for text := range strings.SplitSeq(list, ",") {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, v)
	}
	return numbers, nil
}

// render writes a decision as the scripts show it.
func render(d *model.ScalingDecision) string {
	var b strings.Builder
	var targets, reasons []string
	for _, role := range model.AllRoles {
		if to, named := d.Target.Get(role); named {
			from, _ := d.Desired.Get(role)
			text := fmt.Sprintf("%s %d", role, from)
			if to != from {
				text += fmt.Sprintf(" -> %d", to)
			}
			targets = append(targets, text)
		}
		if r, named := d.Reasons.Roles.Get(role); named && d.Reasons.Load != r.Load {
			reasons = append(reasons, fmt.Sprintf("%s %s", role, r.Load))
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", d.Action, strings.Join(targets, ", "))
	fmt.Fprintf(&b, "load %s", d.Reasons.Load)
	if len(reasons) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(reasons, ", "))
	}
	fmt.Fprintf(&b, "; throughput %s\n", d.Reasons.Throughput)
	for _, c := range d.Chain {
		fmt.Fprintf(&b, "  %s: %s %d -> %d, %s\n", c.Stage, c.Role, c.From, c.To, c.Reason)
	}
	number := func(label string, v *float64, unit string) {
		if v != nil {
			fmt.Fprintf(&b, "%s %s%s\n", label, strconv.FormatFloat(*v, 'f', 3, 64), unit)
		}
	}
	if f := d.Forecast; f != nil {
		fmt.Fprintf(&b, "forecast %.3f requests/s of %.0f and %.0f tokens\n", f.RPS, f.ISL, f.OSL)
	}
	number("capacity prefill", d.Capacity.PrefillRPS, " requests/s")
	number("capacity decode", d.Capacity.DecodeRPS, " requests/s")
	number("capacity aggregated", d.Capacity.AggregatedRPS, " requests/s")
	number("ttft", d.Estimates.TTFTMs, " ms")
	number("itl", d.Estimates.ITLMs, " ms")
	for _, role := range model.AllRoles {
		if floor, named := d.Floors.Get(role); named {
			fmt.Fprintf(&b, "floor %s %d\n", role, floor)
		}
	}
	for _, w := range d.Warnings {
		fmt.Fprintf(&b, "warning %s\n", w)
	}
	return b.String()
}
