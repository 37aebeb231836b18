package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"tidemark.dev/pkg/model"
)

// The types of events, with their versions.
const (
	TypeDeploymentConfigured = "dev.tidemark.deployment-configured.v1"
	TypeDeploymentRetired    = "dev.tidemark.deployment-retired.v1"
	TypeScalingFrozen        = "dev.tidemark.scaling-frozen.v1"
	TypeScalingThawed        = "dev.tidemark.scaling-thawed.v1"
	TypeObservation          = "dev.tidemark.observation.v1"
	TypeScalingDecision      = "dev.tidemark.scaling-decision.v1"
	TypeScalingProposed      = "dev.tidemark.scaling-proposed.v1"
	TypeScalingStarted       = "dev.tidemark.scaling-started.v1"
	TypeScalingApplied       = "dev.tidemark.scaling-applied.v1"
	TypeScalingRejected      = "dev.tidemark.scaling-rejected.v1"
	TypeScalingFailed        = "dev.tidemark.scaling-failed.v1"
	TypeScalingSettled       = "dev.tidemark.scaling-settled.v1"
	TypeDecisionApproved     = "dev.tidemark.decision-approved.v1"
	TypeCheckpoint           = "dev.tidemark.checkpoint.v1"
	TypeDeadLetter           = "dev.tidemark.dead-letter.v1"
)

// production is the catalogue of this build: for each type of event its topic,
// its Go type, and what its envelope is derived from. A type that gets a new
// version gets an upcaster in its line.
var production = newCatalogue(
	define(TypeDeploymentConfigured, TopicDeployments, func(f *model.DeploymentConfigured) identity {
		return identity{
			id: RevisionID(f.Deployment, f.Revision), subject: f.Deployment, key: f.Deployment,
			err: errors.Join(required("deployment", f.Deployment), positive("revision", f.Revision), sameName(f), f.Spec.Validate()),
		}
	}),
	define(TypeDeploymentRetired, TopicDeployments, func(f *model.DeploymentRetired) identity {
		return identity{
			id: RevisionID(f.Deployment, f.Revision), subject: f.Deployment, key: f.Deployment,
			err: errors.Join(required("deployment", f.Deployment), positive("revision", f.Revision)),
		}
	}),
	define(TypeScalingFrozen, TopicDeployments, func(f *model.ScalingFrozen) identity {
		return freeze("scaling-frozen", f.Deployment, f.OccurredAt, f.Reason)
	}),
	define(TypeScalingThawed, TopicDeployments, func(f *model.ScalingThawed) identity {
		return freeze("scaling-thawed", f.Deployment, f.OccurredAt, f.Reason)
	}),
	define(TypeObservation, TopicObservations, func(f *model.Observation) identity {
		return identity{
			id: ObservationID(f.Deployment, f.ObservedAt), subject: f.Deployment, key: f.Deployment, time: f.ObservedAt,
			err: f.Validate(),
		}
	}).decodedBy(func(data []byte) (any, error) { return model.DecodeObservation(data) }),
	define(TypeScalingDecision, TopicDecisions, func(f *model.ScalingDecision) identity {
		return identity{
			id: DecisionID(f.Deployment, f.ObservationID, f.PlannerVersion), subject: f.Deployment, key: f.Deployment, time: f.ObservedAt,
			err: errors.Join(required("deployment", f.Deployment), required("observation_id", f.ObservationID),
				required("planner_version", f.PlannerVersion), given("observed_at", f.ObservedAt)),
		}
	}),
	define(TypeScalingProposed, TopicActuations, func(f *model.ScalingProposed) identity {
		return actuation("scaling-proposed", &f.Actuation, 0)
	}),
	define(TypeScalingStarted, TopicActuations, func(f *model.ScalingStarted) identity {
		return actuation("scaling-started", &f.Actuation, 0)
	}),
	define(TypeScalingApplied, TopicActuations, func(f *model.ScalingApplied) identity {
		return actuation("scaling-applied", &f.Actuation, 0)
	}),
	define(TypeScalingRejected, TopicActuations, func(f *model.ScalingRejected) identity {
		return actuation("scaling-rejected", &f.Actuation, 0)
	}),
	define(TypeScalingFailed, TopicActuations, func(f *model.ScalingFailed) identity {
		return actuation("scaling-failed", &f.Actuation, f.Attempt)
	}),
	define(TypeScalingSettled, TopicActuations, func(f *model.ScalingSettled) identity {
		return actuation("scaling-settled", &f.Actuation, 0)
	}),
	define(TypeDecisionApproved, TopicApprovals, func(f *model.DecisionApproved) identity {
		return identity{
			id: ApprovalID(f.Deployment, f.DecisionID, f.ApprovedBy), subject: f.Deployment, key: f.Deployment, time: f.OccurredAt,
			err: errors.Join(required("deployment", f.Deployment), required("decision_id", f.DecisionID),
				required("approved_by", f.ApprovedBy), given("occurred_at", f.OccurredAt)),
		}
	}),
	define(TypeCheckpoint, TopicCheckpoints, func(f *model.Checkpoint) identity {
		return identity{
			id:      CheckpointID(f.Deployment, f.Topic, f.Partition, f.Position, f.PlannerVersion),
			subject: f.Deployment, key: f.Deployment + "/" + f.ObservedAt.UTC().Format(time.DateOnly), time: f.ObservedAt,
			err: errors.Join(required("deployment", f.Deployment), required("topic", f.Topic),
				required("planner_version", f.PlannerVersion), given("observed_at", f.ObservedAt)),
		}
	}),
	define(TypeDeadLetter, TopicDeadLetters, func(f *model.DeadLetter) identity {
		return identity{
			id:      DeadLetterID(f.Service, f.Topic, f.Partition, f.Position),
			subject: f.Key, key: f.Key,
			err: errors.Join(required("topic", f.Topic), required("service", f.Service), required("reason", f.Reason)),
		}
	}),
)

