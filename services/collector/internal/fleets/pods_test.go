package fleets

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// podServer is an API server that lists pods and tells of their changes.
type podServer struct {
	*httptest.Server
	address string
	quit    chan struct{} // ends the watches

	mu             sync.Mutex
	list           string
	lists, watches int
	opened         []string // the versions from which was watched
	watching       int
	events         chan string // one line each, to one watcher
}

func newPodServer(t *testing.T, list string) *podServer {
	t.Helper()
	s := &podServer{list: list, events: make(chan string)}
	s.start(t, "127.0.0.1:0")
	t.Cleanup(s.stop)
	return s
}

func (s *podServer) start(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.address, s.quit = listener.Addr().String(), make(chan struct{})
	quit := s.quit
	s.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(t, w, r, quit) })}}
	s.Start()
}

// stop ends the watches, also those that begin meanwhile, and then the server.
func (s *podServer) stop() {
	close(s.quit)
	s.Close()
}

func (s *podServer) serve(t *testing.T, w http.ResponseWriter, r *http.Request, quit <-chan struct{}) {
	query := r.URL.Query()
	if r.Method != http.MethodGet || r.URL.Path != list || query.Get("labelSelector") != "app=decode" {
		t.Errorf("%s %s", r.Method, r.URL)
	}
	if query.Get("watch") == "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lists++
		if code, text, found := strings.Cut(s.list, " "); found && len(code) == 3 {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, text)
			return
		}
		fmt.Fprintf(w, `{"metadata":{"resourceVersion":"v%d"},"items":[%s]}`, s.lists, s.list)
		return
	}
	s.mu.Lock()
	s.watches++
	s.watching++
	s.opened = append(s.opened, query.Get("resourceVersion"))
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.watching--
		s.mu.Unlock()
	}()
	if query.Get("allowWatchBookmarks") != "true" || query.Get("timeoutSeconds") == "" {
		t.Errorf("watched by %s", r.URL)
	}
	w.WriteHeader(http.StatusOK)
	for http.NewResponseController(w).Flush() == nil {
		select {
		case event := <-s.events:
			if event == "end" {
				return
			}
			fmt.Fprintln(w, event)
		case <-quit:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (s *podServer) set(list string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

func (s *podServer) read(of func() int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return of()
}

// podNamed returns a pod, ready since an instant or not at all.
func podNamed(name, ip, since, more string) string {
	ready := "False"
	if since != "" {
		ready = "True"
	} else {
		since = "2026-11-23T20:00:00Z"
	}
	return fmt.Sprintf(`{"metadata":{"name":%q%s},"status":{"phase":"Running","podIP":%q,"conditions":[{"type":"Ready","status":%q,"lastTransitionTime":%q}]}}`, name, more, ip, ready, since)
}

const (
	since    = "2026-11-23T20:00:10Z"
	deletion = `,"deletionTimestamp":"2026-11-23T20:00:00Z"`
)

// cluster returns a reader of a server that has no patience.
func (s *podServer) cluster() *Kubernetes {
	k := NewKubernetes(Access{URL: "http://" + s.address})
	k.quiet, k.firstPause = time.Hour, time.Millisecond
	return k
}

// until waits for what is told of pods: their names, those that are ready with
// an exclamation mark.
func until(t *testing.T, w *Watch, what string, holds func(names string, age time.Duration, err error) bool) {
	t.Helper()
	var names string
	var age time.Duration
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var pods []Pod
		pods, age, err = w.Pods(t.Context())
		var all []string
		for _, p := range pods {
			name := p.Name
			if p.Ready {
				name += "!"
			}
			all = append(all, name)
		}
		if names = strings.Join(all, " "); holds(names, age, err) {
			return
		}
	}
	t.Fatalf("%s: have %q, %v old, %v", what, names, age, err)
}

func current(want string) func(string, time.Duration, error) bool {
	return func(names string, age time.Duration, err error) bool { return names == want && age == 0 && err == nil }
}

func TestPodsAreFollowed(t *testing.T) {
	s := newPodServer(t, strings.Join([]string{
		podNamed("b", "10.0.0.2", "", ""), podNamed("a", "10.0.0.1", since, ""), podNamed("gone", "10.0.0.9", since, deletion), failed,
		podNamed("bare", "", since, ""),
	}, ","))
	w := s.cluster().Watch("chat", "app=decode")
	defer w.Close()
	until(t, w, "listed", current("a! b bare"))
	if pods, _, _ := w.Pods(t.Context()); pods[0].IP != "10.0.0.1" || !pods[0].ReadySince.Equal(time.Date(2026, 11, 23, 20, 0, 10, 0, time.UTC)) {
		t.Errorf("have %+v", pods[0])
	}
	for _, step := range []struct{ kind, object, want string }{
		{"ADDED", podNamed("c", "10.0.0.3", since, ""), "a! b bare c!"},
		{"MODIFIED", podNamed("b", "10.0.0.2", since, ""), "a! b! bare c!"},
		{"MODIFIED", podNamed("a", "10.0.0.1", "", ""), "a b! bare c!"},
		{"MODIFIED", podNamed("c", "10.0.0.3", since, deletion), "a b! bare"},
		{"DELETED", podNamed("c", "10.0.0.3", since, deletion), "a b! bare"},
		{"BOOKMARK", `{"kind":"Pod","metadata":{"resourceVersion":"v9"}}`, "a b! bare"},
		{"DELETED", podNamed("bare", "", since, ""), "a b!"},
	} {
		s.events <- fmt.Sprintf(`{"type":%q,"object":%s}`, step.kind, step.object)
		until(t, w, step.kind+" "+step.object, current(step.want))
	}
	// A version that is too old to go on from, and a word that is none.
	for n, event := range []string{`{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old resource version","code":410}}`, `{"type":"ADDED","object":7}`, "end"} {
		s.set(podNamed(fmt.Sprint("new-", n), "10.0.0.4", since, ""))
		s.events <- event
		until(t, w, event, current(fmt.Sprintf("new-%d!", n)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.opened[:3], " "); got != "v1 v2 v3" {
		t.Errorf("watched from %s, want each time from the version of the list", got)
	}
}

// TestPodsOfAServerThatRestarts: what was known is known to be old, and is what
// is there as soon as the server is back.
func TestPodsOfAServerThatRestarts(t *testing.T) {
	s := newPodServer(t, podNamed("a", "10.0.0.1", since, ""))
	w := s.cluster().Watch("chat", "app=decode")
	defer w.Close()
	until(t, w, "listed", current("a!"))
	s.stop()
	until(t, w, "down", func(names string, age time.Duration, err error) bool {
		return names == "a!" && age > 10*time.Millisecond && err != nil && strings.Contains(err.Error(), "connection refused")
	})
	s.set(podNamed("b", "10.0.0.2", since, ""))
	s.start(t, s.address)
	until(t, w, "back", current("b!"))
}

// TestPodsOfAServerThatHangs: silence alone loses nothing, and an API server that
// does not list the pods either does.
func TestPodsOfAServerThatHangs(t *testing.T) {
	s := newPodServer(t, podNamed("a", "10.0.0.1", since, ""))
	k := s.cluster()
	k.quiet = 20 * time.Millisecond
	w := k.Watch("chat", "app=decode")
	defer w.Close()
	until(t, w, "listed again and again", func(names string, age time.Duration, err error) bool {
		if age > 0 || err != nil {
			t.Fatalf("silence makes the pods %v old: %v", age, err)
		}
		return names == "a!" && s.read(func() int { return s.lists }) > 3
	})
	s.set(`403 {"message":"pods are forbidden"}`)
	until(t, w, "lost", func(names string, age time.Duration, err error) bool {
		return names == "a!" && age >= k.quiet && err != nil && strings.Contains(err.Error(), "403 Forbidden: pods are forbidden")
	})
}

func TestPodsThatMayNotBeListed(t *testing.T) {
	s := newPodServer(t, `403 {"message":"pods are forbidden"}`)
	w := s.cluster().Watch("chat", "app=decode")
	defer w.Close()
	until(t, w, "forbidden", func(names string, age time.Duration, err error) bool {
		return names == "" && age == 0 && err != nil && strings.Contains(err.Error(), "403 Forbidden: pods are forbidden")
	})
}

// TestWatchesAreShared: who asks for the same pods has the same watch, which ends
// with the last of them.
func TestWatchesAreShared(t *testing.T) {
	s := newPodServer(t, podNamed("a", "10.0.0.1", since, ""))
	k := s.cluster()
	one, other := k.Watch("chat", "app=decode"), k.Watch("chat", "app=decode")
	until(t, one, "listed", current("a!"))
	s.events <- `{"type":"ADDED","object":` + podNamed("b", "10.0.0.2", since, "") + `}`
	until(t, other, "told", current("a! b!"))
	one.Close()
	one.Close() // does nothing
	s.events <- `{"type":"ADDED","object":` + podNamed("c", "10.0.0.3", since, "") + `}`
	until(t, other, "told", current("a! b! c!"))
	if watches := s.read(func() int { return s.watches }); watches != 1 {
		t.Errorf("%d watches of the same pods", watches)
	}
	other.Close()
	for deadline := time.Now().Add(time.Minute); s.read(func() int { return s.watching }) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the watch goes on and nobody uses it")
		}
	}
	if len(k.watches) != 0 {
		t.Errorf("%d watches are kept", len(k.watches))
	}
}
