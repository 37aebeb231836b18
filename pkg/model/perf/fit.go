package perf

import "math"

// minWallS is the least duration that a prediction may have, in seconds.
const minWallS = 1e-6

// Tolerances of the fit, relative. Two features whose directions differ by less
// than parallel are one; a term that moves the predictions by less than noise
// of what was measured is rounding, and zero.
const (
	parallel = 1e-10
	noise    = 1e-9
)

// line is a fitted duration: base + slope·x, in seconds.
type line struct {
	base  float64
	slope [2]float64
}

// at returns the predicted duration of an iteration. The products are rounded
// on their own, so that no processor fuses them with the sum.
func (l line) at(x0, x1 float64) float64 {
	return max(l.base+float64(l.slope[0]*x0)+float64(l.slope[1]*x1), minWallS)
}

// fit returns the least-squares line through the samples, with intercept.
//
// Samples that do not determine it, because a feature never changed or the two
// move together, give the line with the smallest slopes: the minimum-norm
// solution on centred features, which the singular value decomposition gives
// too (a test compares them). For two columns it has a closed form, at a tenth
// of the cost.
//
// A negative slope says that more work takes less time, and rejects the fit;
// where a feature is clippable its slope becomes 0 instead, and the rest stays.
func fit(samples []sample, axes int, clippable [2]bool) (line, bool) {
	n := float64(len(samples))
	if n == 0 {
		return line{}, false
	}
	var meanX [2]float64
	meanY, scaleY := 0.0, 0.0
	for i := range samples {
		for axis := range axes {
			meanX[axis] += samples[i].x[axis]
		}
		meanY += samples[i].wallS
	}
	for axis := range axes {
		meanX[axis] /= n
	}
	meanY /= n
	// Products of the centred columns, in the order in which they came.
	var xx [2]float64
	var xy [2]float64
	cross := 0.0
	for i := range samples {
		dy := samples[i].wallS - meanY
		var dx [2]float64
		for axis := range axes {
			dx[axis] = samples[i].x[axis] - meanX[axis]
			xx[axis] += float64(dx[axis] * dx[axis])
			xy[axis] += float64(dx[axis] * dy)
		}
		cross += float64(dx[0] * dx[1])
		scaleY += float64(samples[i].wallS * samples[i].wallS)
	}
	l := line{slope: solve(samples, meanX, meanY, xx, xy, cross)}
	for axis := range axes {
		l.base -= float64(l.slope[axis] * meanX[axis])
	}
	l.base += meanY
	for axis := range axes {
		switch {
		case math.Abs(l.slope[axis])*math.Sqrt(xx[axis]) <= noise*math.Sqrt(scaleY):
			l.slope[axis] = 0
		case l.slope[axis] >= 0:
		case clippable[axis]:
			l.slope[axis] = 0
		default:
			return line{}, false
		}
	}
	return l, true
}

// solve returns the slopes. It takes what the wider column explains first, and
// then what the rest of the narrower one, at a right angle to it, explains.
func solve(samples []sample, meanX [2]float64, meanY float64, xx, xy [2]float64, cross float64) [2]float64 {
	wide, narrow := 0, 1
	if xx[1] > xx[0] {
		wide, narrow = 1, 0
	}
	var slope [2]float64
	if xx[wide] == 0 {
		return slope
	}
	if xx[narrow] == 0 {
		slope[wide] = xy[wide] / xx[wide]
		return slope
	}
	// The rest of the narrow column is summed anew from the samples: as a
	// difference of the products above it would drown in their rounding.
	ratio := cross / xx[wide]
	rest, restY := 0.0, 0.0
	for i := range samples {
		r := (samples[i].x[narrow] - meanX[narrow]) - float64(ratio*(samples[i].x[wide]-meanX[wide]))
		rest += float64(r * r)
		restY += float64(r * (samples[i].wallS - meanY))
	}
	if math.Sqrt(rest) <= parallel*math.Sqrt(xx[narrow]) {
		// One direction, (1, ratio) in the plane of the slopes.
		slope[wide] = xy[wide] / xx[wide] / (1 + float64(ratio*ratio))
		slope[narrow] = slope[wide] * ratio
		return slope
	}
	slope[narrow] = restY / rest
	slope[wide] = (xy[wide] - float64(slope[narrow]*cross)) / xx[wide]
	return slope
}
