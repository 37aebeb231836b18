package sim

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark.dev/pkg/model"
)

func TestColdStart(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyAggregated, RoleConfig{
		Replicas: 1, ColdStart: time.Minute, GPUsPerReplica: 2, Engine: plainEngine(),
	}))
	advance(t, f, 10*time.Second)
	scale(t, f, model.Aggregated, 3)
	for _, step := range []struct {
		at   time.Duration
		want Replicas
	}{
		{10 * time.Second, Replicas{Ready: 1, Desired: 3, Starting: 2}},
		{70*time.Second - 1, Replicas{Ready: 1, Desired: 3, Starting: 2}},
		{70 * time.Second, Replicas{Ready: 3, Desired: 3}},
	} {
		advance(t, f, step.at)
		if got := replicas(t, f, model.Aggregated); got != step.want {
			t.Errorf("at %v: %+v, want %+v", step.at, got, step.want)
		}
	}
	advance(t, f, 75*time.Second)
	var got []Sample
	for _, s := range f.Engines() {
		got = append(got, Sample{Role: s.Role, Worker: s.Worker, AgeS: s.AgeS})
	}
	want := []Sample{
		{Role: model.Aggregated, Worker: "aggregated-0", AgeS: 75},
		{Role: model.Aggregated, Worker: "aggregated-1", AgeS: 5},
		{Role: model.Aggregated, Worker: "aggregated-2", AgeS: 5},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("engines (-want +got):\n%s", diff)
	}
	// Starting replicas hold their GPUs: 10 s of one replica, 65 s of three.
	if got, _ := f.Totals().GPUSeconds.Get(model.Aggregated); got != 2*(10+3*65) {
		t.Errorf("%v GPU seconds, want %v", got, 2*(10+3*65))
	}
}

