package rules_test

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"

	"tidemark.dev/e2e/internal/rules"
)

// The packages below testdata say in comments what must be reported, and where.
func TestPurity(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), rules.Purity, "impure", "pure")
}
