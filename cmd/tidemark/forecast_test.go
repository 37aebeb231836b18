package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// forecasts runs tidemark forecast, which must succeed.
func forecasts(t *testing.T, stdin string, args ...string) (stdout, stderr string) {
	t.Helper()
	got := tidemark(t, stdin, append([]string{"forecast"}, args...)...)
	if got.code != exitOK {
		t.Fatalf("tidemark forecast %s: exit code %d, errors %q", strings.Join(args, " "), got.code, got.stderr)
	}
	return got.stdout, got.stderr
}

func lines(series []float64) string {
	var text strings.Builder
	for _, v := range series {
		fmt.Fprintln(&text, v)
	}
	return text.String()
}

// TestForecastCases puts the cases of the predictors through the command line.
func TestForecastCases(t *testing.T) {
	raw, err := os.ReadFile("../../pkg/model/forecast/testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		ID, Predictor  string
		Params         map[string]json.RawMessage
		Series, Expect []float64
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("there are no cases")
	}
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			args := []string{"--predictor", c.Predictor}
			for key, value := range c.Params {
				args = append(args, "--param", key+"="+string(value))
			}
			stdout, stderr := forecasts(t, lines(c.Series), args...)
			var got []float64
			for text := range strings.Lines(stdout) {
				v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, v)
			}
			if !slices.EqualFunc(got, c.Expect, func(a, b float64) bool { return math.Abs(a-b) <= max(1e-6*math.Abs(b), 1e-9) }) {
				t.Errorf("forecasts are\n%v, want\n%v", got, c.Expect)
			}
			if !strings.HasPrefix(stderr, c.Predictor+": MAE ") {
				t.Errorf("the errors are %q", stderr)
			}
		})
	}
}

func TestForecastErrorsAreMeasured(t *testing.T) {
	// Of 10, 20 and 16 after a leading zero, the last value errs by 10 and 4:
	// MAE 7; MAPE (50 + 25)/2; sMAPE (200 * 10/30 + 200 * 4/36)/2.
	stdout, stderr := forecasts(t, "0\n10\n\n 20 \n16\n", "--predictor", "constant")
	if want := "0\n0\n10\n20\n16\n"; stdout != want {
		t.Errorf("forecasts are %q, want %q", stdout, want)
	}
	if want := "constant: MAE 7, MAPE 37.5 %, sMAPE 44.44 % over 2 forecasts\n"; stderr != want {
		t.Errorf("errors are %q, want %q", stderr, want)
	}
	if _, stderr := forecasts(t, ""); stderr != "arima: MAE -, MAPE -, sMAPE - over 0 forecasts\n" {
		t.Errorf("errors of nothing are %q", stderr)
	}
}

func TestForecastSaysWhereModelsFailed(t *testing.T) {
	// On the logarithmic scale, this filter runs away.
	_, stderr := forecasts(t, "1\n1e20\n1e40\n1e60\n1e80\n1e100\n", "--predictor", "kalman", "--param", "log1p=true")
	if !strings.Contains(stderr, "1 of 7 forecasts are the last value") || !strings.Contains(stderr, "forecast_fallback") {
		t.Errorf("the fallback is not told: %q", stderr)
	}
}

func TestForecastAll(t *testing.T) {
	var ramp []float64
	for i := range 60 {
		ramp = append(ramp, 100+5*float64(i)+float64(i%3))
	}
	file := write(t, "requests.txt", lines(ramp))
	table, stderr := forecasts(t, "", "--all", file)
	if stderr != "" {
		t.Errorf("beside the table stands %q", stderr)
	}
	rows := strings.Split(strings.TrimSpace(table), "\n")
	if len(rows) != 7 || !strings.HasPrefix(rows[0], "PREDICTOR") || !strings.HasPrefix(rows[6], "constant ") {
		t.Errorf("want six predictors, and the last value as the worst of a ramp:\n%s", table)
	}
	stdout, _ := forecasts(t, "", "--all", file, "-o", "json", "--param", "q_level=2", "--param", "window=30")
	var all []comparison
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 6 || !slices.IsSortedFunc(all, func(a, b comparison) int { return int(math.Copysign(1, *a.MAE-*b.MAE)) }) {
		t.Errorf("want six predictors, best first: %s", stdout)
	}
	if yaml, _ := forecasts(t, "", "--all", file, "-o", "yaml"); !strings.HasPrefix(yaml, "- predictor: ") {
		t.Errorf("YAML is %q", yaml)
	}
}

