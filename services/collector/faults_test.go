//go:build e2e

package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/dns/dnsmessage"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/forwardpass"
	"tidemark.dev/services/collector/internal/live"
	"tidemark.dev/services/collector/prometheustest"
)

// seen is the class of one part of an observation, and the gist of its error
// line, in which * stands for anything.
type seen struct {
	status model.Evidence
	error  string
}

// fault is one way in which what is observed of a deployment breaks.
type fault struct {
	begin func(*site)
	// end mends it; nil where only time does.
	end func(*site)
	// fromTheStart begins the fault before there is anything to observe.
	fromTheStart bool
	// What is seen while it lasts: measured, where nothing is said, and samples of
	// two engines.
	traffic, engines, fleet seen
	samples                 int
}

var faults = map[string]fault{
	"prometheus-down": {
		begin: func(s *site) { s.prometheus.Stop() }, end: func(s *site) { s.prometheus.Restart(s.t) },
		traffic: seen{model.Failed, "prometheus: query counters: dial tcp 127.0.0.1:*: connect: connection refused"},
	},
	"prometheus-answers-500": {
		begin:   func(s *site) { s.front.answer(500, "the head block is corrupt") },
		end:     func(s *site) { s.front.recover() },
		traffic: seen{model.Failed, "prometheus: query counters: server_error: server error: 500"},
	},
	"prometheus-times-out": {
		begin: func(s *site) { s.front.hang() }, end: func(s *site) { s.front.recover() },
		traffic: seen{model.Failed, "prometheus: query counters: no answer within 2 s"},
	},
	"empty-result": {
		begin:   func(s *site) { s.configure(`queries: {requests: "sum(gateway_requests_total{$selector})"}`) },
		end:     func(s *site) { s.configure("") },
		traffic: seen{model.Absent, `query requests gives no number: no series matches sum(gateway_requests_total{model_name="empty-result"})`},
	},
	"wrong-label": {
		begin: func(s *site) { s.configure("namespace: production") }, end: func(s *site) { s.configure("") },
		traffic: seen{model.Absent, `no series matches {__name__="vllm:request_success_total",model_name="wrong-label",namespace="production"}`},
	},
	"not-a-number": { // what a window cannot count it does not guess, until the value is no more in it
		begin:   func(s *site) { s.state[0].notANumber.Store(true) },
		traffic: seen{model.Absent, "vllm:request_success_total holds a value that no counter can have"},
	},
	"counter-reset": { // no negative traffic, and not all that was counted before
		begin: func(s *site) { s.state[0].restart() },
	},
	"one-engine-dead": {
		begin: func(s *site) { s.engines[0].stop() }, end: func(s *site) { s.engines[0].start() },
		samples: 1,
	},
	"one-engine-times-out": {
		begin: func(s *site) { s.engines[0].hang() }, end: func(s *site) { s.engines[0].recover() },
		samples: 1,
	},
	"all-engines-dead": { // pods that are gone, and series that are stale
		begin:   func(s *site) { s.engines[0].stop(); s.engines[1].stop() },
		end:     func(s *site) { s.engines[0].start(); s.engines[1].start() },
		traffic: seen{model.Stale, "the newest sample of vllm:request_success_total is * s old, and max_age_s is 4"},
		engines: seen{model.Failed, "engines: dial tcp 127.0.0.1:*: connect: connection refused (and 1 more of 2)"},
	},
	"name-server-fails": {
		begin: func(s *site) { s.names.answer(s.host(), dnsmessage.RCodeServerFailure) },
		end:   func(s *site) { s.names.answer(s.host(), dnsmessage.RCodeSuccess) }, samples: 1,
		engines: seen{model.Failed, "engines: aggregated: look up name-server-fails.test: lookup name-server-fails.test*: server misbehaving"},
	},
	"name-is-gone": {
		begin: func(s *site) { s.names.answer(s.host(), dnsmessage.RCodeNameError) },
		end:   func(s *site) { s.names.answer(s.host(), dnsmessage.RCodeSuccess) }, samples: 1,
		engines: seen{model.Absent, "engines: aggregated: no engine is found: name-is-gone.test has no address"},
	},
	"api-server-down": {
		begin: func(s *site) { s.cluster.stop() }, end: func(s *site) { s.cluster.start() },
		fleet: seen{model.Failed, "kubernetes: Deployment chat/decode: *connect: connection refused"},
	},
	"api-server-starts": {
		begin: func(s *site) { s.cluster.answer(503, `{"kind":"Status","message":"apiserver is starting"}`) },
		end:   func(s *site) { s.cluster.recover() },
		fleet: seen{model.Failed, "kubernetes: Deployment chat/decode: 503 Service Unavailable: apiserver is starting"},
	},
	"certificates-expired": {
		begin: func(s *site) { s.present(s.authority.expired) }, end: func(s *site) { s.present(s.authority.valid) },
		traffic: seen{model.Failed, "prometheus: query counters: tls: *certificate has expired"},
		engines: seen{model.Failed, "engines: tls: *certificate has expired*(and 1 more of 2)"},
		fleet:   seen{model.Failed, "kubernetes: Deployment chat/decode: *certificate has expired"},
	},
	"clock-behind": {
		fromTheStart: true, begin: func(s *site) { s.skew(-time.Minute) }, end: func(s *site) { s.skew(0) },
		traffic: seen{model.Stale, "the newest sample of vllm:request_success_total is 6* s old, and max_age_s is 4"},
	},
	"clock-ahead": { // mended by time: Prometheus takes no sample that is older than those it has
		fromTheStart: true, begin: func(s *site) { s.skew(8 * time.Minute) },
		traffic: seen{model.Absent, `no series matches {__name__="vllm:request_success_total",model_name="clock-ahead"}`},
	},
	"unharmed": {},
}

