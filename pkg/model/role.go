// Package model is the domain of Tidemark: what a deployment is, how it is
// observed, what is decided about it and what was done about it.
//
// The package and everything below it is pure: it reads no clock, opens no
// file, starts no goroutine and draws no random number. Instants, identifiers,
// seeds and configuration arrive as arguments, so that the same input gives
// the same bytes. Its imports are the standard library, gonum and a YAML
// decoder; a test in the tree holds it to that.
package model

import "fmt"

// Role is the part that a pool of engines plays in serving a model.
type Role string

// The roles.
const (
	// Prefill engines compute the KV cache of a prompt and its first token.
	Prefill Role = "prefill"
	// Decode engines generate the tokens after the first.
	Decode Role = "decode"
	// Aggregated engines do both in one batch.
	Aggregated Role = "aggregated"
)

// Topology names the pools that a deployment consists of.
type Topology string

// The topologies.
const (
	// TopologyDisaggregated is a prefill pool and a decode pool.
	TopologyDisaggregated Topology = "disaggregated"
	// TopologyPrefill is a prefill pool alone; its decode pool is scaled elsewhere.
	TopologyPrefill Topology = "prefill"
	// TopologyDecode is a decode pool alone; its prefill pool is scaled elsewhere.
	TopologyDecode Topology = "decode"
	// TopologyAggregated is one pool of engines that prefill and decode.
	TopologyAggregated Topology = "aggregated"
)

var rolesOfTopology = map[Topology][]Role{
	TopologyDisaggregated: {Prefill, Decode},
	TopologyPrefill:       {Prefill},
	TopologyDecode:        {Decode},
	TopologyAggregated:    {Aggregated},
}

// Roles returns the roles of the topology in the order in which every stage
// and every list handles them: prefill before decode. It is empty for a
// topology that does not exist. The slice is shared and must not be written.
func (t Topology) Roles() []Role { return rolesOfTopology[t] }

// PerRole holds one value for each role that has one. The zero value holds
// none; a role without a value is left out of the wire form, so that no value
// is never mistaken for zero.
type PerRole[T any] struct {
	Prefill    *T `json:"prefill,omitempty"`
	Decode     *T `json:"decode,omitempty"`
	Aggregated *T `json:"aggregated,omitempty"`
}

func (p *PerRole[T]) slot(role Role) **T {
	switch role {
	case Prefill:
		return &p.Prefill
	case Decode:
		return &p.Decode
	case Aggregated:
		return &p.Aggregated
	}
	panic(fmt.Sprintf("model: role %q does not exist", string(role)))
}

// Get returns the value of a role, and whether there is one.
func (p PerRole[T]) Get(role Role) (T, bool) {
	if v := *p.slot(role); v != nil {
		return *v, true
	}
	var none T
	return none, false
}

// Set gives a role a value.
func (p *PerRole[T]) Set(role Role, value T) { *p.slot(role) = &value }

// Unset takes a role's value away.
func (p *PerRole[T]) Unset(role Role) { *p.slot(role) = nil }

// Empty reports whether no role has a value.
func (p PerRole[T]) Empty() bool { return p.Prefill == nil && p.Decode == nil && p.Aggregated == nil }

// AllRoles lists every role, in the order of their pools.
var AllRoles = [...]Role{Prefill, Decode, Aggregated}
