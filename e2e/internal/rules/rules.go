// Package rules states what keeps Tidemark in shape as checks over plain data:
// which way imports point, what the pure core may touch, how modules are
// joined, and what no tracked file may hold.
//
// Each check reports every violation that it finds, in the order of its input,
// and changes nothing. Reading the tree is left to the caller, so that each
// rule is also tried on offenders that the tree must never hold.
package rules

import "strings"

// Domain begins the path of each of the project's modules.
const Domain = "tidemark.dev/"

// Violation is one breach of one rule.
type Violation struct {
	// Rule names the rule: a few words that say what must hold.
	Rule string
	// Where is a package, a module directory, or a file and a line.
	Where string
	// Detail says what was found there.
	Detail string
}

// String returns the violation as one line.
func (v Violation) String() string {
	return v.Where + ": " + v.Detail + " (rule: " + v.Rule + ")"
}

// within reports whether a slash-separated path is root or lies below it.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

func withinAny(path string, roots []string) bool {
	for _, root := range roots {
		if within(path, root) {
			return true
		}
	}
	return false
}