// TestFaults breaks what is observed of many deployments, each in its own way and
// all at once, and mends it. One collector observes them. Prometheus is a real
// server; engines, API servers and the name server speak their protocols on the
// loopback interface, over TLS where there is TLS.
//
// Each part of a deployment must come to the class of its fault, and be measured
// again once that is mended. All are under traffic all the time: no observation
// may ever say zero, or idle. And the deployment to which nothing happens is
// measured throughout.
func TestFaults(t *testing.T) {
	prometheustest.Require(t)
	opened, err := drivers.Open(t.Context(), "memory://", drivers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	i := &installation{t: t, log: &testLog{Log: opened}}
	sites := i.sites(slices.Sorted(maps.Keys(faults)))
	each := func(do func(*site, fault)) {
		for _, s := range sites {
			do(s, faults[s.name])
		}
	}
	each(func(s *site, f fault) {
		if f.fromTheStart {
			f.begin(s)
		}
	})
	i.scrape(sites)
	each(func(s *site, _ fault) { s.configure("") })

	c := New(Config{QueryTimeout: time.Minute}, i.log, topics, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	c.open = func(_ context.Context, configured *model.DeploymentConfigured) (fleetSource, error) {
		at := sites[slices.IndexFunc(sites, func(s *site) bool { return s.name == configured.Deployment })]
		shared := live.Shared{
			Inlet:   forwardpass.NewInlet(),
			Cluster: fleets.NewKubernetes(fleets.Access{URL: at.cluster.url(), CAFile: at.authority.file}),
		}
		return live.Open(configured, shared, c.logger, func(string) {}), nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() {}) }()

	whole := fault{}
	each(func(s *site, f fault) {
		if f.fromTheStart {
			s.until("the fault from the start", f)
			return
		}
		s.until("everything measured", whole)
		if f.begin != nil {
			f.begin(s)
		}
	})
	each(func(s *site, f fault) { s.until("the fault", f) })
	unharmed := sites[slices.IndexFunc(sites, func(s *site) bool { return s.name == "unharmed" })]
	unharmed.more(2)
	each(func(s *site, f fault) {
		s.until("the fault, as long as it lasts", f)
		if f.end != nil {
			f.end(s)
		}
	})
	each(func(s *site, f fault) {
		if f.end != nil {
			s.until("everything measured again", whole)
		}
	})
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the collector ended with %v", err)
	}
	each(func(s *site, _ fault) { s.check() })
	began := false
	for _, o := range unharmed.observations() {
		if problem := unharmed.differs(o, whole); problem == "" {
			began = true
		} else if began {
			t.Errorf("the deployment to which nothing happened, at %v: %s", o.ObservedAt, problem)
		}
	}
}

