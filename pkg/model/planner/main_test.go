package planner_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain plays more random histories than rapid does by itself: with the
// number of properties here, some thousands. -rapid.checks=N says otherwise.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", "500"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
