package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// Module is a module of the tree.
type Module struct {
	Dir  string // from the root of the tree, slash-separated, without "./"
	File *modfile.File
}

// The rules on modules.
const (
	RuleWorkspace = "go.work joins every module of the tree but those of tools, and nothing else"
	RuleNames     = "a module is named after its directory"
	RuleReplaced  = "a go.mod replaces each module of the tree that it requires, so that it builds without go.work"
)

// ModuleRules names every rule that CheckModules knows.
var ModuleRules = []string{RuleWorkspace, RuleNames, RuleReplaced}

// CheckModules holds the modules of the tree, and the directories that go.work
// uses, against the rules on modules.
func CheckModules(used []string, modules []Module) []Violation {
	var found []Violation
	for _, dir := range used {
		if !slices.ContainsFunc(modules, func(m Module) bool { return m.Dir == dir }) {
			found = append(found, Violation{RuleWorkspace, "go.work", fmt.Sprintf("uses %s, which holds no module", dir)})
		}
	}
	for _, m := range modules {
		file := path.Join(m.Dir, "go.mod")
		// What a tool needs must not raise a version that the project is built with.
		tool := strings.HasPrefix(m.Dir, "tools/")
		switch joined := slices.Contains(used, m.Dir); {
		case tool && joined:
			found = append(found, Violation{RuleWorkspace, file, "is a tool's: take it out of go.work"})
		case !tool && !joined:
			found = append(found, Violation{RuleWorkspace, file, "is not in go.work: run `go work use ./" + m.Dir + "`"})
		}
		if m.File.Module == nil || m.File.Module.Mod.Path != Domain+m.Dir {
			found = append(found, Violation{RuleNames, file, "does not name " + Domain + m.Dir})
		}
		for _, required := range m.File.Require {
			if dir, ours := strings.CutPrefix(required.Mod.Path, Domain); ours && replacement(m, required.Mod.Path) != dir {
				found = append(found, Violation{RuleReplaced, file, "does not replace " + required.Mod.Path + " by its directory"})
			}
		}
	}
	return found
}

// replacement returns the directory, from the root of the tree, that stands in
// for a required module; empty if none does.
func replacement(m Module, required string) string {
	for _, r := range m.File.Replace {
		if r.Old.Path == required && r.New.Version == "" {
			return path.Join(m.Dir, r.New.Path)
		}
	}
	return ""
}
