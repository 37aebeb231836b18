package sim

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/model"
)

// TestSamples follows one aggregated engine: 1000 prompt tokens to 20 ms, then
// iterations of 12.001 ms and 12.002 ms, with a second request from 44.003 ms.
func TestSamples(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 1, Engine: plainEngine()}),
		Request{0, 1000, 4}, Request{ms(33), 100, 1})
	prefill := Load{PrefillRequests: 1, PrefillTokens: 1000}
	for _, step := range []struct {
		name      string
		at        time.Duration
		wallS     float64
		scheduled Load
		queued    Load
	}{
		{"first iteration under way", ms(19), 0, Load{}, Load{}},
		{"its end", ms(20), 0.020, prefill, Load{}},
		{"within a run of iterations", ms(32), 0.020, prefill, Load{}},
		{"after one of them", ms(32.5), 0.012001, Load{DecodeRequests: 1, DecodeKVTokens: 1001}, Load{}},
		{"with a queue", ms(40), 0.012001, Load{DecodeRequests: 1, DecodeKVTokens: 1001}, Load{PrefillRequests: 1, PrefillTokens: 100}},
		{"at the cut", ms(44.003), 0.012002, Load{DecodeRequests: 1, DecodeKVTokens: 1002}, Load{}},
		{"a mixed batch", ms(57.006), 0.013003, Load{1, 100, 1, 1003}, Load{}},
		{"idle for a moment", ms(1057), 0.013003, Load{1, 100, 1, 1003}, Load{}},
		{"idle for a second", ms(1057.006), 0, Load{}, Load{}},
	} {
		advance(t, f, step.at)
		want := []Sample{{
			Role: model.Aggregated, Worker: "aggregated-0", AgeS: step.at.Seconds(),
			WallTimeS: step.wallS, Scheduled: step.scheduled, Queued: step.queued,
		}}
		if diff := gocmp.Diff(want, f.Engines()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestHeartbeatBeforeWork shows that an iteration from before a pause is not
// taken for the newest while the first after it is under way.
func TestHeartbeatBeforeWork(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyPrefill, RoleConfig{Replicas: 1, Engine: plainEngine()}),
		Request{0, 1000, 1}, Request{ms(5000), 1000, 1}, Request{ms(5100), 2000, 1})
	for _, step := range []struct {
		at    time.Duration
		wallS float64
	}{{ms(5010), 0}, {ms(5020), 0.020}, {ms(5110), 0.020}, {ms(5130), 0.030}} {
		advance(t, f, step.at)
		if got := f.Engines()[0].WallTimeS; got != step.wallS {
			t.Errorf("at %v: wall time %v s, want %v s", step.at, got, step.wallS)
		}
	}
}

// TestQueuedDecode shows the queue of a decode engine, which holds KV tokens.
func TestQueuedDecode(t *testing.T) {
	engine := plainEngine()
	engine.MaxNumSeqs = 1
	f := newFleet(t, fleetOf(model.TopologyDecode, RoleConfig{Replicas: 1, Engine: engine}),
		Request{0, 100, 9}, Request{0, 200, 9}, Request{0, 300, 9})
	advance(t, f, ms(1))
	if got, want := f.Engines()[0].Queued, (Load{DecodeRequests: 2, DecodeKVTokens: 500}); got != want {
		t.Errorf("queued %+v, want %+v", got, want)
	}
}

// TestQueuedBehindAChunk shows that a request for which an iteration has no
// token left stays in the queue.
func TestQueuedBehindAChunk(t *testing.T) {
	engine := plainEngine()
	engine.MaxNumBatchedTokens, engine.MaxNumSeqs = 2, 2
	f := newFleet(t, fleetOf(model.TopologyPrefill, RoleConfig{Replicas: 1, Engine: engine}), Request{0, 5, 1}, Request{ms(1), 7, 1})
	// Chunks of 2, 2 and 1; the third leaves a token for the second prompt.
	for _, step := range []struct {
		at   time.Duration
		want Load
	}{{ms(11), Load{PrefillRequests: 1, PrefillTokens: 7}}, {ms(21), Load{}}} {
		advance(t, f, step.at)
		if got := f.Engines()[0].Queued; got != step.want {
			t.Errorf("at %v: queued %+v, want %+v", step.at, got, step.want)
		}
	}
}
