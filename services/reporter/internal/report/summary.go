package report

import (
	"math"
	"slices"
	"time"

	"tidemark.dev/pkg/model"
)

// Actions are the names of the actions, in the order in which they are shown.
var Actions = []string{string(model.Hold), string(model.ScaleUp), string(model.ScaleDown), string(model.Rebalance)}

// Count is a number of things of one kind.
type Count struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// Share is how many of those that could be judged were kept.
type Share struct {
	Kept int `json:"kept"`
	Of   int `json:"of"`
}

// Summary is what the tiles of a page show. Thinning does not change it: its
// figures are sums over buckets, and only what is listed is bounded.
type Summary struct {
	Decisions int     `json:"decisions"`
	Actions   []Count `json:"actions"`
	// Unsupported are holds for which a loop named missing evidence.
	Unsupported int `json:"unsupported"`
	// Flaps are reversals of direction within FlapWindowS.
	Flaps        int     `json:"flaps"`
	FlapsPerHour float64 `json:"flaps_per_hour"`
	FlapWindowS  float64 `json:"flap_window_s"`
	// The windows of traffic in which a latency was within its limit, of those
	// in which it was measured.
	TTFTMean Share `json:"ttft_mean"`
	TTFTP95  Share `json:"ttft_p95"`
	ITLMean  Share `json:"itl_mean"`
	ITLP95   Share `json:"itl_p95"`
	// Windows counts all windows of traffic, measured or not.
	Windows int `json:"windows"`
	// The GPU-hours of what the fleet was set to and of what was recommended,
	// over HoursDecided, the time for which there were decisions.
	HoursDecided        float64  `json:"hours_decided"`
	GPUHoursSet         *float64 `json:"gpu_hours_set,omitempty"`
	GPUHoursRecommended *float64 `json:"gpu_hours_recommended,omitempty"`

	Actuations []Count `json:"actuations"`
	Rejections []Count `json:"rejections"`
	// MedianSettleS is the median of the settle times in seconds.
	MedianSettleS *float64 `json:"median_settle_s,omitempty"`
}

func (v *view) summary() Summary {
	s := Summary{Actions: []Count{}, Actuations: []Count{}, Rejections: []Count{}, FlapWindowS: flapWindow.Seconds()}
	for _, action := range Actions {
		sum, n := v.decisions.total(action)
		s.Decisions = n
		s.Actions = append(s.Actions, Count{action, int(sum)})
	}
	unsupported, _ := v.decisions.total("unsupported")
	flaps, _ := v.decisions.total("flap")
	s.Unsupported, s.Flaps = int(unsupported), int(flaps)
	for _, share := range [...]struct {
		to     *Share
		column string
	}{{&s.TTFTMean, "ttft_mean_kept"}, {&s.TTFTP95, "ttft_p95_kept"}, {&s.ITLMean, "itl_mean_kept"}, {&s.ITLP95, "itl_p95_kept"}} {
		kept, of := v.traffic.total(share.column)
		*share.to = Share{Kept: int(kept), Of: of}
	}
	for i := range v.traffic.buckets {
		s.Windows += v.traffic.buckets[i].ticks
	}

	v.decisions.spans(func(_ *bucket, span time.Duration) { s.HoursDecided += span.Hours() })
	if hours := v.hours("gpus_set", "gpus_recommended", func(*bucket) bool { return true }); hours != nil {
		s.GPUHoursSet, s.GPUHoursRecommended = &hours.Set, &hours.Recommended
	}
	if s.HoursDecided > 0 {
		s.FlapsPerHour = flaps / s.HoursDecided
	}

	outcomes, rejections := map[string]int{}, map[string]int{}
	var settles []float64
	for _, a := range v.actuations {
		outcomes[string(a.Outcome)]++
		if a.Outcome == OutcomeRejected {
			rejections[a.Reason]++
		}
		if a.SettleS != nil {
			settles = append(settles, *a.SettleS)
		}
	}
	for _, o := range []Outcome{OutcomeApplied, OutcomeSettled, OutcomeRejected, OutcomeFailed} {
		s.Actuations = append(s.Actuations, Count{string(o), outcomes[string(o)]})
	}
	s.Rejections = counts(rejections)
	s.MedianSettleS = median(settles)
	return s
}

// counts lists counts, the largest first, equal ones by name.
func counts(of map[string]int) []Count {
	out := make([]Count, 0, len(of))
	for name, n := range of {
		out = append(out, Count{name, n})
	}
	slices.SortFunc(out, func(a, b Count) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// median returns the middle of the values, or nil for none. It sorts them.
func median(values []float64) *float64 {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	m := values[len(values)/2]
	if len(values)%2 == 0 {
		m = (values[len(values)/2-1] + m) / 2
	}
	if math.IsNaN(m) {
		return nil
	}
	return &m
}
