package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// lane is one deployment on its way through the observations: the state of the
// planner as the decider had it.
type lane struct {
	begun bool
	// state is nil before the first observation that is decided.
	state *planner.State
	// lost says why the state is not that of the decider; it is empty while it
	// is. at is where it stands, or where it was lost.
	lost string
	at   place
	// observationID and observedAt name the last observation in the state.
	observationID string
	observedAt    time.Time
	// next is the first recorded decision that was not met yet.
	next int
	// first is the instant of the first observation that was met.
	first int64
	// from and to bound the observations whose decisions are in the range.
	from, to int64

	// candidate is the state under the candidate's specification; nil before
	// the range.
	candidate *planner.State
}

// skew is how much later than its decision an observation may seem to have been
// appended, where several brokers' clocks say so.
const skew = time.Minute

// decideAgain reads the observations and decides each.
func (r *run) decideAgain(ctx context.Context) error {
	window, err := r.window(ctx)
	if err != nil {
		return err
	}
	topic := r.topics.Name(events.TopicObservations)
	for record, err := range r.log.Read(ctx, topic, window) {
		if err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		r.advance()
		if err := r.observed(ctx, record); err != nil {
			return err
		}
	}
	return nil
}

func open(b events.Bound) bool { return b.Time.IsZero() && len(b.Positions) == 0 }

// window returns the range of the observations that the decisions rest on: from
// the checkpoints before them, where there are some.
func (r *run) window(ctx context.Context) (events.Range, error) {
	window := events.Range{Key: r.key()}
	if !open(r.options.To) {
		if r.lastAppended.IsZero() {
			window.To.Time = time.Unix(0, 1) // No decision is in the range: neither is an observation.
			return window, nil
		}
		window.To.Time = r.lastAppended.Add(skew)
	}
	if open(r.options.From) {
		return window, nil
	}
	// Partitions without a deployment in the range are not read.
	positions, err := r.log.Ends(ctx, r.topics.Name(events.TopicObservations))
	if err != nil {
		return window, fmt.Errorf("find the end of the observations: %w", err)
	}
	for _, d := range r.deployments {
		if len(d.recorded) == 0 {
			continue
		}
		c, ok := d.before(d.recorded[0].at)
		if !ok {
			return window, nil
		}
		positions[c.covers.partition] = min(positions[c.covers.partition], c.covers.position+1)
	}
	window.From.Positions = positions
	return window, nil
}

// observed decides one observation again.
func (r *run) observed(ctx context.Context, record events.Record) error {
	event, err := record.Event()
	if err != nil {
		return nil //nolint:nilerr // It was refused when it was handled, and was decided by nobody.
	}
	if !r.wanted(event.Subject) {
		return nil
	}
	d := r.of(event.Subject)
	if len(d.recorded) == 0 && (!open(r.options.From) || !open(r.options.To)) {
		return nil // Nothing says which of its observations belong to the range.
	}
	l, where := &d.lane, place{record.Partition, record.Position}
	if !l.begun {
		if err := r.begin(ctx, d, where, event.Time); err != nil {
			return err
		}
	}
	if where.partition == l.at.partition && where.position <= l.at.position && l.lost == "" {
		return nil // It is in the checkpoint.
	}
	fact, err := event.Fact()
	if err != nil {
		return nil //nolint:nilerr // As above.
	}
	observation, ok := fact.(*model.Observation)
	if !ok || event.ID == l.observationID || observation.ObservedAt.Before(l.observedAt) {
		return nil
	}
	at := observation.ObservedAt.UnixNano()
	inside := at >= l.from && at <= l.to
	if inside {
		r.result.Observations++
	}
	if r.refused[where] && !d.decided(at) {
		if inside {
			d.result.Refused++
		}
		return nil
	}
	return r.decide(ctx, d, where, event.ID, observation, inside)
}

// begin places a deployment's lane before its first observation.
func (r *run) begin(ctx context.Context, d *deployment, first place, at time.Time) error {
	l := &d.lane
	l.begun, l.first, l.from, l.to = true, at.UnixNano(), math.MinInt64, math.MaxInt64
	l.at = place{first.partition, -1}
	n := len(d.recorded)
	if !open(r.options.To) {
		l.to = d.recorded[n-1].at
	}
	if !open(r.options.From) {
		l.from = d.recorded[0].at
		if c, ok := d.before(l.from); ok {
			r.resume(ctx, d, c)
			return nil
		}
	}
	// Without a checkpoint the state begins with the deployment's first
	// observation, if this is it.
	if n > 0 && d.recorded[0].first && d.recorded[0].at == at.UnixNano() {
		return nil
	}
	head, err := r.head(ctx, first.partition)
	if err != nil {
		return err
	}
	if head > 0 {
		l.at.position = head - 1
		l.lost = fmt.Sprintf("the observations before position %d are gone, and no checkpoint covers them", head)
	}
	return nil
}

// head returns the first position that a partition of the observations holds.
func (r *run) head(ctx context.Context, partition int32) (int64, error) {
	topic := r.topics.Name(events.TopicObservations)
	for record, err := range r.log.Read(ctx, topic, events.Range{Partitions: []int32{partition}}) {
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", topic, err)
		}
		return record.Position, nil
	}
	return 0, nil
}

// resume puts the lane where a checkpoint stands.
func (r *run) resume(ctx context.Context, d *deployment, c checkpointAt) {
	l := &d.lane
	state, err := r.restore(ctx, c)
	if err != nil {
		l.lost = fmt.Sprintf("checkpoint at position %d cannot be read: %v", c.origin.position, err)
		return
	}
	l.state, l.lost, l.at, l.observedAt = state, "", c.covers, instant(c.observedAt)
	l.observationID = events.ObservationID(d.name, l.observedAt)
	l.candidate = nil
}

