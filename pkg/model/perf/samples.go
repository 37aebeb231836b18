package perf

import (
	"math"
	"slices"
)

// sample is one iteration of an engine: the features of its batch and how long
// it took. A model of one feature leaves the second 0.
type sample struct {
	x     [2]float64
	wallS float64
	cell  int
}

// samples keeps the iterations that a model is fitted to: at most limit of
// them, spread over the load that was seen. Each axis is cut into equal parts
// between its extremes; when there are too many samples, the oldest of the
// fullest cell leaves, so that a long quiet night does not push out the few
// busy minutes that say how the engine behaves under load.
type samples struct {
	axes  int // features in use: 1 or 2
	parts int // parts of each axis
	limit int

	// kept is in order of arrival. cells is in order of creation; a cell is
	// created by its first sample and gone with its last.
	kept   []sample
	cells  []cell
	lo, hi [2]float64
}

type cell struct{ number, count int }

// add takes a sample, and lets one go if there are now too many.
func (s *samples) add(x [2]float64, wallS float64) {
	wider := len(s.kept) == 0
	if wider {
		s.lo, s.hi = x, x
	}
	for axis := range s.axes {
		if x[axis] < s.lo[axis] || x[axis] > s.hi[axis] {
			s.lo[axis], s.hi[axis] = min(s.lo[axis], x[axis]), max(s.hi[axis], x[axis])
			wider = true
		}
	}
	s.kept = append(s.kept, sample{x: x, wallS: wallS})
	if wider {
		s.regroup()
	} else {
		s.group(len(s.kept) - 1)
	}
	s.retire()
}

// shape sets the number of parts and the limit, and regroups if they changed.
func (s *samples) shape(parts, limit int) {
	if s.parts == parts && s.limit == limit {
		return
	}
	s.parts, s.limit = parts, limit
	s.regroup()
	s.retire()
}

// regroup puts every sample into its cell anew, in order of arrival.
func (s *samples) regroup() {
	s.cells = s.cells[:0]
	for i := range s.kept {
		s.group(i)
	}
}

func (s *samples) group(i int) {
	number := 0
	for axis := range s.axes {
		number = number*s.parts + s.part(axis, s.kept[i].x[axis])
	}
	s.kept[i].cell = number
	at := slices.IndexFunc(s.cells, func(c cell) bool { return c.number == number })
	if at < 0 {
		at = len(s.cells)
		s.cells = append(s.cells, cell{number: number})
	}
	s.cells[at].count++
}

// part returns the part of an axis that v lies in: the last one holds the
// maximum, and an axis without extent has one part.
func (s *samples) part(axis int, v float64) int {
	lo, hi := s.lo[axis], s.hi[axis]
	if hi <= lo {
		return 0
	}
	return min(max(int((v-lo)/(hi-lo)*float64(s.parts)), 0), s.parts-1)
}

func (s *samples) retire() {
	for len(s.kept) > s.limit {
		fullest := 0
		for i := range s.cells {
			if s.cells[i].count > s.cells[fullest].count {
				fullest = i
			}
		}
		number := s.cells[fullest].number
		oldest := slices.IndexFunc(s.kept, func(k sample) bool { return k.cell == number })
		s.kept = slices.Delete(s.kept, oldest, oldest+1)
		if s.cells[fullest].count--; s.cells[fullest].count == 0 {
			s.cells = slices.Delete(s.cells, fullest, fullest+1)
		}
	}
}

// largest returns the largest value of the second feature, or of the first if
// there is only one; 0 without samples.
func (s *samples) largest() float64 {
	if len(s.kept) == 0 {
		return 0
	}
	return s.hi[s.axes-1]
}

// partsOf returns the parts of each axis that make a number of buckets.
func partsOf(buckets, axes int) int {
	if axes == 1 {
		return buckets
	}
	return int(math.Sqrt(float64(buckets)))
}