func TestForecastRefuses(t *testing.T) {
	for _, c := range []struct {
		name, stdin string
		args        []string
		code        int
		message     string
	}{
		{"an unknown predictor", "1\n", []string{"--predictor", "lstm"}, exitUsage, `predictor "lstm" is unknown, want one of constant, kalman`},
		{"a parameter of another predictor", "1\n", []string{"--predictor", "arima", "--param", "r=1"}, exitUsage, `parameter "r" does not apply to predictor arima, which takes`},
		{"two wrong parameters in one line", "1\n", []string{"--predictor", "kalman", "--param", "r=0", "--param", "min_points=0"}, exitUsage, "parameter r is out of range: want a number over 0; parameter min_points is out of range"},
		{"a parameter without a value", "1\n", []string{"--predictor", "kalman", "--param", "r"}, exitUsage, "want KEY=VALUE"},
		{"no interval", "1\n", []string{"--interval", "0"}, exitUsage, "interval_s is 0"},
		{"all and one", "1\n", []string{"--all", "--predictor", "kalman"}, exitUsage, "leave --predictor out"},
		{"another format", "1\n", []string{"--all", "-o", "csv"}, exitUsage, `output is "csv"`},
		{"a format of plain numbers", "1\n", []string{"-o", "json"}, exitUsage, "--output is the format of the table"},
		{"two files", "", []string{"a", "b"}, exitUsage, "usage: tidemark forecast"},
		{"no number", "1\n2 req/s\n", nil, exitError, `standard input, line 2: "2 req/s" is no number`},
		{"not finite", "1\n\nNaN\n", nil, exitError, `standard input, line 3: "NaN" is no number`},
		{"too large", "1e101\n", nil, exitError, "line 1"},
		{"no file", "", []string{"missing.txt"}, exitError, "missing.txt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tidemark(t, c.stdin, append([]string{"forecast"}, c.args...)...).wantLine(t, c.code, c.message)
		})
	}
}

// TestPredictorParamsAreChecked wants a deployment refused as it is read, not
// when its first forecast is due.
func TestPredictorParamsAreChecked(t *testing.T) {
	file := write(t, "deployments.yaml", `deployments:
  - name: chat
    topology: aggregated
    roles: {aggregated: {min_replicas: 1, max_replicas: 8}}
    throughput: {predictor: constant, predictor_params: {window: 20}}
`)
	tidemark(t, "", "decide", "-f", file).wantLine(t, exitError, `deployments[0].throughput.predictor_params: parameter "window" does not apply to predictor constant, which takes log1p`)
}

// FuzzReadNumbers wants every series that is read to be one that a predictor
// takes, and to read back from its text.
func FuzzReadNumbers(f *testing.F) {
	for _, seed := range []string{"", "1\n2\n3", "0x1p-2\r\n\r\n1_0\n", "-0\n1e100\n1e-320", "inf", "\xff", "1 2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		series, err := readNumbers(strings.NewReader(text), "input")
		if err != nil {
			if len(series) != 0 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("beside the error %q come %v", err, series)
			}
			return
		}
		var written strings.Builder
		for _, v := range series {
			if !(math.Abs(v) <= 1e100) {
				t.Fatalf("read %v", v)
			}
			fmt.Fprintln(&written, numberText(v))
		}
		again, err := readNumbers(strings.NewReader(written.String()), "input")
		if err != nil || !slices.Equal(again, series) {
			t.Fatalf("read %v from %q, and then %v (%v)", series, text, again, err)
		}
	})
}
