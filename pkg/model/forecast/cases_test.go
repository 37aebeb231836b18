package forecast_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tidemark.dev/pkg/model/forecast"
)

// forecastCase is a series, and the forecast made before each of its values and
// after the last.
type forecastCase struct {
	ID, Why, Predictor string
	Params             map[string]json.RawMessage
	Series, Expect     []float64
}

func TestCases(t *testing.T) {
	var cases []forecastCase
	readTestdata(t, "cases.json", &cases)
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) { c.run(t) })
	}
}

func (c *forecastCase) run(t *testing.T) {
	kind, err := forecast.ParseKind(c.Predictor)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for key, value := range c.Params {
		pairs = append(pairs, fmt.Sprintf("%s=%s", key, value))
	}
	slices.Sort(pairs)
	params, err := forecast.ParseParams(kind, pairs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := forecast.Evaluate(kind, params, 180, c.Series)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Forecasts) != len(c.Expect) {
		t.Fatalf("got %d forecasts, want %d", len(got.Forecasts), len(c.Expect))
	}
	for i, f := range got.Forecasts {
		if f.Warning != "" || !near(f.Value, c.Expect[i], 1e-6) {
			t.Errorf("forecast %d is %v %q, want %v: %s", i, f.Value, f.Warning, c.Expect[i], c.Why)
		}
	}
}

// near says whether got is within rel of want, or within 1e-9.
func near(got, want, rel float64) bool {
	return math.Abs(got-want) <= max(rel*math.Abs(want), 1e-9)
}

func readTestdata(t testing.TB, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("read testdata/%s: %v", name, err)
	}
}
