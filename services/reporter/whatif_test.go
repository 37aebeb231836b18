package reporter

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
	"tidemark.dev/pkg/replay/replaytest"
	"tidemark.dev/services/reporter/internal/browsertest"
	"tidemark.dev/services/reporter/internal/report"
)

// whatIfPage returns the page of two deployments under candidates: chat was
// activated half way, embed was not, and some of their sources failed.
func whatIfPage(t *testing.T, change func(*model.Deployment)) ([]byte, *replay.Result) {
	t.Helper()
	log, err := drivers.OpenURL(t.Context(), "memory://")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	topics := events.Topics{Prefix: events.DefaultPrefix}
	candidates := map[string]*model.Deployment{}
	for name, active := range map[string]time.Duration{"chat": 30 * time.Minute, "embed": 0} {
		err := replaytest.Write(log, topics, replaytest.Life{
			Deployment: name, Duration: time.Hour, ActiveFrom: active, Unseen: func(tick int) bool { return tick%300 > 285 },
		})
		if err != nil {
			t.Fatal(err)
		}
		spec := replaytest.Spec(name)
		change(&spec)
		candidates[name] = &spec
	}
	whatIf := NewWhatIf(candidates)
	result, err := replay.Verify(t.Context(), log, topics, replay.Options{Candidates: candidates, Visit: whatIf.Visit})
	if err != nil {
		t.Fatal(err)
	}
	page, err := whatIf.Page(result, ReportOptions{Title: "What if: candidate.yaml", GeneratedAt: replaytest.Begin})
	if err != nil {
		t.Fatal(err)
	}
	return page, result
}

// stricter wants a third of the latency, and has less room for it.
func stricter(spec *model.Deployment) {
	spec.SLA.TTFTMs, spec.Throughput.Predictor = 300, "constant"
	for _, role := range spec.Topology.Roles() {
		r, _ := spec.Roles.Get(role)
		r.MaxReplicas = 6
		spec.Roles.Set(role, r)
	}
}

func openable(t *testing.T, page []byte) string {
	t.Helper()
	if !report.Bundled() {
		const missing = "the front end is not built: `make web` builds it"
		if os.Getenv("TIDEMARK_REQUIRE_BROWSER") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	path := filepath.Join(t.TempDir(), "whatif.html")
	if err := os.WriteFile(path, page, 0o644); err != nil { //nolint:gosec // the browser reads it
		t.Fatal(err)
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// TestWhatIfPage looks at a what-if in a browser, from a file.
func TestWhatIfPage(t *testing.T) {
	browser := browsertest.Start(t)
	page, result := whatIfPage(t, stricter)
	if again, _ := whatIfPage(t, stricter); !bytes.Equal(again, page) {
		t.Error("equal replays give unequal pages")
	}
	address := openable(t, page)
	comparison := result.Deployments[0].Comparison
	if comparison.Different == 0 {
		t.Fatal("the candidate decides like the recorded")
	}
	const drawn = `document.querySelectorAll(".u-over").length > 6`
	for name, view := range map[string]browsertest.View{
		"whatif-1440-light": {Width: 1440}, "whatif-1440-dark": {Width: 1440, Dark: true},
		"whatif-390-light": {Width: 390}, "whatif-390-dark": {Width: 390, Dark: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := browser.Open(t, address, view)
			p.Wait(drawn)
			p.Screenshot(name)
			if got := browsertest.Eval[int](p, `document.documentElement.scrollWidth - innerWidth`); got > 0 {
				t.Errorf("the page is %d px wider than its window", got)
			}
			const cut = `[...document.querySelectorAll("h1, h2, h3, td, th, li, figcaption, .legend")].filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline").map((e) => e.textContent)`
			if got := browsertest.Eval[[]string](p, cut); len(got) > 0 {
				t.Errorf("text is cut off: %q", got)
			}
		})
	}
	t.Run("every figure of the comparison is there", func(t *testing.T) {
		p := browser.Open(t, address, browsertest.View{Width: 1440})
		p.Wait(drawn)
		rows := browsertest.Eval[[]string](p, `[...document.querySelectorAll(".compared tbody tr")].map((r) => [...r.children].slice(0, 3).map((c) => c.textContent).join("|"))`)
		for i, f := range comparison.Figures() {
			if want := fmt.Sprintf("%s|%.*f|%.*f", f.Name, f.Decimals, f.Decided, f.Decimals, f.Candidate); i >= len(rows) || rows[i] != want {
				t.Errorf("line %d is not %q: %q", i, want, rows)
			}
		}
		said := browsertest.Eval[string](p, `document.querySelector(".verdict").textContent`)
		parted := comparison.Candidate.Parted.Format(time.RFC3339)
		for _, want := range []string{"The recorded fleet did not follow the candidate", "another fleet from " + parted, fmt.Sprintf("%d of", comparison.Different)} {
			if !strings.Contains(said, want) {
				t.Errorf("the page does not say %q: %q", want, said)
			}
		}
	})
	t.Run("a difference opens to both chains, in any deployment", func(t *testing.T) {
		p := browser.Open(t, address, browsertest.View{Width: 1440})
		p.Wait(drawn)
		p.Click(".switcher button:nth-child(2)")
		id := browsertest.Eval[string](p, `document.querySelector(".differences tbody tr").id`)
		p = browser.Open(t, address+"#"+id, browsertest.View{Width: 1440})
		p.Wait(`document.querySelector(".bar b").textContent === "embed"`)
		p.Wait(`document.querySelectorAll("tr.detail .chain").length === 2`)
		p.Screenshot("whatif-difference-1440-light")
	})
}

// TestWhatIfPageAccessible runs axe-core with a difference open: no serious and no
// critical finding.
func TestWhatIfPageAccessible(t *testing.T) {
	browser := browsertest.Start(t)
	axe, err := os.ReadFile(filepath.Join("web", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Skip("axe-core is not installed: `make web` installs it")
	}
	page, _ := whatIfPage(t, stricter)
	address := openable(t, page)
	for name, view := range map[string]browsertest.View{"light": {Width: 1440}, "dark": {Width: 390, Dark: true}} {
		p := browser.Open(t, address, view)
		p.Click(".differences .toggle")
		p.Wait(`document.querySelectorAll("tr.detail .chain").length === 2`)
		browsertest.Eval[bool](p, string(axe)+"; true")
		const run = `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" || ")))`
		for _, violation := range browsertest.Eval[[]string](p, run) {
			t.Errorf("%s: %s", name, violation)
		}
	}
}

// TestWhatIfPageAlike is of a candidate that decides the same.
func TestWhatIfPageAlike(t *testing.T) {
	browser := browsertest.Start(t)
	page, _ := whatIfPage(t, func(*model.Deployment) {})
	p := browser.Open(t, openable(t, page), browsertest.View{Width: 390})
	p.Wait(`document.querySelector(".verdict .word").textContent === "No" && document.querySelector(".differences").textContent.includes("Every target is the same.")`)
}

// TestWhatIfWithoutFrontEnd: whatever the page is made of, it says what counts.
func TestWhatIfWithoutFrontEnd(t *testing.T) {
	page, result := whatIfPage(t, stricter)
	for _, want := range []string{"What if: candidate.yaml", "fleet was where wanted, %", result.Deployments[0].Comparison.Notes[0]} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