// regain resumes a lane that is lost, once a checkpoint covers what was lost,
// before an observation.
func (r *run) regain(ctx context.Context, d *deployment, where place, at int64) {
	l := &d.lane
	c, ok := d.before(at)
	if ok && c.covers.partition == where.partition && c.covers.position < where.position && c.covers.position >= l.at.position {
		r.resume(ctx, d, c)
	}
}

// decide decides an observation that the decider decided, and compares.
func (r *run) decide(ctx context.Context, d *deployment, where place, id string, observation *model.Observation, inside bool) error {
	l, at := &d.lane, observation.ObservedAt.UnixNano()
	if l.lost != "" {
		r.regain(ctx, d, where, at)
	}
	was := d.meet(at)
	if inside && was == nil {
		d.missed(at)
	}
	configured, known := r.table.Revision(d.name, observation.ConfigRevision)
	switch {
	case l.lost != "":
	case !known && was == nil:
		// The decider did not know it either.
		return nil
	case !known:
		l.lost = fmt.Sprintf("configuration revision %d is not in the log", observation.ConfigRevision)
	case l.state == nil:
		if l.state, _ = planner.New(&configured.Spec); l.state == nil {
			l.lost = fmt.Sprintf("no state can be made under configuration revision %d", observation.ConfigRevision)
		}
	}
	if l.lost != "" {
		l.at = where
		if was != nil {
			d.lacks[l.lost]++
		}
		return nil
	}
	if inside {
		if err := r.branch(d, configured); err != nil {
			return err
		}
	}
	input := planner.Input{ObservationID: id, Observation: observation, Configured: configured}
	decision := planner.Step(l.state, input)
	l.at, l.observationID, l.observedAt = where, id, observation.ObservedAt
	if !inside {
		return nil
	}
	if was != nil {
		if err := r.compare(d, was, &decision); err != nil {
			return err
		}
	}
	visited := Visited{ObservationID: id, Observation: observation, Configured: configured, Decision: &decision}
	if l.candidate != nil {
		visited.Candidate = r.whatIf(d, input, &decision)
	}
	if r.options.Visit != nil {
		r.options.Visit(visited)
	}
	return nil
}

// decided reports whether the log has a decision on the observation of an instant.
// One that was refused has none, unless it was handled once more.
func (d *deployment) decided(at int64) bool {
	return d.recordedAt(at) != nil
}

// recordedAt returns the recorded decision on the observation of an instant, or nil.
func (d *deployment) recordedAt(at int64) *recorded {
	i, found := slices.BinarySearchFunc(d.recorded, at, func(c recorded, at int64) int { return compare(c.at, at) })
	if !found {
		return nil
	}
	return &d.recorded[i]
}

// meet returns the recorded decision on the observation of an instant; nil if
// there is none. Those before it that no observation met are left behind.
func (d *deployment) meet(at int64) *recorded {
	l := &d.lane
	for l.next < len(d.recorded) && d.recorded[l.next].at < at {
		d.unmet(&d.recorded[l.next])
		l.next++
	}
	if l.next < len(d.recorded) && d.recorded[l.next].at == at {
		l.next++
		return &d.recorded[l.next-1]
	}
	return nil
}

// unmet takes note of a decision whose observation is not in the log.
func (d *deployment) unmet(c *recorded) {
	if l := &d.lane; !l.begun || l.lost != "" && c.at < l.first {
		d.lacks["their observations are gone"]++
		return
	}
	d.find(Stray, d.decisionID(c.at), instant(c.at), c.place(), "it names an observation that is not in the log")
	d.gaps = append(d.gaps, c.at)
}

// missed takes note of an observation without a decision.
func (d *deployment) missed(at int64) {
	id := d.decisionID(at)
	if broken, ok := d.broken[id]; ok {
		d.find(Altered, id, instant(at), broken.place, "%s", broken.why)
		delete(d.broken, id)
		d.gaps = append(d.gaps, at)
		return
	}
	n := len(d.checkpoints)
	if d.lane.next == len(d.recorded) && (n == 0 || d.checkpoints[n-1].observedAt < at) {
		d.result.Undecided++
		return
	}
	d.find(Missing, id, instant(at), place{0, -1}, "its observation is in the log, and so are later decisions")
	d.gaps = append(d.gaps, at)
}

// compare holds a recorded decision against the one that was made now. The link
// is taken as it is recorded: the chain is checked by itself.
func (r *run) compare(d *deployment, was *recorded, now *model.ScalingDecision) error {
	if was.foreign {
		d.lacks["another version of the planner made them; this build has version "+planner.Version]++
		return nil
	}
	now.PreviousDigest = ""
	if !was.first {
		now.PreviousDigest = was.previous.String()
	}
	data, err := now.AppendEncoded(r.encoded[:0])
	if err != nil {
		return fmt.Errorf("encode decision on observation %s: %w", now.ObservationID, err)
	}
	if r.encoded = data; sha256.Sum256(data) == was.digest {
		was.verdict = same
		return nil
	}
	was.verdict = differing
	differs := otherwise{deployment: d, at: was.at, data: bytes.Clone(data)}
	if r.first == nil || was.at < r.first.at {
		r.first = &differs
	}
	if r.options.Tolerance > 0 && len(r.otherwise) < maxOtherwise {
		r.otherwise[was.place()] = differs
	}
	return nil
}
