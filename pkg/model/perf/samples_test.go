package perf

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark.dev/pkg/model"
)

func firsts(s *samples) []float64 {
	var values []float64
	for _, k := range s.kept {
		values = append(values, k.x[0])
	}
	return values
}

func TestSamplesRetireTheOldestOfTheFullestCell(t *testing.T) {
	s := &samples{axes: 1, parts: 4, limit: 6}
	for _, x := range []float64{10, 11, 12, 1000, 1100, 1200} {
		s.add([2]float64{x}, 1)
	}
	// Cells of 297.5 tokens: three samples in the first, three in the last.
	s.add([2]float64{15}, 1)
	if got, want := firsts(s), []float64{11, 12, 1000, 1100, 1200, 15}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v: 10 is the oldest of the four in the first cell", got, want)
	}
	// Of two cells that are equally full, the one created first pays.
	s.add([2]float64{1150}, 1)
	if got, want := firsts(s), []float64{11, 12, 1100, 1200, 15, 1150}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	// A new extreme cuts the axis anew: all of these are small now.
	s.add([2]float64{10_000}, 1)
	if got, want := firsts(s), []float64{12, 1100, 1200, 15, 1150, 10_000}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

func TestSamplesShrinkWithTheirLimit(t *testing.T) {
	s := &samples{axes: 2, parts: 2, limit: 10}
	for i := range 10 {
		s.add([2]float64{float64(i % 2), float64(i)}, 1)
	}
	s.shape(2, 4)
	if len(s.kept) != 4 {
		t.Fatalf("%d samples, want 4", len(s.kept))
	}
	for _, c := range s.cells {
		if c.count != 1 {
			t.Errorf("cells %v: four samples should lie in four cells", s.cells)
		}
	}
}

// TestSamplesHoldTheirInvariants checks that cells count the samples in them,
// none of them empty, whatever comes.
func TestSamplesHoldTheirInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &samples{axes: rapid.IntRange(1, 2).Draw(t, "axes"), parts: rapid.IntRange(1, 5).Draw(t, "parts"), limit: rapid.IntRange(1, 20).Draw(t, "limit")}
		for range rapid.IntRange(1, 80).Draw(t, "adds") {
			s.add([2]float64{float64(rapid.IntRange(0, 50).Draw(t, "x0")), float64(rapid.IntRange(0, 50).Draw(t, "x1"))}, 1)
			counts := map[int]int{}
			for _, k := range s.kept {
				counts[k.cell]++
			}
			for _, c := range s.cells {
				if c.count == 0 || counts[c.number] != c.count {
					t.Fatalf("cells %v, samples %+v", s.cells, s.kept)
				}
			}
			if len(s.kept) > s.limit || len(counts) != len(s.cells) {
				t.Fatalf("%d samples of at most %d in %d cells of %d", len(s.kept), s.limit, len(counts), len(s.cells))
			}
		}
	})
}

func TestAverageSkipsLeadingZeros(t *testing.T) {
	a := average{limit: 3}
	if got := a.mean(); got != 0 {
		t.Errorf("empty: %v, want 0", got)
	}
	for _, v := range []float64{0, 0, 6, 0, 3} {
		a.add(v)
	}
	if got := a.mean(); got != 3 {
		t.Errorf("mean of 6, 0, 3 = %v, want 3", got)
	}
	a.add(0)
	if got := a.mean(); got != 1 {
		t.Errorf("mean of the last three = %v, want 1", got)
	}
}

func sampleOfLoad(role model.Role, wallS float64, requests, tokens, decoding, kv int) *model.EngineSample {
	s := sampleOf(role, wallS, requests, tokens, decoding, kv)
	return &s
}

// TestStateContinues observes the same iterations with and without a detour
// through the encoded state, at any point.
func TestStateContinues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		settings := Settings{MinObservations: 3, MaxSamples: rapid.IntRange(3, 12).Draw(t, "max"), Buckets: 9, Engine: model.Engine{MaxNumBatchedTokens: 2048}}
		straight, detour := NewAggregated(settings), NewAggregated(settings)
		for range rapid.IntRange(1, 40).Draw(t, "iterations") {
			s := sampleOfLoad(model.Aggregated, float64(rapid.IntRange(0, 5).Draw(t, "ms"))*1e-3,
				rapid.IntRange(0, 3).Draw(t, "requests"), rapid.IntRange(0, 900).Draw(t, "tokens"), rapid.IntRange(0, 9).Draw(t, "decoding"), rapid.IntRange(0, 9000).Draw(t, "kv"))
			straight.Observe(s)
			detour.Observe(s)
			if rapid.Bool().Draw(t, "restart") {
				data, err := json.Marshal(detour.State())
				if err != nil {
					t.Fatal(err)
				}
				var state State
				if err := json.Unmarshal(data, &state); err != nil {
					t.Fatal(err)
				}
				if detour, err = RestoreAggregated(state); err != nil {
					t.Fatal(err)
				}
				detour.Configure(settings)
			}
			if diff := cmp.Diff(straight.State(), detour.State()); diff != "" {
				t.Fatalf("(-straight +restored):\n%s", diff)
			}
			if straight.Ready() != detour.Ready() {
				t.Fatalf("ready: %v and %v", straight.Ready(), detour.Ready())
			}
			if straight.Ready() && straight.TTFTMs(500, 0.2, 700) != detour.TTFTMs(500, 0.2, 700) {
				t.Fatal("the restored model predicts something else")
			}
		}
	})
}

func TestRestoreRefusesWhatNoModelWrote(t *testing.T) {
	good := func() State {
		m := NewDecode(Settings{MinObservations: 2, MaxSamples: 8, Buckets: 4})
		for i := range 5 {
			m.Observe(sampleOfLoad(model.Decode, 0.01, 0, 0, i+1, 1000*i))
		}
		return m.State()
	}
	if _, err := RestoreDecode(good()); err != nil {
		t.Fatalf("a good state: %v", err)
	}
	for name, damage := range map[string]func(*State){
		"no limit":         func(s *State) { s.Limit = 0 },
		"too many samples": func(s *State) { s.Limit = 3 },
		"half a sample":    func(s *State) { s.Samples = s.Samples[1:] },
		"negative figure":  func(s *State) { s.Samples[0] = -1 },
		"missing extremes": func(s *State) { s.High = nil },
		"narrow extremes":  func(s *State) { s.High[0] = 1 },
		"missing cell":     func(s *State) { s.Cells = s.Cells[1:] },
		"spare cell":       func(s *State) { s.Cells = append(s.Cells, 99) },
		"missing average":  func(s *State) { s.Averages = s.Averages[1:] },
		"long average":     func(s *State) { s.Averages[0] = make([]float64, 9) },
	} {
		state := good()
		damage(&state)
		if _, err := RestoreDecode(state); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
}

func FuzzRestore(f *testing.F) {
	m := NewDecode(Settings{MinObservations: 2, MaxSamples: 8, Buckets: 4})
	for i := range 5 {
		m.Observe(sampleOfLoad(model.Decode, 0.01*float64(i), 0, 0, i+1, 1000*i))
	}
	seed, err := json.Marshal(m.State())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var state State
		if json.Unmarshal(data, &state) != nil {
			return
		}
		m, err := RestoreDecode(state)
		if err != nil {
			return
		}
		m.Configure(Settings{MinObservations: 1, MaxSamples: 8, Buckets: 4})
		m.Observe(sampleOfLoad(model.Decode, 0.02, 0, 0, 3, 5000))
		if m.Ready() {
			if itl := m.ITLMs(1000); !(itl > 0) {
				t.Errorf("ITL is %v", itl)
			}
		}
	})
}
