package perf

import (
	"fmt"
	"slices"

	"tidemark.dev/pkg/model"
)

// State is all that a model keeps: plain data for JSON, which carries a float64
// without loss. Restored, the model continues as if it had not stopped.
type State struct {
	// Parts and Limit are the shape of the samples.
	Parts int `json:"parts"`
	Limit int `json:"limit"`
	// Samples holds, in order of arrival, the features of each sample and its
	// duration in seconds; Cells the numbers of the cells in order of creation;
	// Low and High the extremes of each feature.
	Samples []float64 `json:"samples,omitempty"`
	Cells   []int     `json:"cells,omitempty"`
	Low     []float64 `json:"low,omitempty"`
	High    []float64 `json:"high,omitempty"`
	// Averages holds the values of each moving average, the oldest first.
	Averages [][]float64 `json:"averages"`
}

func (m *Prefill) averages() []*average { return []*average{&m.isl} }

func (m *Decode) averages() []*average { return []*average{&m.requests, &m.length} }

func (m *Aggregated) averages() []*average { return []*average{&m.isl, &m.length, &m.prefill} }

// State returns the model's state. It shares nothing with the model.
func (m *Prefill) State() State { return m.state(m.averages()) }

// State returns the model's state. It shares nothing with the model.
func (m *Decode) State() State { return m.state(m.averages()) }

// State returns the model's state. It shares nothing with the model.
func (m *Aggregated) State() State { return m.state(m.averages()) }

// RestorePrefill returns the model of a state. It has no engine limits and no
// min_observations until it is configured.
func RestorePrefill(s State) (*Prefill, error) {
	m := NewPrefill(Settings{})
	return m, m.restore(s, m.averages())
}

// RestoreDecode returns the model of a state, like RestorePrefill.
func RestoreDecode(s State) (*Decode, error) {
	m := NewDecode(Settings{})
	return m, m.restore(s, m.averages())
}

// RestoreAggregated returns the model of a state, like RestorePrefill.
func RestoreAggregated(s State) (*Aggregated, error) {
	m := NewAggregated(Settings{})
	return m, m.restore(s, m.averages())
}

func (r *regression) state(averages []*average) State {
	s := State{Parts: r.samples.parts, Limit: r.samples.limit}
	axes := r.samples.axes
	for i := range r.samples.kept {
		s.Samples = append(append(s.Samples, r.samples.kept[i].x[:axes]...), r.samples.kept[i].wallS)
	}
	for _, c := range r.samples.cells {
		s.Cells = append(s.Cells, c.number)
	}
	if len(r.samples.kept) > 0 {
		s.Low, s.High = slices.Clone(r.samples.lo[:axes]), slices.Clone(r.samples.hi[:axes])
	}
	for _, a := range averages {
		s.Averages = append(s.Averages, slices.Clone(a.values))
	}
	return s
}

func (r *regression) restore(s State, averages []*average) error {
	axes := r.samples.axes
	count := len(s.Samples) / (axes + 1)
	switch {
	case s.Parts < 1 || s.Limit < 1:
		return fmt.Errorf("restore model: %d parts and %d samples at most make no model", s.Parts, s.Limit)
	case len(s.Samples)%(axes+1) != 0 || count > s.Limit:
		return fmt.Errorf("restore model: %d figures are no samples of %d features, at most %d", len(s.Samples), axes, s.Limit)
	case len(s.Averages) != len(averages):
		return fmt.Errorf("restore model: it has %d averages, want %d", len(s.Averages), len(averages))
	case count > 0 && (len(s.Low) != axes || len(s.High) != axes):
		return fmt.Errorf("restore model: the extremes of its features are missing")
	}
	for _, figures := range append(s.Averages[:len(s.Averages):len(s.Averages)], s.Samples, s.Low, s.High) {
		for _, v := range figures {
			if !(v >= 0 && v <= model.MaxFigure) {
				return fmt.Errorf("restore model: it holds %v", v)
			}
		}
	}
	k := &r.samples
	k.parts, k.limit = s.Parts, s.Limit
	copy(k.lo[:], s.Low)
	copy(k.hi[:], s.High)
	for _, number := range s.Cells {
		k.cells = append(k.cells, cell{number: number})
	}
	for i := range count {
		one := sample{wallS: s.Samples[i*(axes+1)+axes]}
		copy(one.x[:], s.Samples[i*(axes+1):i*(axes+1)+axes])
		for axis := range axes {
			if one.x[axis] < k.lo[axis] || one.x[axis] > k.hi[axis] {
				return fmt.Errorf("restore model: a sample lies outside of the extremes")
			}
		}
		k.kept = append(k.kept, one)
		k.group(i)
	}
	if len(k.cells) != len(s.Cells) || slices.ContainsFunc(k.cells, func(c cell) bool { return c.count == 0 }) {
		return fmt.Errorf("restore model: its cells are not those of its samples")
	}
	for i, a := range averages {
		if len(s.Averages[i]) > s.Limit {
			return fmt.Errorf("restore model: an average has %d values, more than %d", len(s.Averages[i]), s.Limit)
		}
		a.values, a.limit = slices.Clone(s.Averages[i]), s.Limit
	}
	return nil
}
