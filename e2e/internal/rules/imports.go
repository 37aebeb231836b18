package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Package is what the import rules need to know of a package: the fields of
// `go list -json` with the same names.
type Package struct {
	ImportPath   string
	Imports      []string // of the files that are built
	TestImports  []string // of _test.go files in the package
	XTestImports []string // of _test.go files in the package's _test companion
	Deps         []string // all that the built files import, however far away
}

// The rules on imports.
const (
	RuleLayers   = "imports point one way: cmd -> services -> pkg/service -> pkg/replay -> pkg/events -> pkg/model"
	RuleServices = "services never import each other"
	RuleCore     = "pkg/model imports the standard library, gonum, a YAML decoder and a parser of cron expressions"
	RuleKafka    = "only pkg/events/kafka imports a Kafka client"
	RuleFleet    = "only the actuator holds code that can change a fleet"
)

// ImportRules names every rule that CheckImports knows.
var ImportRules = []string{RuleLayers, RuleServices, RuleCore, RuleKafka, RuleFleet}

// layers lists the layers, lowest first. A package imports its own module and
// lower layers; two modules of one layer do not know each other.
var layers = []struct {
	root    string
	modules bool // each directory below root is a module; else root is one
}{
	{root: Domain + "pkg/model"},
	{root: Domain + "pkg/events"},
	{root: Domain + "pkg/replay"},
	{root: Domain + "pkg/service"},
	{root: Domain + "services", modules: true},
	{root: Domain + "cmd", modules: true},
	{root: Domain + "examples", modules: true},
	{root: Domain + "e2e"},
}

const (
	core     = Domain + "pkg/model"
	services = Domain + "services"
	kafka    = Domain + "pkg/events/kafka"
	actuator = Domain + "services/actuator"
)

var (
	coreMayImport      = []string{"gonum.org/v1/gonum", "go.yaml.in/yaml/v3", "github.com/robfig/cron/v3", core}
	coreTestsMayImport = []string{"pgregory.net/rapid", "github.com/google/go-cmp", "github.com/cockroachdb/datadriven"}

	kafkaClients = []string{
		"github.com/IBM/sarama",
		"github.com/ThreeDotsLabs/watermill-kafka",
	}

	// fleetWriters lists the packages through which replicas can be set. A new
	// way to write to a fleet is entered here before it is used.
	fleetWriters = []string{
		"k8s.io/client-go/dynamic",
		"k8s.io/client-go/kubernetes",
		"k8s.io/client-go/rest",
		"k8s.io/client-go/scale",
		"sigs.k8s.io/controller-runtime",
	}
	// fleetReaders lists the services that must not even link a writer.
	fleetReaders = []string{
		services + "/collector",
		services + "/decider",
		services + "/reporter",
	}
)

// CheckImports holds packages of the project against the import rules.
func CheckImports(packages []Package) []Violation {
	var found []Violation
	for _, p := range packages {
		report := func(rule, format string, args ...any) {
			found = append(found, Violation{Rule: rule, Where: p.ImportPath, Detail: fmt.Sprintf(format, args...)})
		}
		if layerOf(p.ImportPath) < 0 {
			report(RuleLayers, "belongs to no layer: put it where one is, or name its layer in this rule")
			continue
		}
		for _, i := range p.imports() {
			checkImport(p.ImportPath, i, report)
		}
		if withinAny(p.ImportPath, fleetReaders) {
			for _, dep := range p.Deps {
				if withinAny(dep, fleetWriters) {
					report(RuleFleet, "links %s", dep)
				}
			}
		}
	}
	return found
}

func checkImport(from string, i imported, report func(rule, format string, args ...any)) {
	if strings.HasPrefix(i.path, Domain) {
		own, other := layerOf(from), layerOf(i.path)
		switch {
		case other == own && moduleOf(i.path, other) == moduleOf(from, own):
		case within(from, services) && within(i.path, services):
			report(RuleServices, "imports %s", i.path)
		case other < 0 || other >= own:
			report(RuleLayers, "imports %s", i.path)
		}
	}
	if within(from, core) && !mayBeInCore(i) {
		report(RuleCore, "imports %s", i.path)
	}
	if withinAny(i.path, kafkaClients) && !within(from, kafka) {
		report(RuleKafka, "imports %s", i.path)
	}
	if withinAny(i.path, fleetWriters) && !within(from, actuator) {
		report(RuleFleet, "imports %s", i.path)
	}
}

func mayBeInCore(i imported) bool {
	return isStandard(i.path) || withinAny(i.path, coreMayImport) ||
		i.test && withinAny(i.path, coreTestsMayImport)
}

// isStandard reports whether an import path is of the standard library: its
// first element has no dot, which no path of a module that is fetched lacks.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// layerOf returns the position of a package in layers, -1 for none.
func layerOf(path string) int {
	for n, layer := range layers {
		if within(path, layer.root) {
			return n
		}
	}
	return -1
}

// moduleOf returns the path of the module that a package of a layer is in.
func moduleOf(path string, layer int) string {
	root := layers[layer].root
	if !layers[layer].modules {
		return root
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(path, root+"/"), "/")
	return root + "/" + name
}

// imported is one import of a package. It is a test's where no built file has
// it too.
type imported struct {
	path string
	test bool
}

func (p Package) imports() []imported {
	var all []imported
	add := func(paths []string, test bool) {
		for _, path := range paths {
			if !slices.ContainsFunc(all, func(i imported) bool { return i.path == path }) {
				all = append(all, imported{path, test})
			}
		}
	}
	add(p.Imports, false)
	add(p.TestImports, true)
	add(p.XTestImports, true)
	slices.SortStableFunc(all, func(a, b imported) int { return cmp.Compare(a.path, b.path) })
	return all
}
