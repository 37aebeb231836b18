package prometheus

import (
	"math"
	"testing"
	"time"

	pm "github.com/prometheus/common/model"
)

// origin is the instant from which the tests count seconds.
var origin = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

func second(s float64) time.Time { return origin.Add(time.Duration(s * float64(time.Second))) }

// stream returns a series of pairs of second and value.
func stream(metric pm.Metric, pairs ...float64) *pm.SampleStream {
	s := &pm.SampleStream{Metric: metric}
	for i := 0; i < len(pairs); i += 2 {
		s.Values = append(s.Values, pm.SamplePair{Timestamp: pm.TimeFromUnixNano(second(pairs[i]).UnixNano()), Value: pm.SampleValue(pairs[i+1])})
	}
	return s
}

func named(name string, labels ...string) pm.Metric {
	metric := pm.Metric{pm.MetricNameLabel: pm.LabelValue(name)}
	for i := 0; i < len(labels); i += 2 {
		metric[pm.LabelName(labels[i])] = pm.LabelValue(labels[i+1])
	}
	return metric
}

func TestFoldCountsAWindow(t *testing.T) {
	// The window is from second 60 to second 120.
	for name, test := range map[string]struct {
		samples  []float64
		increase float64
		covered  bool
		newest   float64
	}{
		"plain":                        {[]float64{45, 10, 60, 12, 75, 15, 120, 20}, 8, true, 120},
		"no scrape at its edges":       {[]float64{55, 10, 70, 11, 115, 20, 130, 99}, 10, true, 115},
		"a reset":                      {[]float64{55, 10, 70, 14, 85, 3, 100, 5}, 9, true, 100},
		"a reset before it":            {[]float64{30, 90, 55, 3, 70, 4}, 1, true, 70},
		"two resets":                   {[]float64{55, 10, 70, 1, 85, 0, 100, 2}, 3, true, 100},
		"nothing happened":             {[]float64{55, 10, 70, 10, 115, 10}, 0, true, 115},
		"it ends in it":                {[]float64{55, 10, 70, 13}, 3, true, 70},
		"it begins in it":              {[]float64{70, 500, 85, 503}, 3, false, 85},
		"it begins after it":           {[]float64{130, 500}, 0, false, math.Inf(-1)},
		"all before it: it was not on": {[]float64{40, 5, 50, 9}, 0, true, 50},
	} {
		t.Run(name, func(t *testing.T) {
			c := fold(pm.Matrix{stream(named("n"), test.samples...)}, second(60), second(120)).counters["n"]
			if c.increase != test.increase || c.covered != test.covered || c.broken {
				t.Errorf("have increase %v, covered %v, broken %v; want %v, %v", c.increase, c.covered, c.broken, test.increase, test.covered)
			}
			if want := second(test.newest); math.IsInf(test.newest, -1) != c.newest.IsZero() || !c.newest.IsZero() && !c.newest.Equal(want) {
				t.Errorf("newest is %v, want second %v", c.newest, test.newest)
			}
		})
	}
}

func TestFoldCountsANewSeriesOfATargetThatWasScrapedBefore(t *testing.T) {
	older := stream(named("n", "job", "engines", "instance", "a:1", "reason", "stop"), 45, 100, 60, 100, 75, 103)
	born := stream(named("n", "job", "engines", "instance", "a:1", "reason", "length"), 75, 7, 90, 9)
	foreign := stream(named("n", "job", "engines", "instance", "b:1", "reason", "length"), 75, 7000, 90, 7001)
	nameless := stream(named("n", "reason", "stop"), 45, 1, 90, 1)
	namelessBorn := stream(named("n", "reason", "length"), 75, 5000, 90, 5000)
	c := fold(pm.Matrix{born, older, foreign, nameless, namelessBorn}, second(60), second(120)).counters["n"]
	// 3 of the old series, 9 of the new one since its target was scraped without
	// it, and 1 of the target that is new: what it counted before is not known.
	if c.increase != 13 {
		t.Errorf("increase is %v, want 13", c.increase)
	}
}

func TestFoldRefusesWhatNoCounterHolds(t *testing.T) {
	for _, value := range []float64{math.NaN(), math.Inf(1), -1} {
		c := fold(pm.Matrix{stream(named("n"), 55, 1, 70, value, 85, 3)}, second(60), second(120)).counters["n"]
		if !c.broken {
			t.Errorf("%v is taken as the value of a counter", value)
		}
	}
}

// Consecutive windows count each request once, wherever the scrapes fall.
func TestWindowsTile(t *testing.T) {
	var pairs []float64
	total := 0.0
	for i := range 200 {
		total += float64((i * 7919) % 13)
		pairs = append(pairs, 0.37+float64(i)*7.3, total)
	}
	counted := 0.0
	for from := 10.0; from < 1300; from += 30 {
		counted += fold(pm.Matrix{stream(named("n"), pairs...)}, second(from), second(from+30)).counters["n"].increase
	}
	whole := fold(pm.Matrix{stream(named("n"), pairs...)}, second(10), second(1300)).counters["n"].increase
	if counted != whole || whole == 0 {
		t.Errorf("43 windows count %v and the whole %v", counted, whole)
	}
}

func TestMeanIsWeighted(t *testing.T) {
	w := fold(pm.Matrix{
		stream(named("x_sum", "instance", "a"), 55, 0, 100, 9000), stream(named("x_count", "instance", "a"), 55, 0, 100, 9),
		stream(named("x_sum", "instance", "b"), 55, 0, 100, 10), stream(named("x_count", "instance", "b"), 55, 0, 100, 1),
		stream(named("broken_sum"), 55, 0, 100, math.NaN()), stream(named("broken_count"), 55, 0, 100, 1),
		stream(named("idle_sum"), 55, 7, 100, 7), stream(named("idle_count"), 55, 7, 100, 7),
	}, second(60), second(120))
	if mean := w.mean([]ratio{histogram("newer"), histogram("x")}); mean == nil || *mean != 901 {
		t.Errorf("mean is %v, want 9010/10", mean)
	}
	for _, name := range []string{"broken", "idle", "newer"} {
		if mean := w.mean([]ratio{histogram(name)}); mean != nil {
			t.Errorf("mean of %s is %v, want none", name, *mean)
		}
	}
}
