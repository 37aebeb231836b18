package web

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/reporter/internal/report"
)

// Source is what the API reads beside the recent past.
type Source interface {
	// Deployments returns the newest revisions of the deployments that are not
	// retired, by name.
	Deployments() []*model.DeploymentConfigured
	// Report builds the data of a report from the log.
	Report(ctx context.Context, from, to time.Time, deployments []string) (report.Data, error)
	// Find returns a decision of the log and what was done about it; its error
	// wraps ErrNotFound if there is none.
	Find(ctx context.Context, id string) (Story, error)
}

// ErrNotFound says that the log has no such thing.
var ErrNotFound = errors.New("not found")

// Story is a decision and what was done about it.
type Story struct {
	Decision
	Actuations []Actuation `json:"actuations"`
}

// Actuation is what was done about a decision: an event of the actuator.
type Actuation struct {
	ID   string          `json:"id"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// Server serves the page, its stream and the API.
type Server struct {
	Live   *Live
	Source Source
	Logger *slog.Logger
	Access Access
	// Pace is the least time between two pushes to a page.
	Pace time.Duration
	Now  func() time.Time
	// Stopping ends the streams, which would else hold up the stop of the server.
	Stopping context.Context
}

//go:embed openapi.json
var openAPI []byte

// streamPath is the address of the stream by which a page goes on.
const streamPath = "/api/v1/stream"

// Routes are the patterns that Register adds.
func (s *Server) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /{$}":                       s.page,
		"GET " + streamPath:              s.stream,
		"GET /api/v1/deployments":        s.deployments,
		"GET /api/v1/deployments/{name}": s.deployment,
		"GET /api/v1/decisions":          s.decisions,
		"GET /api/v1/decisions/{id}":     s.decision,
		"GET /api/v1/report":             s.report,
		"GET /api/v1/openapi.json":       s.openAPI,
	}
}

// Register adds the server's routes.
func (s *Server) Register(mux *http.ServeMux) {
	for pattern, handle := range s.routes() {
		mux.Handle(pattern, s.Access.guard(handle))
	}
}

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	data := s.Live.Data(report.Options{Title: "Tidemark, live", GeneratedAt: s.Now(), Live: streamPath})
	s.html(w, data)
}

func (s *Server) html(w http.ResponseWriter, data report.Data) {
	var page bytes.Buffer
	policy, err := report.RenderPolicy(&page, data)
	if err != nil {
		s.fail(w, http.StatusInternalServerError, fmt.Errorf("the page cannot be built: %w", err))
		return
	}
	// The header says what the page says, and what only a header can.
	w.Header().Set("Content-Security-Policy", policy+"; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	s.send(w, page.Bytes())
}

func (s *Server) send(w http.ResponseWriter, body []byte) {
	if _, err := w.Write(body); err != nil {
		s.Logger.Debug("an answer was not read to its end", "error", err)
	}
}

func (s *Server) json(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		s.fail(w, http.StatusInternalServerError, fmt.Errorf("the answer cannot be written: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	s.send(w, append(body, '\n'))
}

func (s *Server) fail(w http.ResponseWriter, status int, err error) {
	if status >= http.StatusInternalServerError {
		s.Logger.Error("request failed", "error", err)
	}
	body, _ := json.Marshal(map[string]string{"error": err.Error()}) // A string always has JSON.
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	s.send(w, append(body, '\n'))
}

// stream sends what changes, as server-sent events: each is the data of a report,
// cut to what the page does not have yet. The query says from where on, by
// deployment: ?chat-70b=1795478400000.
func (s *Server) stream(w http.ResponseWriter, request *http.Request) {
	resume := map[string]int64{}
	for name, values := range request.URL.Query() {
		if from, err := strconv.ParseInt(values[0], 10, 64); err == nil {
			resume[name] = from
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	defer context.AfterFunc(s.Stopping, cancel)()
	for version := uint64(0); ; {
		var err error
		if version, err = s.Live.wait(ctx, version); err != nil {
			return
		}
		data := s.Live.Data(report.Options{Title: "Tidemark, live", GeneratedAt: s.Now(), Live: streamPath, Resume: resume})
		body, err := json.Marshal(data)
		if err != nil {
			s.Logger.Error("the stream of a page ends", "error", err)
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", body); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		for i := range data.Deployments {
			resume[data.Deployments[i].Name] = data.Deployments[i].ResumeMs
		}
		pause := time.NewTimer(s.Pace)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// Deployment is a deployment as the API lists it.
type Deployment struct {
	Name     string         `json:"name"`
	Mode     model.Mode     `json:"mode"`
	Epoch    int            `json:"epoch"`
	Revision int            `json:"revision"`
	Topology model.Topology `json:"topology"`
	Target   model.Target   `json:"target"`
	// Newest is the newest decision; null is none yet.
	Newest *Decision `json:"newest_decision"`
}

func (s *Server) listed(c *model.DeploymentConfigured) Deployment {
	d := Deployment{Name: c.Deployment, Mode: c.Spec.Mode(), Epoch: c.Epoch, Revision: c.Revision, Topology: c.Spec.Topology, Target: c.Spec.Target}
	if recent := s.Live.Recent(c.Deployment); len(recent) > 0 {
		d.Newest = &recent[len(recent)-1]
	}
	return d
}

func (s *Server) deployments(w http.ResponseWriter, _ *http.Request) {
	list := []Deployment{}
	for _, c := range s.Source.Deployments() {
		list = append(list, s.listed(c))
	}
	s.json(w, map[string]any{"deployments": list})
}

func (s *Server) deployment(w http.ResponseWriter, request *http.Request) {
	name := request.PathValue("name")
	for _, c := range s.Source.Deployments() {
		if c.Deployment != name {
			continue
		}
		answer := struct {
			Deployment
			Configuration *model.DeploymentConfigured `json:"configuration"`
			Summary       *report.Summary             `json:"summary"`
			Score         *report.Score               `json:"score"`
		}{Deployment: s.listed(c), Configuration: c}
		if data := s.Live.Data(report.Options{Deployments: []string{name}}); len(data.Deployments) == 1 {
			answer.Summary, answer.Score = &data.Deployments[0].Summary, &data.Deployments[0].Score
		}
		s.json(w, answer)
		return
	}
	s.fail(w, http.StatusNotFound, fmt.Errorf("there is no deployment %q", name))
}

func (s *Server) decisions(w http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	limit, before, err := 50, time.Time{}, error(nil)
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxRecent {
			s.fail(w, http.StatusBadRequest, fmt.Errorf("limit is %q, want 1 to %d", text, maxRecent))
			return
		}
	}
	if before, err = instant(query, "before"); err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	names := query["deployment"]
	if len(names) == 0 {
		for _, c := range s.Source.Deployments() {
			names = append(names, c.Deployment)
		}
	}
	action := query.Get("action")
	list := []Decision{}
	for _, name := range names {
		for _, d := range s.Live.Recent(name) {
			if (action == "" || string(d.Decision.Action) == action) && (before.IsZero() || d.Decision.ObservedAt.Before(before)) {
				list = append(list, d)
			}
		}
	}
	slices.SortFunc(list, func(a, b Decision) int {
		return cmp.Or(b.Decision.ObservedAt.Compare(a.Decision.ObservedAt), cmp.Compare(a.ID, b.ID))
	})
	s.json(w, map[string]any{"decisions": list[:min(limit, len(list))]})
}

func (s *Server) decision(w http.ResponseWriter, request *http.Request) {
	story, err := s.Source.Find(request.Context(), request.PathValue("id"))
	switch {
	case errors.Is(err, ErrNotFound):
		s.fail(w, http.StatusNotFound, fmt.Errorf("there is no decision %q", request.PathValue("id")))
	case err != nil:
		s.fail(w, http.StatusInternalServerError, err)
	default:
		s.json(w, story)
	}
}

func (s *Server) report(w http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	from, err := instant(query, "from")
	to, errTo := instant(query, "to")
	format := query.Get("format")
	if format != "" && format != "json" && format != "html" {
		err = errors.Join(err, fmt.Errorf("format is %q, want json or html", format))
	}
	if err = errors.Join(err, errTo); err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	data, err := s.Source.Report(request.Context(), from, to, query["deployment"])
	switch {
	case err != nil:
		s.fail(w, http.StatusInternalServerError, err)
	case format == "html":
		s.html(w, data)
	default:
		s.json(w, data)
	}
}

func instant(query url.Values, name string) (time.Time, error) {
	text := query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is %q, want an instant like 2026-11-23T20:00:05Z", name, text)
	}
	return at, nil
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	s.send(w, openAPI)
}
