package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// recorded is one decision as it stands in the log: where, and the digests
// that it is checked by. Its bytes are read again only where they differ.
type recorded struct {
	// at is the instant of its observation, in nanoseconds since 1970: of a
	// deployment's decisions, no two have the same.
	at        int64
	position  int64
	partition int32
	// first says that it names no decision before it.
	first bool
	// foreign says that another version of the planner made it.
	foreign bool
	verdict verdict
	// altered says that it differs from what was written.
	altered bool

	digest, previous digest
}

func (c *recorded) place() place { return place{c.partition, c.position} }

// digest is a SHA-256.
type digest [sha256.Size]byte

func (d digest) String() string { return digestPrefix + hex.EncodeToString(d[:]) }

const digestPrefix = "sha256:"

// verdict is what came of deciding an observation again.
type verdict uint8

const (
	unverified verdict = iota
	same
	// alike: it differs in figures, by no more than the tolerance.
	alike
	differing
	// relinked: nothing but its link was altered.
	relinked
)

// header is what is read of a decision without decoding it whole.
type header struct {
	deployment, observationID, plannerVersion, previous string
	observedAt                                          time.Time
}

// headerOf reads a decision's header. The fields stand where encoding puts
// them; data in which they do not is decoded whole.
func headerOf(event events.Event) (header, error) {
	if h, ok := scanHeader(event.Data); ok {
		return h, nil
	}
	decision, err := events.As[*model.ScalingDecision](event)
	if err != nil {
		return header{}, err
	}
	return header{decision.Deployment, decision.ObservationID, decision.PlannerVersion, decision.PreviousDigest, decision.ObservedAt}, nil
}

func scanHeader(data []byte) (header, bool) {
	var h header
	s := scanner{rest: data, ok: true}
	h.deployment = s.text(`{"deployment":"`)
	s.skip(`,"config_revision":`)
	s.skip(`,"epoch":`)
	s.text(`,"mode":"`)
	h.observationID = s.text(`,"observation_id":"`)
	at := s.text(`,"observed_at":"`)
	tail := bytes.LastIndex(data, []byte(`,"planner_version":"`))
	if !s.ok || tail < 0 {
		return h, false
	}
	s.rest = data[tail:]
	h.plannerVersion = s.text(`,"planner_version":"`)
	h.previous = s.text(`,"previous_digest":"`)
	var err error
	h.observedAt, err = time.Parse(time.RFC3339Nano, at)
	return h, s.ok && string(s.rest) == "}" && err == nil
}

// scanner reads fields of known names one after the other.
type scanner struct {
	rest []byte
	ok   bool
}

// text reads a text without escapes that stands behind a prefix.
func (s *scanner) text(prefix string) string {
	rest, ok := bytes.CutPrefix(s.rest, []byte(prefix))
	end := bytes.IndexByte(rest, '"')
	if s.ok = s.ok && ok && end >= 0 && bytes.IndexByte(rest[:max(end, 0)], '\\') < 0; !s.ok {
		return ""
	}
	s.rest = rest[end+1:]
	return string(rest[:end])
}

// skip passes over a number behind a prefix.
func (s *scanner) skip(prefix string) {
	rest, ok := bytes.CutPrefix(s.rest, []byte(prefix))
	end := bytes.IndexByte(rest, ',')
	if s.ok = s.ok && ok && end >= 0; s.ok {
		s.rest = rest[end:]
	}
}

// readDecisions reads the recorded decisions of the range, and puts those of
// each deployment into the order in which they were made.
func (r *run) readDecisions(ctx context.Context) error {
	if err := r.measure(ctx); err != nil {
		return err
	}
	topic := r.topics.Name(events.TopicDecisions)
	for record, err := range r.log.Read(ctx, topic, events.Range{From: r.options.From, To: r.options.To, Key: r.key()}) {
		if err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		r.advance()
		r.lastAppended = latest(r.lastAppended, record.AppendedAt)
		r.record(record)
	}
	for _, d := range r.deployments {
		d.sort()
	}
	return nil
}

// record takes note of one record of the decisions.
func (r *run) record(record events.Record) {
	where := place{record.Partition, record.Position}
	event, err := record.Event()
	name := record.Key
	if err == nil && event.Subject != "" {
		name = event.Subject
	}
	if !r.wanted(name) {
		return
	}
	d := r.of(name)
	var h header
	if err == nil {
		h, err = headerOf(event)
	}
	switch {
	case err != nil:
		d.broken[event.ID] = brokenAt{where, event.Time, "it cannot be decoded: " + err.Error()}
		return
	case h.deployment != name:
		d.broken[event.ID] = brokenAt{where, event.Time, fmt.Sprintf("its data is about %q, its envelope about %q", h.deployment, name)}
		return
	case !h.observedAt.Equal(event.Time):
		d.broken[event.ID] = brokenAt{where, event.Time, fmt.Sprintf("its data is of %s, its envelope of %s", h.observedAt.Format(time.RFC3339Nano), event.Time.Format(time.RFC3339Nano))}
		return
	}
	if id := events.DecisionID(h.deployment, h.observationID, h.plannerVersion); id != event.ID {
		d.broken[event.ID] = brokenAt{where, event.Time, "its data is that of decision " + id}
		return
	}
	one := recorded{
		at: h.observedAt.UnixNano(), partition: where.partition, position: where.position,
		first: h.previous == "", foreign: h.plannerVersion != planner.Version, digest: sha256.Sum256(event.Data),
	}
	if text, ok := strings.CutPrefix(h.previous, digestPrefix); ok && len(text) == 2*len(one.previous) {
		if _, err := hex.Decode(one.previous[:], []byte(text)); err != nil {
			one.previous = digest{}
		}
	}
	d.recorded = append(d.recorded, one)
}

