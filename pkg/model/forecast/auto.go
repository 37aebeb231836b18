package forecast

import "fmt"

const (
	// underforecastCost is the cost of a forecast one too low, against one too
	// high: too few replicas break promises, too many only cost.
	underforecastCost = 3.0
	// costMemory is the share of its costs that a predictor carries over to the
	// next value: the last ten or so decide.
	costMemory = 0.9
)

// selection forecasts with the predictor whose recent forecasts cost least. All
// share the series' history; what each makes of it is its own.
type selection struct {
	members []member
	// expecting is true once the members have forecast the next value.
	expecting bool
}

// member is one predictor of a selection.
type member struct {
	method method
	// cost is the sum of its costs, the older the less.
	cost float64
	// next is its forecast of the next value, on the scale of the series.
	next float64
}

func newSelection(s settings) *selection {
	a := &selection{}
	for _, kind := range Kinds() {
		if kind != Auto {
			a.members = append(a.members, member{method: newMethod(kind, s)})
		}
	}
	return a
}

func (a *selection) observe(s *series, z float64) {
	for i := range a.members {
		m := &a.members[i]
		if a.expecting {
			m.cost = float64(costMemory*m.cost) + costOf(m.next, s.last)
		}
		m.method.observe(s, z)
	}
	a.expect(s)
}

// expect has every member forecast the next value, as its cost depends on it.
func (a *selection) expect(s *series) {
	for i := range a.members {
		var out [1]float64
		s.forecastBy(a.members[i].method, out[:])
		a.members[i].next = out[0]
	}
	a.expecting = true
}

// forecast is that of the member of least cost; of several, of the simplest.
func (a *selection) forecast(s *series, out []float64) verdict {
	best := &a.members[0]
	for i := range a.members {
		if a.members[i].cost < best.cost {
			best = &a.members[i]
		}
	}
	return best.method.forecast(s, out)
}

func costOf(forecast, value float64) float64 {
	if forecast < value {
		return underforecastCost * (value - forecast)
	}
	return forecast - value
}

func (a *selection) save(to *State) {
	for i := range a.members {
		m := &a.members[i]
		m.method.save(to)
		if a.expecting {
			to.Costs = append(to.Costs, m.cost)
		}
	}
}

func (a *selection) load(from *State, s *series) error {
	if !s.seen {
		if len(from.Costs) > 0 {
			return fmt.Errorf("the state has costs, and nothing was observed")
		}
		return nil
	}
	if len(from.Costs) != len(a.members) {
		return fmt.Errorf("the state has the costs of %d predictors, want %d", len(from.Costs), len(a.members))
	}
	for i, cost := range from.Costs {
		if cost < 0 || !bounded(cost) {
			return fmt.Errorf("the state has a cost of %v", cost)
		}
		a.members[i].cost = cost
		if err := a.members[i].method.load(from, s); err != nil {
			return err
		}
	}
	a.expect(s)
	return nil
}
