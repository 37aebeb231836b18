package engines

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/httpclient"
)

// target is an engine to scrape.
type target struct {
	role model.Role
	// worker names the engine in its samples.
	worker string
	// base is its base address.
	base *url.URL
	// serverName is whom the engine's certificate must be of, where the address
	// does not say so.
	serverName string
	// since is when the engine became ready, where somebody else knows.
	since time.Time
}

// listing lists the pods of a role's engines, and says how old that knowledge
// is and why.
type listing func(ctx context.Context) (pods []fleets.Pod, age time.Duration, err error)

// watch follows the pods of a role's engines until stop is called.
func watch(cluster *fleets.Kubernetes, of *model.EnginePods) (list listing, stop func()) {
	w := cluster.Watch(of.Namespace, of.Selector)
	return w.Pods, w.Close
}

// once lists the pods of a role's engines each time it is asked.
func once(cluster *fleets.Kubernetes, of *model.EnginePods) listing {
	return func(ctx context.Context) ([]fleets.Pod, time.Duration, error) {
		pods, err := cluster.Pods(ctx, of.Namespace, of.Selector)
		return pods, 0, err
	}
}

// errOutdated says that it is not known any more which engines there are.
var errOutdated = errors.New("not known any more")

// podTargets returns the engines of pods that are ready, by the pods' names, and
// how old the knowledge of them is.
func podTargets(ctx context.Context, role model.Role, of *model.EnginePods, list listing, most time.Duration) ([]target, time.Duration, error) {
	pods, age, err := list(ctx)
	switch {
	case err != nil && age == 0:
		return nil, 0, fmt.Errorf("kubernetes: %s", httpclient.Brief(err))
	case age > most:
		return nil, 0, fmt.Errorf("the pods with %s in namespace %s are %w: they were last listed %.0f s ago, and max_age_s is %g: %s",
			of.Selector, of.Namespace, errOutdated, age.Seconds(), most.Seconds(), httpclient.Brief(err))
	}
	var targets []target
	for _, pod := range pods {
		if !pod.Ready {
			continue
		}
		base := &url.URL{Scheme: of.Scheme, Host: net.JoinHostPort(pod.IP, strconv.Itoa(of.Port))}
		targets = append(targets, target{role: role, worker: pod.Name, base: base, since: pod.ReadySince})
	}
	if len(targets) == 0 {
		return nil, age, fmt.Errorf("%w: %d pods have %s in namespace %s, and none is ready", errNoEngine, len(pods), of.Selector, of.Namespace)
	}
	return targets, age, nil
}

// resolver looks host names up.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// errNoEngine says that there is no engine, which is not a failure to look.
var errNoEngine = errors.New("no engine is found")

// discover returns the engines of a role, in the order of their names.
func discover(ctx context.Context, lookup resolver, role model.Role, pool model.EnginePool) ([]target, error) {
	var targets []target
	for _, endpoint := range pool.Endpoints {
		base, err := url.Parse(endpoint)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target{role: role, worker: base.Host + strings.TrimSuffix(base.Path, "/"), base: base})
	}
	if pool.DNS == "" {
		return targets, nil
	}
	base, err := url.Parse(pool.DNS)
	if err != nil {
		return nil, err
	}
	addresses, err := lookup.LookupNetIP(ctx, "ip", base.Hostname())
	if problem, ok := errors.AsType[*net.DNSError](err); ok && problem.IsNotFound {
		return nil, fmt.Errorf("%w: %s has no address", errNoEngine, base.Hostname())
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", base.Hostname(), err)
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	for _, address := range slices.Compact(addresses) {
		each := *base
		each.Host = address.Unmap().String()
		if port := base.Port(); port != "" {
			each.Host = net.JoinHostPort(each.Host, port)
		} else if address.Unmap().Is6() {
			each.Host = "[" + each.Host + "]"
		}
		targets = append(targets, target{role: role, worker: each.Host, base: &each, serverName: base.Hostname()})
	}
	return targets, nil
}
