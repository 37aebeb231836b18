//go:build e2e

package pipeline

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme runs the README's steps of a deployment as they stand there.
func TestReadme(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := readFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)## A deployment, step by step.*?```sh\n(.*?)```").FindStringSubmatch(readme)
	if block == nil || !strings.Contains(block[1], "tidemark up &") {
		t.Fatal("the README has no steps of a deployment")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The services are stopped when the steps are done.
	shell := exec.CommandContext(ctx, "bash", "-eu", "-c", block[1]+"\nkill $!\nwait $!")
	shell.Dir = dir
	shell.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"), "TIDEMARK_LISTEN=", "TIDEMARK_LOG_LEVEL=warn")
	if err := os.Symlink(filepath.Join(root, "docs"), filepath.Join(dir, "docs")); err != nil {
		t.Fatal(err)
	}
	var out, errs buffer
	shell.Stdout, shell.Stderr = &out, &errs
	if err := shell.Run(); err != nil || errs.String() != "" {
		t.Fatalf("the steps ended with %v:\n%s%s", err, out.String(), errs.String())
	}
	for _, want := range []string{
		"chat-70b: configured at revision 1, advisory", "NAME ", "chat-70b: active since revision 2 (epoch 1)",
		"chat-70b: advisory since revision 3 (epoch 1)", "report.html",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the steps did not print %q:\n%s", want, out.String())
		}
	}
	if page, err := readFile(filepath.Join(dir, "report.html")); err != nil || !strings.Contains(page, "chat-70b") {
		t.Errorf("the report does not show the deployment (%v)", err)
	}
}
