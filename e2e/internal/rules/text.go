package rules

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
)

// The rules on what tracked files hold.
const (
	RulePaths      = "no path of one machine"
	RuleUnfinished = "no marks of unfinished work"
	RuleMerge      = "no merge markers"
	RuleRegistry   = "lock files and npm settings name no registry: the client's own settings do"
)

// TextRules names every rule that CheckText knows.
var TextRules = []string{RulePaths, RuleUnfinished, RuleMerge, RuleRegistry}

// textRules is written so that no pattern matches its own source.
var textRules = []struct {
	rule    string
	files   []string // base names; none: every file
	pattern *regexp.Regexp
}{
	{RulePaths, nil, regexp.MustCompile(`(^|[^A-Za-z0-9_./-])/(work|root|farm)/`)},
	{RuleUnfinished, nil, regexp.MustCompile(`\b(TO[D]O|FIX[M]E)\b`)},
	{RuleMerge, nil, regexp.MustCompile(`^(<{7}|>{7}|\|{7})( |$)`)},
	{
		RuleRegistry,
		[]string{"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml"},
		regexp.MustCompile(`(?i)\b(resolved|tarball)"?:? +"?https?:`),
	},
	{RuleRegistry, []string{".npmrc", ".yarnrc", ".yarnrc.yml"}, regexp.MustCompile(`(?i)registry\w*"?\s*[=:]`)},
}

// CheckText holds the content of a tracked file against the rules on content,
// line by line. Binary files, which hold a NUL byte, are passed over.
func CheckText(file string, content []byte) []Violation {
	if bytes.IndexByte(content, 0) >= 0 {
		return nil
	}
	var found []Violation
	for n, line := range bytes.Split(content, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		for _, r := range textRules {
			if !appliesTo(r.files, file) {
				continue
			}
			if match := r.pattern.Find(line); match != nil {
				found = append(found, Violation{r.rule, fmt.Sprintf("%s:%d", file, n+1), fmt.Sprintf("holds %q", match)})
			}
		}
	}
	return found
}

func appliesTo(names []string, file string) bool {
	if len(names) == 0 {
		return true
	}
	for _, name := range names {
		if path.Base(file) == name {
			return true
		}
	}
	return false
}