// brokenAt is a record that holds no decision, or not that of its envelope.
type brokenAt struct {
	place
	at  time.Time
	why string
}

// sort puts the decisions into the order in which they were made. Those that
// stand elsewhere in the log are moved; a second one on the same observation is
// a repetition, or doubled.
func (d *deployment) sort() {
	for _, i := range outOfOrder(d.recorded) {
		c := &d.recorded[i]
		if len(d.findings) == maxFindings {
			break // What could not be named is not worth the search for its neighbours.
		}
		d.find(Moved, d.decisionID(c.at), instant(c.at), c.place(), "it stands %s", d.wrongSideOf(i))
	}
	slices.SortStableFunc(d.recorded, func(a, b recorded) int { return compare(a.at, b.at) })
	kept := d.recorded[:0]
	for _, c := range d.recorded {
		if n := len(kept); n > 0 && kept[n-1].at == c.at {
			if kept[n-1].digest == c.digest {
				d.result.Repeated++
			} else {
				d.find(Doubled, d.decisionID(c.at), instant(c.at), c.place(), "another decision on the same observation stands at position %d", kept[n-1].position)
			}
			continue
		}
		kept = append(kept, c)
	}
	d.recorded = kept
	d.result.Decisions = len(kept)
	if n := len(kept); n > 0 {
		d.result.FirstAt, d.result.LastAt = instant(kept[0].at), instant(kept[n-1].at)
	}
}

// wrongSideOf names the decision that the one at i stands on the wrong side of.
func (d *deployment) wrongSideOf(i int) string {
	at := d.recorded[i].at
	for j := i + 1; j < len(d.recorded); j++ {
		if other := d.recorded[j]; other.at < at {
			return fmt.Sprintf("before decision %s at position %d, which was made earlier", d.decisionID(other.at), other.position)
		}
	}
	for j := i - 1; j >= 0; j-- {
		if other := d.recorded[j]; other.at > at {
			return fmt.Sprintf("after decision %s at position %d, which was made later", d.decisionID(other.at), other.position)
		}
	}
	return "elsewhere than it was made"
}

// outOfOrder returns the indexes of the fewest decisions without which the
// instants of the others never fall.
func outOfOrder(of []recorded) []int {
	if slices.IsSortedFunc(of, func(a, b recorded) int { return compare(a.at, b.at) }) {
		return nil
	}
	// The longest subsequence that does not fall, by patience: last[n] is the
	// smallest end of one of length n+1, before[i] what i follows in its own.
	var last []int
	before := make([]int, len(of))
	for i := range of {
		n, _ := slices.BinarySearchFunc(last, of[i].at, func(j int, at int64) int {
			if of[j].at <= at {
				return -1
			}
			return 1
		})
		before[i] = -1
		if n > 0 {
			before[i] = last[n-1]
		}
		if n == len(last) {
			last = append(last, i)
		} else {
			last[n] = i
		}
	}
	in := make([]bool, len(of))
	for i := last[len(last)-1]; i >= 0; i = before[i] {
		in[i] = true
	}
	var out []int
	for i := range of {
		if !in[i] {
			out = append(out, i)
		}
	}
	return out
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// fetch reads the data of one recorded decision.
func (r *run) fetch(ctx context.Context, key string, where place) ([]byte, error) {
	record, found, err := readOne(ctx, r.log, r.topics.Name(events.TopicDecisions), key, where)
	if err != nil || !found {
		return nil, err
	}
	event, err := record.Event()
	return event.Data, err
}

func readOne(ctx context.Context, log events.Log, topic, key string, where place) (events.Record, bool, error) {
	for record, err := range log.Read(ctx, topic, events.Range{
		From: events.Bound{Positions: map[int32]int64{where.partition: where.position}},
		To:   events.Bound{Positions: map[int32]int64{where.partition: where.position + 1}},
		Key:  key, Partitions: []int32{where.partition},
	}) {
		if err != nil {
			return events.Record{}, false, fmt.Errorf("read %s at position %d: %w", topic, where.position, err)
		}
		if record.Partition == where.partition && record.Position == where.position {
			return record, true, nil
		}
	}
	return events.Record{}, false, nil
}