func TestQuotaKeepsReplicasPending(t *testing.T) {
	quota := 2
	f := newFleet(t, fleetOf(model.TopologyAggregated, RoleConfig{
		Replicas: 1, Quota: &quota, ColdStart: time.Minute, Engine: plainEngine(),
	}))
	expect := func(when string, want Replicas) {
		t.Helper()
		if got := replicas(t, f, model.Aggregated); got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	scale(t, f, model.Aggregated, 4)
	expect("scaled", Replicas{Ready: 1, Desired: 4, Pending: 2, Starting: 1})
	advance(t, f, 2*time.Minute)
	expect("started", Replicas{Ready: 2, Desired: 4, Pending: 2})
	scale(t, f, model.Aggregated, 3)
	expect("pending ones go first", Replicas{Ready: 2, Desired: 3, Pending: 1})
	quota = 3
	if err := f.SetQuota(model.Aggregated, &quota); err != nil {
		t.Fatal(err)
	}
	expect("more quota", Replicas{Ready: 2, Desired: 3, Starting: 1})
	scale(t, f, model.Aggregated, 2)
	expect("starting ones go before ready ones", Replicas{Ready: 2, Desired: 2})
	if err := f.SetQuota(model.Aggregated, nil); err != nil {
		t.Fatal(err)
	}
	scale(t, f, model.Aggregated, 9)
	expect("no quota", Replicas{Ready: 2, Desired: 9, Starting: 7})
}

// TestQuotaCountsDrainingReplicas shows that a replica that drains still
// occupies its place.
func TestQuotaCountsDrainingReplicas(t *testing.T) {
	quota := 1
	f := newFleet(t, fleetOf(model.TopologyAggregated, RoleConfig{
		Replicas: 1, Quota: &quota, Engine: plainEngine(),
	}), Request{0, 1000, 3}, Request{ms(1), 1000, 1})
	advance(t, f, ms(5))
	scale(t, f, model.Aggregated, 0)
	scale(t, f, model.Aggregated, 1)
	if got, want := replicas(t, f, model.Aggregated), (Replicas{Desired: 1, Pending: 1, Draining: 1, Waiting: 1}); got != want {
		t.Errorf("while draining: %+v, want %+v", got, want)
	}
	// The first request ends at 44.003 ms as if nothing had happened; the
	// second begins on the new replica then.
	advance(t, f, time.Second)
	if got, want := replicas(t, f, model.Aggregated), (Replicas{Ready: 1, Desired: 1}); got != want {
		t.Errorf("afterwards: %+v, want %+v", got, want)
	}
	if diff := gocmp.Diff([]time.Duration{ms(44.003), ms(64.003)}, lasts(f)); diff != "" {
		t.Errorf("last tokens (-want +got):\n%s", diff)
	}
	if got := f.Engines()[0].Worker; got != "aggregated-1" {
		t.Errorf("worker %s, want aggregated-1: names are not used again", got)
	}
}

func TestDrainingReroutesItsQueue(t *testing.T) {
	engine := plainEngine()
	engine.MaxNumSeqs = 1
	// Each engine runs one and queues one.
	f := newFleet(t, fleetOf(model.TopologyAggregated, RoleConfig{Replicas: 2, Engine: engine}),
		Request{0, 1000, 1}, Request{0, 1000, 2}, Request{ms(1), 1000, 1}, Request{ms(2), 1000, 1})
	advance(t, f, ms(5))
	scale(t, f, model.Aggregated, 1)
	if got, want := replicas(t, f, model.Aggregated), (Replicas{Ready: 1, Desired: 1, Draining: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	samples := f.Engines()
	if len(samples) != 1 || samples[0].Worker != "aggregated-0" || samples[0].Queued.PrefillRequests != 2 {
		t.Errorf("samples %+v, want aggregated-0 alone, with two requests in its queue", samples)
	}
	advance(t, f, time.Second)
	// The draining engine decodes its second token from 20 to 32.001; the other
	// prefills one after the other.
	if diff := gocmp.Diff([]time.Duration{ms(20), ms(32.001), ms(40), ms(60)}, lasts(f)); diff != "" {
		t.Errorf("last tokens (-want +got):\n%s", diff)
	}
	if got, want := replicas(t, f, model.Aggregated), (Replicas{Ready: 1, Desired: 1}); got != want {
		t.Errorf("afterwards: %+v, want %+v", got, want)
	}
}

func TestRequestsWaitWithoutReadyReplica(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyDisaggregated, RoleConfig{ColdStart: time.Second, Engine: plainEngine()}),
		Request{0, 1000, 1}, Request{ms(1), 1000, 2})
	advance(t, f, time.Minute)
	if got := replicas(t, f, model.Prefill); got.Waiting != 2 {
		t.Errorf("%+v, want two requests waiting", got)
	}
	scale(t, f, model.Prefill, 1)
	advance(t, f, time.Minute+2*time.Second)
	// The first is answered by its prefill; the second waits for its decode.
	if got, want := f.Totals(), 1; got.Completed != want || got.InFlight != 1 || replicas(t, f, model.Decode).Waiting != 1 {
		t.Errorf("%+v, want one completed and one waiting for decode", got)
	}
	scale(t, f, model.Decode, 1)
	finish(t, f, time.Second, 2*time.Minute)
	want := []time.Duration{61*time.Second + ms(20), 63*time.Second + ms(12.001)}
	if diff := gocmp.Diff(want, lasts(f)); diff != "" {
		t.Errorf("last tokens (-want +got):\n%s", diff)
	}
}

func TestLeastLoaded(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyPrefill, RoleConfig{Replicas: 3, Engine: plainEngine()}),
		Request{0, 500, 1}, Request{ms(1), 100, 1}, Request{ms(2), 300, 1}, // one each
		Request{ms(3), 100, 1}, Request{ms(4), 100, 1}, // prefill-1 twice: 100, then 200, are fewer than 300
		Request{ms(5), 900, 1}, // prefill-1 and prefill-2 have 300: the older one
	)
	advance(t, f, ms(6))
	var queued []int
	for _, s := range f.Engines() {
		queued = append(queued, s.Queued.PrefillTokens)
	}
	if diff := gocmp.Diff([]int{0, 1100, 0}, queued); diff != "" {
		t.Errorf("queued tokens (-want +got):\n%s", diff)
	}
}

func TestRejectsWhatNeverFits(t *testing.T) {
	f := newFleet(t, fleetOf(model.TopologyDisaggregated, RoleConfig{Replicas: 1, Engine: plainEngine()}),
		Request{0, 100_001, 1}, Request{0, 99_000, 1002}, Request{0, 99_000, 1001})
	finish(t, f, time.Second, time.Hour)
	got := f.Totals()
	if got.Arrived != 3 || got.Rejected != 2 || got.Completed != 1 {
		t.Errorf("%+v, want 2 of 3 rejected", got)
	}
}

