// Package report turns the facts of the log into one HTML page.
//
// A Builder folds facts, Build makes of them the Data of a page, and Render
// writes Data as one self-contained file: it makes no network request, and its
// Content-Security-Policy allows none. All three are pure: equal facts and
// options give equal bytes.
//
// The package shows, and refuses to invent: what was not measured is a gap or
// is left out, never zero; thinned series keep their extremes; what can only
// be an estimate says so. It reads no log, no clock and no file.
package report

import (
	"time"

	"tidemark.dev/pkg/model"
)

// Options select what a report shows.
type Options struct {
	// From and To bound what is shown by the instants at which it was observed,
	// both included; zero is open.
	From, To time.Time
	// Last bounds what is shown of each deployment to the stretch before its
	// newest fact; 0 is open.
	Last time.Duration
	// Resume cuts the series, decisions and actuations of a deployment, by name:
	// those before its instant, in milliseconds since 1970 UTC, are left out. They
	// are what a page that shows the deployment up to its ResumeMs has already.
	Resume map[string]int64
	// Live is the address of the stream by which the page goes on; empty is none.
	Live string
	// Deployments are those shown, in the order of their names; none means all.
	Deployments []string
	// GeneratedAt is written on the page.
	GeneratedAt time.Time
	// Title is the page's; empty means "Tidemark report".
	Title string
}

// Data is all that a page shows. Its JSON is what the page carries.
type Data struct {
	Title           string       `json:"title"`
	GeneratedAt     time.Time    `json:"generated_at"`
	EvidenceClasses []string     `json:"evidence_classes"`
	Live            string       `json:"live,omitempty"`
	Deployments     []Deployment `json:"deployments"`
}

// Deployment is what a page shows of one deployment. Figures that are unknown
// are left out.
type Deployment struct {
	Name     string         `json:"name"`
	Retired  bool           `json:"retired,omitempty"`
	Mode     model.Mode     `json:"mode"`
	Epoch    int            `json:"epoch"`
	Revision int            `json:"revision,omitzero"`
	Topology model.Topology `json:"topology,omitzero"`
	Target   model.Target   `json:"target,omitzero"`
	Roles    []model.Role   `json:"roles"`
	Planners []string       `json:"planners"`
	// FromMs and ToMs bound what is shown, in milliseconds since 1970 UTC.
	FromMs int64 `json:"from_ms"`
	ToMs   int64 `json:"to_ms"`
	// ResumeMs is the instant from which on what is shown may still change; only
	// a page that is live has it.
	ResumeMs int64 `json:"resume_ms,omitzero"`
	// Modes are the instants of the first decision under each mode and epoch,
	// Settings those of the first under each revision.
	Modes    []ModeChange `json:"modes"`
	Settings []Setting    `json:"settings"`

	Summary Summary `json:"summary"`
	Score   Score   `json:"score"`

	Fleet     *Series `json:"fleet,omitempty"`
	Traffic   *Series `json:"traffic,omitempty"`
	Load      *Series `json:"load,omitempty"`
	Decided   *Series `json:"decided,omitempty"`
	Forecasts *Series `json:"forecasts,omitempty"`
	// Engines are the engines one by one, in the order of their names;
	// EnginesUnlisted counts those that were too many, up to a bound.
	Engines         []Engine `json:"engines"`
	EnginesUnlisted int      `json:"engines_unlisted,omitzero"`

	// Evidence holds the worst class of each source over time; the values of
	// its spans index Data.EvidenceClasses.
	Evidence map[string][]Span `json:"evidence"`
	// Complaints are what sources said when they could not say what they were
	// asked, those heard last first.
	Complaints []Complaint `json:"complaints,omitempty"`
	Decisions  Decisions   `json:"decisions"`

	Actuations []Actuation `json:"actuations"`
	// ActuationsLeftOut counts the oldest, which are not listed.
	ActuationsLeftOut int `json:"actuations_left_out,omitzero"`

	// WhatIf holds a candidate beside it; only a page of a what-if has it.
	WhatIf *WhatIf `json:"what_if,omitempty"`
}

// ModeChange is the first decision under a mode and epoch.
type ModeChange struct {
	AtMs  int64      `json:"at_ms"`
	Mode  model.Mode `json:"mode"`
	Epoch int        `json:"epoch"`
}

// Setting is what a revision of the configuration limits.
type Setting struct {
	AtMs     int64                 `json:"at_ms"`
	Revision int                   `json:"revision"`
	TTFTMs   float64               `json:"ttft_ms"`
	ITLMs    float64               `json:"itl_ms"`
	Roles    model.PerRole[Bounds] `json:"roles"`
	// MinGPUs and MaxGPUs are model.Unbounded where they do not bind.
	MinGPUs int `json:"min_gpus"`
	MaxGPUs int `json:"max_gpus"`
}

// Bounds are those of one role.
type Bounds struct {
	Min         int `json:"min"`
	Max         int `json:"max"`
	MaxKVTokens int `json:"max_kv_tokens,omitzero"`
}

// Engine is the load of one engine rank.
type Engine struct {
	Role   model.Role `json:"role"`
	Worker string     `json:"worker"`
	DPRank int        `json:"dp_rank"`
	Series *Series    `json:"series"`
}

// Outcome says what became of an attempt to act.
type Outcome string

// The outcomes.
const (
	OutcomeApplied  Outcome = "applied"
	OutcomeRejected Outcome = "rejected"
	OutcomeFailed   Outcome = "failed"
	OutcomeSettled  Outcome = "settled"
)

// Actuation is what was done about a decision.
type Actuation struct {
	ID         string                      `json:"id"`
	DecisionID string                      `json:"decision_id"`
	AtMs       int64                       `json:"at_ms"`
	Epoch      int                         `json:"epoch"`
	Connector  string                      `json:"connector"`
	Roles      model.PerRole[model.Change] `json:"roles,omitzero"`
	Outcome    Outcome                     `json:"outcome"`
	Reason     string                      `json:"reason,omitempty"`
	Detail     string                      `json:"detail,omitempty"`
	Attempt    int                         `json:"attempt,omitzero"`
	ApprovedBy string                      `json:"approved_by,omitempty"`
	// SettleS is how long the fleet took to reach the target, in seconds.
	SettleS *float64 `json:"settle_s,omitempty"`
}
