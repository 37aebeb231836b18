package reporter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/services/reporter/internal/browsertest"
	"tidemark.dev/services/reporter/internal/report"
	"tidemark.dev/services/reporter/internal/web"
)

// serve serves a running reporter.
func serve(t *testing.T, r *running, access web.Access) *httptest.Server {
	t.Helper()
	stopping, stop := context.WithCancel(t.Context())
	mux := http.NewServeMux()
	(&web.Server{
		Live: r.live, Source: answers{r.Reporter}, Logger: quiet, Access: access, Pace: 50 * time.Millisecond, Now: r.now, Stopping: stopping,
	}).Register(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(stop)
	return server
}

// answer is what a server answered.
type answer struct {
	status int
	header http.Header
	body   string
}

func get(t *testing.T, address string, header http.Header) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// split returns the number of messages that were recorded before an hour of
// the day.
func split(messages []recorded, hour int) int {
	return slices.IndexFunc(messages, func(r recorded) bool {
		at, err := time.Parse(time.RFC3339Nano, r.Headers["ce_time"])
		return err == nil && at.Hour() >= hour
	})
}

// TestLivePage looks at the page of a reporter while the log goes on.
func TestLivePage(t *testing.T) {
	if !report.Bundled() {
		t.Skip("the front end is not built: `make web` builds it")
	}
	browser := browsertest.Start(t)
	messages := recordedLog(t)
	log := openLog(t)
	advised := split(messages, 11)
	publish(t, log, messages[:advised])
	r := start(t, log, DefaultConfig())
	server := serve(t, r, web.Access{})
	page := browser.Open(t, server.URL+"/", browsertest.View{Width: 1440, Allowed: []string{server.URL + "/api/v1/stream?"}})
	page.Wait(`document.querySelectorAll(".u-over").length > 10`)
	page.Wait(`document.querySelector(".state").textContent === "live"`)
	const badge, status = `document.querySelector(".badge").textContent`, `document.querySelector(".decisions .status").textContent`
	page.Wait(badge + ` === "advisory"`)
	if got := browsertest.Eval[string](page, status); !strings.HasPrefix(got, "66 decisions") {
		t.Errorf("the table says %q, want 66 decisions", got)
	}
	// What somebody set stays set while the page goes on.
	page.Click(`.chart .legend button[aria-pressed]`)
	page.Type(`input[type="search"]`, "scale_up")
	page.Hover(".bar", 0.5, 0.5) // Rows stay as they are while the pointer is on them.
	before := browsertest.Eval[string](page, `document.querySelector(".chart canvas").toDataURL()`)

	publish(t, log, messages[advised:])
	page.Wait(badge + ` === "active"`)
	page.Wait(status + `.endsWith("of 143")`)
	page.Wait(`document.body.textContent.includes("2026-11-24 00:00:00")`)
	page.Wait(`document.querySelector(".chart canvas").toDataURL() !== ` + fmt.Sprintf("%q", before))
	if got := browsertest.Eval[string](page, `document.querySelector(".chart .legend button").getAttribute("aria-pressed")`); got != "false" {
		t.Errorf("the line that was hidden came back: aria-pressed is %q", got)
	}
	page.Screenshot("live-1440-light")

	// A page that goes on shows what one shows that is opened now.
	const shown = `[...document.querySelectorAll(".verdict, .tiles, .facts")].map((e) => e.textContent).join("\n")`
	fresh := browser.Open(t, server.URL+"/", browsertest.View{Width: 1440, Allowed: []string{server.URL + "/api/v1/stream?"}})
	fresh.Wait(`document.querySelectorAll(".u-over").length > 10`)
	want, got := browsertest.Eval[string](fresh, shown), browsertest.Eval[string](page, shown)
	if got != want {
		t.Errorf("the page that went on shows\n%s\na new one\n%s", got, want)
	}
	const lines = `[...document.querySelectorAll(".chart canvas")].slice(1).map((c) => c.toDataURL().length + c.toDataURL().slice(-40)).join("\n")`
	want = browsertest.Eval[string](fresh, lines)
	page.Wait(lines + ` === ` + fmt.Sprintf("%q", want))
}

// TestLivePageBeforeAnything opens the page before there is anything to show.
func TestLivePageBeforeAnything(t *testing.T) {
	if !report.Bundled() {
		t.Skip("the front end is not built: `make web` builds it")
	}
	browser := browsertest.Start(t)
	log := openLog(t)
	server := serve(t, start(t, log, DefaultConfig()), web.Access{})
	page := browser.Open(t, server.URL+"/", browsertest.View{Width: 390, Allowed: []string{server.URL + "/api/v1/stream?"}})
	page.Wait(`document.body.textContent.includes("nothing about any deployment yet")`)
	publish(t, log, recordedLog(t)[:40])
	page.Wait(`document.querySelectorAll(".u-over").length > 10 && document.querySelector("h1").textContent.includes("chat-70b")`)
}

func TestStatusAPI(t *testing.T) {
	log := openLog(t)
	publish(t, log, recordedLog(t))
	r := start(t, log, DefaultConfig())
	server := serve(t, r, web.Access{})
	read := func(t *testing.T, path string, into any) {
		t.Helper()
		got := get(t, server.URL+path, nil)
		if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s answers %d, %s: %s", path, got.status, got.header.Get("Content-Type"), got.body)
		}
		if err := json.Unmarshal([]byte(got.body), into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}

	t.Run("deployments", func(t *testing.T) {
		var got struct{ Deployments []web.Deployment }
		read(t, "/api/v1/deployments", &got)
		if len(got.Deployments) != 1 || got.Deployments[0].Name != "chat-70b" || got.Deployments[0].Mode != "active" || got.Deployments[0].Newest == nil {
			t.Errorf("got %+v", got.Deployments)
		}
		var one struct {
			Name          string
			Configuration struct{ Revision int }
			Summary       report.Summary
			Score         report.Score
		}
		read(t, "/api/v1/deployments/chat-70b", &one)
		if one.Name != "chat-70b" || one.Configuration.Revision != 2 || one.Summary.Decisions != 143 || one.Score.Answer != report.InOperation {
			t.Errorf("got %+v", one)
		}
	})

	t.Run("decisions", func(t *testing.T) {
		var got struct{ Decisions []web.Decision }
		read(t, "/api/v1/decisions?action=scale_up&limit=3", &got)
		if len(got.Decisions) != 3 {
			t.Fatalf("got %d decisions, want 3", len(got.Decisions))
		}
		for i, d := range got.Decisions {
			if d.Decision.Action != "scale_up" || i > 0 && !d.Decision.ObservedAt.Before(got.Decisions[i-1].Decision.ObservedAt) {
				t.Errorf("decision %d is %s at %v", i, d.Decision.Action, d.Decision.ObservedAt)
			}
		}
		var older struct{ Decisions []web.Decision }
		read(t, "/api/v1/decisions?deployment=chat-70b&before="+got.Decisions[2].Decision.ObservedAt.Format(time.RFC3339), &older)
		if len(older.Decisions) == 0 || !older.Decisions[0].Decision.ObservedAt.Before(got.Decisions[2].Decision.ObservedAt) {
			t.Errorf("before does not hold: %d decisions", len(older.Decisions))
		}
		var story web.Story
		read(t, "/api/v1/decisions/"+got.Decisions[0].ID, &story)
		if story.ID != got.Decisions[0].ID || len(story.Actuations) == 0 || story.Actuations[0].Type != events.TypeScalingApplied {
			t.Errorf("got %+v", story)
		}
	})

	t.Run("report", func(t *testing.T) {
		var data report.Data
		read(t, "/api/v1/report?from=2026-11-23T06:00:00Z&to=2026-11-23T07:00:00Z&deployment=chat-70b", &data)
		if len(data.Deployments) != 1 || data.Deployments[0].Summary.Decisions != 7 {
			t.Errorf("got %d deployments, want the 7 decisions of one", len(data.Deployments))
		}
		got := get(t, server.URL+"/api/v1/report?format=html", nil)
		if got.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.HasPrefix(got.body, "<!doctype html>") {
			t.Errorf("got %s", got.header.Get("Content-Type"))
		}
	})

	t.Run("refusals", func(t *testing.T) {
		for path, want := range map[string]string{
			"/api/v1/deployments/nobody":   `404 {"error":"there is no deployment \"nobody\""}`,
			"/api/v1/deployments/code-8b":  `404 {"error":"there is no deployment \"code-8b\""}`,
			"/api/v1/decisions/none":       `404 {"error":"there is no decision \"none\""}`,
			"/api/v1/decisions?limit=0":    `400 {"error":"limit is \"0\", want 1 to 500"}`,
			"/api/v1/decisions?before=now": `400 {"error":"before is \"now\", want an instant like 2026-11-23T20:00:05Z"}`,
			"/api/v1/report?format=pdf":    `400 {"error":"format is \"pdf\", want json or html"}`,
		} {
			got := get(t, server.URL+path, nil)
			if said := fmt.Sprint(got.status, " ", strings.TrimSpace(got.body)); said != want {
				t.Errorf("%s answers\n%s\nwant\n%s", path, said, want)
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			request, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/api/v1/deployments", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s answers %s", method, response.Status)
			}
		}
	})

	t.Run("headers", func(t *testing.T) {
		for _, path := range []string{"/", "/api/v1/deployments", "/api/v1/decisions/none"} {
			got := get(t, server.URL+path, nil)
			policy := got.header.Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("%s has the policy %q", path, policy)
			}
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
				"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
			} {
				if value := got.header.Get(name); value != want {
					t.Errorf("%s has %s %q, want %q", path, name, value, want)
				}
			}
		}
	})
}

