package report

import (
	"math"
	"slices"
	"sort"
	"strconv"
	"time"
)

// none stands for "asked, and no figure" in a row of a track.
var none = math.NaN()

// cell sums up what one column of one bucket held. Extremes are kept as they
// were seen, so that a spike of one tick survives every thinning.
type cell struct {
	lo, hi, sum float64
	n, missing  int32
	// falling says that the maximum came before the minimum.
	falling bool
}

func (c *cell) add(v float64) {
	switch {
	case math.IsNaN(v):
		c.missing++
		return
	case c.n == 0:
		c.lo, c.hi = v, v
	case v < c.lo:
		c.lo, c.falling = v, true
	case v > c.hi:
		c.hi, c.falling = v, false
	}
	c.sum += v
	c.n++
}

func (c *cell) merge(later cell) {
	if later.n > 0 {
		if c.n == 0 {
			c.lo, c.hi, c.falling = later.lo, later.hi, later.falling
		} else {
			minLater, maxLater := later.lo < c.lo, later.hi > c.hi
			switch {
			case minLater && maxLater:
				c.falling = later.falling
			case minLater:
				c.falling = true
			case maxLater:
				c.falling = false
			}
			c.lo, c.hi = min(c.lo, later.lo), max(c.hi, later.hi)
		}
	}
	c.sum += later.sum
	c.n += later.n
	c.missing += later.missing
}

// extremes returns the minimum and the maximum in the order in which they came.
func (c *cell) extremes() (first, second float64) {
	switch {
	case c.n == 0:
		return none, none
	case c.falling:
		return c.hi, c.lo
	}
	return c.lo, c.hi
}

// bucket sums up the ticks of one stretch of time.
type bucket struct {
	// first and last are the instants of its first and last tick.
	first, last time.Time
	ticks       int
	cells       []cell
}

// track is a table of figures over time in bounded memory: rows of equal
// columns, added in the order of time. Once it holds more than limit buckets,
// buckets double their width and neighbours merge. Only stretches in which
// something was seen have a bucket, so that a gap stays one.
type track struct {
	limit   int
	columns []string
	width   time.Duration
	buckets []bucket
}

func newTrack(limit int, columns ...string) *track {
	return &track{limit: limit, columns: columns, width: time.Second}
}

// add appends a row. Rows that are not later than the last are repetitions,
// and are dropped; add reports whether the row was new.
func (t *track) add(at time.Time, row []float64) bool {
	if n := len(t.buckets); n > 0 {
		last := &t.buckets[n-1]
		if !at.After(last.last) {
			return false
		}
		if t.slot(at) == t.slot(last.first) {
			last.last = at
			last.ticks++
			for i, v := range row {
				last.cells[i].add(v)
			}
			return true
		}
	}
	b := bucket{first: at, last: at, ticks: 1, cells: make([]cell, len(t.columns))}
	for i, v := range row {
		b.cells[i].add(v)
	}
	t.buckets = append(t.buckets, b)
	for len(t.buckets) > t.limit {
		t.widen()
	}
	return true
}

func (t *track) slot(at time.Time) int64 { return at.UnixNano() / int64(t.width) }

func (t *track) widen() {
	t.width *= 2
	kept := t.buckets[:1]
	for _, b := range t.buckets[1:] {
		last := &kept[len(kept)-1]
		if t.slot(b.first) != t.slot(last.first) {
			kept = append(kept, b)
			continue
		}
		last.last = b.last
		last.ticks += b.ticks
		for i := range b.cells {
			last.cells[i].merge(b.cells[i])
		}
	}
	clear(t.buckets[len(kept):])
	t.buckets = kept
}

func (t *track) column(name string) int { return slices.Index(t.columns, name) }

// between returns the track's buckets that begin within [from, to]; a zero
// bound is open.
func (t *track) between(from, to time.Time) *track {
	cut := *t
	begin, end := 0, len(t.buckets)
	if !from.IsZero() {
		begin = sort.Search(end, func(i int) bool { return !t.buckets[i].first.Before(from) })
	}
	if !to.IsZero() {
		end = sort.Search(end, func(i int) bool { return t.buckets[i].first.After(to) })
	}
	cut.buckets = t.buckets[min(begin, end):end]
	return &cut
}

// gapFactor is how many usual intervals may pass between two ticks before the
// time between them is a gap. One tick may be late and one lost.
const gapFactor = 3

// gap returns the time between two ticks from which on nothing is known of
// what lies between. The usual interval is the ninth decile of those seen, so
// that a loop that slowed down is no gap; it is 0 for fewer than two ticks.
func (t *track) gap() time.Duration {
	var intervals []time.Duration
	for i := range t.buckets {
		b := &t.buckets[i]
		if b.ticks > 1 {
			intervals = append(intervals, b.last.Sub(b.first)/time.Duration(b.ticks-1))
		}
		if i > 0 {
			intervals = append(intervals, b.first.Sub(t.buckets[i-1].last))
		}
	}
	if len(intervals) == 0 {
		return 0
	}
	slices.Sort(intervals)
	return gapFactor * intervals[(len(intervals)-1)*9/10]
}

// spans calls visit with each bucket and the time it stands for: to the next
// bucket, or for one usual interval beyond its last tick where a gap follows.
func (t *track) spans(visit func(b *bucket, d time.Duration)) {
	gap := t.gap()
	for i := range t.buckets {
		b := &t.buckets[i]
		visit(b, t.end(i, gap).Sub(b.first))
	}
}

