package dynamo

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestPage wants the table of the page on Dynamo to be that of the fields.
func TestPage(t *testing.T) {
	const page, begin, end = "../../../../docs/dynamo.md", "| field | becomes |\n", "\n\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no table that begins with %q", page, begin)
	}
	var table strings.Builder
	table.WriteString(begin + "|---|---|\n")
	plain := defaults()
	for i := range fields {
		f := &fields[i]
		becomes := "not carried over"
		if len(f.to) > 0 {
			becomes = "`" + strings.Join(f.to, "`, `") + "`"
		} else {
			becomes += ": " + f.left(&plain)
		}
		fmt.Fprintf(&table, "| `%s` | %s |\n", strings.Join(f.names, "`, `"), becomes)
	}
	want := before + strings.TrimSuffix(table.String(), "\n") + end + after
	if want == string(text) {
		return
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil { //nolint:gosec // pages are read by all
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the table of %s is not that of the fields; run the test with -update", page)
}
