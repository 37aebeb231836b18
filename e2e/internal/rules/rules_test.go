package rules_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"tidemark.dev/e2e/internal/rules"
)

func TestCheckImports(t *testing.T) {
	tests := []struct {
		name string
		pkg  rules.Package
		want []string // the rules broken, in order
	}{
		{
			name: "the core may use what it is made of",
			pkg: rules.Package{
				ImportPath:   "tidemark.dev/pkg/model/forecast",
				Imports:      []string{"math", "encoding/json", "gonum.org/v1/gonum/mat", "go.yaml.in/yaml/v3", "tidemark.dev/pkg/model"},
				XTestImports: []string{"testing", "pgregory.net/rapid", "github.com/google/go-cmp/cmp"},
			},
		},
		{
			name: "a library for tests in the core",
			pkg:  rules.Package{ImportPath: "tidemark.dev/pkg/model", Imports: []string{"pgregory.net/rapid"}, TestImports: []string{"pgregory.net/rapid"}},
			want: []string{rules.RuleCore},
		},
		{
			name: "a foreign library in a test of the core",
			pkg:  rules.Package{ImportPath: "tidemark.dev/pkg/model", TestImports: []string{"github.com/stretchr/testify/require"}},
			want: []string{rules.RuleCore},
		},
		{
			name: "a library that only begins like one that is allowed",
			pkg:  rules.Package{ImportPath: "tidemark.dev/pkg/model", Imports: []string{"gonum.org/v1/gonumextra"}},
			want: []string{rules.RuleCore},
		},
		{
			name: "the core that knows the log",
			pkg:  rules.Package{ImportPath: "tidemark.dev/pkg/model/planner", Imports: []string{"tidemark.dev/pkg/events"}},
			want: []string{rules.RuleLayers, rules.RuleCore},
		},
		{
			name: "the log that knows a service",
			pkg:  rules.Package{ImportPath: "tidemark.dev/pkg/events/sqlite", XTestImports: []string{"tidemark.dev/services/decider"}},
			want: []string{rules.RuleLayers},
		},
		{
			name: "a service that is made of its own packages and lower layers",
			pkg: rules.Package{
				ImportPath: "tidemark.dev/services/collector/cmd/collector",
				Imports:    []string{"tidemark.dev/services/collector", "tidemark.dev/pkg/service", "tidemark.dev/pkg/events", "tidemark.dev/pkg/model"},
			},
		},
		{
			name: "a service that knows another",
			pkg:  rules.Package{ImportPath: "tidemark.dev/services/decider", TestImports: []string{"tidemark.dev/services/collector"}},
			want: []string{rules.RuleServices},
		},
		{
			name: "a service whose name begins like that of another",
			pkg:  rules.Package{ImportPath: "tidemark.dev/services/decider2", Imports: []string{"tidemark.dev/services/decider"}},
			want: []string{rules.RuleServices},
		},
		{
			name: "a service that knows a command",
			pkg:  rules.Package{ImportPath: "tidemark.dev/services/decider", Imports: []string{"tidemark.dev/cmd/tidemark/internal/demo"}},
			want: []string{rules.RuleLayers},
		},
		{
			name: "a command that knows another",
			pkg:  rules.Package{ImportPath: "tidemark.dev/cmd/other", Imports: []string{"tidemark.dev/cmd/tidemark"}},
			want: []string{rules.RuleLayers},
		},
		{
			name: "a command that composes the services",
			pkg:  rules.Package{ImportPath: "tidemark.dev/cmd/tidemark", Imports: []string{"tidemark.dev/services/actuator", "tidemark.dev/services/reporter"}, Deps: []string{"k8s.io/client-go/scale"}},
		},
		{
			name: "anything that knows the tests across processes",
			pkg:  rules.Package{ImportPath: "tidemark.dev/cmd/tidemark", Imports: []string{"tidemark.dev/e2e"}},
			want: []string{rules.RuleLayers},
		},
		{
			name: "an import of no layer",
			pkg:  rules.Package{ImportPath: "tidemark.dev/cmd/tidemark", Imports: []string{"tidemark.dev/pkg/extras"}},
			want: []string{rules.RuleLayers},
		},
		{
			name: "a package of no layer",
			pkg:  rules.Package{ImportPath: "tidemark.dev/pkg/extras"},
			want: []string{rules.RuleLayers},
		},
		{
			name: "a Kafka client in its place",
			pkg:  rules.Package{ImportPath: "tidemark.dev/pkg/events/kafka", Imports: []string{"github.com/IBM/sarama", "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"}},
		},
		{
			name: "a Kafka client beside its place",
			pkg:  rules.Package{ImportPath: "tidemark.dev/pkg/events", Imports: []string{"github.com/IBM/sarama"}},
			want: []string{rules.RuleKafka},
		},
		{
			name: "a Kafka client in a test of a service",
			pkg:  rules.Package{ImportPath: "tidemark.dev/services/reporter", XTestImports: []string{"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"}},
			want: []string{rules.RuleKafka},
		},
		{
			name: "a writer to a fleet in its place",
			pkg:  rules.Package{ImportPath: "tidemark.dev/services/actuator/internal/kubernetes", Imports: []string{"k8s.io/client-go/scale"}, Deps: []string{"k8s.io/client-go/scale"}},
		},
		{
			name: "a writer to a fleet in another service",
			pkg:  rules.Package{ImportPath: "tidemark.dev/services/collector/internal/kubernetes", Imports: []string{"k8s.io/client-go/dynamic"}},
			want: []string{rules.RuleFleet},
		},
		{
			name: "a writer to a fleet that another service links from afar",
			pkg:  rules.Package{ImportPath: "tidemark.dev/services/decider", Imports: []string{"example.com/friendly"}, Deps: []string{"example.com/friendly", "k8s.io/client-go/rest"}},
			want: []string{rules.RuleFleet},
		},
	}
	tripped := map[string]bool{}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := broken(rules.CheckImports([]rules.Package{test.pkg}))
			if !slices.Equal(got, test.want) {
				t.Errorf("%+v\nbreaks %q\nwant   %q", test.pkg, got, test.want)
			}
			for _, rule := range got {
				tripped[rule] = true
			}
		})
	}
	requireAllTripped(t, rules.ImportRules, tripped)
}

