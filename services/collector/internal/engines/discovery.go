package engines

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"tidemark.dev/pkg/model"
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
