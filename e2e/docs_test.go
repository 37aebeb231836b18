package e2e_test

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tracked returns the paths of the tree's files whose names end in a suffix.
func tracked(t *testing.T, root, suffix string) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "testdata" || entry.Name() == "out" || path != "." && strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, suffix):
			names = append(names, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	fenced   = regexp.MustCompile("(?ms)^```.*?^```$")
)

// TestLinks holds every link from a page of the tree to another file of it.
func TestLinks(t *testing.T) {
	root := workspace(t)
	for _, page := range tracked(t, root, ".md") {
		content := fenced.ReplaceAllString(string(read(t, root, page)), "")
		for _, match := range link.FindAllStringSubmatch(content, -1) {
			target, err := url.Parse(match[1])
			if err != nil {
				t.Errorf("%s: link %s: %v", page, match[1], err)
				continue
			}
			if target.IsAbs() {
				continue
			}
			path := page
			if target.Path != "" {
				path = filepath.Join(filepath.Dir(page), target.Path)
			}
			if _, err := os.Stat(filepath.Join(root, path)); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: link %s leads nowhere", page, match[1])
			} else if target.Fragment != "" && !hasAnchor(string(read(t, root, path)), target.Fragment) {
				t.Errorf("%s: link %s: the page has no such heading", page, match[1])
			}
		}
	}
}

// hasAnchor reports whether a page has a heading with an anchor.
func hasAnchor(page, anchor string) bool {
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		kept := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
				return r
			}
			return -1
		}, strings.ToLower(match[1]))
		if kept == anchor {
			return true
		}
	}
	return false
}

// TestNamedTestsExist: a page that names the tests of a promise names tests that
// there are.
func TestNamedTestsExist(t *testing.T) {
	root := workspace(t)
	known := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	for _, file := range tracked(t, root, "_test.go") {
		for _, match := range function.FindAllSubmatch(read(t, root, file), -1) {
			known[string(match[1])] = true
		}
	}
	for _, page := range tracked(t, root, ".md") {
		for _, match := range testName.FindAllSubmatch(read(t, root, page), -1) {
			if !known[string(match[1])] {
				t.Errorf("%s names %s, and there is no such test", page, match[1])
			}
		}
	}
}

// TestReadmeExample: the Go code of the README is part of an example that runs.
func TestReadmeExample(t *testing.T) {
	root := workspace(t)
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	example := words(string(read(t, root, "examples/attach/main.go")))
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllSubmatch(read(t, root, "README.md"), -1)
	if len(blocks) == 0 {
		t.Error("the README has no Go code")
	}
	for _, block := range blocks {
		if !strings.Contains(example, words(string(block[1]))) {
			t.Errorf("the README's code is not in the example:\n%s", block[1])
		}
	}
}

// TestNamedMetricsExist: a page that names a metric names one that there is.
func TestNamedMetricsExist(t *testing.T) {
	root := workspace(t)
	var code strings.Builder
	for _, file := range tracked(t, root, ".go") {
		if !strings.HasSuffix(file, "_test.go") {
			code.Write(read(t, root, file))
		}
	}
	name := regexp.MustCompile(`[^/]\btidemark_([a-z]+(?:_[a-z]+)+)`)
	for _, page := range tracked(t, root, ".md") {
		for _, match := range name.FindAllSubmatch(read(t, root, page), -1) {
			metric := string(match[1])
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				metric = strings.TrimSuffix(metric, suffix) // the series of a histogram
			}
			if !strings.Contains(code.String(), `"`+metric+`"`) && !strings.Contains(code.String(), `"tidemark_`+metric+`"`) {
				t.Errorf("%s names tidemark_%s, and there is no such metric", page, match[1])
			}
		}
	}
}
