package report

import (
	"time"

	"tidemark.dev/services/reporter/internal/reporttest"
)

var midnight = reporttest.Midnight

// day returns a day of 5 s ticks, active from a number of hours on.
func day(name string, seed uint64, activeFrom time.Duration) []reporttest.Fact {
	return reporttest.Day{
		Name: name, Seed: seed, Ticks: reporttest.TicksOfDay, Step: 5 * time.Second, ActiveAt: midnight.Add(activeFrom),
	}.Generate()
}

func fold(facts []reporttest.Fact) *Builder {
	b := NewBuilder()
	for _, f := range facts {
		b.Add(f.ID, f.Fact)
	}
	return b
}