func actuation(outcome string, f *model.Actuation, attempt int) identity {
	return identity{
		id: ActuationID(outcome, f.DecisionID, attempt), subject: f.Deployment, key: f.Deployment, time: f.OccurredAt,
		err: errors.Join(required("deployment", f.Deployment), required("decision_id", f.DecisionID), given("occurred_at", f.OccurredAt)),
	}
}

// everyDeployment is the key of what concerns all deployments. None can have it
// for a name.
const everyDeployment = "*"

func freeze(kind, deployment string, at time.Time, reason string) identity {
	scope := deployment
	if scope == "" {
		scope = everyDeployment
	}
	return identity{
		id: FreezeID(kind, scope, at), subject: scope, key: scope, time: at,
		err: errors.Join(given("occurred_at", at), required("reason", reason)),
	}
}

// identity is what the envelope of a fact is derived from. A zero time is that
// of a fact that carries no instant; err says what makes the fact invalid.
type identity struct {
	id, subject, key string
	time             time.Time
	err              error
}

func required(name, value string) error {
	if value == "" {
		return fmt.Errorf("%s is missing", name)
	}
	return nil
}

func given(name string, value time.Time) error {
	if value.IsZero() {
		return fmt.Errorf("%s is missing", name)
	}
	return nil
}

func positive(name string, value int) error {
	if value < 1 {
		return fmt.Errorf("%s is %d, want at least 1", name, value)
	}
	return nil
}

func sameName(f *model.DeploymentConfigured) error {
	if f.Spec.Name != f.Deployment {
		return fmt.Errorf("spec.name is %q, want the deployment, %q", f.Spec.Name, f.Deployment)
	}
	return nil
}

// upcaster turns the data of one version of a type into that of the next. It is
// mechanical: it renames, moves and fills in, and decides nothing.
type upcaster func(data json.RawMessage) (json.RawMessage, error)

