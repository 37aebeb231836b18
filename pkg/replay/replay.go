// Package replay decides again what was decided before.
//
// [Verify] reads a range of recorded decisions and the observations that they
// rest on, decides each observation again, and compares the bytes. Apart from
// that it checks the hash chain of each deployment: a decision that is missing,
// altered, moved or doubled is a [Finding] that names it. With a candidate
// configuration it decides the same observations under that one too, and holds
// both series side by side.
//
// It never guesses: where the log lacks a configuration revision, or the head
// of a range and a checkpoint that covers it, it says what it lacks and which
// decisions could not be decided again, and counts them apart from those that
// differ. It writes nothing, and reads a log or an archive of one alike.
//
// A decision that is read takes about 100 bytes of memory until the end.
package replay

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// Options select what is replayed, and how.
type Options struct {
	// From and To bound the decisions: positions of their topic, or instants by
	// the log's clock. An open bound is the start, or the end as it is now.
	From, To events.Bound
	// Deployments are those replayed; none means all.
	Deployments []string
	// Candidates are specifications to decide the same observations under, by
	// the names of their deployments. With any, only those are replayed.
	Candidates map[string]*model.Deployment
	// Tolerance is the share by which figures may differ, up to MaxTolerance: for a
	// log that was decided on another processor architecture, where arithmetic
	// rounds otherwise. At 0 the bytes are compared.
	Tolerance float64
	// Visit, if it is set, is called with each observation of the range that
	// was decided again, in the order of the log. What it is given is not kept
	// and may be.
	Visit func(Visited)
	// Progress, if it is set, is called now and then with the records read so
	// far and those that there are to read, as far as that is known.
	Progress func(done, of int64)
}

// Visited is one observation that was decided again.
type Visited struct {
	ObservationID string
	Observation   *model.Observation
	Configured    *model.DeploymentConfigured
	Decision      *model.ScalingDecision
	// Candidate is nil where there is no candidate.
	Candidate *model.ScalingDecision
}

// Kind says what is wrong with a decision.
type Kind string

// The kinds of findings.
const (
	// Altered: its bytes are not those that were written.
	Altered Kind = "altered"
	// Missing: its observation is in the log, and so is what came after it.
	Missing Kind = "missing"
	// Moved: it stands before a decision that was made earlier.
	Moved Kind = "moved"
	// Doubled: another decision on the same observation stands before it.
	Doubled Kind = "doubled"
	// Stray: it names an observation that is not in the log.
	Stray Kind = "stray"
	// Differs: it is what was written, and this build decides otherwise.
	Differs Kind = "differs"
	// Unlinked: it does not follow the decision before it, and the log lacks
	// what it takes to say which of the two was altered.
	Unlinked Kind = "unlinked"
)

// Finding names one decision and what is wrong with it.
type Finding struct {
	Kind       Kind      `json:"kind"`
	Deployment string    `json:"deployment"`
	DecisionID string    `json:"decision_id"`
	ObservedAt time.Time `json:"observed_at"`
	// Partition and Position are where it stands in the decisions; Position is
	// -1 for one that is missing.
	Partition int32 `json:"partition"`
	Position  int64 `json:"position"`
	// Detail is one line for a person.
	Detail string `json:"detail"`
}

// Lack says what the log does not hold, and how many decisions could not be
// decided again for it.
type Lack struct {
	Deployment string `json:"deployment"`
	What       string `json:"what"`
	Decisions  int    `json:"decisions"`
}

// Difference is a recorded decision and the one that was made of the same
// observation now, field by field.
type Difference struct {
	Finding
	Fields []Field `json:"fields"`
}

// maxFindings bounds the findings that are named; all are counted.
const maxFindings = 1000

// Result is what a replay found.
type Result struct {
	// Deployments are those of which anything was read, by name.
	Deployments []DeploymentResult `json:"deployments"`
	// Findings are in the order of deployments and instants, bounded;
	// FindingsLeftOut counts those beyond.
	Findings        []Finding `json:"findings"`
	FindingsLeftOut int       `json:"findings_left_out,omitzero"`
	// First is the first difference, if there is one.
	First *Difference `json:"first_difference,omitempty"`
	Lacks []Lack      `json:"lacks"`
	// Observations counts those read, Took is how long it all took, in seconds.
	Observations int     `json:"observations"`
	TookS        float64 `json:"took_s"`
}

// DeploymentResult counts what was found of one deployment.
type DeploymentResult struct {
	Deployment string `json:"deployment"`
	// Decisions are those recorded in the range. Same, Alike and Differing were
	// decided again: Alike differ by no more than the tolerance. Unverified were
	// not: Lacks says why.
	Decisions  int `json:"decisions"`
	Same       int `json:"same"`
	Alike      int `json:"alike,omitzero"`
	Differing  int `json:"differing"`
	Unverified int `json:"unverified"`
	// Links were checked, and Broken of them do not hold.
	Links  int `json:"links"`
	Broken int `json:"broken_links"`
	// Repeated were appended again with the same bytes, as redelivery may do.
	Repeated int `json:"repeated"`
	// Refused observations went to the dead letters, Undecided ones are newer
	// than the newest decision.
	Refused   int `json:"refused"`
	Undecided int `json:"undecided"`
	// FirstAt and LastAt are the instants of the first and the last decision.
	FirstAt time.Time `json:"first_at,omitzero"`
	LastAt  time.Time `json:"last_at,omitzero"`

	// Comparison holds the candidate against what was decided.
	Comparison *Comparison `json:"comparison,omitempty"`
}