func TestErrors(t *testing.T) {
	config := fleetOf(model.TopologyPrefill, RoleConfig{Replicas: 1, Engine: plainEngine()})
	f := newFleet(t, config)
	advance(t, f, time.Second)
	broken := errors.New("broken pipe")
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"back in time", f.Advance(0), "0s is before the present, 1s"},
		{"foreign role", f.Scale(model.Decode, 1), `role "decode" is not of topology prefill`},
		{"negative", f.Scale(model.Prefill, -1), "-1 replicas of prefill, want 0 to"},
		{"negative quota", f.SetQuota(model.Prefill, new(-1)), "-1 replicas of prefill, want at least 0"},
		{"no window", second(f.Traffic(0)), "window is 0s, want more than 0 and at most 1h0m0s"},
		{"long window", second(f.Traffic(2 * time.Hour)), "window is 2h0m0s, want more than 0"},
		{"disorder", newFleet(t, config, Request{2, 1, 1}, Request{1, 1, 1}).Advance(3), "request at 1ns comes after one at 2ns"},
		{"no tokens", newFleet(t, config, Request{1, 0, 1}).Advance(3), "has 0 prompt and 1 output tokens"},
		{"too far", newFleet(t, config, Request{math.MaxInt64, 1, 1}).Advance(3), "too far from the origin"},
		{"no figures", second(FiguresOf("tpu")), `engine "tpu" has no figures, want one of h100-llama`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", test.err, test.want)
			}
		})
	}
	f, err := New(config, failing{broken})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Advance(time.Second); !errors.Is(err, broken) {
			t.Errorf("error %v, want the workload's, each time", err)
		}
	}
	if f.Done() {
		t.Error("a fleet whose workload failed is not done")
	}
}

func second[T any](_ T, err error) error { return err }

type failing struct{ err error }

func (f failing) Next() (Request, bool, error) { return Request{}, false, f.err }

