// Package pure holds what the rule of purity must not report.
package pure

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"
)

// Now shares its name with a clock, and is none.
func Now(at time.Time) time.Time { return at.Add(time.Second).UTC() }

type source struct{ Sleep, After time.Duration }

func draws(seed uint64) float64 {
	return rand.New(rand.NewPCG(seed, 1)).NormFloat64()
}

func names(ctx context.Context, s source, at time.Time) (string, error) {
	u, err := url.Parse("memory://")
	if err != nil {
		return "", fmt.Errorf("parse url: %w", err)
	}
	if at.After(Now(at)) {
		s.Sleep = s.After
	}
	_, cancel := context.WithCancel(ctx)
	cancel()
	return fmt.Sprintln(u, netip.Addr{}, filepath.Join("a", "b"), s, draws(1)), nil
}
