package report

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
)

//go:embed dist
var dist embed.FS

//go:embed page.html fallback.html fallback.css
var pages embed.FS

// bundle is the front end, built by `make web`.
type bundle struct{ script, style string }

// loadBundle returns the bundle that lies in dir, and whether there is one.
func loadBundle(dir fs.FS) (bundle, bool, error) {
	script, err := fs.ReadFile(dir, "dist/report.js")
	if errors.Is(err, fs.ErrNotExist) {
		return bundle{}, false, nil
	}
	if err != nil {
		return bundle{}, false, fmt.Errorf("read script of the bundle: %w", err)
	}
	style, err := fs.ReadFile(dir, "dist/report.css")
	if err != nil {
		return bundle{}, false, fmt.Errorf("read style of the bundle: %w", err)
	}
	b := bundle{script: strings.TrimSpace(string(script)), style: strings.TrimSpace(string(style))}
	if strings.Contains(strings.ToLower(b.script), "</script") || strings.Contains(strings.ToLower(b.style), "</style") {
		return bundle{}, false, errors.New("load bundle: it holds a closing tag, which would end it early")
	}
	return b, true, nil
}

// Bundled reports whether the front end was built into the program. Without
// it, Render writes tables.
func Bundled() bool {
	_, ok, err := loadBundle(dist)
	return ok && err == nil
}

// Render writes data as one HTML file that needs nothing else. Its
// Content-Security-Policy allows its own script and style by their hashes, and
// no request at all. Where the front end was not built, the file says so and
// shows the data as tables.
func Render(w io.Writer, data Data) error {
	_, err := render(w, data, dist)
	return err
}

// RenderPolicy is Render for a page that is served: it returns the page's
// Content-Security-Policy too, for the header of the answer. A page that is live
// may connect to where it came from.
func RenderPolicy(w io.Writer, data Data) (policy string, err error) { return render(w, data, dist) }

func render(w io.Writer, data Data, front fs.FS) (policy string, err error) {
	b, ok, err := loadBundle(front)
	if err == nil && ok {
		policy, err = renderPage(w, data, b)
	} else if err == nil {
		policy, err = renderTables(w, data)
	}
	if err != nil {
		return "", fmt.Errorf("render report: %w", err)
	}
	return policy, nil
}

// source is a CSP source expression that allows exactly this inline content.
func source(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// locked is the policy of every page: nothing is loaded, framed or sent.
const locked = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'"

func renderPage(w io.Writer, data Data, b bundle) (policy string, err error) {
	// Encoding escapes <, > and &, so that no string can end the element.
	encoded, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("encode data: %w", err)
	}
	policy = locked + "; script-src " + source(b.script) + "; style-src " + source(b.style)
	if data.Live != "" {
		policy += "; connect-src 'self'"
	}
	return policy, pageTemplate.ExecuteTemplate(w, "page.html", map[string]any{
		"Title":  data.Title,
		"Policy": policy,
		"Style":  template.CSS(b.style),
		"Script": template.JS(b.script),
		"Data":   template.JS(encoded),
	})
}

// tableRows bounds the decisions in a fallback page, which has no paging.
const tableRows = 500

func renderTables(w io.Writer, data Data) (policy string, err error) {
	style, err := pages.ReadFile("fallback.css")
	if err != nil {
		return "", err
	}
	content := strings.TrimSpace(string(style))
	policy = locked + "; style-src " + source(content)
	return policy, pageTemplate.ExecuteTemplate(w, "fallback.html", map[string]any{
		"Data":   data,
		"Policy": policy,
		"Style":  template.CSS(content),
	})
}

var pageTemplate = template.Must(template.New("").Funcs(template.FuncMap{
	"instant": func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05") },
	"utc":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"words":   func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), "_", " ") },
	"hours": func(v *float64) string {
		if v == nil {
			return "unknown"
		}
		return fmt.Sprintf("%.1f", *v)
	},
	"share": func(s Share) string {
		if s.Of == 0 {
			return "not measured"
		}
		return fmt.Sprintf("%.1f %% of %d windows", 100*float64(s.Kept)/float64(s.Of), s.Of)
	},
	"rows": changes,
	"line": lastFigures,
}).ParseFS(pages, "page.html", "fallback.html"))

// listed is one row of the table of decisions.
type listed struct {
	ID    string
	AtMs  int64
	Shape Shape
	TTFT  string
	ITL   string
}

// changes lists the newest decisions that are not like the one before them,
// up to tableRows.
func changes(d Decisions) ([]listed, error) {
	shapes := make([]Shape, len(d.Shapes))
	for i, raw := range d.Shapes {
		if err := json.Unmarshal(raw, &shapes[i]); err != nil {
			return nil, fmt.Errorf("decode shape of a decision: %w", err)
		}
	}
	var out []listed
	at := d.StartMs
	for i, id := range d.IDs {
		at += d.StepsMs[i]
		if i > 0 && d.Shape[i] == d.Shape[i-1] {
			continue
		}
		out = append(out, listed{id, at, shapes[d.Shape[i]], latency(d.TTFTEstMs[i]), latency(d.ITLEstMs[i])})
	}
	slices.Reverse(out)
	return out[:min(len(out), tableRows)], nil
}

func latency(ms float64) string {
	if ms != ms {
		return "n/a"
	}
	return fmt.Sprintf("%.1f ms", ms)
}

// figures is the range of one series in words.
type figures struct {
	Name     string
	Min, Max float64
	Last     string
}

// lastFigures sums up each series of a table by its extremes and newest figure.
func lastFigures(s *Series) []figures {
	if s == nil {
		return nil
	}
	names := make([]string, 0, len(s.Values))
	for name := range s.Values {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []figures
	for _, name := range names {
		f := figures{Name: name, Last: "no figure"}
		first := true
		for _, v := range s.Values[name] {
			if v != v {
				continue
			}
			if first {
				f.Min, f.Max, first = v, v, false
			}
			f.Min, f.Max = min(f.Min, v), max(f.Max, v)
		}
		if n := len(s.Values[name]); n > 0 {
			if v := s.Values[name][n-1]; v == v {
				f.Last = fmt.Sprintf("%.4g", v)
			}
		}
		out = append(out, f)
	}
	return out
}
