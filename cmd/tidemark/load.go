package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/forecast"
	"tidemark.dev/pkg/model/perf"
	"tidemark.dev/pkg/model/sim"
	"tidemark.dev/services/actuator"
)

// loadFiles reads several configuration files, between which each deployment
// has its one place.
func loadFiles(stdin io.Reader, files []string) ([]model.Deployment, error) {
	var specs []model.Deployment
	from := map[string]string{}
	for _, file := range files {
		loaded, err := loadDeployments(stdin, file)
		if err != nil {
			return nil, err
		}
		for i := range loaded {
			if first, twice := from[loaded[i].Name]; twice {
				return nil, fmt.Errorf("%s: deployment %s is configured in %s already; leave one of them out", file, loaded[i].Name, first)
			}
			from[loaded[i].Name] = file
		}
		specs = append(specs, loaded...)
	}
	return specs, nil
}

// loadDeployments reads a configuration file, and the profiles and traces that
// it names: a revision in the log holds all that its decisions rest on.
func loadDeployments(stdin io.Reader, file string) ([]model.Deployment, error) {
	data, err := readFile(stdin, file)
	if err != nil {
		return nil, err
	}
	specs, err := model.DecodeDeployments(data)
	if err != nil {
		return nil, nameFile(file, err)
	}
	for i := range specs {
		if err := loadProfile(&specs[i], filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("%s: deployments[%d].throughput.profile: %w", file, i, err)
		}
		if err := checkPredictor(&specs[i]); err != nil {
			return nil, fmt.Errorf("%s: deployments[%d].throughput.predictor_params: %w", file, i, err)
		}
		if err := actuator.CheckZones(&specs[i].Limits); err != nil {
			return nil, fmt.Errorf("%s: deployments[%d].%w", file, i, err)
		}
		if err := loadWarmup(&specs[i], filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("%s: deployments[%d].throughput.warmup_trace: %w", file, i, err)
		}
		if err := findTrace(&specs[i], filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("%s: deployments[%d].source.simulated.trace: %w", file, i, err)
		}
	}
	return specs, nil
}

func readFile(stdin io.Reader, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}

// nameFile puts the file's name before each problem.
func nameFile(file string, err error) error {
	config, ok := errors.AsType[*model.ConfigError](err)
	if !ok {
		return fmt.Errorf("%s: %w", file, err)
	}
	lines := make([]string, len(config.Problems))
	for i, problem := range config.Problems {
		lines[i] = file + ": " + problem.String()
	}
	return errors.New(strings.Join(lines, "\n"))
}

// provenance names a file that was read into a configuration, and its content.
func provenance(file string, data []byte) string {
	return fmt.Sprintf("%s sha256:%x", filepath.Base(file), sha256.Sum256(data))
}

// loadProfile turns the profile that a specification names into samples. They
// come before the samples that stand in the file.
func loadProfile(spec *model.Deployment, dir string) error {
	t := &spec.Throughput
	if t.Profile == "" {
		return nil
	}
	data, err := os.ReadFile(beside(dir, t.Profile))
	if err != nil {
		return err
	}
	profile, err := perf.DecodeProfile(data)
	if err != nil {
		return err
	}
	t.Samples = append(profile.Samples(spec.Topology), t.Samples...)
	t.ProfileSource, t.Profile = provenance(t.Profile, data), ""
	return nil
}

// checkPredictor refuses parameters that the predictor does not take, which the
// model of a deployment does not know about.
func checkPredictor(spec *model.Deployment) error {
	if spec.Target != model.TargetSLA {
		return nil // and nothing is forecast
	}
	params := forecast.Params{Log1p: spec.Throughput.Log1p, PredictorParams: spec.Throughput.PredictorParams}
	if err := params.Check(forecast.Kind(spec.Throughput.Predictor), spec.Throughput.IntervalS); err != nil {
		return oneLine(err)
	}
	return nil
}

// loadWarmup turns the trace that a specification names into the traffic of
// throughput intervals, from the first that has requests to the last.
func loadWarmup(spec *model.Deployment, dir string) error {
	t := &spec.Throughput
	if t.WarmupTrace == "" {
		return nil
	}
	file := beside(dir, t.WarmupTrace)
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	requests, err := sim.LoadTrace(strings.NewReader(string(data)), file)
	if err != nil {
		return err
	}
	type sums struct{ requests, isl, osl float64 }
	var intervals []sums
	for _, request := range requests {
		i := int(request.At.Seconds() / t.IntervalS)
		for len(intervals) <= i {
			intervals = append(intervals, sums{})
		}
		intervals[i].requests++
		intervals[i].isl += float64(request.ISL)
		intervals[i].osl += float64(request.OSL)
	}
	var warmup []model.WarmupInterval
	for _, interval := range intervals {
		entry := model.WarmupInterval{Requests: interval.requests}
		if interval.requests > 0 {
			entry.MeanISL, entry.MeanOSL = new(interval.isl/interval.requests), new(interval.osl/interval.requests)
		}
		warmup = append(warmup, entry)
	}
	t.Warmup = append(warmup, t.Warmup...)
	t.WarmupTraceSource, t.WarmupTrace = provenance(t.WarmupTrace, data), ""
	return nil
}

// findTrace makes the path of a simulated source's trace one that the collector
// finds from wherever it runs.
func findTrace(spec *model.Deployment, dir string) error {
	if spec.Source == nil || spec.Source.Simulated == nil || spec.Source.Simulated.Trace == "" {
		return nil
	}
	path, err := filepath.Abs(beside(dir, spec.Source.Simulated.Trace))
	if err != nil {
		return err
	}
	spec.Source.Simulated.Trace = path
	return nil
}

func beside(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}