func TestAccess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ content, problem string }{
		"nobody":    {"# nobody\n\n", "lets nobody in"},
		"no scheme": {"secret\n", "line 1: want"},
		"no secret": {"\nbearer\n", "line 2: want"},
		"no user":   {"basic :secret\n", "line 1: want"},
	} {
		write(test.content)
		_, err := web.LoadAccess(path)
		if err == nil || !strings.Contains(err.Error(), test.problem) || strings.Contains(err.Error(), "secret\n") {
			t.Errorf("%s: got %v, want %q", name, err, test.problem)
		}
	}

	write("# who may read\nbearer t0ken\nbasic anna:pass:word\n")
	access, err := web.LoadAccess(path)
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, start(t, openLog(t), DefaultConfig()), access)
	basic := func(user, password string) http.Header {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		request.SetBasicAuth(user, password)
		return request.Header
	}
	for name, test := range map[string]struct {
		header http.Header
		want   int
	}{
		"nothing":        {nil, 401},
		"bearer":         {http.Header{"Authorization": {"Bearer t0ken"}}, 200},
		"wrong bearer":   {http.Header{"Authorization": {"Bearer t0ke"}}, 401},
		"basic":          {basic("anna", "pass:word"), 200},
		"wrong password": {basic("anna", "pass"), 401},
		"basic as token": {http.Header{"Authorization": {"Bearer anna:pass:word"}}, 401},
	} {
		for _, path := range []string{"/", "/api/v1/deployments", "/api/v1/openapi.json"} {
			got := get(t, server.URL+path, test.header)
			if got.status != test.want {
				t.Errorf("%s: %s answers %d, want %d", name, path, got.status, test.want)
			}
			if test.want == 401 && got.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: %s does not say how to authenticate", name, path)
			}
		}
	}
}

// TestOpenOnlyAtHome holds that others than this machine are let in on purpose only.
func TestOpenOnlyAtHome(t *testing.T) {
	for listen, open := range map[string]bool{
		"": true, "127.0.0.1:0": true, "[::1]:8080": true, "localhost:8080": true, "127.8.8.8:1": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "192.168.1.2:8080": false, "fleet.example:8080": false,
	} {
		if _, err := DefaultConfig().access(listen); (err == nil) != open {
			t.Errorf("at %q: %v", listen, err)
		}
	}
	if _, err := (Config{AllowAnonymous: true}).access(":8080"); err != nil {
		t.Errorf("allowed on purpose: %v", err)
	}
}
