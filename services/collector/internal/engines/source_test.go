package engines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/forwardpass"
)

var origin = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

// fakeEngine serves one page of metrics after another, the last one for ever.
type fakeEngine struct {
	*httptest.Server
	pages   []string
	scrapes atomic.Int64
	path    atomic.Value
}

func serve(t *testing.T, pages ...string) *fakeEngine {
	t.Helper()
	e := &fakeEngine{pages: pages}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(e.scrapes.Add(1)) - 1
		e.path.Store(r.URL.Path)
		fmt.Fprint(w, e.pages[min(n, len(e.pages)-1)])
	}))
	t.Cleanup(e.Close)
	return e
}

func page(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".prom")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sourceOf returns the source of an aggregated deployment, or of one of a role
// alone.
func sourceOf(preset model.Preset, role model.Role, pool model.EnginePool) *Source {
	spec := &model.EnginesSource{Preset: preset, MaxAgeS: 30, TimeoutS: 5}
	spec.Roles.Set(role, pool)
	d := &model.Deployment{Source: &model.Source{Engines: spec}}
	d.Roles.Set(role, model.RoleSpec{Engine: model.Engine{MaxKVTokens: 40000}})
	return New(d, forwardpass.NewInlet(), fleets.NewKubernetes(fleets.Access{}), slog.New(slog.DiscardHandler))
}

func observe(t *testing.T, s *Source, at time.Time) *model.EnginesObservation {
	t.Helper()
	engines := s.Engines(t.Context(), at)
	if err := (&model.Observation{Deployment: "d", ObservedAt: at, Engines: engines}).Validate(); err != nil {
		t.Errorf("the observation is not valid: %v", err)
	}
	return engines
}

func load(prefillRequests, prefillTokens, decodeRequests, kv *int) model.EngineLoad {
	return model.EngineLoad{PrefillRequests: prefillRequests, PrefillTokens: prefillTokens, DecodeRequests: decodeRequests, DecodeKVTokens: kv}
}

func TestScrapesBecomeSamples(t *testing.T) {
	for _, test := range []struct {
		preset model.Preset
		role   model.Role
		path   string
		first  []model.EngineSample
		second []model.EngineSample
	}{
		{
			preset: model.PresetVLLM, role: model.Aggregated, path: "/metrics",
			first: []model.EngineSample{
				{Scheduled: load(nil, nil, new(10), new(10000)), Queued: load(new(0), new(0), new(0), new(0))},
				{DPRank: 1, Scheduled: load(nil, nil, new(0), new(0)), Queued: load(new(0), new(0), new(0), new(0))},
			},
			second: []model.EngineSample{
				// 80 s between 3200 tokens; 40000 prompt tokens in 200 iterations; 3 prompts of 1000 tokens wait.
				{WallTimeS: new(0.025), Scheduled: load(nil, new(200), new(12), new(10000)), Queued: load(new(3), new(3000), new(0), new(0))},
				{DPRank: 1, WallTimeS: new(0.0), Scheduled: load(nil, new(0), new(0), new(0)), Queued: load(new(0), new(0), new(0), new(0))},
			},
		},
		{
			preset: model.PresetSGLang, role: model.Decode, path: "/metrics",
			first:  []model.EngineSample{{Scheduled: load(nil, nil, new(20), new(30000)), Queued: load(nil, nil, new(4), new(4000))}},
			second: []model.EngineSample{{WallTimeS: new(0.02), Scheduled: load(nil, nil, new(20), new(30000)), Queued: load(nil, nil, new(4), new(4000))}},
		},
		{
			preset: model.PresetTRTLLM, role: model.Aggregated, path: "/prometheus/metrics",
			first:  []model.EngineSample{{Scheduled: load(new(2), new(4096), new(7), new(9600)), Queued: load(new(4), new(4000), new(0), new(0))}},
			second: []model.EngineSample{{WallTimeS: new(0.041), Scheduled: load(new(2), new(4096), new(7), new(9600)), Queued: load(new(4), new(4000), new(0), new(0))}},
		},
		{
			preset: model.PresetVLLM, role: model.Prefill, path: "/metrics",
			first: []model.EngineSample{
				{Scheduled: load(new(10), nil, nil, nil), Queued: load(new(0), new(0), nil, nil)},
				{DPRank: 1, Scheduled: load(new(0), nil, nil, nil), Queued: load(new(0), new(0), nil, nil)},
			},
		},
	} {
		t.Run(string(test.preset)+" "+string(test.role), func(t *testing.T) {
			engine := serve(t, page(t, string(test.preset)+"-1"), page(t, string(test.preset)+"-2"))
			s := sourceOf(test.preset, test.role, model.EnginePool{Endpoints: []string{engine.URL}})
			defer s.Close()
			for n, want := range [][]model.EngineSample{test.first, test.second} {
				if want == nil {
					continue
				}
				for i := range want {
					want[i].Role, want[i].Worker, want[i].AgeS = test.role, strings.TrimPrefix(engine.URL, "http://"), new(5*float64(n))
				}
				got := observe(t, s, origin.Add(time.Duration(5*n)*time.Second))
				if diff := cmp.Diff(want, got.Samples); got.Status != model.Measured || diff != "" {
					t.Errorf("scrape %d: %s %q (-want +got):\n%s", n+1, got.Status, got.Error, diff)
				}
			}
			if engine.path.Load() != test.path {
				t.Errorf("scraped at %v, want %s", engine.path.Load(), test.path)
			}
		})
	}
}

