package perf

import "slices"

// average is a moving average over the last limit values. Zeros before the
// first other value are skipped: they are engines that have not worked yet.
// Later zeros count.
type average struct {
	limit  int
	values []float64
}

func (a *average) add(v float64) {
	if v == 0 && len(a.values) == 0 {
		return
	}
	a.values = append(a.values, v)
	a.trim()
}

func (a *average) trim() {
	if extra := len(a.values) - a.limit; extra > 0 {
		a.values = slices.Delete(a.values, 0, extra)
	}
}

// mean returns 0 while there is no value. It sums anew each time, so that a
// restored average is the same to the last bit.
func (a *average) mean() float64 {
	if len(a.values) == 0 {
		return 0
	}
	sum := 0.0
	for _, v := range a.values {
		sum += v
	}
	return sum / float64(len(a.values))
}
