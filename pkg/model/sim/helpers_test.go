package sim

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
)

// plainEngine has round figures for arithmetic by hand: 10 ms for an
// iteration, and on top 10 µs for a prompt token, 1 ms for a decoding sequence
// and 1 µs for a KV token.
func plainEngine() Engine {
	return Engine{
		MaxNumBatchedTokens: 8192, MaxNumSeqs: 256, MaxKVTokens: 100_000,
		Timing: Timing{BaseS: 10e-3, PerPrefillTokenS: 10e-6, PerSequenceS: 1e-3, PerKVTokenS: 1e-6},
	}
}

// fleetOf returns a configuration in which every role of the topology is alike.
func fleetOf(topology model.Topology, role RoleConfig) Config {
	config := Config{Topology: topology}
	for _, r := range topology.Roles() {
		config.Roles.Set(r, role)
	}
	return config
}

func newFleet(t testing.TB, config Config, list ...Request) *Fleet {
	t.Helper()
	f, err := New(config, NewRequests(list))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func advance(t testing.TB, f *Fleet, to time.Duration) {
	t.Helper()
	if err := f.Advance(to); err != nil {
		t.Fatal(err)
	}
}

func scale(t testing.TB, f *Fleet, role model.Role, replicas int) {
	t.Helper()
	if err := f.Scale(role, replicas); err != nil {
		t.Fatal(err)
	}
}

// finish advances in steps until every request is answered.
func finish(t testing.TB, f *Fleet, step, limit time.Duration) {
	t.Helper()
	for !f.Done() {
		if f.Now() > limit {
			t.Fatalf("not done at %v: %+v", f.Now(), f.Totals())
		}
		advance(t, f, f.Now()+step)
	}
}

func replicas(t testing.TB, f *Fleet, role model.Role) Replicas {
	t.Helper()
	r, ok := f.Inventory().Get(role)
	if !ok {
		t.Fatalf("no role %s", role)
	}
	return r
}

// collect reads a workload to its end.
func collect(t testing.TB, w Workload) []Request {
	t.Helper()
	var all []Request
	for {
		r, ok, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, r)
	}
}

// shared returns the path of a file beside the workspace that is no part of
// the project, and skips the test where it is not there.
func shared(t testing.TB, elements ...string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("no go.work above, so nothing says where shared data would be")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(append([]string{dir, "..", "shared"}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs %s beside the workspace", filepath.Join(append([]string{"shared"}, elements...)...))
	}
	return path
}

func sharedTrace(t testing.TB, name string) []Request {
	t.Helper()
	file, err := os.Open(shared(t, "traces", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	list, err := LoadTrace(file, name)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func ms(f float64) time.Duration { return time.Duration(math.Round(f * float64(time.Millisecond))) }
