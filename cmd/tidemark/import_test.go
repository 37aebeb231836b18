package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"tidemark.dev/cmd/tidemark/internal/dynamo"
	"tidemark.dev/pkg/model"
)

// TestImportDynamo takes a whole configuration through the command line and
// back: what is printed decodes strictly into what was converted.
func TestImportDynamo(t *testing.T) {
	const file = "internal/dynamo/testdata/full.yaml"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := dynamo.Convert(data, "chat")
	if err != nil {
		t.Fatal(err)
	}
	for _, output := range []string{"yaml", "json"} {
		got := tidemark(t, "", "import", "dynamo", file, "--name", "chat", "-o", output)
		if got.code != exitOK {
			t.Fatalf("exit code %d, errors %q", got.code, got.stderr)
		}
		decoded, err := model.DecodeDeployments([]byte(got.stdout))
		if err != nil {
			t.Fatalf("what is printed is refused: %v\n%s", err, got.stdout)
		}
		if !reflect.DeepEqual(decoded, []model.Deployment{want.Deployment}) {
			t.Errorf("what is printed as %s decodes into something else:\n%s", output, got.stdout)
		}
		if output == "json" && !json.Valid([]byte(got.stdout)) {
			t.Errorf("no JSON: %s", got.stdout)
		}
		if n := strings.Count(got.stderr, "\n"); n != len(want.Notes) {
			t.Errorf("%d lines of notes, want %d:\n%s", n, len(want.Notes), got.stderr)
		}
	}
	if got := tidemark(t, "advisory: true\nmodel_name: a/b\n", "import", "dynamo", "-"); got.code != exitOK || !strings.Contains(got.stdout, "- name: b\n    advisory: true\n") {
		t.Errorf("from standard input comes %+v", got)
	}
}

func TestImportRefuses(t *testing.T) {
	tidemark(t, "", "import").wantLine(t, exitUsage, "usage: tidemark import dynamo FILE")
	tidemark(t, "", "import", "dynamo").wantLine(t, exitUsage, "usage: tidemark import dynamo FILE")
	tidemark(t, "", "import", "dynamo", "x", "-o", "toml").wantLine(t, exitUsage, `output is "toml"`)
	tidemark(t, "", "import", "dynamo", "missing.yaml").wantLine(t, exitError, "missing.yaml")
	file := write(t, "planner.yaml", "mode: disagg\nttft: fast\n")
	tidemark(t, "", "import", "dynamo", file).wantLine(t, exitError, `line 2: ttft: is "fast", want a number`)
}