func TestEngineThatRestartsHasNoDifferences(t *testing.T) {
	engine := serve(t, page(t, "vllm-2"), page(t, "vllm-1"), page(t, "vllm-2"))
	s := sourceOf(model.PresetVLLM, model.Aggregated, model.EnginePool{Endpoints: []string{engine.URL}})
	for n, known := range []bool{false, false, true} {
		sample := observe(t, s, origin.Add(time.Duration(n)*time.Second)).Samples[0]
		if (sample.WallTimeS != nil) != known || (sample.Scheduled.PrefillTokens != nil) != known {
			t.Errorf("scrape %d: have %+v", n+1, sample)
		}
	}
}

func TestWhatCannotBeIsLeftOut(t *testing.T) {
	replace := func(from, to string) string {
		text := page(t, "vllm-1")
		if !strings.Contains(text, from) {
			t.Fatalf("the page lacks %q", from)
		}
		return strings.Replace(text, from, to, 1)
	}
	running := `vllm:num_requests_running{engine="0",model_name="org/m"} `
	for name, text := range map[string]string{
		"NaN": replace(running+"10.0", running+"NaN"), "infinite": replace(running+"10.0", running+"+Inf"), "negative": replace(running+"10.0", running+"-1"),
	} {
		engine := serve(t, text)
		s := sourceOf(model.PresetVLLM, model.Aggregated, model.EnginePool{Endpoints: []string{engine.URL}})
		if sample := observe(t, s, origin).Samples[0]; sample.Scheduled.DecodeRequests != nil || sample.Scheduled.DecodeKVTokens == nil {
			t.Errorf("%s: have %+v", name, sample.Scheduled)
		}
	}
}

func TestCapacityOfTheConfigurationStandsIn(t *testing.T) {
	var lines []string
	for line := range strings.Lines(page(t, "vllm-1")) {
		if !strings.Contains(line, "cache_config_info") {
			lines = append(lines, line)
		}
	}
	engine := serve(t, strings.Join(lines, ""))
	s := sourceOf(model.PresetVLLM, model.Aggregated, model.EnginePool{Endpoints: []string{engine.URL}})
	if kv := observe(t, s, origin).Samples[0].Scheduled.DecodeKVTokens; kv == nil || *kv != 10000 {
		t.Errorf("decode_kv_tokens is %v, want a quarter of max_kv_tokens", kv)
	}
}

func TestOneDeadEngineLeavesTheOthersMeasured(t *testing.T) {
	alive, dead := serve(t, page(t, "vllm-1")), serve(t, page(t, "vllm-1"))
	s := sourceOf(model.PresetVLLM, model.Aggregated, model.EnginePool{Endpoints: []string{dead.URL, alive.URL}})
	if got := observe(t, s, origin); len(got.Samples) != 4 {
		t.Fatalf("%d samples of two engines with two ranks", len(got.Samples))
	}
	dead.Close()
	got := observe(t, s, origin.Add(time.Second))
	if got.Status != model.Measured || len(got.Samples) != 2 || got.Samples[0].Worker != strings.TrimPrefix(alive.URL, "http://") {
		t.Errorf("have %s %q, %d samples", got.Status, got.Error, len(got.Samples))
	}
	alive.Close()
	if got := observe(t, s, origin.Add(2*time.Second)); got.Status != model.Failed || !strings.Contains(got.Error, "connection refused (and 1 more of 2)") {
		t.Errorf("have %s %q of no engine alive", got.Status, got.Error)
	}
}

