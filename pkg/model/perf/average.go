package perf

import "slices"

// average is a moving average over the last limit values. Zeros before the
// first other value are skipped: they are engines that have not worked yet.
// Later zeros count.
type average struct {
	limit  int
	values []float64

	fresh bool // the sum is that of the values
	sum   float64
}

func (a *average) add(v float64) {
	if v == 0 && len(a.values) == 0 {
		return
	}
	a.values, a.fresh = append(a.values, v), false
	a.trim()
}

func (a *average) trim() {
	a.fresh = false
	if extra := len(a.values) - a.limit; extra > 0 {
		a.values = slices.Delete(a.values, 0, extra)
	}
}

// mean returns 0 while there is no value. After a new one it sums all of them
// anew, so that a restored average is the same to the last bit.
func (a *average) mean() float64 {
	if len(a.values) == 0 {
		return 0
	}
	if !a.fresh {
		a.sum, a.fresh = 0, true
		for _, v := range a.values {
			a.sum += v
		}
	}
	return a.sum / float64(len(a.values))
}
