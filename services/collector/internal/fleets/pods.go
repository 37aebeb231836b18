package fleets

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

// podsPerPage bounds one page of a list of pods.
const podsPerPage = 500

// pod is what is read of a pod.
type pod struct {
	Metadata struct {
		Name              string
		DeletionTimestamp *time.Time
	}
	Status struct {
		Phase      string
		PodIP      string
		Conditions []condition
	}
}

type condition struct {
	Type, Status       string
	LastTransitionTime time.Time
}

func (p *pod) condition(name string) condition {
	for _, c := range p.Status.Conditions {
		if c.Type == name {
			return c
		}
	}
	return condition{}
}

func (p *pod) has(condition, status string) bool { return p.condition(condition).Status == status }

// gone reports whether a pod is being deleted, or has ended.
func (p *pod) gone() bool {
	return p.Metadata.DeletionTimestamp != nil || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed"
}

// eachPod lists the pods that a selector matches, page by page, and returns the
// version of the list.
func (k *Kubernetes) eachPod(ctx context.Context, namespace, selector string, do func(*pod)) (version string, err error) {
	query := url.Values{"labelSelector": {selector}, "limit": {strconv.Itoa(podsPerPage)}}
	for {
		var page struct {
			Metadata struct{ Continue, ResourceVersion string }
			Items    []pod
		}
		if err := k.get(ctx, podsPath(namespace), query, &page); err != nil {
			return "", err
		}
		for i := range page.Items {
			do(&page.Items[i])
		}
		if page.Metadata.Continue == "" {
			return page.Metadata.ResourceVersion, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}

func podsPath(namespace string) []string { return []string{"api/v1/namespaces", namespace, "pods"} }

// Pod is a pod that may serve: one that is being deleted or has ended is none.
type Pod struct {
	Name, IP string
	// Ready pods are so since ReadySince, by the cluster's clock.
	Ready      bool
	ReadySince time.Time
}

func (p *pod) served() Pod {
	ready := p.condition("Ready")
	return Pod{Name: p.Metadata.Name, IP: p.Status.PodIP, Ready: ready.Status == "True" && p.Status.PodIP != "", ReadySince: ready.LastTransitionTime}
}

// Pods lists the pods that a selector matches, by name.
func (k *Kubernetes) Pods(ctx context.Context, namespace, selector string) ([]Pod, error) {
	var all []Pod
	_, err := k.eachPod(ctx, namespace, selector, func(p *pod) {
		if !p.gone() {
			all = append(all, p.served())
		}
	})
	slices.SortFunc(all, func(a, b Pod) int { return cmp.Compare(a.Name, b.Name) })
	return all, err
}

// How pods are watched.
const (
	// listTimeout bounds the listing before a watch.
	listTimeout = 30 * time.Second
	// A watch is ended by the API server after leastWatch to twice of it, and the
	// pods are listed anew: what was missed, however, is missed no longer.
	leastWatch = 5 * time.Minute
	// quiet is how long a watch may say nothing before the pods are listed anew.
	// An API server sends a bookmark each minute, and one that hangs sends none.
	quiet = 70 * time.Second
	// Between two attempts lies firstPause, doubled up to mostPause by failures
	// that follow each other, and up to half as much again by chance.
	firstPause, mostPause = time.Second, 30 * time.Second
)

// podsKey is what a watch is of.
type podsKey struct{ namespace, selector string }

// podWatch keeps the pods that a selector matches as the API server tells of
// them. All who ask for the same share it.
type podWatch struct {
	cluster *Kubernetes
	of      podsKey
	users   int // guarded by the cluster's mutex
	cancel  context.CancelFunc
	ended   chan struct{}
	// tried is closed when the first list was got or was not.
	tried chan struct{}

	mu     sync.Mutex
	pods   map[string]Pod
	listed bool
	// following says that the pods are those of the present; else seen is when
	// they were last, and err why they are not any more.
	following bool
	seen      time.Time
	err       error
}

// Watch is one use of a watch of pods, until it is closed.
type Watch struct {
	watch *podWatch
	close sync.Once
}

// Watch follows the pods that a selector matches.
func (k *Kubernetes) Watch(namespace, selector string) *Watch {
	k.mu.Lock()
	defer k.mu.Unlock()
	of := podsKey{namespace, selector}
	w := k.watches[of]
	if w == nil {
		ctx, cancel := context.WithCancel(context.Background())
		w = &podWatch{cluster: k, of: of, cancel: cancel, ended: make(chan struct{}), tried: make(chan struct{})}
		k.watches[of] = w
		go w.run(ctx)
	}
	w.users++
	return &Watch{watch: w}
}

// Close ends this use. The last one ends the watch.
func (w *Watch) Close() {
	w.close.Do(func() {
		k := w.watch.cluster
		k.mu.Lock()
		w.watch.users--
		last := w.watch.users == 0
		if last {
			delete(k.watches, w.watch.of)
		}
		k.mu.Unlock()
		if last {
			w.watch.cancel()
			<-w.watch.ended
		}
	})
}

// Pods returns the pods by name, and how old that knowledge is: 0 while the
// watch goes on, else the time since it was lost, with the reason. An error
// without pods says that none were ever listed.
func (w *Watch) Pods(ctx context.Context) (pods []Pod, age time.Duration, err error) {
	select {
	case <-w.watch.tried:
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("the API server has not answered yet: %w", ctx.Err())
	}
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	if !w.watch.listed {
		return nil, 0, w.watch.err
	}
	pods = make([]Pod, 0, len(w.watch.pods))
	for _, p := range w.watch.pods {
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b Pod) int { return cmp.Compare(a.Name, b.Name) })
	if w.watch.following {
		return pods, 0, nil
	}
	return pods, max(time.Since(w.watch.seen), 1), w.watch.err
}

// run follows until the context is done.
func (w *podWatch) run(ctx context.Context) {
	defer close(w.ended)
	pause := w.cluster.firstPause
	for {
		listed, err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if listed {
			pause = w.cluster.firstPause
		}
		if err != nil {
			w.lose(err)
		}
		select {
		case <-time.After(pause + rand.N(pause/2)):
		case <-ctx.Done():
			return
		}
		if err != nil {
			pause = min(2*pause, mostPause)
		}
	}
}

// follow lists the pods and then takes what changes, until the watch ends as it
// was asked to, or in silence, which the next list will explain.
func (w *podWatch) follow(ctx context.Context) (listed bool, err error) {
	version, err := w.list(ctx)
	if err != nil {
		return false, err
	}
	err = w.watch(ctx, version)
	if errors.Is(err, errQuiet) {
		return true, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = time.Now()
	return true, err
}

func (w *podWatch) list(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	pods := map[string]Pod{}
	version, err = w.cluster.eachPod(ctx, w.of.namespace, w.of.selector, func(p *pod) {
		if !p.gone() {
			pods[p.Metadata.Name] = p.served()
		}
	})
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pods, w.listed, w.following, w.seen, w.err = pods, true, true, time.Now(), nil
	w.try()
	return version, nil
}

// lose says that the pods are not known any more.
func (w *podWatch) lose(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.following, w.err = false, err
	w.try()
}

// try tells those who wait that there was a first attempt.
func (w *podWatch) try() {
	select {
	case <-w.tried:
	default:
		close(w.tried)
	}
}

// errQuiet says that a watch had nothing to say for longer than it should.
var errQuiet = errors.New("nothing was heard of the API server")

// watch takes changes since a version, until the API server ends the watch.
func (w *podWatch) watch(ctx context.Context, version string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(w.cluster.quiet, func() { cancel(errQuiet) })
	defer silence.Stop()
	body, err := w.cluster.send(ctx, podsPath(w.of.namespace), url.Values{
		"labelSelector": {w.of.selector}, "watch": {"true"}, "resourceVersion": {version}, "allowWatchBookmarks": {"true"},
		"timeoutSeconds": {strconv.Itoa(int((leastWatch + rand.N(leastWatch)).Seconds()))},
	})
	for decoder := (*json.Decoder)(nil); err == nil; {
		if decoder == nil {
			defer body.Close()
			decoder = json.NewDecoder(body)
		}
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if err = decoder.Decode(&event); err == nil {
			silence.Reset(w.cluster.quiet)
			err = w.take(event.Type, event.Object)
		}
	}
	if errors.Is(context.Cause(ctx), errQuiet) {
		return errQuiet
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("watch pods: %w", err)
}

// take takes one event of a watch.
func (w *podWatch) take(kind string, object json.RawMessage) error {
	var p pod
	switch kind {
	case "BOOKMARK":
	case "ADDED", "MODIFIED", "DELETED":
		if err := json.Unmarshal(object, &p); err != nil {
			return err
		}
	default: // ERROR: often that the version is too old to go on from
		var status struct{ Message string }
		_ = json.Unmarshal(object, &status) // what it says is for people
		return fmt.Errorf("%s: %s", kind, status.Message)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = time.Now()
	switch {
	case kind == "BOOKMARK":
	case kind == "DELETED" || p.gone():
		delete(w.pods, p.Metadata.Name)
	default:
		w.pods[p.Metadata.Name] = p.served()
	}
	return nil
}
