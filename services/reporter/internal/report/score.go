package report

import (
	"fmt"
	"math"
	"time"

	"tidemark.dev/pkg/model"
)

// Answer is what a report says to the question whether to activate.
type Answer string

// The answers.
const (
	// Ready: nothing that was seen speaks against activation.
	Ready Answer = "ready"
	// NotYet: something that was seen speaks against it.
	NotYet Answer = "not_yet"
	// CannotTell: too little was seen to say.
	CannotTell Answer = "cannot_tell"
	// InOperation: it is active already, so that the question is answered.
	InOperation Answer = "in_operation"
)

// The thresholds of the answer. They are a policy of this report, chosen to be
// strict, and the page states each that decided.
const (
	// minAdvisoryHours: load has a daily cycle, so less than a day shows only a
	// part of it. An hour of grace allows for a late start.
	minAdvisoryHours = 23
	// maxIncomplete is the share of ticks whose evidence may be incomplete.
	maxIncomplete = 0.10
	// maxFlapsPerHour is how often directions may reverse.
	maxFlapsPerHour = 1.0
	// maxForecastError is the mean absolute percentage error that is tolerable
	// for a floor under the replicas.
	maxForecastError = 0.40
	// maxEstimateError bounds the median relative error of estimated TTFT.
	maxEstimateError = 0.50
	// maxStarved is the share of the time in which fewer replicas may be
	// recommended while the SLA is violated.
	maxStarved = 0.01
	// maxUnreachable is the share of decisions that may warn that no number of
	// replicas reaches the SLA.
	maxUnreachable = 0.10
)

// Score judges the advisory decisions of the range. Times are joined from
// observations and decisions at the resolution of the buckets.
type Score struct {
	Answer  Answer   `json:"answer"`
	Because []string `json:"because"`

	AdvisoryHours float64 `json:"advisory_hours"`
	// Advised counts the advisory decisions by action: what would have been done.
	Advised []Count `json:"advised"`
	// ReplicaHours and GPUHours hold what was recommended while advisory against
	// what the fleet was set to meanwhile, by whoever set it.
	ReplicaHours model.PerRole[Hours] `json:"replica_hours,omitzero"`
	GPUHours     *Hours               `json:"gpu_hours,omitempty"`
	// IncompleteShare is the share of observations in which a source that was
	// asked gave neither a measurement nor idleness.
	IncompleteShare *float64 `json:"incomplete_share,omitempty"`
	// ForecastMAPE and ForecastBias hold the forecast rate against the rate
	// that was observed when its window ended, over ForecastPairs windows with
	// requests. A bias above 0 forecasts too much.
	ForecastMAPE  *float64 `json:"forecast_mape,omitempty"`
	ForecastBias  *float64 `json:"forecast_bias,omitempty"`
	ForecastPairs int      `json:"forecast_pairs"`
	// TTFT and ITL hold the estimates against the observed means.
	TTFT Calibration `json:"ttft"`
	ITL  Calibration `json:"itl"`

	// What was recommended while advisory, against what the fleet was set to,
	// in minutes: more while the SLA was violated, more while it was kept, fewer
	// while it was violated, fewer while it was kept.
	MoreWhileViolatedMin  float64 `json:"more_while_violated_min"`
	MoreWhileKeptMin      float64 `json:"more_while_kept_min"`
	FewerWhileViolatedMin float64 `json:"fewer_while_violated_min"`
	FewerWhileKeptMin     float64 `json:"fewer_while_kept_min"`
	ViolatedMin           float64 `json:"violated_min"`
	KeptMin               float64 `json:"kept_min"`
	// LongestWrongHoldMin is the longest time on end in which the SLA was
	// violated and the decision was to hold.
	LongestWrongHoldMin float64 `json:"longest_wrong_hold_min"`
}

// Hours are replica-hours or GPU-hours.
type Hours struct {
	Set         float64 `json:"set"`
	Recommended float64 `json:"recommended"`
}

// Calibration holds estimated latencies against observed ones.
type Calibration struct {
	// ObservedMs and EstimatedMs are pairs: the mean of a window, and the mean
	// of the estimates that were made within it.
	ObservedMs  Values `json:"observed_ms"`
	EstimatedMs Values `json:"estimated_ms"`
	// MedianError is the median of |estimated - observed| / observed, and Bias
	// the median of (estimated - observed) / observed.
	MedianError *float64 `json:"median_error,omitempty"`
	Bias        *float64 `json:"bias,omitempty"`
}

func (v *view) score(s *Summary, roles []model.Role, mode model.Mode) Score {
	score := Score{Because: []string{}, Advised: []Count{}}
	incomplete, n := v.evidence.total("incomplete")
	if n > 0 {
		share := incomplete / float64(n)
		score.IncompleteShare = &share
	}
	v.scoreForecasts(&score)
	score.TTFT = v.calibrate("ttft_mean_ms", "ttft_est_ms")
	score.ITL = v.calibrate("itl_mean_ms", "itl_est_ms")
	v.scoreAdvice(&score, roles)
	v.scoreRecommendations(&score)
	v.answer(s, &score, mode)
	return score
}

