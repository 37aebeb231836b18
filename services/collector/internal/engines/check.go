package engines

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/httpclient"
)

// Check looks at whether the engines are there, and whether they say what the
// deployment is scaled by.
func (s *Source) Check(ctx context.Context, f *lint.Findings, d *model.Deployment) {
	for _, role := range model.AllRoles {
		pool, given := s.spec.Roles.Get(role)
		if !given {
			continue
		}
		path := "source.engines.roles." + string(role)
		if pool.Kubernetes != nil && !s.cluster.Named() {
			f.Add(lint.Unchecked, path+".kubernetes", fleets.Unnamed)
			continue
		}
		if pool.Scraped() {
			s.checkScraped(ctx, f, d, role, pool, path)
			continue
		}
		checkStreams(ctx, f, pool, path, time.Duration(s.spec.TimeoutS*float64(time.Second)))
	}
}

func (s *Source) checkScraped(ctx context.Context, f *lint.Findings, d *model.Deployment, role model.Role, pool model.EnginePool, path string) {
	targets, _, err := s.find(ctx, role, pool)
	if err != nil || len(targets) == 0 {
		if err == nil {
			err = errNoEngine
		}
		f.Add(lint.Error, path, "%v: an observation has no sample of role %s; look at where the engines are", err, role)
		return
	}
	answers := s.scrapeAll(ctx, targets)
	var first error
	failed := 0
	var readings []reading
	for i, a := range answers {
		if a.err != nil {
			if failed++; first == nil {
				first = fmt.Errorf("%s: %s", targets[i].worker, httpclient.Brief(a.err))
			}
		}
		for _, rank := range sortedRanks(a.ranks) {
			readings = append(readings, a.ranks[rank])
		}
	}
	if failed > 0 {
		severity := lint.Warning
		if failed == len(targets) {
			severity = lint.Error
		}
		f.Add(severity, path, "%d of %d engines cannot be read from here: %v; an observation has no sample of them", failed, len(targets), first)
	}
	if len(readings) > 0 {
		checkReadings(f, d, role, readings)
	}
}

// tolerance is the share by which what an engine says of its capacity may differ
// from what is written of it.
const tolerance = 0.05

// checkReadings finds what engines do not say, or say otherwise than the
// configuration. Engines of a role are alike: one of them is looked at.
func checkReadings(f *lint.Findings, d *model.Deployment, role model.Role, readings []reading) {
	path := "roles." + string(role) + ".engine.max_kv_tokens"
	spec, _ := d.Roles.Get(role)
	r := readings[0]
	if role == model.Prefill {
		if r.waiting == nil {
			f.Add(lint.Error, "source.engines.preset", "the engines of %s do not say how many requests wait: without it the load loop never decides; look at preset and at the engine's version", role)
		}
		return
	}
	if r.kvTokens == nil {
		f.Add(lint.Error, path, "is missing, and the engines do not say their KV tokens without it: the load loop never decides for %s; write what the engine logs at its start", role)
	}
	if r.kvCapacity == nil || spec.Engine.MaxKVTokens == 0 {
		return
	}
	written, said := float64(spec.Engine.MaxKVTokens), *r.kvCapacity
	up := d.Load.DecodeScaleUpKVPercent
	switch share := 100 * said / written; {
	case math.Abs(said-written) <= tolerance*written:
	case d.Target == model.TargetLoad && d.Load.Enabled && up != nil && share <= *up:
		f.Add(lint.Error, path, "is %d, and the engines hold %.0f: what is in use never passes %.0f %%, and load.decode_scale_up_kv_percent is %g; write %.0f", spec.Engine.MaxKVTokens, said, share, *up, said)
	default:
		f.Add(lint.Warning, path, "is %d, and the engines hold %.0f; write %.0f", spec.Engine.MaxKVTokens, said, said)
	}
}

// checkStreams looks at whether what engines publish can be listened to. Whether
// any does is seen with the first message, which may take a while.
func checkStreams(ctx context.Context, f *lint.Findings, pool model.EnginePool, path string, timeout time.Duration) {
	addresses := map[string]string{}
	for i, address := range pool.ZMQ {
		addresses[fmt.Sprintf("%s.zmq[%d]", path, i)] = address
	}
	if pool.NATS != nil {
		addresses[path+".nats.url"] = pool.NATS.URL
	}
	for _, at := range slices.Sorted(maps.Keys(addresses)) {
		if err := dial(ctx, addresses[at], timeout); err != nil {
			f.Add(lint.Error, at, "cannot be reached from here: %s; an observation has no sample of those engines", httpclient.Brief(err))
		}
	}
	if pool.Push != nil {
		if _, err := os.Stat(pool.Push.TokenFile); err != nil {
			f.Add(lint.Unchecked, path+".push.token_file", "is read on the collector's machine: %v", err)
		}
	}
}

// natsPort is where a NATS server listens, if its address does not say.
const natsPort = "4222"

func dial(ctx context.Context, address string, timeout time.Duration) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), natsPort)
	}
	connection, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	return connection.Close()
}
