package rules

import (
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Purity reports what makes a package depend on more than its arguments: the
// clock, the process and its files, the network, unseeded randomness, output
// of its own, and goroutines. A pure function of the same arguments returns
// the same bytes on every machine, which is what a replay rests on.
//
// Test files, and the main package that the go command writes to run them, are
// not checked. What a dependency does inside is not seen; the
// import rules keep the list of dependencies short for that.
var Purity = &analysis.Analyzer{
	Name: "purity",
	Doc:  "reports clocks, I/O, unseeded randomness and goroutines",
	Run:  reportImpurities,
}

// impurePackages are impure in all that they offer; of a path that ends in
// "/..." the packages below it are, too.
var impurePackages = map[string]string{
	"crypto/rand":  "cannot be repeated",
	"hash/maphash": "is seeded anew by every process",
	"io/ioutil":    "reads and writes files",
	"log/...":      "writes output",
	"net/...":      "reaches the network",
	"os/...":       "reaches the process and its files",
	"plugin":       "loads code",
	"runtime/...":  "depends on the machine",
	"syscall":      "reaches the process and its files",
	"testing/...":  "belongs in tests",
	"unsafe":       "depends on the machine",
}

// pureExceptions are packages below an impure one that only parse.
var pureExceptions = map[string]bool{"net/netip": true, "net/url": true}

// impureNames are the package-level names, and the methods as Type.Name, that
// are impure in packages that are otherwise not.
var impureNames = map[string]map[string]string{
	"time": {
		"Now": readsClock, "Since": readsClock, "Until": readsClock,
		"After": waits, "AfterFunc": waits, "NewTicker": waits, "NewTimer": waits, "Sleep": waits, "Tick": waits,
		"LoadLocation": readsZone, "Local": readsZone, "Time.Local": readsZone,
	},
	"context": {
		"WithDeadline": waits, "WithDeadlineCause": waits, "WithTimeout": waits, "WithTimeoutCause": waits,
		"AfterFunc": "starts a goroutine",
	},
	"fmt": {
		"Print": usesStreams, "Printf": usesStreams, "Println": usesStreams,
		"Scan": usesStreams, "Scanf": usesStreams, "Scanln": usesStreams,
	},
	"path/filepath": {
		"Abs": readsFiles, "EvalSymlinks": readsFiles, "Glob": readsFiles, "Walk": readsFiles, "WalkDir": readsFiles,
	},
	"sync": {"WaitGroup.Go": "starts a goroutine"},
}

const (
	readsClock  = "reads the clock"
	readsZone   = "depends on the machine's time zones"
	readsFiles  = "reads the file system"
	usesStreams = "uses the process's streams"
	waits       = "waits for the clock"
)

func reportImpurities(pass *analysis.Pass) (any, error) {
	if strings.HasSuffix(pass.Pkg.Path(), ".test") {
		return nil, nil
	}
	for _, file := range pass.Files {
		if strings.HasSuffix(pass.Fset.Position(file.Package).Filename, "_test.go") {
			continue
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return nil, err
			}
			if why := impurePackage(path); why != "" {
				pass.Reportf(spec.Pos(), "imports %s, which %s", path, why)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				pass.Reportf(n.Pos(), "starts a goroutine")
			case *ast.Ident:
				reportName(pass, n.Pos(), pass.TypesInfo.Uses[n])
			}
			return true
		})
	}
	return nil, nil
}

func impurePackage(path string) string {
	if pureExceptions[path] {
		return ""
	}
	if why, ok := impurePackages[path]; ok {
		return why
	}
	root, _, _ := strings.Cut(path, "/")
	return impurePackages[root+"/..."]
}

// reportName reports a use of an impure name, called or handed on.
func reportName(pass *analysis.Pass, pos token.Pos, used types.Object) {
	if used == nil {
		return
	}
	if b, ok := used.(*types.Builtin); ok && (b.Name() == "print" || b.Name() == "println") {
		pass.Reportf(pos, "%s %s", b.Name(), usesStreams)
		return
	}
	if used.Pkg() == nil {
		return
	}
	path, name := used.Pkg().Path(), used.Name()
	if receiver := receiverOf(used); receiver != "" {
		name = receiver + "." + name
	} else if used.Parent() != used.Pkg().Scope() {
		return // a local, a field, a parameter
	}
	if why, ok := impureNames[path][name]; ok {
		pass.Reportf(pos, "%s.%s %s", used.Pkg().Name(), name, why)
		return
	}
	_, isFunc := used.(*types.Func)
	if isFunc && (path == "math/rand" || path == "math/rand/v2") && receiverOf(used) == "" && !strings.HasPrefix(name, "New") {
		pass.Reportf(pos, "%s.%s draws from a generator that nobody seeded", used.Pkg().Name(), name)
	}
}

// receiverOf returns the name of the type that a method belongs to, empty for
// what is no method.
func receiverOf(used types.Object) string {
	f, ok := used.(*types.Func)
	if !ok || f.Signature().Recv() == nil {
		return ""
	}
	t := f.Signature().Recv().Type()
	if pointer, ok := t.(*types.Pointer); ok {
		t = pointer.Elem()
	}
	if named, ok := t.(*types.Named); ok {
		return named.Obj().Name()
	}
	return ""
}
