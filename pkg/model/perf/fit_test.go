package perf

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// TestFitIsLeastSquares compares the slopes with those of the singular value
// decomposition, on samples in general position and on samples that do not
// determine a line.
func TestFitIsLeastSquares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		axes := rapid.IntRange(1, 2).Draw(t, "axes")
		n := rapid.IntRange(1, 64).Draw(t, "samples")
		shape := rapid.SampledFrom([]string{"free", "collinear", "first constant", "second constant", "all equal"}).Draw(t, "shape")
		ratio := float64(rapid.IntRange(1, 5000).Draw(t, "ratio"))
		kept := make([]sample, n)
		for i := range kept {
			x := [2]float64{float64(rapid.IntRange(0, 256).Draw(t, "x0")), 0}
			if axes == 2 {
				x[1] = float64(rapid.IntRange(0, 600_000).Draw(t, "x1"))
			}
			switch shape {
			case "collinear":
				x[1] = x[0] * ratio
			case "first constant":
				x[0] = 7
			case "second constant":
				x[1] = 7000
			case "all equal":
				x = [2]float64{3, 5}
			}
			if axes == 1 {
				x[1] = 0
			}
			kept[i] = sample{x: x, wallS: 0.01 + 0.0003*x[0] + 1e-7*x[1] + float64(rapid.IntRange(0, 1000).Draw(t, "noise"))*1e-5}
		}
		got, ok := fit(kept, axes, [2]bool{true, true})
		if !ok {
			t.Fatal("a fit of which nothing can be refused is refused")
		}
		want := bySVD(kept, axes)
		for _, s := range kept {
			expected := want.base
			for axis := range axes {
				// What the fit clips is clipped here too.
				if got.slope[axis] == 0 {
					continue
				}
				expected += want.slope[axis] * s.x[axis]
			}
			if math.Abs(got.at(s.x[0], s.x[1])-max(expected, minWallS)) > 1e-7 {
				t.Fatalf("at %v: %v, want %v (%+v, %+v)", s.x, got.at(s.x[0], s.x[1]), expected, got, want)
			}
		}
		for axis := range axes {
			if got.slope[axis] == 0 {
				continue
			}
			if math.Abs(got.slope[axis]-want.slope[axis]) > 1e-6*math.Abs(want.slope[axis])+1e-12 {
				t.Fatalf("slope %d is %v, want %v", axis, got.slope[axis], want.slope[axis])
			}
		}
	})
}

// bySVD returns the minimum-norm least-squares line on centred features.
func bySVD(kept []sample, axes int) line {
	n := len(kept)
	x, y := mat.NewDense(n, axes, nil), mat.NewVecDense(n, nil)
	var mean [2]float64
	meanY := 0.0
	for i := range kept {
		for axis := range axes {
			mean[axis] += kept[i].x[axis] / float64(n)
		}
		meanY += kept[i].wallS / float64(n)
	}
	for i := range kept {
		for axis := range axes {
			x.Set(i, axis, kept[i].x[axis]-mean[axis])
		}
		y.SetVec(i, kept[i].wallS-meanY)
	}
	var svd mat.SVD
	l := line{base: meanY}
	if !svd.Factorize(x, mat.SVDThin) {
		return l
	}
	if rank := svd.Rank(1e-9); rank > 0 && svd.Values(nil)[0] > 1e-9 {
		var slope mat.VecDense
		svd.SolveVecTo(&slope, y, rank)
		for axis := range axes {
			l.slope[axis] = slope.AtVec(axis)
			l.base -= slope.AtVec(axis) * mean[axis]
		}
	}
	return l
}

func TestFitRefusesLessTimeForMoreWork(t *testing.T) {
	falling := []sample{{x: [2]float64{1}, wallS: 3}, {x: [2]float64{2}, wallS: 2}, {x: [2]float64{3}, wallS: 1}}
	if l, ok := fit(falling, 1, [2]bool{}); ok {
		t.Errorf("fit = %+v, want a refusal", l)
	}
	l, ok := fit(falling, 1, [2]bool{true})
	if want := (line{base: 4}); !ok || l != want {
		t.Errorf("clippable fit = %+v, %v, want %+v: the slope becomes 0 and the intercept stays", l, ok, want)
	}
}

func TestFitTakesRoundingForZero(t *testing.T) {
	// Constant durations that binary fractions do not hold.
	constant := make([]sample, 7)
	for i := range constant {
		constant[i] = sample{x: [2]float64{float64(i) * 0.1, float64(i*i) * 1e5}, wallS: 0.1}
	}
	l, ok := fit(constant, 2, [2]bool{})
	if !ok || l.slope != [2]float64{} {
		t.Errorf("fit = %+v, %v, want slopes of exactly 0", l, ok)
	}
}

func TestPredictionHasAFloor(t *testing.T) {
	l := line{base: -1, slope: [2]float64{0.001, 0}}
	if got := l.at(10, 0); got != minWallS {
		t.Errorf("at 10 = %v, want %v", got, minWallS)
	}
}

func BenchmarkFit(b *testing.B) {
	kept := make([]sample, 64)
	for i := range kept {
		kept[i] = sample{x: [2]float64{float64(i*37%64 + 1), float64(i * 9000)}, wallS: 0.012 + float64(i)*1e-4}
	}
	b.Run("closed form", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fit(kept, 2, [2]bool{true, false})
		}
	})
	b.Run("singular value decomposition", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bySVD(kept, 2)
		}
	})
}