// kind is one line of a catalogue.
type kind struct {
	// family is the type without its version, version the present one.
	family  string
	version int
	topic   string
	fact    reflect.Type
	// upcasters lead from version 1 to the present one, a step each. So the
	// chain has no gap, and its length is the present version less 1.
	upcasters []upcaster
	decode    func(data []byte) (any, error)
	identify  func(fact any) identity
}

func (k *kind) name() string { return k.family + ".v" + strconv.Itoa(k.version) }

// define makes a line for the facts of Go type *T. It panics when a type and
// its upcasters disagree, which is a mistake in the catalogue.
func define[T any](name, topic string, identify func(*T) identity, upcasters ...upcaster) kind {
	family, version, ok := splitType(name)
	if !ok || version != len(upcasters)+1 {
		panic(fmt.Sprintf("events: type %s has %d upcasters", name, len(upcasters)))
	}
	return kind{
		family: family, version: version, topic: topic, fact: reflect.TypeFor[T](), upcasters: upcasters,
		decode: func(data []byte) (any, error) {
			fact := new(T)
			return fact, json.Unmarshal(data, fact)
		},
		identify: func(fact any) identity { return identify(fact.(*T)) }, //nolint:errcheck // byFact leads only here
	}
}

// decodedBy gives a line a decoder of its own, which decodes as encoding/json does.
func (k kind) decodedBy(decode func(data []byte) (any, error)) kind {
	k.decode = decode
	return k
}

