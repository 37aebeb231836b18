package sim

import (
	"encoding/csv"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/model"
)

func TestConfigOf(t *testing.T) {
	d := model.DefaultDeployment()
	d.Throughput.IntervalS = 7200
	d.Roles.Set(model.Prefill, model.RoleSpec{MinReplicas: 2})
	d.Roles.Set(model.Decode, model.RoleSpec{
		GPUsPerReplica: 8, MinReplicas: 1,
		Engine: model.Engine{MaxNumBatchedTokens: 2048, MaxNumSeqs: 64, MaxKVTokens: 1000},
	})
	d.Source = &model.Source{Simulated: &model.SimulatedSource{ColdStartS: 1.5}}
	d.Source.Simulated.Replicas.Set(model.Decode, 4)
	got, err := ConfigOf(&d)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	f, err := FiguresOf(DefaultFigures)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Topology: model.TopologyDisaggregated, TrafficWindow: 2 * time.Hour}
	want.Roles.Set(model.Prefill, RoleConfig{
		Replicas: 2, GPUsPerReplica: 2, ColdStart: 1500 * time.Millisecond, Engine: f.Engine(model.Prefill),
	})
	decode := f.Engine(model.Decode)
	decode.MaxNumBatchedTokens, decode.MaxNumSeqs, decode.MaxKVTokens = 2048, 64, 1000
	want.Roles.Set(model.Decode, RoleConfig{Replicas: 4, GPUsPerReplica: 8, ColdStart: 1500 * time.Millisecond, Engine: decode})
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestWorkloadOf(t *testing.T) {
	d := model.DefaultDeployment()
	d.Source = &model.Source{Simulated: &model.SimulatedSource{
		RateMultiplier: 1, Generator: model.SimulatedGenerator{Seed: 3, DurationS: 60, MeanRPS: 5},
	}}
	generated, err := WorkloadOf(&d, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := DefaultGeneratorConfig()
	config.Seed, config.Duration, config.MeanRPS = 3, time.Minute, 5
	want, err := Generate(config)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(collect(t, want), collect(t, generated)); diff != "" {
		t.Errorf("generated (-want +got):\n%s", diff)
	}
	d.Source.Simulated.Trace, d.Source.Simulated.RateMultiplier = "day.csv", 3
	traced, err := WorkloadOf(&d, []Request{{0, 1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(collect(t, traced)); got != 3 {
		t.Errorf("%d requests of a trace of one at three times its rate", got)
	}
}

func TestNotSimulated(t *testing.T) {
	d := model.DefaultDeployment()
	if _, err := ConfigOf(&d); !errors.Is(err, errNotSimulated) {
		t.Errorf("configuration without a simulated source: %v", err)
	}
	if _, err := WorkloadOf(&d, nil); !errors.Is(err, errNotSimulated) {
		t.Errorf("workload without a simulated source: %v", err)
	}
	d.Source = &model.Source{Simulated: &model.SimulatedSource{Engine: "abacus"}}
	if _, err := ConfigOf(&d); err == nil || !strings.Contains(err.Error(), `source.simulated.engine: engine "abacus"`) {
		t.Errorf("unknown engine: %v", err)
	}
	if _, err := WorkloadOf(&d, nil); err == nil || !strings.Contains(err.Error(), "rate_multiplier: multiply workload: factor is 0") {
		t.Errorf("no rate: %v", err)
	}
}

func TestFigures(t *testing.T) {
	names := FiguresNames()
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("names are not sorted and unique: %v", names)
	}
	for _, name := range append(names, "") {
		f, err := FiguresOf(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range model.AllRoles {
			if err := (RoleConfig{Engine: f.Engine(role)}).validate(); err != nil {
				t.Errorf("%s as %s: %v", f.Name, role, err)
			}
		}
	}
	if f, err := FiguresOf(""); err != nil || f.Name != DefaultFigures {
		t.Errorf("no name means %s, %v", f.Name, err)
	}
}

// TestFiguresAreThePublishedOnes holds the table against the file of fits.
func TestFiguresAreThePublishedOnes(t *testing.T) {
	file, err := os.Open(shared(t, "profiles", "fits.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	published := map[string]Figures{}
	for _, row := range rows[1:] {
		number := func(i int) float64 {
			n, err := strconv.ParseFloat(row[i], 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		gpu, dtype := strings.TrimSuffix(row[0], "_sxm"), strings.ReplaceAll(row[2], "bfloat16", "bf16")
		name := gpu + "-" + row[1] + "-" + dtype + "-tp" + row[3]
		published[name] = Figures{
			name, int(number(3)), int(number(4)), number(5), number(6), number(7), number(8), number(9), number(10),
		}
	}
	for _, f := range figures {
		if diff := gocmp.Diff(published[f.Name], f); diff != "" {
			t.Errorf("%s (-published +ours):\n%s", f.Name, diff)
		}
	}
}