// scoreForecasts pairs each window of traffic with the newest forecast that is
// due within half a usual interval of its end.
func (v *view) scoreForecasts(score *Score) {
	observed, forecast := v.traffic.column("rps"), v.forecasts.column("rps")
	tolerance := v.forecasts.gap() / gapFactor / 2
	var absolute, signed float64
	next := 0
	for i := range v.forecasts.buckets {
		f := &v.forecasts.buckets[i]
		for next < len(v.traffic.buckets) && v.traffic.buckets[next].first.Before(f.first.Add(-tolerance)) {
			next++
		}
		if next == len(v.traffic.buckets) {
			break
		}
		o := &v.traffic.buckets[next]
		if o.first.After(f.last.Add(tolerance)) || o.cells[observed].n == 0 || o.cells[observed].sum == 0 || f.cells[forecast].n == 0 {
			continue
		}
		actual := o.cells[observed].sum / float64(o.cells[observed].n)
		relative := (f.cells[forecast].sum/float64(f.cells[forecast].n) - actual) / actual
		absolute += math.Abs(relative)
		signed += relative
		score.ForecastPairs++
	}
	if score.ForecastPairs > 0 {
		absolute /= float64(score.ForecastPairs)
		signed /= float64(score.ForecastPairs)
		score.ForecastMAPE, score.ForecastBias = &absolute, &signed
	}
}

func (v *view) calibrate(observed, estimated string) Calibration {
	o, e, w := v.traffic.column(observed), v.decisions.column(estimated), v.traffic.column("window_s")
	out := Calibration{ObservedMs: Values{}, EstimatedMs: Values{}}
	var absolute, signed []float64
	next := 0
	for i := range v.traffic.buckets {
		b := &v.traffic.buckets[i]
		if b.cells[o].n == 0 || b.cells[w].n == 0 || b.cells[o].sum == 0 {
			continue
		}
		begin := b.first.Add(-time.Duration(b.cells[w].lo * float64(time.Second)))
		var sum float64
		var n int32
		for ; next < len(v.decisions.buckets) && !v.decisions.buckets[next].first.After(b.last); next++ {
			if c := &v.decisions.buckets[next].cells[e]; v.decisions.buckets[next].first.After(begin) {
				sum += c.sum
				n += c.n
			}
		}
		if n == 0 {
			continue
		}
		actual, estimate := b.cells[o].sum/float64(b.cells[o].n), sum/float64(n)
		out.ObservedMs = append(out.ObservedMs, actual)
		out.EstimatedMs = append(out.EstimatedMs, estimate)
		absolute = append(absolute, math.Abs(estimate-actual)/actual)
		signed = append(signed, (estimate-actual)/actual)
	}
	out.MedianError, out.Bias = median(absolute), median(signed)
	return out
}

// advisory reports whether all decisions of a bucket were advisory.
func (v *view) advisory(b *bucket) bool { return b.cells[v.decisions.column("active")].hi == 0 }

// scoreAdvice counts what was advised, and integrates it over time beside what
// the fleet was set to.
func (v *view) scoreAdvice(score *Score, roles []model.Role) {
	for _, action := range Actions {
		column, n := v.decisions.column(action), 0.0
		for i := range v.decisions.buckets {
			if b := &v.decisions.buckets[i]; v.advisory(b) {
				n += b.cells[column].sum
			}
		}
		score.Advised = append(score.Advised, Count{action, int(n)})
	}
	if hours := v.hours("gpus_set", "gpus_recommended", v.advisory); hours != nil {
		score.GPUHours = hours
	}
	for _, role := range roles {
		if hours := v.hours("set."+string(role), "target."+string(role), v.advisory); hours != nil {
			score.ReplicaHours.Set(role, *hours)
		}
	}
}

// hours integrates two columns of the decisions over the buckets that count;
// nil means that no tick of them had both figures.
func (v *view) hours(set, recommended string, counts func(*bucket) bool) *Hours {
	var out Hours
	var covered float64
	s, r := v.decisions.column(set), v.decisions.column(recommended)
	v.decisions.spans(func(b *bucket, span time.Duration) {
		was, would := &b.cells[s], &b.cells[r]
		if !counts(b) || was.n == 0 || would.n == 0 {
			return
		}
		// A bucket's mean stands for the share of its ticks that had the figure.
		part := span.Hours() * float64(was.n) / float64(b.ticks)
		out.Set += was.sum / float64(was.n) * part
		out.Recommended += would.sum / float64(would.n) * part
		covered += part
	})
	if covered == 0 {
		return nil
	}
	return &out
}

