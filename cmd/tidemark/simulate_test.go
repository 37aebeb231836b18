package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark.dev/pkg/model/sim/trial"
)

// simulated runs tidemark simulate -o json, which must succeed.
func simulated(t *testing.T, args ...string) []trial.Result {
	t.Helper()
	var results []trial.Result
	if err := json.Unmarshal([]byte(succeed(t, append([]string{"simulate", "-o", "json", "-f"}, args...)...)), &results); err != nil {
		t.Fatal(err)
	}
	return results
}

func TestSimulate(t *testing.T) {
	file := deploymentsFile(t, []string{"blue", "green"}, simulatedSource)
	table := succeed(t, "simulate", "-f", file, "--duration", "10m")
	if again := succeed(t, "simulate", "-f", file, "--duration", "10m"); again != table {
		t.Errorf("simulated twice, it prints\n%s\nand\n%s", table, again)
	}
	if rows := strings.Split(strings.TrimSpace(table), "\n"); len(rows) != 3 || !strings.HasPrefix(rows[0], "DEPLOYMENT ") || !strings.HasPrefix(rows[2], "green ") {
		t.Errorf("want a line for each deployment:\n%s", table)
	}
	both := simulated(t, file, "--duration", "10m")
	one := simulated(t, file, "--duration", "10m", "--deployment", "green", "--hold")
	if len(both) != 2 || len(one) != 1 || one[0].Deployment != "green" || !one[0].Held || one[0].Changes != 0 {
		t.Fatalf("got %+v and %+v", both, one)
	}
	if both[0].Requests != both[1].Requests || both[0].Requests.Arrived == 0 || both[0].DurationS != 600 {
		t.Errorf("two deployments that are alike get %+v and %+v", both[0].Requests, both[1].Requests)
	}
}

// TestSimulateTrace gives a deployment without a source its engine and traffic.
func TestSimulateTrace(t *testing.T) {
	file := deploymentsFile(t, []string{"chat"})
	trace := write(t, "requests.csv", "t_ms,isl,osl\n0,500,20\n1000,400,1\n61000,300,10\n")
	tidemark(t, "", "simulate", "-f", file, "--trace", trace).wantLine(t, exitUsage, "name the figures of its engine with --engine")
	got := simulated(t, file, "--engine", "h100-llama-3.1-8b-fp8-tp1", "--trace", trace)
	if got[0].Requests.Arrived != 3 || got[0].Requests.Answered != 3 || *got[0].SLA.Attained != 1 {
		t.Errorf("of three requests come %+v and %+v", got[0].Requests, got[0].SLA)
	}
	if twice := simulated(t, file, "--engine", "h100-llama-3.1-8b-fp8-tp1", "--trace", trace, "--rate", "2"); twice[0].Requests.Arrived <= 3 {
		t.Errorf("at twice the rate come %+v", twice[0].Requests)
	}
}

// TestSimulateReport writes the report of a run. Where the front end is built it
// holds the data; in any case it names the deployment.
func TestSimulateReport(t *testing.T) {
	file := deploymentsFile(t, []string{"chat"}, simulatedSource)
	path := filepath.Join(t.TempDir(), "out", "report.html")
	succeed(t, "simulate", "-f", file, "--duration", "10m", "--html", path)
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "Simulation") || !strings.Contains(string(page), "chat") {
		t.Errorf("the report of %d bytes names neither the run nor the deployment", len(page))
	}
}

func TestSimulateRefuses(t *testing.T) {
	file := deploymentsFile(t, []string{"chat"}, simulatedSource)
	for args, want := range map[string]string{
		"simulate":                         "no file is given",
		"simulate -o csv -f " + file:       `output is "csv"`,
		"simulate -f " + file + " extra":   "usage: tidemark simulate -f FILE",
		"simulate --rps many -f " + file:   "--rps",
		"simulate --nothing -f " + file:    "unknown flag",
		"simulate --duration 5 -f " + file: "--duration",
	} {
		tidemark(t, "", strings.Fields(args)...).wantLine(t, exitUsage, want)
	}
	for args, want := range map[string]string{
		"simulate -f missing.yaml":                   "missing.yaml",
		"simulate --deployment other -f " + file:     `there is no deployment "other"`,
		"simulate --trace missing.csv -f " + file:    "missing.csv",
		"simulate --engine abacus -f " + file:        "abacus",
		"simulate --rate 0 -f " + file:               "source.simulated.rate_multiplier",
		"simulate --duration -5s --rps 2 -f " + file: "duration",
	} {
		tidemark(t, "", strings.Fields(args)...).wantLine(t, exitError, want)
	}
}