func TestConfigValidate(t *testing.T) {
	role := func(change func(*RoleConfig)) Config {
		c := RoleConfig{Replicas: 1, Engine: plainEngine()}
		change(&c)
		return fleetOf(model.TopologyPrefill, c)
	}
	foreign := role(func(*RoleConfig) {})
	foreign.Roles.Set(model.Decode, RoleConfig{})
	for _, test := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"nothing", Config{}, []string{`topology "" does not exist`}},
		{"missing role", Config{Topology: model.TopologyDecode}, []string{"role decode of topology decode is not configured"}},
		{"foreign role", foreign, []string{"role decode is configured, and topology prefill has none"}},
		{"window", Config{Topology: model.TopologyPrefill, TrafficWindow: -1}, []string{"traffic window is -1ns"}},
		{"all at once", role(func(c *RoleConfig) { *c = RoleConfig{Replicas: -1, ColdStart: -1} }), []string{
			"role prefill: replicas is -1", "max_num_seqs is 0", "max_num_batched_tokens is 0", "max_kv_tokens is 0", "cold start is -1ns", "base time",
		}},
		{"quota", role(func(c *RoleConfig) { c.Quota = new(int) }), []string{"quota is 0, which cannot hold the 1 replicas"}},
		{"batch", role(func(c *RoleConfig) { c.Engine.MaxNumBatchedTokens = 255 }), []string{"is 255, want at least max_num_seqs, 256"}},
		{"not a number", role(func(c *RoleConfig) { c.Engine.Timing.PerKVTokenS = math.NaN() }), []string{"per KV token is NaN s"}},
		{"negative time", role(func(c *RoleConfig) { c.Engine.Timing.PerSequenceS = -1 }), []string{"per sequence is -1 s"}},
		{"endless", role(func(c *RoleConfig) { c.Engine.Timing.PerPrefillTokenS = math.Inf(1) }), []string{"longest iteration takes +Inf s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.config, NewRequests(nil))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

// TestQueueing holds the mean wait against the closed form of an M/D/1 queue,
// ρ·D / (2·(1−ρ)): Poisson arrivals, and one prompt of one length at a time.
func TestQueueing(t *testing.T) {
	const isl, requests = 1000, 100_000
	engine := plainEngine()
	engine.MaxNumSeqs = 1
	service := 0.020 // s
	for _, rho := range []float64{0.3, 0.6, 0.8} {
		random := rand.New(rand.NewPCG(7, 7))
		list, at := make([]Request, 0, requests), 0.0
		for range requests {
			at += random.ExpFloat64() * service / rho
			list = append(list, Request{time.Duration(at * 1e9), isl, 1})
		}
		config := fleetOf(model.TopologyPrefill, RoleConfig{Replicas: 1, Engine: engine})
		config.TrafficWindow = 24 * time.Hour
		f := newFleet(t, config, list...)
		finish(t, f, time.Hour, 24*time.Hour)
		traffic, err := f.Traffic(24 * time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		got := *traffic.MeanTTFTMs/1e3 - service
		want := rho * service / (2 * (1 - rho))
		if math.Abs(got/want-1) > 0.04 {
			t.Errorf("ρ = %v: mean wait %.4f s, want %.4f s", rho, got, want)
		}
	}
}

// check holds a fleet against what is true at every instant.
func check(t *rapid.T, f *Fleet) {
	totals := f.Totals()
	if totals.InFlight != f.inFlight || totals.Arrived != totals.Completed+totals.Rejected+totals.InFlight {
		t.Fatalf("at %v requests are lost or doubled: %+v, %d under way", f.now, totals, f.inFlight)
	}
	for _, p := range f.pools {
		if p.desired != len(p.ready)+len(p.starting)+p.pending || p.pending < 0 {
			t.Fatalf("at %v %s is set to %d: %d ready, %d starting, %d pending", f.now, p.role, p.desired, len(p.ready), len(p.starting), p.pending)
		}
		if len(p.ready) > 0 && p.waiting.len() > 0 {
			t.Fatalf("at %v %d requests wait for %s, of which %d are ready", f.now, p.waiting.len(), p.role, len(p.ready))
		}
		for _, e := range append(append([]*engine(nil), p.ready...), p.draining...) {
			limits := p.config.Engine
			kv := e.kv + e.run.completed(f.now)*len(e.decoding)
			switch {
			case e.reserved > limits.MaxKVTokens || kv > e.reserved:
				t.Fatalf("at %v %s-%d holds %d KV tokens, has promised %d, of %d", f.now, p.role, e.number, kv, e.reserved, limits.MaxKVTokens)
			case len(e.prefilling)+len(e.decoding) > limits.MaxNumSeqs:
				t.Fatalf("at %v %s-%d runs %d sequences", f.now, p.role, e.number, len(e.prefilling)+len(e.decoding))
			case e.run.promptTokens+len(e.decoding) > limits.MaxNumBatchedTokens:
				t.Fatalf("at %v %s-%d batches %d tokens", f.now, p.role, e.number, e.run.promptTokens+len(e.decoding))
			case e.run.iterations == 0 && !e.empty():
				t.Fatalf("at %v %s-%d is idle and has requests", f.now, p.role, e.number)
			case e.draining && e.waiting.len() > 0:
				t.Fatalf("at %v draining %s-%d has a queue", f.now, p.role, e.number)
			case e.empty() && (e.load != 0 || e.reserved != 0 || e.kv != 0 || e.waitingTokens != 0):
				t.Fatalf("at %v empty %s-%d counts load %d, reserved %d, kv %d, waiting %d", f.now, p.role, e.number, e.load, e.reserved, e.kv, e.waitingTokens)
			}
		}
	}
}

var topologies = []model.Topology{
	model.TopologyAggregated, model.TopologyDisaggregated, model.TopologyPrefill, model.TopologyDecode,
}

// drawFleet draws a small, busy fleet, in which every limit is met.
func drawFleet(t *rapid.T) Config {
	engine := plainEngine()
	engine.MaxNumSeqs = rapid.IntRange(1, 8).Draw(t, "max_num_seqs")
	engine.MaxNumBatchedTokens = engine.MaxNumSeqs + rapid.IntRange(0, 200).Draw(t, "more batched tokens")
	engine.MaxKVTokens = rapid.IntRange(150, 500).Draw(t, "max_kv_tokens")
	return fleetOf(rapid.SampledFrom(topologies).Draw(t, "topology"), RoleConfig{
		Replicas:  rapid.IntRange(0, 3).Draw(t, "replicas"),
		ColdStart: time.Duration(rapid.IntRange(0, 300).Draw(t, "cold start")) * time.Millisecond,
		Engine:    engine,
	})
}

// TestConservation scales and limits a fleet at random: no request is lost or
// answered twice, no limit is passed, and in the end everything is answered.
func TestConservation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := drawFleet(t)
		config.TrafficWindow = 24 * time.Hour // remembers every answer
		list := drawRequests(t, 60, 30*time.Millisecond, 120, 60)
		f, err := New(config, NewRequests(list))
		if err != nil {
			t.Fatal(err)
		}
		role := func() model.Role { return rapid.SampledFrom(config.Topology.Roles()).Draw(t, "role") }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { check(t, f) },
			"advance": func(t *rapid.T) {
				if err := f.Advance(f.Now() + time.Duration(rapid.IntRange(0, 200).Draw(t, "ms"))*time.Millisecond); err != nil {
					t.Fatal(err)
				}
			},
			"scale": func(t *rapid.T) {
				if err := f.Scale(role(), rapid.IntRange(0, 4).Draw(t, "replicas")); err != nil {
					t.Fatal(err)
				}
			},
			"quota": func(t *rapid.T) {
				if err := f.SetQuota(role(), rapid.Ptr(rapid.IntRange(0, 4), true).Draw(t, "quota")); err != nil {
					t.Fatal(err)
				}
			},
		})
		for _, role := range config.Topology.Roles() {
			if err := errors.Join(f.SetQuota(role, nil), f.Scale(role, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Advance(f.Now() + time.Hour); err != nil {
			t.Fatal(err)
		}
		check(t, f)
		if totals := f.Totals(); !f.Done() || totals.Completed+totals.Rejected != len(list) || f.traffic.completions.len() != totals.Completed {
			t.Fatalf("of %d requests: %+v, done %v", len(list), totals, f.Done())
		}
	})
}

// TestStepsChangeNothing advances one fleet straight from one scaling to the
// next, and another in small steps with looks at it in between: they are equal
// in all that can be seen.
func TestStepsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := drawFleet(t)
		list := drawRequests(t, 60, 30*time.Millisecond, 120, 60)
		var fleets [2]*Fleet
		for i := range fleets {
			f, err := New(config, NewRequests(list))
			if err != nil {
				t.Fatal(err)
			}
			fleets[i] = f
		}
		straight, stepped := fleets[0], fleets[1]
		for range rapid.IntRange(1, 8).Draw(t, "scalings") {
			to := straight.Now() + time.Duration(rapid.IntRange(1, 1e9).Draw(t, "ns"))
			if err := straight.Advance(to); err != nil {
				t.Fatal(err)
			}
			for stepped.Now() < to {
				step := time.Duration(rapid.IntRange(1, 3e8).Draw(t, "step"))
				if err := stepped.Advance(min(to, stepped.Now()+step)); err != nil {
					t.Fatal(err)
				}
				look(t, stepped)
			}
			if diff := gocmp.Diff(look(t, straight), look(t, stepped)); diff != "" {
				t.Fatalf("at %v (-straight +stepped):\n%s", to, diff)
			}
			role := rapid.SampledFrom(config.Topology.Roles()).Draw(t, "role")
			n := rapid.IntRange(0, 4).Draw(t, "replicas")
			if err := errors.Join(straight.Scale(role, n), stepped.Scale(role, n)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSameBits runs an hour twice, scaled up and down: every look at it has the
// same bytes.
func TestSameBits(t *testing.T) {
	list := chat(t, 30)
	hour := func() [sha256.Size]byte {
		f := newFleet(t, fleetOfFigures(t, 2, 1), list...)
		hash := sha256.New()
		encode := json.NewEncoder(hash)
		for tick := 1; !f.Done(); tick++ {
			advance(t, f, time.Duration(tick)*5*time.Second)
			if err := encode.Encode(look(t, f)); err != nil {
				t.Fatal(err)
			}
			if tick%24 == 0 {
				scale(t, f, model.Prefill, 3+tick/24%4)
				scale(t, f, model.Decode, 1+tick/24%3)
			}
		}
		return [sha256.Size]byte(hash.Sum(nil))
	}
	if first, second := hour(), hour(); first != second {
		t.Errorf("the same hour gives %x, then %x", first, second)
	}
}

// view is all that can be seen of a fleet.
type view struct {
	Now      time.Duration
	Done     bool
	Replicas model.PerRole[Replicas]
	Engines  []Sample
	Short    Traffic
	Long     Traffic
	Totals   Totals
}

func look(t interface{ Fatal(...any) }, f *Fleet) view {
	short, err := f.Traffic(500 * time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	long, err := f.Traffic(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return view{f.Now(), f.Done(), f.Inventory(), f.Engines(), short, long, f.Totals()}
}
