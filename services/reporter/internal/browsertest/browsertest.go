// Package browsertest opens pages in a headless Chromium for tests.
//
// Every page is held to the same promises, which fail its test when they are
// broken: it logs no warning and no error, it throws nothing, and it requests
// nothing but what it is allowed to.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds one action in a page; a loaded machine is slow.
const patience = 60 * time.Second

// names are those under which Chromium is installed; tools/browser has the same.
var names = []string{"headless_shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

// Browser is a running Chromium.
type Browser struct{ ctx context.Context }

// Start starts a Chromium that ends with the test. Where there is none the
// test is skipped, or fails if TIDEMARK_REQUIRE_BROWSER is 1.
func Start(t testing.TB) *Browser {
	t.Helper()
	var path string
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const missing = "there is no Chromium: `make browser` installs it"
		if os.Getenv("TIDEMARK_REQUIRE_BROWSER") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
		chromedp.WSURLReadTimeout(patience),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	t.Cleanup(func() {
		bounded, stop := context.WithTimeout(ctx, 10*time.Second)
		defer stop()
		if err := chromedp.Cancel(bounded); err != nil {
			t.Logf("stop %s: %v", path, err)
		}
	})
	return &Browser{ctx: ctx}
}

// View is how a page is looked at.
type View struct {
	Width int64
	Dark  bool
	// Allowed are the prefixes of what the page may request, beside its own address.
	Allowed []string
}

// Page is an open page.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	requests   []string
}

// Open opens an address and waits until it is loaded.
func (b *Browser) Open(t testing.TB, address string, view View) *Page {
	t.Helper()
	ctx, stop := chromedp.NewContext(b.ctx)
	t.Cleanup(stop)
	p := &Page{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	if err := chromedp.Listen(ctx, func(event any) { p.observe(event, address, view.Allowed) }); err != nil {
		t.Fatalf("listen to the page: %v", err)
	}
	theme := "light"
	if view.Dark {
		theme = "dark"
	}
	p.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
		})
		return err
	}))
	p.do(chromedp.EmulateViewport(max(view.Width, 360), 900))
	p.do(chromedp.Navigate(address))
	t.Cleanup(func() {
		for _, complaint := range p.Complaints() {
			t.Errorf("%s: %s", address, complaint)
		}
	})
	return p
}

func (p *Page) observe(event any, address string, allowed []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		url := e.Request.URL
		p.requests = append(p.requests, url)
		document, _, _ := strings.Cut(address, "#")
		own := strings.HasPrefix(url, "data:") || strings.HasPrefix(url, "blob:") || url == document
		if !own && !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(url, prefix) }) {
			p.complaints = append(p.complaints, "requests "+url)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var said []string
			for _, arg := range e.Args {
				said = append(said, string(arg.Value)+arg.Description)
			}
			p.complaints = append(p.complaints, "console: "+strings.Join(said, " "))
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += ": " + e.ExceptionDetails.Exception.Description
		}
		p.complaints = append(p.complaints, "throws "+text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.complaints = append(p.complaints, "log: "+e.Entry.Text)
		}
	}
}

// Complaints returns what was logged, thrown or requested against the rules.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.complaints)
}

// Requests returns the addresses that were requested, the page's own among them.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

func (p *Page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("act in the page: %v (complaints: %q)", err, p.Complaints())
	}
}

// Eval returns what an expression is in the page.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return value
}

// Wait waits until an expression is true in the page.
func (p *Page) Wait(expression string) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(patience)))
	if err != nil {
		p.t.Fatalf("wait for %s: %v", expression, err)
	}
}

// Click clicks the first element of a selector.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.do(chromedp.ScrollIntoView(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
}

// DoubleClick double-clicks the first element of a selector.
func (p *Page) DoubleClick(selector string) {
	p.t.Helper()
	p.do(chromedp.ScrollIntoView(chromedp.CSS(selector)), chromedp.DoubleClick(chromedp.CSS(selector)))
}

// Type types text into the first element of a selector.
func (p *Page) Type(selector, text string) {
	p.t.Helper()
	p.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

type rectangle struct{ X, Y, Width, Height float64 }

func (p *Page) rectangle(selector string) rectangle {
	p.t.Helper()
	p.do(chromedp.ScrollIntoView(chromedp.CSS(selector)))
	return Eval[rectangle](p, `(() => { const r = document.querySelector(`+quote(selector)+`).getBoundingClientRect(); return {X: r.x, Y: r.y, Width: r.width, Height: r.height} })()`)
}

// Drag drags the pointer across the first element of a selector, from one
// share of its width to another.
func (p *Page) Drag(selector string, from, to float64) {
	p.t.Helper()
	r := p.rectangle(selector)
	p.do(chromedp.DragAndDropXY(r.X+from*r.Width, r.Y+r.Height/2, r.X+to*r.Width, r.Y+r.Height/2))
}

// Hover moves the pointer over the first element of a selector, to a share of
// its width and height.
func (p *Page) Hover(selector string, x, y float64) {
	p.t.Helper()
	r := p.rectangle(selector)
	p.do(chromedp.MouseEvent("mouseMoved", r.X+x*r.Width, r.Y+y*r.Height))
}

func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// Screenshot keeps a picture of the whole page as out/screenshots/NAME.png at
// the root of the tree, for people to look at.
func (p *Page) Screenshot(name string) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Fatalf("take a screenshot: %v", err)
	}
	p.keep(name+".png", picture)
}

// Print keeps the page as it is printed as out/screenshots/NAME.pdf.
func (p *Page) Print(name string) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	pages, err := chromedp.Run(ctx, chromedp.PrintToPDF())
	if err != nil {
		p.t.Fatalf("print: %v", err)
	}
	p.keep(name+".pdf", pages)
}

func (p *Page) keep(name string, content []byte) {
	p.t.Helper()
	path := filepath.Join(root(p.t), "out", "screenshots", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("the test runs outside of the tree: no go.work above it")
		}
		dir = parent
	}
}
