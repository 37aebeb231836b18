package sim

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/model"
)

// TestTraffic follows two requests through one engine: the first has its first
// token at 20 ms and its last at 44.003 ms, the second has its one token at
// 1.02 s.
func TestTraffic(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 1, Engine: plainEngine()}),
		Request{0, 1000, 3}, Request{time.Second, 1000, 1})
	for _, step := range []struct {
		name   string
		at     time.Duration
		window time.Duration
		want   Traffic
	}{
		{"nothing made yet", ms(10), time.Second, Traffic{Window: ms(10), Requests: 1, MeanISL: new(1000.0)}},
		{"a first token", ms(30), time.Second, Traffic{
			Window: ms(30), Requests: 1, MeanISL: new(1000.0), MeanTTFTMs: new(20.0), P95TTFTMs: new(20.0),
		}},
		{"completed", ms(500), time.Second, Traffic{
			Window: ms(500), Requests: 1, MeanISL: new(1000.0), MeanTTFTMs: new(20.0), P95TTFTMs: new(20.0),
			MeanOSL: new(3.0), MeanDurationS: new(0.044003), MeanITLMs: new(12.0015), P95ITLMs: new(12.0015),
		}},
		{"idle", ms(900), ms(100), Traffic{Window: ms(100)}},
		{"one token has no latency between tokens", ms(1100), ms(500), Traffic{
			Window: ms(500), Requests: 1, MeanISL: new(1000.0), MeanTTFTMs: new(20.0), P95TTFTMs: new(20.0),
			MeanOSL: new(1.0), MeanDurationS: new(0.020),
		}},
		{"the start of a window is not in it", ms(2000), ms(1000), Traffic{
			Window: ms(1000), MeanTTFTMs: new(20.0), P95TTFTMs: new(20.0),
			MeanOSL: new(1.0), MeanDurationS: new(0.020),
		}},
		{"all of it", ms(2000), time.Minute, Traffic{
			Window: ms(2000), Requests: 2, MeanISL: new(1000.0), MeanTTFTMs: new(20.0), P95TTFTMs: new(20.0),
			MeanOSL: new(2.0), MeanDurationS: new(0.0320015), MeanITLMs: new(12.0015), P95ITLMs: new(12.0015),
		}},
	} {
		advance(t, f, step.at)
		got, err := f.Traffic(step.window)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestTrafficForgets(t *testing.T) {
	var list []Request
	for i := range 10_000 {
		list = append(list, Request{time.Duration(i) * time.Second, 10, 2})
	}
	config := fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 1, Engine: plainEngine()})
	config.TrafficWindow = time.Minute
	f := newFleet(t, config, list...)
	finish(t, f, 10*time.Second, 4*time.Hour)
	if n := len(f.traffic.arrivals.items); n > 200 {
		t.Errorf("%d arrivals are kept for a window of 60", n)
	}
	if n := f.traffic.completions.len(); n != 60 {
		t.Errorf("%d completions are kept, want 60", n)
	}
}

func TestPercentileIsOfNearestRank(t *testing.T) {
	var latency []time.Duration
	for i := 100; i > 0; i-- {
		latency = append(latency, ms(float64(i)))
	}
	mean, p95 := latencies(latency)
	if *mean != 50.5 || *p95 != 95 {
		t.Errorf("mean %v, 95th percentile %v, want 50.5 and 95", *mean, *p95)
	}
	if mean, p95 := latencies(nil); mean != nil || p95 != nil {
		t.Errorf("nothing has a mean %v and a percentile %v", mean, p95)
	}
}