// scoreRecommendations holds each advisory decision against the window of
// traffic that it fell into.
func (v *view) scoreRecommendations(score *Score) {
	kept, window := v.traffic.column("kept"), v.traffic.column("window_s")
	hold, up, down := v.decisions.column("hold"), v.decisions.column("scale_up"), v.decisions.column("scale_down")
	next := 0
	var wrongHold time.Duration
	v.decisions.spans(func(b *bucket, span time.Duration) {
		advisory := v.advisory(b)
		if advisory {
			score.AdvisoryHours += span.Hours()
		}
		for next < len(v.traffic.buckets) && v.traffic.buckets[next].last.Before(b.first) {
			next++
		}
		if next == len(v.traffic.buckets) {
			wrongHold = 0
			return
		}
		t := &v.traffic.buckets[next]
		covered := t.cells[window].n > 0 && !b.first.Before(t.first.Add(-time.Duration(t.cells[window].lo*float64(time.Second))))
		if !covered || t.cells[kept].n == 0 {
			wrongHold = 0
			return
		}
		violated := t.cells[kept].lo == 0
		if violated && b.cells[hold].lo == 1 {
			wrongHold += span
			score.LongestWrongHoldMin = max(score.LongestWrongHoldMin, wrongHold.Minutes())
		} else {
			wrongHold = 0
		}
		if !advisory {
			return
		}
		// A bucket counts for the shares of its ticks.
		share := func(column int) float64 { return span.Minutes() * b.cells[column].sum / float64(b.ticks) }
		if violated {
			score.ViolatedMin += span.Minutes()
			score.MoreWhileViolatedMin += share(up)
			score.FewerWhileViolatedMin += share(down)
		} else {
			score.KeptMin += span.Minutes()
			score.MoreWhileKeptMin += share(up)
			score.FewerWhileKeptMin += share(down)
		}
	})
}

// answer says yes, no or neither, with every reason that speaks for it.
func (v *view) answer(s *Summary, score *Score, mode model.Mode) {
	if mode == model.Active && score.AdvisoryHours == 0 && s.Decisions > 0 {
		score.Answer = InOperation
		score.Because = append(score.Because, "Every decision of this range could be acted on: it holds no advice to judge.")
		return
	}
	var unknown, against []string
	if s.Decisions == 0 {
		unknown = append(unknown, "There are no decisions.")
	}
	if score.AdvisoryHours < minAdvisoryHours {
		unknown = append(unknown, fmt.Sprintf("Advisory decisions cover %.1f h. Load has a daily cycle: judging it takes a day (%d h).", score.AdvisoryHours, minAdvisoryHours))
	}
	if share := score.IncompleteShare; share == nil {
		unknown = append(unknown, "There are no observations.")
	} else if *share > maxIncomplete {
		unknown = append(unknown, fmt.Sprintf("Evidence was incomplete in %.1f %% of the observations; up to %.0f %% is tolerable.", 100**share, 100*maxIncomplete))
	}
	if s.TTFTMean.Of == 0 && s.ITLMean.Of == 0 {
		unknown = append(unknown, "No window of traffic has a measured latency: whether the SLA was kept is unknown.")
	}
	if s.FlapsPerHour > maxFlapsPerHour {
		against = append(against, fmt.Sprintf("Directions reversed %.1f times an hour; up to %.0f is tolerable.", s.FlapsPerHour, maxFlapsPerHour))
	}
	if e := score.ForecastMAPE; e != nil && *e > maxForecastError {
		against = append(against, fmt.Sprintf("Forecasts of the request rate are off by %.0f %% on average; up to %.0f %% is tolerable.", 100**e, 100*maxForecastError))
	}
	if e := score.TTFT.MedianError; e != nil && *e > maxEstimateError {
		against = append(against, fmt.Sprintf("Estimated TTFT is off by %.0f %% in the median; up to %.0f %% is tolerable.", 100**e, 100*maxEstimateError))
	}
	if judged := score.ViolatedMin + score.KeptMin; judged > 0 && score.FewerWhileViolatedMin > maxStarved*judged {
		against = append(against, fmt.Sprintf("Fewer replicas were recommended for %.1f min in which the SLA was violated.", score.FewerWhileViolatedMin))
	}
	unreachable, n := v.decisions.total("unreachable")
	if n > 0 && unreachable > maxUnreachable*float64(n) {
		against = append(against, fmt.Sprintf("In %.0f %% of the decisions no number of replicas was expected to reach the SLA.", 100*unreachable/float64(n)))
	}
	switch {
	case mode == model.Active:
		score.Answer = InOperation
		found := "what speaks against activation in this range:"
		if len(against)+len(unknown) == 0 {
			found = "nothing in this range speaks against it."
		}
		score.Because = append([]string{fmt.Sprintf("The range holds %.1f h of advice before it was activated; %s", score.AdvisoryHours, found)}, append(against, unknown...)...)
	case len(against) > 0:
		score.Answer, score.Because = NotYet, append(against, unknown...)
	case len(unknown) > 0:
		score.Answer, score.Because = CannotTell, unknown
	default:
		score.Answer = Ready
		score.Because = append(score.Because, fmt.Sprintf(
			"Over %.1f h of advisory decisions nothing was found against it: evidence was complete in %.1f %% of the observations, and directions reversed %.2f times an hour.",
			score.AdvisoryHours, 100*(1-*score.IncompleteShare), s.FlapsPerHour))
	}
}