func (t *track) end(i int, gap time.Duration) time.Time {
	b := &t.buckets[i]
	if i+1 < len(t.buckets) {
		if next := t.buckets[i+1].first; next.Sub(b.last) <= gap {
			return next
		}
	}
	return b.last.Add(gap / gapFactor)
}

// total sums a column: over columns of 0 and 1, it counts.
func (t *track) total(name string) (sum float64, n int) {
	c := t.column(name)
	for i := range t.buckets {
		sum += t.buckets[i].cells[c].sum
		n += int(t.buckets[i].cells[c].n)
	}
	return sum, n
}

// Series is a table over time as the page draws it: the instants, and for
// each name as many values. A value that is not there is a gap in the line.
type Series struct {
	// StartMs is the first instant, in milliseconds since 1970 UTC, and
	// StepsMs the distance of each instant from the one before; the first is 0.
	StartMs int64             `json:"start_ms"`
	StepsMs []int64           `json:"steps_ms"`
	Values  map[string]Values `json:"values"`
}

// Values are figures, six digits of them; NaN is no figure, and null in JSON.
type Values []float64

// MarshalJSON writes the values as an array of numbers and nulls.
func (v Values) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 2+6*len(v))
	out = append(out, '[')
	for i, f := range v {
		if i > 0 {
			out = append(out, ',')
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			out = append(out, "null"...)
			continue
		}
		exponent := byte('f')
		if abs := math.Abs(f); abs >= 1e15 || abs > 0 && abs < 1e-6 {
			exponent = 'e'
		}
		rounded, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 6, 64), 64)
		if err != nil {
			return nil, err
		}
		out = strconv.AppendFloat(out, rounded, exponent, -1, 64)
	}
	return append(out, ']'), nil
}

// series writes the named columns that hold any figure. A bucket of one tick
// is one row; of more, two, the extremes in their order at its first and last
// tick, with a row between them where the bucket lacks a figure; and a gap in
// time is a row without figures.
func (t *track) series(names ...string) *Series {
	out := &Series{Values: map[string]Values{}}
	var drawn []int
	for _, name := range names {
		c := t.column(name)
		if slices.ContainsFunc(t.buckets, func(b bucket) bool { return b.cells[c].n > 0 }) {
			drawn = append(drawn, c)
		}
	}
	if len(drawn) == 0 {
		return nil
	}
	var previous int64
	row := func(at time.Time, value func(*cell) float64, b *bucket) {
		ms := at.UnixMilli()
		if len(out.StepsMs) == 0 {
			out.StartMs, previous = ms, ms
		}
		out.StepsMs = append(out.StepsMs, ms-previous)
		previous = ms
		for _, c := range drawn {
			name := t.columns[c]
			out.Values[name] = append(out.Values[name], value(&b.cells[c]))
		}
	}
	first := func(c *cell) float64 { v, _ := c.extremes(); return v }
	second := func(c *cell) float64 { _, v := c.extremes(); return v }
	holed := func(c *cell) float64 {
		if c.missing > 0 {
			return none
		}
		v, _ := c.extremes()
		return v
	}
	gap := t.gap()
	for i := range t.buckets {
		b := &t.buckets[i]
		if i > 0 && b.first.Sub(t.buckets[i-1].last) > gap {
			row(t.buckets[i-1].last.Add(gap/gapFactor), func(*cell) float64 { return none }, b)
		}
		row(b.first, first, b)
		if b.ticks == 1 {
			continue
		}
		if slices.ContainsFunc(drawn, func(c int) bool { return b.cells[c].missing > 0 && b.cells[c].n > 0 }) {
			row(b.first.Add(b.last.Sub(b.first)/2), holed, b)
		}
		row(b.last, second, b)
	}
	return out
}

// after returns the rows at and after an instant.
func (s *Series) after(fromMs int64) *Series {
	if s == nil {
		return nil
	}
	start, at, first := int64(0), s.StartMs, -1
	for i, step := range s.StepsMs {
		if at += step; at >= fromMs {
			start, first = at, i
			break
		}
	}
	if first < 0 {
		return nil
	}
	out := &Series{StartMs: start, StepsMs: slices.Clone(s.StepsMs[first:]), Values: map[string]Values{}}
	out.StepsMs[0] = 0
	for name, values := range s.Values {
		out.Values[name] = values[first:]
	}
	return out
}

// Span is a stretch of time in which something was one thing.
type Span struct {
	FromMs int64 `json:"from_ms"`
	ToMs   int64 `json:"to_ms"`
	Value  int   `json:"value"`
}

// runs returns the stretches in which the highest code of a column was the
// same. Buckets in which the column was not asked for belong to nothing.
func (t *track) runs(name string) []Span {
	c := t.column(name)
	asked := &track{columns: t.columns, width: t.width}
	for _, b := range t.buckets {
		if b.cells[c].n > 0 {
			asked.buckets = append(asked.buckets, b)
		}
	}
	gap := asked.gap()
	var out []Span
	for i := range asked.buckets {
		b := &asked.buckets[i]
		from, to, value := b.first.UnixMilli(), asked.end(i, gap).UnixMilli(), int(b.cells[c].hi)
		if n := len(out); n > 0 && out[n-1].Value == value && out[n-1].ToMs == from {
			out[n-1].ToMs = to
			continue
		}
		out = append(out, Span{FromMs: from, ToMs: to, Value: value})
	}
	return out
}
