package sim

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"time"
)

// Traffic is the traffic of a window (from, to] that ends at the present, as a
// frontend sees it. An average of nothing does not exist: it is nil.
type Traffic struct {
	// Window is the length of the window, less what of it lies before the
	// origin of simulated time.
	Window time.Duration
	// Requests counts the requests that arrived in the window, rejected ones
	// included; MeanISL is the mean length of their prompts.
	Requests int
	MeanISL  *float64
	// The times to first token of the requests whose first token was made in
	// the window. In topology decode they were made elsewhere.
	MeanTTFTMs, P95TTFTMs *float64
	// MeanOSL and MeanDurationS are of the requests that completed in the
	// window. In topology prefill a request completes with its first token,
	// and its OSL is what is decoded elsewhere, the first token included.
	MeanOSL, MeanDurationS *float64
	// The inter-token latencies of the requests that completed in the window:
	// the time from the first to the last token by the number of tokens after
	// the first, one figure per request that has any.
	MeanITLMs, P95ITLMs *float64
}

// Traffic returns the traffic of a window that ends at the present. Percentiles
// are of the nearest rank.
func (f *Fleet) Traffic(window time.Duration) (Traffic, error) {
	if window <= 0 || window > f.traffic.longest {
		return Traffic{}, fmt.Errorf("read traffic: window is %v, want more than 0 and at most %v", window, f.traffic.longest)
	}
	return f.traffic.of(f.now, window), nil
}

// traffic remembers what happened to requests in the longest window.
type traffic struct {
	longest     time.Duration
	arrivals    fifo[arrival]
	firstTokens fifo[firstToken]
	completions fifo[completion]
}

type arrival struct {
	at  time.Duration
	isl int
}

type firstToken struct{ at, ttft time.Duration }

type completion struct {
	at, duration time.Duration
	osl          int
	itl          time.Duration // per token; only where tokens follow the first
	hasITL       bool
}

func (a arrival) when() time.Duration    { return a.at }
func (t firstToken) when() time.Duration { return t.at }
func (c completion) when() time.Duration { return c.at }

func (t *traffic) arrived(now time.Duration, isl int) { t.arrivals.push(arrival{now, isl}) }

func (t *traffic) started(now, ttft time.Duration) { t.firstTokens.push(firstToken{now, ttft}) }

func (t *traffic) completed(now time.Duration, s *sequence, decoded int) {
	c := completion{at: now, duration: now - s.arrived, osl: s.osl}
	if decoded > 0 {
		c.itl, c.hasITL = (now-s.firstToken)/time.Duration(decoded), true
	}
	t.completions.push(c)
}

// forget drops what no window reaches any more.
func (t *traffic) forget(now time.Duration) {
	t.arrivals.drop(before(&t.arrivals, now-t.longest))
	t.firstTokens.drop(before(&t.firstTokens, now-t.longest))
	t.completions.drop(before(&t.completions, now-t.longest))
}

// before counts the records up to an instant, itself included.
func before[T interface{ when() time.Duration }](records *fifo[T], at time.Duration) int {
	all := records.all()
	return sort.Search(len(all), func(i int) bool { return all[i].when() > at })
}

func (t *traffic) of(now, window time.Duration) Traffic {
	from := now - window
	arrivals := t.arrivals.all()[before(&t.arrivals, from):]
	firstTokens := t.firstTokens.all()[before(&t.firstTokens, from):]
	completions := t.completions.all()[before(&t.completions, from):]

	of := Traffic{Window: min(window, now), Requests: len(arrivals)}
	isl := 0
	for _, a := range arrivals {
		isl += a.isl
	}
	of.MeanISL = mean(float64(isl), len(arrivals))

	ttfts := make([]time.Duration, 0, len(firstTokens))
	for _, first := range firstTokens {
		ttfts = append(ttfts, first.ttft)
	}
	of.MeanTTFTMs, of.P95TTFTMs = latencies(ttfts)

	osl, duration := 0, time.Duration(0)
	itls := make([]time.Duration, 0, len(completions))
	for _, c := range completions {
		osl += c.osl
		duration += c.duration
		if c.hasITL {
			itls = append(itls, c.itl)
		}
	}
	of.MeanOSL = mean(float64(osl), len(completions))
	of.MeanDurationS = mean(duration.Seconds(), len(completions))
	of.MeanITLMs, of.P95ITLMs = latencies(itls)
	return of
}

// latencies returns the mean and the 95th percentile in milliseconds. It sorts
// its argument.
func latencies(of []time.Duration) (meanMs, p95Ms *float64) {
	if len(of) == 0 {
		return nil, nil
	}
	slices.Sort(of)
	sum := time.Duration(0)
	for _, d := range of {
		sum += d
	}
	p95 := milliseconds(of[int(math.Ceil(0.95*float64(len(of))))-1])
	return mean(milliseconds(sum), len(of)), &p95
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mean(sum float64, n int) *float64 {
	if n == 0 {
		return nil
	}
	m := sum / float64(n)
	return &m
}