// splitType splits dev.tidemark.observation.v1 into its family and its version.
func splitType(name string) (family string, version int, ok bool) {
	family, digits, ok := cutLast(name, ".v")
	if !ok {
		return "", 0, false
	}
	version, err := strconv.Atoi(digits)
	return family, version, err == nil && version >= 1 && digits == strconv.Itoa(version)
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

// catalogue finds the lines by what they are looked up with.
type catalogue struct {
	lines    []kind
	byFamily map[string]*kind
	byFact   map[reflect.Type]*kind
}

func newCatalogue(lines ...kind) *catalogue {
	c := &catalogue{lines: lines, byFamily: map[string]*kind{}, byFact: map[reflect.Type]*kind{}}
	for i := range lines {
		c.byFamily[lines[i].family] = &lines[i]
		c.byFact[lines[i].fact] = &lines[i]
	}
	return c
}

// find returns the line of a type name and the version that the name has.
func (c *catalogue) find(name string) (*kind, int, error) {
	family, version, ok := splitType(name)
	k := c.byFamily[family]
	switch {
	case !ok || k == nil:
		return nil, 0, Permanent(fmt.Errorf("event type %q is unknown", name))
	case version > k.version:
		return nil, 0, Permanent(fmt.Errorf("event type %q is newer than this build, which knows %s up to version %d", name, family, k.version))
	}
	return k, version, nil
}

// seal makes the event of a fact. Without data, the fact is encoded.
func (c *catalogue) seal(fact any, data []byte, about About) (Event, error) {
	value := reflect.ValueOf(fact)
	k := (*kind)(nil)
	if value.Kind() == reflect.Pointer && !value.IsNil() {
		k = c.byFact[value.Type().Elem()]
	}
	if k == nil {
		return Event{}, Permanent(fmt.Errorf("seal %T: no event carries it", fact))
	}
	facts := k.identify(fact)
	if facts.time.IsZero() {
		facts.time = about.Time
		facts.err = errors.Join(facts.err, given("the time that it is about", about.Time))
	}
	if err := errors.Join(facts.err, required("its source", about.Source)); err != nil {
		return Event{}, Permanent(fmt.Errorf("seal %s: %w", k.name(), oneLine(err)))
	}
	if data == nil {
		encoded, err := json.Marshal(fact)
		if err != nil {
			return Event{}, Permanent(fmt.Errorf("encode %s: %w", k.name(), err))
		}
		data = encoded
	}
	return Event{
		ID: facts.id, Type: k.name(), Source: about.Source, Subject: facts.subject, Time: facts.time.UTC(),
		PartitionKey: facts.key, CausationID: about.CausationID, CorrelationID: about.CorrelationID,
		TraceParent: about.TraceParent, Data: data,
	}, nil
}

// open decodes the data of an event as the present version of its type.
func (c *catalogue) open(e Event) (any, error) {
	k, version, err := c.find(e.Type)
	if err != nil {
		return nil, err
	}
	data := e.Data
	for ; version < k.version; version++ {
		if data, err = k.upcasters[version-1](data); err != nil {
			return nil, Permanent(fmt.Errorf("upcast event %s from %s.v%d: %w", e.ID, k.family, version, err))
		}
	}
	fact, err := k.decode(data)
	if err != nil {
		return nil, Permanent(fmt.Errorf("decode event %s of type %s: %w", e.ID, e.Type, err))
	}
	facts := k.identify(fact)
	if facts.err == nil && e.Subject != "" && e.Subject != facts.subject {
		facts.err = fmt.Errorf("its data is about %q, its subject is %q", facts.subject, e.Subject)
	}
	if facts.err != nil {
		return nil, Permanent(fmt.Errorf("event %s of type %s is invalid: %w", e.ID, e.Type, oneLine(facts.err)))
	}
	return fact, nil
}

// oneLine joins the lines of an error that holds several.
func oneLine(err error) error {
	if text := err.Error(); strings.Contains(text, "\n") {
		return errors.New(strings.ReplaceAll(text, "\n", "; "))
	}
	return err
}

// About is what the envelope of an event says beside what follows from the fact.
type About struct {
	// Source is the service that says it: /tidemark/collector.
	Source string
	// CausationID is the ID of the event that led to this one, CorrelationID
	// that of the observation at the head of the story.
	CausationID   string
	CorrelationID string
	// TraceParent is a W3C trace context.
	TraceParent string
	// Time is when it happened, for facts that carry no instant themselves:
	// changes of deployments, and dead letters. Other facts have their own.
	Time time.Time
}

// Seal makes the event of a fact: a pointer to one of the catalogue's Go types.
// Its error, for a fact that is invalid or of no such type, is permanent.
func Seal(fact any, about About) (Event, error) { return production.seal(fact, nil, about) }

// SealData is Seal for a fact that was encoded already: data are the very bytes
// that a digest was computed over.
func SealData(fact any, data []byte, about About) (Event, error) {
	return production.seal(fact, data, about)
}

// Fact decodes the event's data: a pointer to the Go type that the catalogue
// has for its type, as *model.Observation. An older version is upcast to the
// present one; fields that are not known are left out. The fact is valid by
// model's rules. The error is permanent.
func (e Event) Fact() (any, error) { return production.open(e) }

// As is Fact for who handles one type, as in As[*model.Observation](event): an
// event of another one is a permanent error.
func As[T any](e Event) (T, error) {
	var as T
	fact, err := e.Fact()
	if err != nil {
		return as, err
	}
	as, ok := fact.(T)
	if !ok {
		return as, Permanent(fmt.Errorf("event %s is a %s, which is no %s", e.ID, e.Type, reflect.TypeFor[T]().Elem().Name()))
	}
	return as, nil
}

// TopicOf returns the topic of an event's type, without the prefix. The error
// is permanent.
func TopicOf(e Event) (string, error) {
	k, _, err := production.find(e.Type)
	if err != nil {
		return "", err
	}
	return k.topic, nil
}

// Type describes a type of event.
type Type struct {
	// Name is the type with its present version.
	Name string
	// Topic is where it is published, without the prefix.
	Topic string
	// Fact is the Go type of its data.
	Fact reflect.Type
}

// Types lists the catalogue.
func Types() []Type {
	types := make([]Type, len(production.lines))
	for i := range production.lines {
		k := &production.lines[i]
		types[i] = Type{Name: k.name(), Topic: k.topic, Fact: k.fact}
	}
	return types
}
