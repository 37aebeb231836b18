package forecast

// history holds the latest values of a series and says what a model is fitted
// to. A model is a pure function of the values up to the last refit, so it can
// be fitted late, when somebody asks for a forecast, or not at all, and nothing
// that follows is different.
//
// It never holds more than limit + refitEvery values.
type history struct {
	// limit is the number of values that a fit looks back on; 0 keeps none.
	limit      int
	refitEvery int

	values []float64
	// fitted is the number of leading values that the present model is fitted
	// to; 0 while there are too few, or all are equal.
	fitted int
}

// add appends a value, and moves the refit up to it when one is due.
func (h *history) add(value float64) {
	if h.limit == 0 {
		return
	}
	h.values = append(h.values, value)
	if len(h.values) < minPoints || (h.fitted > 0 && len(h.values)-h.fitted < h.life()) {
		return
	}
	if extra := len(h.values) - h.limit; extra > 0 {
		h.values = h.values[:copy(h.values, h.values[extra:])]
	}
	h.fitted = len(h.values)
	if allEqual(h.values) {
		h.fitted = 0
	}
}

// life returns the number of values for which the present model stands. A young
// series is fitted anew when it has grown by a quarter: what a model learns from
// five values must not stand for twelve more.
func (h *history) life() int {
	if h.fitted < h.limit {
		return min(h.refitEvery, (h.fitted+3)/4)
	}
	return h.refitEvery
}

// refitDue says that the value added last is one that the model is fitted to,
// so that a model from before is no longer the present one.
func (h *history) refitDue() bool { return h.fitted == len(h.values) || h.fitted == 0 }

// model returns the values that a model with the given window is fitted to, and
// these with all values since.
func (h *history) model(window int) (fitted, all []float64) {
	first := max(0, h.fitted-window)
	return h.values[first:h.fitted], h.values[first:]
}

// latest returns the last n values, or all if there are fewer.
func (h *history) latest(n int) []float64 { return h.values[max(0, len(h.values)-n):] }

func allEqual(values []float64) bool {
	for _, v := range values {
		if v != values[0] {
			return false
		}
	}
	return true
}
