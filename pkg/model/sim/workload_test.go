package sim

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestLimit(t *testing.T) {
	list := []Request{{1, 1, 1}, {2, 1, 1}, {3, 1, 1}}
	if diff := gocmp.Diff(list[:2], collect(t, Limit(NewRequests(list), 3))); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestMultiply(t *testing.T) {
	var list []Request
	for i := range 2000 {
		list = append(list, Request{time.Duration(i) * 70 * time.Millisecond, i + 1, i + 2})
	}
	for _, factor := range []float64{0.25, 1, 2.5, 20} {
		w, err := Multiply(NewRequests(list), factor, 1)
		if err != nil {
			t.Fatal(err)
		}
		got := collect(t, w)
		// The fractional part is drawn: 2000 draws of a share of at most a half
		// have a standard deviation of at most 22.4.
		if want := factor * 2000; math.Abs(float64(len(got))-want) > 90 {
			t.Errorf("factor %v: %d requests, want about %v", factor, len(got), want)
		}
		if !slices.IsSortedFunc(got, func(a, b Request) int { return int(a.At - b.At) }) {
			t.Errorf("factor %v: not in order of arrival", factor)
		}
		for _, r := range got {
			original := list[r.ISL-1]
			if r.OSL != original.OSL || r.At/multiplySlot != original.At/multiplySlot {
				t.Fatalf("factor %v: %+v is not a copy of %+v in its slot", factor, r, original)
			}
		}
	}
}

func TestMultiplyRefuses(t *testing.T) {
	for _, factor := range []float64{0, -1, math.NaN(), math.Inf(1), 1e6} {
		if _, err := Multiply(NewRequests(nil), factor, 1); err == nil {
			t.Errorf("factor %v is accepted", factor)
		}
	}
	broken := errors.New("broken")
	w, err := Multiply(failing{broken}, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Next(); !errors.Is(err, broken) {
		t.Errorf("error %v, want the workload's", err)
	}
}

func TestGenerateRepeats(t *testing.T) {
	config := DefaultGeneratorConfig()
	config.Duration = 5 * time.Minute
	generate := func() []Request {
		w, err := Generate(config)
		if err != nil {
			t.Fatal(err)
		}
		return collect(t, w)
	}
	first := generate()
	if diff := gocmp.Diff(first, generate()); diff != "" {
		t.Errorf("the same seed gives other requests (-first +second):\n%s", diff)
	}
	config.Seed++
	if slices.Equal(first, generate()) {
		t.Error("another seed gives the same requests")
	}
	// Lengths have a stream of their own.
	config.Seed--
	config.OSL.Median = 10
	for i, r := range generate() {
		if r.At != first[i].At {
			t.Fatalf("request %d arrives at %v instead of %v, because outputs are shorter", i, r.At, first[i].At)
		}
	}
}

// TestDefaultGenerator holds the default workload against the figures that it
// is made of.
func TestDefaultGenerator(t *testing.T) {
	config := DefaultGeneratorConfig()
	w, err := Generate(config)
	if err != nil {
		t.Fatal(err)
	}
	list := collect(t, w)
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if math.Abs(got/want-1) > tolerance {
			t.Errorf("%s is %.3f, want %.3f", what, got, want)
		}
	}
	near("mean rate", float64(len(list))/config.Duration.Seconds(), config.MeanRPS, 0.04)
	isl, osl := lengthsOf(list)
	near("median ISL", float64(isl.at(0.5)), 1020, 0.02)
	near("95th percentile of ISL", float64(isl.at(0.95)), 4083, 0.02)
	near("median OSL", float64(osl.at(0.5)), 129, 0.02)
	near("95th percentile of OSL", float64(osl.at(0.95)), 451, 0.02)
	if isl.at(1) != 14050 || osl.at(1) != 1000 || isl.at(0) < 1 || osl.at(0) < 1 {
		t.Errorf("lengths from %d and %d to %d and %d, want them clipped to 14050 and 1000", isl.at(0), osl.at(0), isl.at(1), osl.at(1))
	}
	// Twelfths of the day, each ten minutes: the mean of the swing over the
	// lowest, around the ends, and the highest two.
	swing := 3.91 / 5.91
	edge := math.Sin(math.Pi/6) / (math.Pi / 6)
	counts := make([]float64, 12)
	for _, r := range list {
		counts[r.At/(10*time.Minute)]++
	}
	near("ratio of the busiest to the quietest hours", (counts[5]+counts[6])/(counts[0]+counts[11]), (1+swing*edge)/(1-swing*edge), 0.15)
}

// TestBursts holds the counts per slot of a level rate against the index of
// dispersion that their description promises.
func TestBursts(t *testing.T) {
	for _, cv := range []float64{0, 0.21, 1} {
		config := DefaultGeneratorConfig()
		config.Duration, config.MeanRPS, config.PeakToTrough, config.BurstCV = 40*time.Hour, 5.53, 1, cv
		w, err := Generate(config)
		if err != nil {
			t.Fatal(err)
		}
		got, want := dispersion(collect(t, w), time.Minute), 1+5.53*60*cv*cv
		if math.Abs(got/want-1) > 0.1 {
			t.Errorf("CV %v: index of dispersion %.2f, want %.2f", cv, got, want)
		}
	}
}

// TestShortSlots shows that the end of a slot costs no requests, also where a
// slot has fewer than one.
func TestShortSlots(t *testing.T) {
	config := DefaultGeneratorConfig()
	config.Duration, config.MeanRPS, config.BurstSlot = 2*time.Hour, 5, 50*time.Millisecond
	w, err := Generate(config)
	if err != nil {
		t.Fatal(err)
	}
	if got := float64(len(collect(t, w))) / config.Duration.Seconds(); math.Abs(got-5) > 0.1 {
		t.Errorf("mean rate is %.2f, want 5", got)
	}
}

func TestGeneratedRequestsAreValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		positive := rapid.Float64Range(0.5, 500)
		lengths := func(name string) Lengths {
			median := positive.Draw(t, name+" median")
			return Lengths{median, median * rapid.Float64Range(1, 100).Draw(t, name+" spread"), rapid.IntRange(1, 10_000).Draw(t, name+" max")}
		}
		config := GeneratorConfig{
			Seed:         rapid.Uint64().Draw(t, "seed"),
			Duration:     time.Duration(rapid.Int64Range(1, int64(10*time.Second)).Draw(t, "duration")),
			MeanRPS:      positive.Draw(t, "mean rate"),
			Day:          time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "day")),
			PeakToTrough: rapid.Float64Range(1, 1000).Draw(t, "peak to trough"),
			BurstCV:      rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(1e-3, 100)).Draw(t, "burst CV"),
			BurstSlot:    time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Minute)).Draw(t, "burst slot")),
			ISL:          lengths("isl"),
			OSL:          lengths("osl"),
		}
		w, err := Generate(config)
		if err != nil {
			t.Fatal(err)
		}
		for last := time.Duration(0); ; {
			r, ok, err := w.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if r.At < last || r.At >= config.Duration || r.ISL < 1 || r.ISL > config.ISL.Max || r.OSL < 1 || r.OSL > config.OSL.Max {
				t.Fatalf("%+v after %v", r, last)
			}
			last = r.At
		}
		if _, ok, err := w.Next(); ok || err != nil {
			t.Fatalf("after the end: %v, %v", ok, err)
		}
	})
}

func TestGeneratorConfigValidate(t *testing.T) {
	err := GeneratorConfig{MeanRPS: math.NaN(), Day: -1, BurstCV: 1, ISL: Lengths{1, 2, 3}}.Validate()
	for _, want := range []string{
		"duration is 0s", "mean rate is NaN", "day is -1ns", "peak to trough is 0, want at least 1", "burst slot is 0s", "OSL has median 0",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "ISL") {
		t.Errorf("error names ISL, with which nothing is wrong:\n%v", err)
	}
	if _, err := Generate(GeneratorConfig{}); err == nil {
		t.Error("generates from nothing")
	}
}
