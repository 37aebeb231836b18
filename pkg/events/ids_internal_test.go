package events

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestDeterministic holds identifiers to those of the library.
func TestDeterministic(t *testing.T) {
	for _, parts := range [][]string{{""}, {"observation", "chat-70b", "2026-11-23T20:00:05Z"}, {"dead-letter", strings.Repeat("long", 200), "", "1"}} {
		want := uuid.NewSHA1(namespace, []byte(strings.Join(parts, "\n"))).String()
		if got := deterministic(parts...); got != want {
			t.Errorf("identifier of %q is %s, want %s", parts, got, want)
		}
	}
}
