package replay

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"tidemark.dev/pkg/events"
)

// MaxTolerance bounds Options.Tolerance: beyond it figures say different things.
const MaxTolerance = 0.01

// Within says whether the two values of a field are figures that differ by no more
// than a share of the larger one. Whole numbers are counts, and those that differ
// are never within it.
func (f Field) Within(tolerance float64) bool {
	a, errA := strconv.ParseFloat(f.Recorded, 64)
	b, errB := strconv.ParseFloat(f.Now, 64)
	if errA != nil || errB != nil || whole(f.Recorded) && whole(f.Now) {
		return false
	}
	return math.Abs(a-b) <= tolerance*max(math.Abs(a), math.Abs(b))
}

func whole(number string) bool { return !strings.ContainsAny(number, ".eE") }

// Within says whether all that differs is within a tolerance.
func (d *Difference) Within(tolerance float64) bool {
	return !slices.ContainsFunc(d.Fields, func(f Field) bool { return !f.Within(tolerance) })
}

// maxOtherwise bounds the decisions that are kept to be held against the recorded
// ones within a tolerance: some 200 MB.
const maxOtherwise = 100_000

// otherwise is a decision of now whose bytes are not those that are recorded.
type otherwise struct {
	deployment *deployment
	at         int64
	data       []byte
}

// tolerate holds the decisions that differ against the recorded ones figure by
// figure.
func (r *run) tolerate(ctx context.Context) error {
	if len(r.otherwise) == 0 {
		return nil
	}
	topic := r.topics.Name(events.TopicDecisions)
	for record, err := range r.log.Read(ctx, topic, events.Range{From: r.options.From, To: r.options.To, Key: r.key()}) {
		if err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		now, ok := r.otherwise[place{record.Partition, record.Position}]
		if !ok {
			continue
		}
		event, err := record.Event()
		if err != nil {
			continue
		}
		difference := Difference{Fields: Compare(event.Data, now.data)}
		if difference.Within(r.options.Tolerance) {
			now.deployment.recordedAt(now.at).verdict = alike
		}
	}
	// The first difference is the first that is left.
	r.first = nil
	for _, now := range r.otherwise {
		if now.deployment.recordedAt(now.at).verdict == differing && (r.first == nil || now.at < r.first.at) {
			r.first = &now
		}
	}
	return nil
}
