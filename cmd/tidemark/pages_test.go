package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model/sim"
)

var update = flag.Bool("update", false, "write the output of commands into the pages anew")

// root is where the commands of pages are run.
const root = "../.."

// TestPages runs every command of a console block of the pages, from the root of
// the tree, and wants the output that stands below it. Commands are those of
// this program, without quoting.
func TestPages(t *testing.T) {
	for _, page := range []string{"docs/forecasting.md", "docs/simulate.md", "docs/dynamo.md"} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Chdir(root)
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			got, commands := runPage(t, string(text))
			if commands == 0 {
				t.Fatal("the page has no command")
			}
			if got == string(text) {
				return
			}
			if *update {
				if err := os.WriteFile(page, []byte(got), 0o644); err != nil { //nolint:gosec // pages are read by all
					t.Fatal(err)
				}
				return
			}
			t.Errorf("the page's commands print something else now (go test ./cmd/tidemark -run Pages -update writes it):\n%s", got)
		})
	}
}

// runPage returns a page with the output of its commands as it is.
func runPage(t *testing.T, text string) (page string, commands int) {
	var out strings.Builder
	console := false
	for line := range strings.Lines(text) {
		switch {
		case strings.TrimSpace(line) == "```console":
			console = true
		case strings.HasPrefix(line, "```"):
			console = false
		case console && strings.HasPrefix(line, "$ tidemark "):
			commands++
			got := tidemark(t, "", strings.Fields(line)[2:]...)
			line += got.stdout + got.stderr
		case console:
			continue
		}
		out.WriteString(line)
	}
	return out.String(), commands
}

// TestExampleRequests generates the example series anew: three days of 24 hours,
// counted by the ten minutes.
func TestExampleRequests(t *testing.T) {
	config := sim.DefaultGeneratorConfig()
	config.Duration, config.Day, config.MeanRPS = 72*time.Hour, 24*time.Hour, 5
	workload, err := sim.Generate(config)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float64, config.Duration/(10*time.Minute))
	for {
		request, more, err := workload.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		want[request.At/(10*time.Minute)]++
	}
	got, err := os.ReadFile(filepath.Join(root, "docs/examples/requests.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != lines(want) {
		t.Error("docs/examples/requests.txt is not what the generator makes")
	}
}
