package sim

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// GeneratorConfig describes a workload that is made up: an inhomogeneous
// Poisson process, whose rate follows the hour of the day and changes at random
// from slot to slot, with log-normal lengths.
type GeneratorConfig struct {
	Seed uint64
	// Duration bounds the instants of arrival.
	Duration time.Duration
	// MeanRPS is the mean rate over a day, in requests per second.
	MeanRPS float64
	// Day is the period of the rate, which starts at its lowest and is highest
	// half a day later. 0 means Duration: one day, in as long as that takes.
	Day time.Duration
	// PeakToTrough is the ratio of the highest to the lowest rate of a day.
	PeakToTrough float64
	// BurstCV is the coefficient of variation of the factor that each
	// BurstSlot's rate is multiplied with, which is Gamma distributed with mean
	// 1. With rate r, the counts of a slot have the index of dispersion
	// 1 + r·BurstSlot·BurstCV². 0 means a rate without bursts.
	BurstCV   float64
	BurstSlot time.Duration
	// ISL and OSL are the distributions of the lengths.
	ISL, OSL Lengths
}

// Lengths is a log-normal distribution of lengths in tokens, rounded, and
// clipped to 1 and Max.
type Lengths struct {
	Median, P95 float64
	Max         int
}

// DefaultGeneratorConfig returns a day of chat, compressed into two hours.
//
// The lengths are those of the conversation trace that Azure published in 2023
// (19,366 requests; AzurePublicDataset, CC-BY-4.0, cite Splitwise, ISCA 2024),
// and so are the bursts: its counts per minute have an index of dispersion of
// 16 at 331.8 requests per minute, hence a variance of 15/331.8. The swing of
// the day is that of the rates of DeepSeek-R1 in ServeGen (Apache-2.0, arXiv
// 2505.09999), whose busiest hour has 4.91 times the rate of its quietest. The
// mean rate is ours: it takes a fleet of DefaultFigures, with a prefill pool
// and a decode pool, from one replica each to several.
func DefaultGeneratorConfig() GeneratorConfig {
	return GeneratorConfig{
		Seed:         1,
		Duration:     2 * time.Hour,
		MeanRPS:      20,
		PeakToTrough: 4.91,
		BurstCV:      0.21,
		BurstSlot:    time.Minute,
		ISL:          Lengths{Median: 1020, P95: 4083, Max: 14050},
		OSL:          Lengths{Median: 129, P95: 451, Max: 1000},
	}
}

// Validate reports everything that is wrong with the configuration.
func (c GeneratorConfig) Validate() error {
	var problems []error
	fail := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Duration <= 0 || c.Duration > maxAt {
		fail("duration is %v, want more than 0 and at most %v", c.Duration, maxAt)
	}
	if !(c.MeanRPS > 0) || math.IsInf(c.MeanRPS, 0) {
		fail("mean rate is %v requests per second, want more than 0", c.MeanRPS)
	}
	if c.Day < 0 {
		fail("day is %v, want more than 0, or 0 for the duration", c.Day)
	}
	if !(c.PeakToTrough >= 1) || math.IsInf(c.PeakToTrough, 0) {
		fail("peak to trough is %v, want at least 1", c.PeakToTrough)
	}
	if c.BurstCV != 0 && !(c.BurstCV >= 1e-3 && c.BurstCV <= 100) {
		fail("burst CV is %v, want 0.001 to 100, or 0 for none", c.BurstCV)
	}
	if c.BurstCV > 0 && c.BurstSlot <= 0 {
		fail("burst slot is %v, want more than 0", c.BurstSlot)
	}
	for _, lengths := range [...]struct {
		name string
		Lengths
	}{{"ISL", c.ISL}, {"OSL", c.OSL}} {
		if !(lengths.Median > 0) || !(lengths.P95 >= lengths.Median) || math.IsInf(lengths.P95, 0) || lengths.Max < 1 {
			fail("%s has median %v, 95th percentile %v and maximum %d, want 0 < median <= percentile, and a maximum of at least 1",
				lengths.name, lengths.Median, lengths.P95, lengths.Max)
		}
	}
	return errors.Join(problems...)
}

// Generate returns the workload of a configuration. The same configuration
// gives the same requests.
func Generate(config GeneratorConfig) (Workload, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure workload generator: %w", err)
	}
	if config.Day == 0 {
		config.Day = config.Duration
	}
	g := &generator{
		config:   config,
		end:      config.Duration.Seconds(),
		slot:     config.BurstSlot.Seconds(),
		swing:    (config.PeakToTrough - 1) / (config.PeakToTrough + 1),
		arrivals: rand.New(rand.NewPCG(config.Seed, streamArrivals)),
		lengths:  rand.New(rand.NewPCG(config.Seed, streamLengths)),
	}
	if config.BurstCV > 0 {
		shape := 1 / (config.BurstCV * config.BurstCV)
		g.bursts = distuv.Gamma{Alpha: shape, Beta: shape, Src: rand.NewPCG(config.Seed, streamBursts)}
	} else {
		g.slot = g.end
	}
	return g, nil
}

type generator struct {
	config    GeneratorConfig
	end, slot float64 // s
	swing     float64 // half the range of the day's rate, relative to its mean
	arrivals  *rand.Rand
	lengths   *rand.Rand
	bursts    distuv.Gamma
	at        float64 // s, instant of the last candidate
	slots     int     // begun; the last of them ends at slots × slot
	burst     float64 // its factor
}

// Next implements Workload, by thinning: candidates come at the highest rate
// that the slot can have, and are kept with the probability that the rate at
// their instant bears to it.
func (g *generator) Next() (Request, bool, error) {
	for g.at < g.end {
		slotEnd := float64(g.slots) * g.slot
		if g.at >= slotEnd {
			g.slots++
			g.burst = 1
			if g.config.BurstCV > 0 {
				g.burst = g.bursts.Rand()
			}
			continue
		}
		highest := g.config.MeanRPS * (1 + g.swing) * g.burst
		g.at += g.arrivals.ExpFloat64() / highest
		if g.at >= slotEnd {
			g.at = slotEnd // the process has no memory: the next slot starts afresh
			continue
		}
		phase := 2 * math.Pi * g.at / g.config.Day.Seconds()
		if g.arrivals.Float64()*(1+g.swing) >= 1-g.swing*math.Cos(phase) {
			continue
		}
		at := time.Duration(g.at * float64(time.Second))
		if at >= g.config.Duration {
			break
		}
		return Request{At: at, ISL: g.length(g.config.ISL), OSL: g.length(g.config.OSL)}, true, nil
	}
	g.at = g.end
	return Request{}, false, nil
}

// z95 is the 95th percentile of the standard normal distribution.
const z95 = 1.6448536269514722

func (g *generator) length(of Lengths) int {
	sigma := math.Log(of.P95/of.Median) / z95
	tokens := math.Round(of.Median * math.Exp(sigma*g.lengths.NormFloat64()))
	return int(min(max(tokens, 1), float64(of.Max)))
}
