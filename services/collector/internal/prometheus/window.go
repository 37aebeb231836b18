package prometheus

import (
	"math"
	"time"

	pm "github.com/prometheus/common/model"
)

// series are the increases of the counters of a window, by the metric's name.
//
// The increase of a counter over the window from t−w to t is the newest value
// at or before t less the newest value at or before t−w. It is not extrapolated
// to the window's edges. So consecutive windows tile: each request is counted
// once, and in whole numbers.
type window struct {
	from, to time.Time
	counters map[string]counter
}

// counter is the sum over the series of one metric.
type counter struct {
	increase float64
	// newest is the newest sample of any of the series.
	newest time.Time
	// covered says that a series reaches back to the start of the window, and
	// oldest where the series that does not begins.
	covered bool
	oldest  time.Time
	// broken says that a sample is not a number that a counter can have.
	broken bool
}

// target is where Prometheus scraped a series.
type target struct{ job, instance pm.LabelValue }

func targetOf(series pm.Metric) target { return target{series["job"], series["instance"]} }

// fold adds up the samples of a window. They reach back before its start, so
// that a series has a value there.
func fold(matrix pm.Matrix, from, to time.Time) window {
	w := window{from: from, to: to, counters: map[string]counter{}}
	scraped := scrapes(matrix)
	for _, series := range matrix {
		name := string(series.Metric[pm.MetricNameLabel])
		c := w.counters[name]
		c.add(series.Values, from, to, scraped[targetOf(series.Metric)])
		w.counters[name] = c
	}
	return w
}

// scrapes returns the first scrape that is known of each target that has a name.
func scrapes(matrix pm.Matrix) map[target]time.Time {
	first := map[target]time.Time{}
	for _, series := range matrix {
		of := targetOf(series.Metric)
		if of.instance == "" || len(series.Values) == 0 {
			continue
		}
		at := series.Values[0].Timestamp.Time()
		if known, ok := first[of]; !ok || at.Before(known) {
			first[of] = at
		}
	}
	return first
}

// add adds a series. A value that is less than the one before it is a reset: the
// counter began again at zero. A series that begins within the window counts
// from its first value, unless its target was scraped before without it: then
// the counter began at zero after that scrape.
func (c *counter) add(samples []pm.SamplePair, from, to time.Time, scraped time.Time) {
	if len(samples) == 0 {
		return
	}
	begins := samples[0].Timestamp.Time()
	covered := !begins.After(from)
	last := math.NaN()
	if !covered && !scraped.IsZero() && scraped.Before(begins) {
		last, covered = 0, !scraped.After(from)
	}
	if covered {
		c.covered = true
	}
	if c.oldest.IsZero() || begins.Before(c.oldest) {
		c.oldest = begins
	}
	for _, sample := range samples {
		at, value := sample.Timestamp.Time(), float64(sample.Value)
		if at.After(to) {
			break
		}
		if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
			c.broken = true
			return
		}
		if at.After(from) {
			switch {
			case value < last:
				c.increase += value
			case !math.IsNaN(last):
				c.increase += value - last
			}
		}
		last = value
		if at.After(c.newest) {
			c.newest = at
		}
	}
}

// there reports whether the server has a metric.
func (w window) there(name string) bool {
	_, ok := w.counters[name]
	return ok
}

// mean returns the mean by the first ratio that the server has, or nil where
// there is none, where nothing was counted, or where a sample is broken.
func (w window) mean(ratios []ratio) *float64 {
	r, ok := w.first(ratios)
	if !ok {
		return nil
	}
	of, ok := w.sum(r.of)
	per, complete := w.sum(r.per)
	if !ok || !complete || !(per > 0) {
		return nil
	}
	if mean := of / per; !math.IsInf(mean, 0) {
		return &mean
	}
	return nil
}

// first returns the first ratio whose metrics the server has.
func (w window) first(ratios []ratio) (ratio, bool) {
	for _, r := range ratios {
		if w.there(r.of[0]) && w.there(r.per[0]) {
			return r, true
		}
	}
	return ratio{}, false
}

// sum adds the increases of some counters, those that are not there as nothing.
func (w window) sum(names []string) (total float64, ok bool) {
	for _, name := range names {
		c := w.counters[name]
		if c.broken {
			return 0, false
		}
		total += c.increase
	}
	return total, true
}