func TestEvidenceHasItsClass(t *testing.T) {
	hang := make(chan struct{})
	handler := func(handle http.HandlerFunc) string {
		server := httptest.NewServer(handle)
		t.Cleanup(server.Close)
		return server.URL
	}
	slow := handler(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(hang) })
	for name, test := range map[string]struct {
		url    string
		status model.Evidence
		error  string
	}{
		"500":         {handler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }), model.Failed, "status 500"},
		"no metrics":  {handler(func(http.ResponseWriter, *http.Request) {}), model.Absent, "exports no metric of such an engine as preset vllm names: no vllm:num_requests_running"},
		"other":       {serve(t, page(t, "sglang-1")).URL, model.Absent, "exports no metric of such an engine"},
		"no page":     {handler(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }), model.Failed, "read metrics: "},
		"half a page": {serve(t, page(t, "vllm-1")[:len(page(t, "vllm-1"))-20]).URL, model.Failed, "read metrics: "},
		"slow":        {slow, model.Failed, "no answer within 0.1 s"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sourceOf(model.PresetVLLM, model.Aggregated, model.EnginePool{Endpoints: []string{test.url}})
			if name == "slow" {
				s.spec.TimeoutS = 0.1
			}
			if got := observe(t, s, origin); got.Status != test.status || !strings.Contains(got.Error, test.error) {
				t.Errorf("have %s %q, want %s %q", got.Status, got.Error, test.status, test.error)
			}
		})
	}
}

// names is a resolver of one name.
type names struct {
	addresses []netip.Addr
	err       error
}

func (n *names) LookupNetIP(_ context.Context, _, _ string) ([]netip.Addr, error) {
	return n.addresses, n.err
}

func TestEnginesAreFoundByName(t *testing.T) {
	engine := serve(t, page(t, "vllm-1"))
	at, err := url.Parse(engine.URL)
	if err != nil {
		t.Fatal(err)
	}
	lookup := &names{addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:127.0.0.1")}}
	s := sourceOf(model.PresetVLLM, model.Aggregated, model.EnginePool{DNS: "http://engines.chat.svc:" + at.Port()})
	s.lookup = lookup
	if got := observe(t, s, origin); got.Status != model.Measured || got.Samples[0].Worker != at.Host {
		t.Errorf("have %s %q", got.Status, got.Error)
	}
	lookup.addresses, lookup.err = nil, &net.DNSError{Err: "server misbehaving", Name: "engines.chat.svc"}
	if got := observe(t, s, origin); got.Status != model.Failed || !strings.Contains(got.Error, "aggregated: look up engines.chat.svc: lookup engines.chat.svc: server misbehaving") {
		t.Errorf("have %s %q of a name server that fails", got.Status, got.Error)
	}
	lookup.err = &net.DNSError{Err: "no such host", Name: "engines.chat.svc", IsNotFound: true}
	if got := observe(t, s, origin); got.Status != model.Absent || !strings.Contains(got.Error, "no engine is found: engines.chat.svc has no address") {
		t.Errorf("have %s %q of a name without addresses", got.Status, got.Error)
	}
}

// TestEnginesAreFoundByPods: the engines are those of ready pods, as old as their
// pods say; what is not known any more is stale, and not gone.
func TestEnginesAreFoundByPods(t *testing.T) {
	engine := serve(t, page(t, "sglang-1"))
	at, err := url.Parse(engine.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		t.Fatal(err)
	}
	of := &model.EnginePods{Namespace: "chat", Selector: "app=decode", Port: port, Scheme: "http"}
	ready := fleets.Pod{Name: "decode-1", IP: "127.0.0.1", Ready: true, ReadySince: origin.Add(-time.Minute)}
	starting := fleets.Pod{Name: "decode-0", IP: "127.0.0.2"}
	down := errors.New("connection refused")
	for name, test := range map[string]struct {
		pods   []fleets.Pod
		age    time.Duration
		err    error
		status model.Evidence
		error  string
	}{
		"one of two is ready": {pods: []fleets.Pod{starting, ready}, status: model.Measured},
		"not known lately":    {pods: []fleets.Pod{starting, ready}, age: 29 * time.Second, err: down, status: model.Measured},
		"not known any more": {
			pods: []fleets.Pod{ready}, age: 31 * time.Second, err: down, status: model.Stale,
			error: "engines: decode: the pods with app=decode in namespace chat are not known any more: they were last listed 31 s ago, and max_age_s is 30: connection refused",
		},
		"never known":   {err: errors.New("403 Forbidden: pods are forbidden"), status: model.Failed, error: "engines: decode: kubernetes: 403 Forbidden: pods are forbidden"},
		"none is ready": {pods: []fleets.Pod{starting}, status: model.Absent, error: "engines: decode: no engine is found: 1 pods have app=decode in namespace chat, and none is ready"},
		"none is there": {status: model.Absent, error: "engines: decode: no engine is found: 0 pods have app=decode"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sourceOf(model.PresetSGLang, model.Decode, model.EnginePool{Endpoints: []string{engine.URL}})
			defer s.Close()
			s.spec.Roles.Set(model.Decode, model.EnginePool{Kubernetes: of})
			s.pods[model.Decode] = func(context.Context) ([]fleets.Pod, time.Duration, error) { return test.pods, test.age, test.err }
			got := observe(t, s, origin)
			if got.Status != test.status || got.Error != test.error && !(test.error != "" && strings.HasPrefix(got.Error, test.error)) {
				t.Fatalf("have %s %q, want %s %q", got.Status, got.Error, test.status, test.error)
			}
			if test.status != model.Measured {
				return
			}
			if len(got.Samples) != 1 || got.Samples[0].Worker != "decode-1" || *got.Samples[0].AgeS != 60 || *got.AgeS != test.age.Seconds() {
				t.Errorf("%v s old, have %+v", *got.AgeS, got.Samples)
			}
		})
	}
}

