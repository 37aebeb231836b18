package sim

import (
	"errors"
	"fmt"
	"time"

	"tidemark.dev/pkg/model"
)

// errNotSimulated says that a deployment has no simulated source.
var errNotSimulated = errors.New("source.simulated is not set")

// ConfigOf returns the fleet that a deployment with a simulated source
// describes: the figures of its engine, under the limits that the deployment
// knows. Where it leaves out the GPUs of a replica, those of the figures count.
func ConfigOf(d *model.Deployment) (Config, error) {
	if d.Source == nil || d.Source.Simulated == nil {
		return Config{}, fmt.Errorf("simulate fleet of %s: %w", d.Name, errNotSimulated)
	}
	s := d.Source.Simulated
	f, err := FiguresOf(s.Engine)
	if err != nil {
		return Config{}, fmt.Errorf("simulate fleet of %s: source.simulated.engine: %w", d.Name, err)
	}
	config := Config{
		Topology:      d.Topology,
		TrafficWindow: max(DefaultTrafficWindow, seconds(d.Throughput.IntervalS)),
	}
	for _, role := range d.Topology.Roles() {
		spec, _ := d.Roles.Get(role)
		engine := f.Engine(role)
		for _, limit := range [...]struct {
			known int
			of    *int
		}{
			{spec.Engine.MaxNumBatchedTokens, &engine.MaxNumBatchedTokens},
			{spec.Engine.MaxNumSeqs, &engine.MaxNumSeqs},
			{spec.Engine.MaxKVTokens, &engine.MaxKVTokens},
		} {
			if limit.known > 0 {
				*limit.of = limit.known
			}
		}
		gpus := spec.GPUsPerReplica
		if gpus == 0 {
			gpus = f.GPUs
		}
		config.Roles.Set(role, RoleConfig{
			Replicas:       s.InitialReplicas(d, role),
			GPUsPerReplica: gpus,
			ColdStart:      seconds(s.ColdStartS),
			Engine:         engine,
		})
	}
	return config, nil
}

// WorkloadOf returns the workload of a deployment with a simulated source, at
// its rate multiplier: the requests of its trace, which the caller has loaded,
// or without a trace what its generator makes. What the generator's
// configuration leaves out is as in DefaultGeneratorConfig.
func WorkloadOf(d *model.Deployment, trace []Request) (Workload, error) {
	if d.Source == nil || d.Source.Simulated == nil {
		return nil, fmt.Errorf("simulate workload of %s: %w", d.Name, errNotSimulated)
	}
	s := d.Source.Simulated
	workload := NewRequests(trace)
	if s.Trace == "" {
		config := DefaultGeneratorConfig()
		config.Seed = s.Generator.Seed
		if s.Generator.DurationS > 0 {
			config.Duration = seconds(s.Generator.DurationS)
		}
		if s.Generator.MeanRPS > 0 {
			config.MeanRPS = s.Generator.MeanRPS
		}
		var err error
		if workload, err = Generate(config); err != nil {
			return nil, fmt.Errorf("simulate workload of %s: source.simulated.generator: %w", d.Name, err)
		}
	}
	workload, err := Multiply(workload, s.RateMultiplier, s.Generator.Seed)
	if err != nil {
		return nil, fmt.Errorf("simulate workload of %s: source.simulated.rate_multiplier: %w", d.Name, err)
	}
	return workload, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