// gist reports whether a line holds all parts of a text, in their order, between
// which * stands for anything.
func gist(line, text string) bool {
	for part := range strings.SplitSeq(text, "*") {
		at := strings.Index(line, part)
		if at < 0 {
			return false
		}
		line = line[at+len(part):]
	}
	return true
}

// differs returns what in an observation is not as a fault has it.
func (s *site) differs(o *model.Observation, f fault) string {
	if o.Traffic == nil || o.Engines == nil || o.Fleet == nil {
		return "a part is missing"
	}
	var problems []string
	for _, part := range []struct {
		name       string
		have, want seen
	}{
		{"traffic", seen{o.Traffic.Status, o.Traffic.Error}, f.traffic},
		{"engines", seen{o.Engines.Status, o.Engines.Error}, f.engines},
		{"fleet", seen{o.Fleet.Status, o.Fleet.Error}, f.fleet},
	} {
		if part.want.status == "" {
			part.want.status = model.Measured
		}
		if part.have.status != part.want.status || !gist(part.have.error, part.want.error) || (part.want.error == "") != (part.have.error == "") {
			problems = append(problems, fmt.Sprintf("%s is %s %q, want %s %q", part.name, part.have.status, part.have.error, part.want.status, part.want.error))
		}
	}
	want := len(s.engines)
	if f.samples > 0 {
		want = f.samples
	}
	if n := len(o.Engines.Samples); o.Engines.Status == model.Measured && n != want {
		problems = append(problems, fmt.Sprintf("%d engines have a sample, want %d", n, want))
	}
	return strings.Join(problems, "; ")
}

// observations returns those of the ticks of the throughput loop.
func (s *site) observations() []*model.Observation {
	return slices.DeleteFunc(s.installation.facts(s.name), func(o *model.Observation) bool { return !o.Loops.Throughput })
}

// until waits until the newest observation is as a fault has it.
func (s *site) until(what string, f fault) {
	s.t.Helper()
	last := "nothing is observed"
	wait(s.t, func() bool {
		if all := s.observations(); len(all) > 0 {
			last = s.differs(all[len(all)-1], f)
			return last == ""
		}
		return false
	}, func() string { return fmt.Sprintf("%s: waited for %s: %s", s.name, what, last) })
}

// more waits for some observations more.
func (s *site) more(n int) {
	s.t.Helper()
	before := len(s.observations())
	wait(s.t, func() bool { return len(s.observations()) >= before+n }, func() string { return s.name + " is observed no more" })
}

// wait waits for a condition, with patience for a machine that is loaded.
func wait(t *testing.T, holds func() bool, otherwise func() string) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise())
		}
	}
}

// check checks that no observation was ever zero, or wild, since traffic never
// ceased and no replica was lost.
func (s *site) check() {
	s.t.Helper()
	for _, o := range s.installation.facts(s.name) {
		if err := o.Validate(); err != nil {
			s.t.Errorf("%s: an observation is not valid: %v", s.name, err)
		}
		for _, text := range []string{errorOf(o.Traffic), o.Engines.Error, o.Fleet.Error} {
			if strings.ContainsAny(text, "\r\n") {
				s.t.Errorf("%s: the error is not one line: %q", s.name, text)
			}
		}
		if traffic := o.Traffic; traffic != nil {
			if traffic.Status == model.Idle || traffic.Requests != nil && !(*traffic.Requests > 0 && *traffic.Requests < alreadyServed/2) {
				s.t.Errorf("%s: traffic at %v is read as %s %+v", s.name, o.ObservedAt, traffic.Status, traffic)
			}
		}
		for _, sample := range o.Engines.Samples {
			if n := sample.Scheduled.DecodeRequests; n == nil || *n != running {
				s.t.Errorf("%s: an engine at %v is read as %+v", s.name, o.ObservedAt, sample.Scheduled)
			}
		}
		if counted, there := o.Fleet.Roles.Get(model.Aggregated); there != (o.Fleet.Status == model.Measured) || there && (counted.Ready != replicas || counted.Desired != replicas) {
			s.t.Errorf("%s: the fleet at %v is read as %+v", s.name, o.ObservedAt, o.Fleet)
		}
	}
}

func errorOf(traffic *model.TrafficObservation) string {
	if traffic == nil {
		return ""
	}
	return traffic.Error
}
