package reporter

import (
	"bytes"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
	"tidemark.dev/services/reporter/internal/report"
)

// WhatIf makes an HTML page of a replay under candidate configurations: both
// series of decisions of each deployment side by side.
type WhatIf struct {
	builder    *report.WhatIfBuilder
	candidates map[string]*model.Deployment
}

// NewWhatIf returns what shows a replay under these candidates, by the names of
// their deployments.
func NewWhatIf(candidates map[string]*model.Deployment) *WhatIf {
	return &WhatIf{builder: report.NewWhatIfBuilder(), candidates: candidates}
}

// Visit takes note of one observation; it is [replay.Options.Visit] of the replay.
func (w *WhatIf) Visit(v replay.Visited) {
	if v.Candidate == nil {
		return
	}
	id := events.DecisionID(v.Decision.Deployment, v.ObservationID, v.Decision.PlannerVersion)
	w.builder.Add(id, v.Observation, v.Configured, w.candidates[v.Decision.Deployment], v.Decision, v.Candidate)
}

// Page returns the page of a replay that is done. Equal replays and options give
// equal bytes. Of the options, it has the title and when it is generated.
func (w *WhatIf) Page(result *replay.Result, options ReportOptions) ([]byte, error) {
	var page bytes.Buffer
	data := w.builder.Build(report.Options{Title: options.Title, GeneratedAt: options.GeneratedAt}, result)
	if err := report.Render(&page, data); err != nil {
		return nil, err
	}
	return page.Bytes(), nil
}
