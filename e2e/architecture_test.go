package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/packages"

	"tidemark.dev/e2e/internal/rules"
)

// TestImports holds every package of the workspace, its tests and the suites
// under the build tag e2e included, against the import rules.
func TestImports(t *testing.T) {
	root := workspace(t)
	listed := run(t, root, "go", "list", "-tags", "e2e", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "work")
	var packages []rules.Package
	for decoder := json.NewDecoder(bytes.NewReader(listed)); ; {
		var p rules.Package
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 2 {
		t.Fatalf("go list found %d packages, which cannot be the whole workspace", len(packages))
	}
	require(t, rules.CheckImports(packages))
}

// TestPureCore holds pkg/model and all below it against the rule of purity.
func TestPureCore(t *testing.T) {
	root := workspace(t)
	loaded, err := packages.Load(&packages.Config{Mode: packages.LoadAllSyntax, Dir: filepath.Join(root, "pkg", "model")}, "./...")
	if err != nil {
		t.Fatalf("load packages: %v", err)
	}
	if len(loaded) == 0 {
		t.Fatal("pkg/model holds no package")
	}
	for _, p := range loaded {
		for _, problem := range p.Errors {
			t.Errorf("%s: %v", p.PkgPath, problem)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	graph, err := checker.Analyze([]*analysis.Analyzer{rules.Purity}, loaded, nil)
	if err != nil {
		t.Fatalf("analyze: %v", err)
	}
	for _, action := range graph.Roots {
		if action.Err != nil {
			t.Errorf("%s: %v", action.Package.PkgPath, action.Err)
		}
		for _, d := range action.Diagnostics {
			position := action.Package.Fset.Position(d.Pos)
			if name, err := filepath.Rel(root, position.Filename); err == nil {
				position.Filename = name
			}
			t.Errorf("%s: %s (rule: the core is pure)", position, d.Message)
		}
	}
}

// TestModules holds go.work and every go.mod of the tree against the rules on
// modules. A module below testdata is a test's own affair.
func TestModules(t *testing.T) {
	root := workspace(t)
	work, err := modfile.ParseWork("go.work", read(t, root, "go.work"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, use := range work.Use {
		used = append(used, filepath.ToSlash(filepath.Clean(use.Path)))
	}
	var modules []rules.Module
	err = fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "node_modules" || path != "." && strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case entry.Name() != "go.mod":
			return nil
		}
		file, err := modfile.Parse(path, read(t, root, path), nil)
		if err != nil {
			return err
		}
		modules = append(modules, rules.Module{Dir: filepath.ToSlash(filepath.Dir(path)), File: file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	require(t, rules.CheckModules(used, modules))
}

// TestFiles holds the content of every file that is tracked, or would be, by
// git against the rules on content.
func TestFiles(t *testing.T) {
	root := workspace(t)
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		t.Skipf("no git checkout, so nothing says which files are tracked: %v", err)
	}
	listed := run(t, root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	var found []rules.Violation
	for name := range strings.SplitSeq(strings.TrimSuffix(string(listed), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, rules.CheckText(name, content)...)
	}
	require(t, found)
}

// workspace returns the directory of go.work. The rules are about the whole
// tree, so without a workspace there is nothing to hold them against.
func workspace(t *testing.T) string {
	t.Helper()
	file := strings.TrimSpace(string(run(t, ".", "go", "env", "GOWORK")))
	if file == "" || file == "off" {
		t.Skip("needs the workspace: run it without GOWORK=off")
	}
	return filepath.Dir(file)
}

func require(t *testing.T, found []rules.Violation) {
	t.Helper()
	for _, v := range found {
		t.Error(v)
	}
}

func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = dir
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, &problems)
	}
	return output
}

func read(t *testing.T, root, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
