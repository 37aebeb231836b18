package report

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/reporttest"
)

// week is a scripted advisory deployment: every 5 minutes an observation with a
// window of traffic, and a decision about it.
type week struct {
	hours    float64
	active   bool
	observed func(tick int, o *model.Observation)
	decided  func(tick int, d *model.ScalingDecision)
}

func (w week) facts() []reporttest.Fact {
	const step = 5 * time.Minute
	spec := model.DefaultDeployment()
	spec.Name, spec.Advisory = "a", !w.active
	spec.Load.IntervalS, spec.Throughput.IntervalS = step.Seconds(), step.Seconds()
	out := []reporttest.Fact{{ID: "c", Fact: &model.DeploymentConfigured{Deployment: "a", Revision: 1, Spec: spec}}}
	for tick := range int(w.hours * 12) {
		at := midnight.Add(time.Duration(tick) * step)
		o := &model.Observation{
			Deployment: "a", ConfigRevision: 1, ObservedAt: at,
			Traffic: &model.TrafficObservation{
				Status: model.Measured, WindowS: step.Seconds(), Requests: ptr(600.0),
				MeanTTFTMs: ptr(200.0), P95TTFTMs: ptr(300.0), MeanITLMs: ptr(20.0), P95ITLMs: ptr(30.0),
			},
		}
		d := &model.ScalingDecision{
			Deployment: "a", ConfigRevision: 1, ObservedAt: at, Mode: spec.Mode(), Action: model.Hold,
			Desired: pair(2, 4), Target: pair(2, 4), Delta: pair(0, 0),
			GPUs: &model.GPUs{Current: 6, Target: 6}, Estimates: model.Estimates{TTFTMs: ptr(220.0), ITLMs: ptr(19.0)},
			Forecast: &model.Forecast{RPS: 2.2},
			Reasons:  model.Reasons{Load: model.ReasonNoChange, Throughput: model.ReasonSetLowerBound},
		}
		if w.observed != nil {
			w.observed(tick, o)
		}
		if w.decided != nil {
			w.decided(tick, d)
		}
		out = append(out, reporttest.Fact{ID: fmt.Sprint("o", tick), Fact: o}, reporttest.Fact{ID: fmt.Sprint("d", tick), Fact: d})
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func pair(prefill, decode int) model.PerRole[int] {
	return model.PerRole[int]{Prefill: &prefill, Decode: &decode}
}

// violate breaks the SLA of a window.
func violate(o *model.Observation) { o.Traffic.MeanTTFTMs = ptr(900.0) }

func advise(d *model.ScalingDecision, delta int) {
	d.Target, d.Delta = pair(2+delta, 4), pair(delta, 0)
	d.Action, d.GPUs = model.Classify(d.Delta), &model.GPUs{Current: 6, Target: 6 + delta}
}

func TestVerdict(t *testing.T) {
	for name, test := range map[string]struct {
		week    week
		want    Answer
		because []string // Parts of the reasons, in their order.
	}{
		"a good day": {week{hours: 24}, Ready, []string{"Over 24.0 h of advisory decisions nothing was found against it"}},
		"too short":  {week{hours: 6}, CannotTell, []string{"Advisory decisions cover 6.0 h."}},
		"nothing":    {week{}, CannotTell, []string{"There are no decisions.", "Advisory decisions cover 0.0 h.", "There are no observations.", "No window of traffic"}},
		"was active": {week{hours: 24, active: true}, InOperation, []string{"Every decision of this range could be acted on"}},
		"no latency": {week{hours: 24, observed: func(_ int, o *model.Observation) {
			o.Traffic.MeanTTFTMs, o.Traffic.MeanITLMs = nil, nil
		}}, CannotTell, []string{"No window of traffic has a measured latency"}},
		"evidence fails": {week{hours: 24, observed: func(tick int, o *model.Observation) {
			if tick%5 == 0 {
				o.Traffic = &model.TrafficObservation{Status: model.Failed, Error: "503"}
			}
		}}, CannotTell, []string{"Evidence was incomplete in 20.1 % of the observations"}},
		"flaps": {week{hours: 24, decided: func(tick int, d *model.ScalingDecision) {
			advise(d, 1-2*(tick%2))
		}}, NotYet, []string{"Directions reversed 12.0 times an hour"}},
		"forecasts are off": {week{hours: 24, decided: func(_ int, d *model.ScalingDecision) {
			d.Forecast.RPS = 4
		}}, NotYet, []string{"Forecasts of the request rate are off by 100 % on average"}},
		"estimates are off": {week{hours: 24, decided: func(_ int, d *model.ScalingDecision) {
			d.Estimates.TTFTMs = ptr(50.0)
		}}, NotYet, []string{"Estimated TTFT is off by 75 % in the median"}},
		"would starve": {week{hours: 24, observed: func(tick int, o *model.Observation) {
			if tick >= 200 {
				violate(o)
			}
		}, decided: func(tick int, d *model.ScalingDecision) {
			if tick >= 200 && tick < 210 {
				advise(d, -1)
			}
		}}, NotYet, []string{"Fewer replicas were recommended for 50.0 min in which the SLA was violated"}},
		"out of reach": {week{hours: 24, decided: func(_ int, d *model.ScalingDecision) {
			d.Warnings = []model.Warning{model.WarningTTFTUnreachable}
		}}, NotYet, []string{"In 100 % of the decisions no number of replicas was expected to reach the SLA"}},
		"short, and bad": {week{hours: 2, decided: func(_ int, d *model.ScalingDecision) {
			d.Forecast.RPS = 4
		}}, NotYet, []string{"Forecasts of the request rate", "Advisory decisions cover 2.0 h."}},
	} {
		t.Run(name, func(t *testing.T) {
			score := fold(test.week.facts()).Build(Options{}).Deployments[0].Score
			if score.Answer != test.want {
				t.Errorf("the answer is %s, want %s: %q", score.Answer, test.want, score.Because)
			}
			if len(score.Because) != len(test.because) {
				t.Fatalf("the reasons are %q, want %q", score.Because, test.because)
			}
			for i, part := range test.because {
				if !strings.Contains(score.Because[i], part) {
					t.Errorf("reason %d is %q, want %q in it", i, score.Because[i], part)
				}
			}
		})
	}
}

// TestScorecard holds the figures of a day against a count by hand: 24 h in
// steps of 5 min, the SLA violated from 08:00 to 10:00, one more replica advised
// in the first of these hours, one fewer from 20:00 on.
func TestScorecard(t *testing.T) {
	at := func(tick int) float64 { return float64(tick) / 12 }
	facts := week{
		hours: 24,
		observed: func(tick int, o *model.Observation) {
			if h := at(tick); h >= 8 && h < 10 {
				violate(o)
			}
		},
		decided: func(tick int, d *model.ScalingDecision) {
			switch h := at(tick); {
			case h >= 8 && h < 9:
				advise(d, 1)
			case h >= 20:
				advise(d, -1)
			}
		},
	}.facts()
	s := fold(facts).Build(Options{}).Deployments[0].Score
	for name, figure := range map[string]struct{ got, want float64 }{
		"advisory hours":            {s.AdvisoryHours, 24},
		"violated":                  {s.ViolatedMin, 120},
		"kept":                      {s.KeptMin, 22 * 60},
		"more while violated":       {s.MoreWhileViolatedMin, 60},
		"more while kept":           {s.MoreWhileKeptMin, 0},
		"fewer while kept":          {s.FewerWhileKeptMin, 240},
		"fewer while violated":      {s.FewerWhileViolatedMin, 0},
		"longest wrong hold":        {s.LongestWrongHoldMin, 60},
		"GPU-hours set":             {s.GPUHours.Set, 6 * 24},
		"GPU-hours recommended":     {s.GPUHours.Recommended, 6*24 + 1 - 4},
		"prefill-hours set":         {s.ReplicaHours.Prefill.Set, 48},
		"prefill-hours recommended": {s.ReplicaHours.Prefill.Recommended, 48 + 1 - 4},
		"decode-hours recommended":  {s.ReplicaHours.Decode.Recommended, 96},
		"forecast error":            {*s.ForecastMAPE, 0.1},
		"forecast bias":             {*s.ForecastBias, 0.1},
		"estimate of ITL":           {*s.ITL.MedianError, 0.05},
		"bias of ITL":               {*s.ITL.Bias, -0.05},
		"incomplete":                {*s.IncompleteShare, 0},
		"holds":                     {float64(s.Advised[0].Count), 288 - 12 - 48},
		"ups":                       {float64(s.Advised[1].Count), 12},
		"downs":                     {float64(s.Advised[2].Count), 48},
	} {
		if math.Abs(figure.got-figure.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, figure.got, figure.want)
		}
	}
	if s.ForecastPairs != 287 {
		t.Errorf("%d windows have a forecast, want 287", s.ForecastPairs)
	}
}
