package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark.dev/pkg/model"
)

// maxComplaints bounds the complaints of a deployment: those that were heard last
// are kept, and the beginning of what was said.
const (
	maxComplaints     = 50
	maxComplaintBytes = 500
)

// Complaint is what a source said when it could not say what it was asked. Those
// that differ in figures alone, as an age or a port, are one.
type Complaint struct {
	Source string         `json:"source"`
	Class  model.Evidence `json:"class"`
	// Error is what was said last.
	Error   string `json:"error"`
	Count   int    `json:"count"`
	FirstMs int64  `json:"first_ms"`
	LastMs  int64  `json:"last_ms"`
}

// complaints are those of a deployment, by what they have in common.
type complaints map[Complaint]*Complaint

func (c complaints) hear(at time.Time, source string, class model.Evidence, said string) {
	if said == "" {
		return
	}
	if len(said) > maxComplaintBytes {
		said = strings.ToValidUTF8(said[:maxComplaintBytes], "") + "…"
	}
	key := Complaint{Source: source, Class: class, Error: strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, said)}
	ms := at.UnixMilli()
	heard, ok := c[key]
	if !ok {
		heard = &Complaint{Source: source, Class: class, FirstMs: ms}
		c[key] = heard
	}
	heard.Error, heard.LastMs = said, ms
	heard.Count++
	if len(c) > maxComplaints {
		oldest := c.listed()[maxComplaints]
		maps.DeleteFunc(c, func(_ Complaint, one *Complaint) bool { return one == oldest })
	}
}

// listed returns the complaints, those heard last first.
func (c complaints) listed() []*Complaint {
	return slices.SortedFunc(maps.Values(c), func(a, b *Complaint) int {
		return cmp.Or(cmp.Compare(b.LastMs, a.LastMs), cmp.Compare(a.FirstMs, b.FirstMs), cmp.Compare(a.Source, b.Source),
			cmp.Compare(a.Class, b.Class), cmp.Compare(a.Error, b.Error))
	})
}

// between returns the complaints that may have been heard in a range; their counts
// are of all that was folded.
func (c complaints) between(from, to time.Time) []Complaint {
	var out []Complaint
	for _, one := range c.listed() {
		if (from.IsZero() || one.LastMs >= from.UnixMilli()) && (to.IsZero() || one.FirstMs < to.UnixMilli()) {
			out = append(out, *one)
		}
	}
	return out
}

func (c complaints) forget(before time.Time) {
	maps.DeleteFunc(c, func(_ Complaint, one *Complaint) bool { return one.LastMs < before.UnixMilli() })
}
