package planner_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// caseFile is one file of testdata/cases: a theme, and deployments with what
// was observed of them and what must have been decided.
type caseFile struct {
	Theme string         `json:"theme"`
	Cases []decisionCase `json:"cases"`
}

type decisionCase struct {
	ID           string              `json:"id"`
	Why          string              `json:"why"`
	Config       json.RawMessage     `json:"config"`
	Observations []model.Observation `json:"observations"`
	// Expect holds what each decision must say; what it leaves out is free.
	Expect []any `json:"expect"`
}

// TestCases decides every case, and again with the state encoded and decoded
// before each observation: a restart anywhere must change nothing.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/cases/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata/cases: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases caseFile
		if err := json.Unmarshal(data, &cases); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, c := range cases.Cases {
			t.Run(cases.Theme+"/"+c.ID, func(t *testing.T) {
				t.Log(c.Why)
				c.run(t)
			})
		}
	}
}

func (c *decisionCase) run(t *testing.T) {
	deployments, err := model.DecodeDeployments([]byte(`{"deployments": [` + string(c.Config) + `]}`))
	if err != nil {
		t.Fatalf("config: %v", err)
	}
	state, err := planner.New(&deployments[0])
	if err != nil {
		t.Fatal(err)
	}
	restarted, err := planner.New(&deployments[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Expect) != len(c.Observations) {
		t.Fatalf("%d observations and %d expectations", len(c.Observations), len(c.Expect))
	}
	for i := range c.Observations {
		observation := &c.Observations[i]
		if err := observation.Validate(); err != nil {
			t.Fatalf("observation %d: %v", i, err)
		}
		in := planner.Input{
			ObservationID: fmt.Sprintf("observation-%d", i), Observation: observation,
			Configured: &model.DeploymentConfigured{Deployment: deployments[0].Name, Revision: observation.ConfigRevision, Spec: deployments[0]},
		}
		_, data, err := planner.Decide(state, in)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range mismatches("", c.Expect[i], got) {
			t.Errorf("decision %d: %s", i, wrong)
		}
		restarted = reload(t, restarted)
		if _, again, err := planner.Decide(restarted, in); err != nil || string(again) != string(data) {
			t.Errorf("decision %d after a restart: %v\n%s\nwant\n%s", i, err, again, data)
		}
		if t.Failed() {
			t.Logf("decision %d: %s", i, data)
		}
	}
}

func reload(t testing.TB, state *planner.State) *planner.State {
	t.Helper()
	data, err := state.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	restored, err := planner.UnmarshalState(data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return restored
}

// mismatches compares a decision with what is expected of it, which may leave
// keys out and say {"approx": v, "rel": r} for a number.
func mismatches(path string, want, got any) []string {
	switch want := want.(type) {
	case nil:
		if path != "" && got != nil {
			return []string{fmt.Sprintf("%s is %v, want null", path, got)}
		}
		return nil
	case map[string]any:
		if approx, ok := want["approx"].(float64); ok {
			rel, _ := want["rel"].(float64)
			n, isNumber := got.(float64)
			if !isNumber || math.Abs(n-approx) > max(rel*math.Abs(approx), 1e-9) {
				return []string{fmt.Sprintf("%s is %v, want %v within %v", path, got, approx, rel)}
			}
			return nil
		}
		object, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s is %v, want an object", path, got)}
		}
		var wrong []string
		for key, value := range want {
			wrong = append(wrong, mismatches(path+"."+key, value, object[key])...)
		}
		return wrong
	case []any:
		list, _ := got.([]any)
		if len(list) != len(want) {
			return []string{fmt.Sprintf("%s is %v, want %v", path, got, want)}
		}
		var wrong []string
		for i := range want {
			wrong = append(wrong, mismatches(fmt.Sprintf("%s[%d]", path, i), want[i], list[i])...)
		}
		return wrong
	}
	if want != got {
		return []string{fmt.Sprintf("%s is %v, want %v", path, got, want)}
	}
	return nil
}
