package sim

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/model"
)

// TestSubmittedRequestsAreAnsweredLikeThoseOfAWorkload drives one fleet by its
// workload and one by submissions, event by event.
func TestSubmittedRequestsAreAnsweredLikeThoseOfAWorkload(t *testing.T) {
	config := fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 2, Engine: plainEngine()})
	requests := []Request{{At: 0, ISL: 300, OSL: 20}, {At: 0, ISL: 40, OSL: 1}, {At: ms(700), ISL: 90, OSL: 7}, {At: ms(705), ISL: 10, OSL: 30}}
	byWorkload, live := newFleet(t, config, requests...), newFleet(t, config)
	var answers []*Answer
	for _, r := range requests {
		advance(t, live, r.At)
		answer, err := live.Submit(r.ISL, r.OSL)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, answer)
	}
	for {
		next, ok := live.NextEvent()
		if !ok {
			break
		}
		advance(t, live, next)
	}
	finish(t, byWorkload, time.Second, time.Minute)
	advance(t, byWorkload, time.Minute)
	advance(t, live, time.Minute)
	want, got := byWorkload.Totals(), live.Totals()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("totals (-workload +submitted):\n%s", diff)
	}
	traffic := func(f *Fleet) Traffic {
		seen, err := f.Traffic(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	if diff := gocmp.Diff(traffic(byWorkload), traffic(live)); diff != "" {
		t.Errorf("traffic (-workload +submitted):\n%s", diff)
	}
	sum := time.Duration(0)
	for i, a := range answers {
		if !a.Started || !a.Finished || a.Rejected || a.ArrivedAt != requests[i].At || a.FirstTokenAt <= a.ArrivedAt || a.FinishedAt < a.FirstTokenAt {
			t.Errorf("answer %d is %+v", i, a)
		}
		sum += a.FirstTokenAt - a.ArrivedAt
	}
	if mean := *traffic(live).MeanTTFTMs; ms(mean) != sum/4 {
		t.Errorf("mean TTFT is %v ms, and that of the answers %v", mean, sum/4)
	}
}

func TestProgressCountsIterations(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 1, Engine: plainEngine()}))
	if _, err := f.Submit(100, 5); err != nil {
		t.Fatal(err)
	}
	if p := f.Progress()[0]; p.Running != 1 || p.Iterations != 0 || p.KVTokens != 0 {
		t.Errorf("before the first iteration: %+v", p)
	}
	next, _ := f.NextEvent()
	advance(t, f, next)
	prefill := f.Progress()[0]
	if prefill.Iterations != 1 || prefill.Busy != next || prefill.KVTokens != 100 {
		t.Errorf("after the prompt: %+v, want one iteration of %v and 100 KV tokens", prefill, next)
	}
	end, _ := f.NextEvent()
	advance(t, f, next+(end-next)/2)
	half := f.Progress()[0]
	if half.Iterations != 3 || half.KVTokens != 102 || half.Busy <= prefill.Busy || half.Busy > f.Now() {
		t.Errorf("amid the answer: %+v", half)
	}
	advance(t, f, time.Minute)
	if p := f.Progress()[0]; p.Running != 0 || p.Iterations != 5 || p.KVTokens != 0 || p.Busy != end {
		t.Errorf("after the answer: %+v, want 5 iterations in %v", p, end)
	}
}

func TestSubmitRefusesWhatIsNoRequest(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 1, Engine: plainEngine()}))
	if _, err := f.Submit(0, 1); err == nil {
		t.Error("a request without a prompt is taken")
	}
	answer, err := f.Submit(plainEngine().MaxKVTokens+1, 1)
	if err != nil || !answer.Rejected {
		t.Errorf("have %+v, %v of a request that no engine can hold", answer, err)
	}
}