// TestWithoutBuckets: of a scrape the buckets go, and nothing else.
func TestWithoutBuckets(t *testing.T) {
	const text = "# HELP a_bucket{ of water\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\ng{of=\"x_bucket{\"} 1\nmy_bucket 5"
	const want = "# HELP a_bucket{ of water\n# TYPE h histogram\nh_sum 4\nh_count 3\ng{of=\"x_bucket{\"} 1\nmy_bucket 5"
	if got := string(withoutBuckets([]byte(text))); got != want {
		t.Errorf("left is\n%s\nwant\n%s", got, want)
	}
	if got := withoutBuckets(nil); len(got) != 0 {
		t.Errorf("left of nothing is %q", got)
	}
}

// BenchmarkTick scrapes 1,000 engines at each tick.
func BenchmarkTick(b *testing.B) {
	data, err := os.ReadFile("testdata/vllm-2.prom")
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }))
	defer server.Close()
	pool := model.EnginePool{}
	for i := range 1000 {
		pool.Endpoints = append(pool.Endpoints, fmt.Sprintf("%s/engine/%d", server.URL, i))
	}
	s := sourceOf(model.PresetVLLM, model.Aggregated, pool)
	s.spec.TimeoutS = 60
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		if got := s.Engines(b.Context(), origin); got.Status != model.Measured {
			b.Fatalf("%s: %s", got.Status, got.Error)
		}
	}
}

// TestEnginesThatPublish: what engines say of themselves is measured while it is
// fresh, stale when they are silent, and absent before they said anything.
func TestEnginesThatPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sourceOf("", model.Decode, model.EnginePool{Push: &model.PushStream{TokenFile: "none"}})
		defer s.Close()
		if got := observe(t, s, time.Now()); got.Status != model.Absent || got.Error != "engines: decode: no engine is found: none has published yet" {
			t.Errorf("have %s %q before the first message", got.Status, got.Error)
		}
		if err := s.store.TakeAll(model.Decode, []byte("\xc1"), time.Now()); err == nil {
			t.Fatal("what is no message is taken")
		}
		if got := observe(t, s, time.Now()); got.Status != model.Failed || !strings.Contains(got.Error, "decode: read message: ") {
			t.Errorf("have %s %q of messages that cannot be read", got.Status, got.Error)
		}
		message, err := msgpack.Marshal(map[string]any{"worker_id": "w", "wall_time": 0.02, "scheduled_requests": map[string]any{"sum_decode_kv_tokens": 70}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.store.TakeAll(model.Decode, message, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		got := observe(t, s, time.Now())
		if got.Status != model.Measured || *got.AgeS != 20 || *got.Samples[0].Scheduled.DecodeKVTokens != 70 || got.Samples[0].Queued.DecodeKVTokens != nil {
			t.Errorf("have %s %q, %+v", got.Status, got.Error, got.Samples)
		}
		time.Sleep(20 * time.Second)
		if got := observe(t, s, time.Now()); got.Status != model.Stale || !strings.Contains(got.Error, "decode: 1 ranks are silent: the newest of them was heard 40 s ago, and max_age_s is 30") {
			t.Errorf("have %s %q of silent engines", got.Status, got.Error)
		}
	})
}