// Clean says whether nothing is wrong with any decision that could be checked.
func (r *Result) Clean() bool { return len(r.Findings) == 0 }

// Compared says whether any decision was held against that of a candidate.
func (r *Result) Compared() bool {
	return slices.ContainsFunc(r.Deployments, func(d DeploymentResult) bool { return d.Comparison != nil })
}

// Totals sums the deployments up.
func (r *Result) Totals() DeploymentResult {
	var sum DeploymentResult
	for i := range r.Deployments {
		d := &r.Deployments[i]
		sum.Decisions += d.Decisions
		sum.Same += d.Same
		sum.Alike += d.Alike
		sum.Differing += d.Differing
		sum.Unverified += d.Unverified
		sum.Links += d.Links
		sum.Broken += d.Broken
		sum.Repeated += d.Repeated
		sum.Refused += d.Refused
		sum.Undecided += d.Undecided
	}
	return sum
}

// Verify replays a range.
func Verify(ctx context.Context, log events.Log, topics events.Topics, options Options) (*Result, error) {
	began := time.Now()
	r := &run{
		log: log, topics: topics, options: options,
		deployments: map[string]*deployment{}, refused: map[place]bool{}, otherwise: map[place]otherwise{},
		table: events.NewDeploymentTable(log, topics, slog.New(slog.DiscardHandler)),
	}
	for _, step := range []func(context.Context) error{r.table.CatchUp, r.readDecisions, r.readCheckpoints, r.readRefused, r.decideAgain, r.tolerate, r.conclude} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	r.result.TookS = time.Since(began).Seconds()
	return &r.result, nil
}

// run is one replay.
type run struct {
	log     events.Log
	topics  events.Topics
	options Options
	result  Result

	table       *events.DeploymentTable
	deployments map[string]*deployment
	// refused are the observations that the decider sent to the dead letters.
	refused map[place]bool
	// lastAppended is when the last decision of the range was appended.
	lastAppended time.Time
	first        *otherwise
	// otherwise are decisions that may differ within the tolerance.
	otherwise map[place]otherwise
	// encoded is where decisions are encoded, one after the other.
	encoded []byte
	// done of total records were read.
	done, total int64
}

// place is a position in a topic of several partitions.
type place struct {
	partition int32
	position  int64
}

// deployment is what a run knows of one.
type deployment struct {
	name string
	// recorded are its decisions in the range, in the order of their
	// observations; broken are the records that are none, by their IDs.
	recorded    []recorded
	broken      map[string]brokenAt
	checkpoints []checkpointAt
	lane        lane

	result   DeploymentResult
	findings []Finding
	// gaps are the instants of decisions that are known not to be in the chain.
	gaps  []int64
	lacks map[string]int
	// comparison is that with the candidate, if there is one.
	comparison *comparing
}

// wanted says whether a deployment is to be replayed.
func (r *run) wanted(name string) bool {
	if len(r.options.Candidates) > 0 && r.options.Candidates[name] == nil {
		return false
	}
	return len(r.options.Deployments) == 0 || slices.Contains(r.options.Deployments, name)
}

// key is that of the only deployment that is wanted, if there is only one.
func (r *run) key() string {
	if len(r.options.Deployments) == 1 {
		return r.options.Deployments[0]
	}
	if len(r.options.Candidates) == 1 && len(r.options.Deployments) == 0 {
		for name := range r.options.Candidates {
			return name
		}
	}
	return ""
}

func (r *run) of(name string) *deployment {
	d := r.deployments[name]
	if d == nil {
		d = &deployment{name: name, lacks: map[string]int{}, broken: map[string]brokenAt{}, result: DeploymentResult{Deployment: name}}
		r.deployments[name] = d
	}
	return d
}

func (d *deployment) find(kind Kind, id string, at time.Time, where place, format string, args ...any) {
	d.findings = append(d.findings, Finding{
		Kind: kind, Deployment: d.name, DecisionID: id, ObservedAt: at, Partition: where.partition, Position: where.position,
		Detail: fmt.Sprintf(format, args...),
	})
}

func (d *deployment) decisionID(at int64) string {
	return events.DecisionID(d.name, events.ObservationID(d.name, instant(at)), planner.Version)
}

func instant(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// measure finds out how many records there are to read.
func (r *run) measure(ctx context.Context) error {
	if r.options.Progress == nil {
		return nil
	}
	for _, topic := range []string{events.TopicDecisions, events.TopicObservations} {
		ends, err := r.log.Ends(ctx, r.topics.Name(topic))
		if err != nil {
			return fmt.Errorf("find the end of %s: %w", r.topics.Name(topic), err)
		}
		for _, end := range ends {
			r.total += end
		}
	}
	return nil
}

// progressEvery is the number of records after which progress is told.
const progressEvery = 1000

func (r *run) advance() {
	if r.done++; r.options.Progress != nil && r.done%progressEvery == 0 {
		r.options.Progress(r.done, r.total)
	}
}