func TestCheckModules(t *testing.T) {
	const (
		model = "module tidemark.dev/pkg/model\n"
		good  = "module tidemark.dev/services/decider\n" +
			"require tidemark.dev/pkg/model v0.0.0\n" +
			"require example.com/other v1.0.0\n" +
			"replace tidemark.dev/pkg/model => ../../pkg/model\n"
	)
	both := []string{"pkg/model", "services/decider"}
	tests := []struct {
		name  string
		used  []string
		files map[string]string // directory: go.mod
		want  []string
	}{
		{"two modules, joined", both, map[string]string{"pkg/model": model, "services/decider": good}, nil},
		{"a module that is not used", both[:1], map[string]string{"pkg/model": model, "services/decider": good}, []string{rules.RuleWorkspace}},
		{"a tool's module", both, map[string]string{"pkg/model": model, "services/decider": good, "tools/kubernetes": "module tidemark.dev/tools/kubernetes"}, nil},
		{"a tool's module in the workspace", append(both, "tools/kubernetes"), map[string]string{"pkg/model": model, "services/decider": good, "tools/kubernetes": "module tidemark.dev/tools/kubernetes"}, []string{rules.RuleWorkspace}},
		{"a directory without a module", both, map[string]string{"pkg/model": model}, []string{rules.RuleWorkspace}},
		{"another name", both[:1], map[string]string{"pkg/model": "module tidemark.dev/model\n"}, []string{rules.RuleNames}},
		{"no name", both[:1], map[string]string{"pkg/model": "go 1.26.0\n"}, []string{rules.RuleNames}},
		{
			"a requirement that is not replaced", both[1:],
			map[string]string{"services/decider": "module tidemark.dev/services/decider\nrequire tidemark.dev/pkg/model v0.0.0\n"},
			[]string{rules.RuleReplaced},
		},
		{
			"a requirement that is replaced by another directory", both[1:],
			map[string]string{"services/decider": strings.Replace(good, "../../pkg/model", "../../pkg/events", 1)},
			[]string{rules.RuleReplaced},
		},
		{
			"a requirement that is replaced by a version", both[1:],
			map[string]string{"services/decider": strings.Replace(good, "../../pkg/model", "example.com/model v1.0.0", 1)},
			[]string{rules.RuleReplaced},
		},
	}
	tripped := map[string]bool{}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var modules []rules.Module
			for dir, content := range test.files {
				file, err := modfile.Parse(dir+"/go.mod", []byte(content), nil)
				if err != nil {
					t.Fatal(err)
				}
				modules = append(modules, rules.Module{Dir: dir, File: file})
			}
			got := broken(rules.CheckModules(test.used, modules))
			if !slices.Equal(got, test.want) {
				t.Errorf("breaks %q, want %q", got, test.want)
			}
			for _, rule := range got {
				tripped[rule] = true
			}
		})
	}
	requireAllTripped(t, rules.ModuleRules, tripped)
}

