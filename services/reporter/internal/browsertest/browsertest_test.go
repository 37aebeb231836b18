package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// recorder is a test that keeps its errors.
type recorder struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// TestOpenHoldsPages holds that what a page must not do fails its test.
func TestOpenHoldsPages(t *testing.T) {
	browser := Start(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.URL.Query().Get("body")
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>t</title><link rel="icon" href="data:,"><body>%s<p id="end">end</p>`, body)
	}))
	t.Cleanup(server.Close)
	for name, test := range map[string]struct{ body, complaint string }{
		"good":         {"<p>Good", ""},
		"error":        {"<script>console.error('said so')</script>", "console: \"said so\""},
		"warning":      {"<script>console.warn('said so')</script>", "console: \"said so\""},
		"exception":    {"<script>throw new Error('thrown so')</script>", "Error: thrown so"},
		"own request":  {"<img src='/picture'>", "requests " + server.URL + "/picture"},
		"policy":       {"<meta http-equiv='Content-Security-Policy' content=\"script-src 'none'\"><script>1</script>", "Content Security Policy"},
		"late promise": {"<script>Promise.reject(new Error('rejected so'))</script>", "rejected so"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			address := server.URL + "/?" + url.Values{"body": {test.body}}.Encode()
			page := browser.Open(r, address, View{})
			page.Wait(`document.getElementById("end")`)
			for i := len(r.cleanups) - 1; i >= 0; i-- {
				r.cleanups[i]()
			}
			all := strings.Join(r.errors, "\n")
			if test.complaint == "" && all != "" || !strings.Contains(all, test.complaint) {
				t.Errorf("got %q, want %q", all, test.complaint)
			}
		})
	}
}