func TestCheckText(t *testing.T) {
	// The offenders are put together here, so that this file is none.
	const (
		unfinished = "TO" + "DO"
		machine    = "/wo" + "rk"
		marker     = "<<<<" + "<<<"
	)
	tests := []struct {
		name, file, content string
		want                []string
	}{
		{"plain text", "README.md", "# Tidemark\n\nA heading\n=======\n", nil},
		{"a path below the tree", "a.go", "../work/main and pkg/work/model and ./root/\n", nil},
		{"an address with such an element", "a.md", "https://example.com/root/file\n", nil},
		{"a path of one machine", "a.go", "one line\nat " + machine + "/main\n", []string{rules.RulePaths}},
		{"such a path first in its line", "a.sh", machine + "/main/bin/tidemark\r\n", []string{rules.RulePaths}},
		{"such a path in quotes", "a.json", `{"dir": "` + machine + `/main"}`, []string{rules.RulePaths}},
		{"words that hold the mark", "a.go", "// " + unfinished + "S and mas" + unfinished + "n\n", nil},
		{"a mark of unfinished work", "a.go", "x := 1 // " + unfinished + "(me): more\n", []string{rules.RuleUnfinished}},
		{"the other mark", "a.go", "// FIX" + "ME\n", []string{rules.RuleUnfinished}},
		{"both sides of a merge", "a.go", marker + " HEAD\nx\n=======\ny\n" + strings.ReplaceAll(marker, "<", ">") + " other\n", []string{rules.RuleMerge, rules.RuleMerge}},
		{"shifts and arrows", "a.go", "x << 7 // <<<<<<<<<< \n", nil},
		{"an address in a lock file", "web/package-lock.json", `      "resolved": "https://example.com/uplot/-/uplot-1.6.32.tgz",`, []string{rules.RuleRegistry}},
		{"an address in another kind of lock file", "web/yarn.lock", `  resolved "https://example.com/uplot-1.6.32.tgz"`, []string{rules.RuleRegistry}},
		{"a lock file without addresses", "web/package-lock.json", `{"node_modules/uplot": {"version": "1.6.32", "integrity": "sha512-abc", "funding": {"url": "https://example.com"}}}`, nil},
		{"the key elsewhere", "web/notes.json", `"resolved": "https://example.com"`, nil},
		{"a registry in npm's settings", "web/.npmrc", "fund=false\nregistry=https://example.com/\n", []string{rules.RuleRegistry}},
		{"npm's settings without one", "web/.npmrc", "fund=false\nomit-lockfile-registry-resolved=true\n", nil},
		{"a binary file", "a.png", "\x00 " + unfinished + "\n", nil},
	}
	tripped := map[string]bool{}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := broken(rules.CheckText(test.file, []byte(test.content)))
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: %q\nbreaks %q\nwant   %q", test.file, test.content, got, test.want)
			}
			for _, rule := range got {
				tripped[rule] = true
			}
		})
	}
	requireAllTripped(t, rules.TextRules, tripped)
}

func TestViolationNamesPlaceFindingAndRule(t *testing.T) {
	found := rules.CheckText("docs/a.md", []byte("fine\n// FIX"+"ME\n"))
	if len(found) != 1 {
		t.Fatalf("found %v, want one violation", found)
	}
	if got, want := found[0].String(), `docs/a.md:2: holds "FIX`+`ME" (rule: no marks of unfinished work)`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func broken(found []rules.Violation) []string {
	var names []string
	for _, v := range found {
		names = append(names, v.Rule)
	}
	return names
}

// requireAllTripped fails for a rule that no offender broke: it could be one
// that nothing can break.
func requireAllTripped(t *testing.T, all []string, tripped map[string]bool) {
	t.Helper()
	for _, rule := range all {
		if !tripped[rule] {
			t.Errorf("no offender breaks the rule %q", rule)
		}
	}
}
