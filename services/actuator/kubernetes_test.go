//go:build e2e

package actuator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authentication "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/kubetest"
)

// These tests run the actuator against a real Kubernetes API server, under the
// roles of deploy/kubernetes. They share one control plane, a namespace each.

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.cluster != nil {
		shared.cluster.Stop()
	}
	os.Exit(code)
}

// shared is the control plane of all tests.
var shared struct {
	once    sync.Once
	cluster *kubetest.Cluster
	admin   dynamic.Interface
	err     error
}

// kube is a namespace of the control plane, and a log with actuators at work.
type kube struct {
	T testing.TB
	*world
	cluster   *kubetest.Cluster
	admin     dynamic.Interface
	namespace string
	node      string // of the pods that workload makes; none: schedule places them
	revisions map[string]int
	epochs    map[string]int
}

func newKube(t testing.TB) *kube {
	t.Helper()
	shared.once.Do(func() {
		if shared.cluster, shared.err = kubetest.Start(context.Background()); shared.err == nil {
			shared.err = prepare()
		}
	})
	if errors.Is(shared.err, kubetest.ErrNoAssets) && os.Getenv(kubetest.RequireVariable) != "1" {
		t.Skip(shared.err)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	log, err := drivers.OpenURL(t.Context(), "memory://")
	if err != nil {
		t.Fatal(err)
	}
	k := &kube{
		T: t, node: "node-0", cluster: shared.cluster, admin: shared.admin, revisions: map[string]int{}, epochs: map[string]int{},
		world:     &world{TB: t, log: log, topics: events.Topics{Prefix: "test."}},
		namespace: strings.ToLower(strings.NewReplacer("/", "-", "_", "-", " ", "-", ",", "").Replace(t.Name())),
	}
	k.namespace = strings.TrimPrefix(strings.TrimPrefix(k.namespace, "test"), "benchmark")
	k.namespace = strings.TrimPrefix(k.namespace, "kubernetes")
	k.create(resource("", "v1", "namespaces"), "", `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": %q}}`, k.namespace)
	for _, object := range manifests(t, "../../deploy/kubernetes/fleet-namespace/rolebindings.yaml") {
		k.put(object, k.namespace)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// prepare makes what all tests need: the kinds that Kubernetes does not have,
// a node, and the accounts and roles of deploy/kubernetes.
func prepare() error {
	admin, err := dynamic.NewForConfig(shared.cluster.Admin())
	if err != nil {
		return err
	}
	shared.admin = admin
	documents := `apiVersion: v1
kind: Node
metadata: {name: node-0}
status: {capacity: {cpu: "1000", memory: 1Ti, pods: "5000"}, allocatable: {cpu: "1000", memory: 1Ti, pods: "5000"}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: modelservers}
rules:
  - {apiGroups: [example.com], resources: [modelservers], verbs: [get]}
  - {apiGroups: [example.com], resources: [modelservers/scale], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: modelservers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: modelservers}
subjects: [{kind: ServiceAccount, name: tidemark-actuator, namespace: tidemark}]
`
	for _, file := range []string{"../../deploy/kubernetes/namespace.yaml", "testdata/crds.yaml", "../../deploy/kubernetes/rbac.yaml"} {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		documents += "---\n" + string(content)
	}
	objects, err := decode([]byte(documents))
	if err != nil {
		return err
	}
	for _, object := range objects {
		gvr := guess(object)
		namespace := ""
		if object.GetKind() == "ServiceAccount" {
			namespace = "tidemark"
		}
		if _, err := admin.Resource(gvr).Namespace(namespace).Create(context.Background(), object, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	// A kind is served a moment after it was made.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		missing := error(nil)
		for _, kind := range []string{"modelservers.example.com/v1", "leaderworkersets.leaderworkerset.x-k8s.io/v1", "dynamographdeployments.nvidia.com/v1alpha1", "dynamographdeploymentscalingadapters.nvidia.com/v1alpha1", "scaledobjects.keda.sh/v1alpha1"} {
			plural, rest, _ := strings.Cut(kind, ".")
			group, version, _ := strings.Cut(rest, "/")
			if _, err := admin.Resource(resource(group, version, plural)).Namespace("default").List(context.Background(), metav1.ListOptions{}); err != nil {
				missing = err
			}
		}
		if missing == nil || time.Now().After(deadline) {
			return missing
		}
	}
}

func decode(content []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var fields map[string]any
		if err := yaml.Unmarshal([]byte(document), &fields); err != nil {
			return nil, err
		}
		if len(fields) > 0 {
			objects = append(objects, &unstructured.Unstructured{Object: fields})
		}
	}
	return objects, nil
}

func manifests(t testing.TB, file string) []*unstructured.Unstructured {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decode(content)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return objects
}

func resource(group, version, plural string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: plural}
}

// guess returns the resource of an object, by the rule that nearly all follow.
func guess(object *unstructured.Unstructured) schema.GroupVersionResource {
	gvk := object.GroupVersionKind()
	plural := strings.ToLower(gvk.Kind) + "s"
	if strings.HasSuffix(plural, "ys") {
		plural = strings.TrimSuffix(plural, "ys") + "ies"
	}
	return resource(gvk.Group, gvk.Version, plural)
}

func (k *kube) create(gvr schema.GroupVersionResource, namespace, format string, args ...any) {
	k.T.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(fmt.Appendf(nil, format, args...), &object.Object); err != nil {
		k.Fatal(err)
	}
	if _, err := k.admin.Resource(gvr).Namespace(namespace).Create(k.T.Context(), object, metav1.CreateOptions{}); err != nil {
		k.Fatalf("create %s: %v", gvr.Resource, err)
	}
}

func (k *kube) put(object *unstructured.Unstructured, namespace string) {
	k.T.Helper()
	if _, err := k.admin.Resource(guess(object)).Namespace(namespace).Create(k.T.Context(), object, metav1.CreateOptions{}); err != nil {
		k.Fatalf("create %s %s: %v", object.GetKind(), object.GetName(), err)
	}
}

// workload makes an object with so many replicas, each of which is ready after a
// while, and waits until they are.
func (k *kube) workload(target model.KubernetesTarget, replicas int, readyAfter time.Duration) {
	k.T.Helper()
	gvr := k.resourceOf(target)
	switch target.Kind {
	case "Deployment", "StatefulSet":
		k.create(gvr, k.namespace, `
apiVersion: apps/v1
kind: %[1]s
metadata: {name: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}, annotations: {%[4]s: %[5]s}}
    spec: {nodeName: %[6]q, terminationGracePeriodSeconds: 1, containers: [{name: engine, image: engine}]}
`, target.Kind, target.Name, replicas, kubetest.ReadyAfter, readyAfter, k.node)
	case model.KindDynamoGraphDeployment:
		k.create(gvr, k.namespace, `{"apiVersion": %q, "kind": %q, "metadata": {"name": %q}, "spec": {"services": {"Frontend": {"replicas": 1}, %q: {"replicas": %d}}}}`,
			target.APIVersion, target.Kind, target.Name, target.Service, replicas)
		k.operate(target, readyAfter)
	default:
		k.create(gvr, k.namespace, `{"apiVersion": %q, "kind": %q, "metadata": {"name": %q}, "spec": {"replicas": %d, "dgdRef": {"name": "graph", "serviceName": "worker"}}}`,
			target.APIVersion, target.Kind, target.Name, replicas)
		k.operate(target, readyAfter)
	}
}

// operate plays the operator of a custom resource until the test ends.
func (k *kube) operate(target model.KubernetesTarget, readyAfter time.Duration) {
	gvr := k.resourceOf(target)
	ctx := k.T.Context()
	done := make(chan struct{})
	k.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		since, last := time.Now(), -1
		for ; ctx.Err() == nil; time.Sleep(30 * time.Millisecond) {
			object, err := k.admin.Resource(gvr).Namespace(k.namespace).Get(ctx, target.Name, metav1.GetOptions{})
			if err != nil {
				continue
			}
			set := k.setTo(object, target)
			if set != last {
				since, last = time.Now(), set
			}
			status := map[string]any{"replicas": int64(set)}
			if ready := time.Since(since) >= readyAfter; target.Service != "" {
				old := numberAt(object, "status", "services", target.Service, "availableReplicas")
				if ready {
					old = set
				}
				status = map[string]any{"services": map[string]any{target.Service: map[string]any{"replicas": int64(set), "availableReplicas": int64(old)}}}
			} else if target.Kind == "DynamoGraphDeploymentScalingAdapter" {
				status["selector"] = "app=" + target.Name
				k.pods(target.Name, set, ready)
			} else if ready {
				status["readyReplicas"], status["observedGeneration"] = int64(set), object.GetGeneration()
			} else {
				status["readyReplicas"], status["observedGeneration"] = int64(0), object.GetGeneration()
			}
			object.Object["status"] = status
			_, _ = k.admin.Resource(gvr).Namespace(k.namespace).UpdateStatus(ctx, object, metav1.UpdateOptions{})
		}
	}()
}

// pods makes so many pods of a name, and takes the others away.
func (k *kube) pods(name string, n int, make bool) {
	pods := k.admin.Resource(resource("", "v1", "pods")).Namespace(k.namespace)
	list, err := pods.List(k.T.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		return
	}
	for i := n; i < len(list.Items); i++ {
		_ = pods.Delete(k.T.Context(), list.Items[i].GetName(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	}
	for i := len(list.Items); make && i < n; i++ {
		pod := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"generateName": name + "-", "labels": map[string]any{"app": name}},
			"spec": map[string]any{"nodeName": "node-0", "containers": []any{map[string]any{"name": "engine", "image": "engine"}}},
		}}
		_, _ = pods.Create(k.T.Context(), pod, metav1.CreateOptions{})
	}
}

func (k *kube) resourceOf(target model.KubernetesTarget) schema.GroupVersionResource {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion(target.APIVersion)
	object.SetKind(target.Kind)
	return guess(object)
}

func numberAt(object *unstructured.Unstructured, path ...string) int {
	value, _, _ := unstructured.NestedInt64(object.Object, path...)
	return int(value)
}

func (k *kube) setTo(object *unstructured.Unstructured, target model.KubernetesTarget) int {
	path := []string{"spec", "replicas"}
	if target.Service != "" {
		path = []string{"spec", "services", target.Service, "replicas"}
	}
	return numberAt(object, path...)
}

// replicas returns what an object is set to.
func (k *kube) replicas(target model.KubernetesTarget) int {
	k.T.Helper()
	object, err := k.admin.Resource(k.resourceOf(target)).Namespace(k.namespace).Get(k.T.Context(), target.Name, metav1.GetOptions{})
	if err != nil {
		k.Fatal(err)
	}
	return k.setTo(object, target)
}

// patch changes an object as an administrator.
func (k *kube) patch(target model.KubernetesTarget, patch string) {
	k.T.Helper()
	_, err := k.admin.Resource(k.resourceOf(target)).Namespace(k.namespace).Patch(k.T.Context(), target.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		k.Fatal(err)
	}
}

func appsTarget(kind, name string) model.KubernetesTarget {
	return model.KubernetesTarget{APIVersion: "apps/v1", Kind: kind, Name: name}
}

// revise publishes the next revision of a deployment that is scaled here.
func (k *kube) revise(name string, active bool, prefill, decode model.KubernetesTarget, change ...func(*model.Deployment)) {
	k.T.Helper()
	spec := activeSpec(name)
	spec.Advisory = !active
	spec.Actuator = &model.Actuator{Kubernetes: &model.KubernetesActuator{Namespace: k.namespace, Roles: both(prefill, decode)}}
	for _, c := range change {
		c(&spec)
	}
	k.revisions[name]++
	if active && k.epochs[name] == 0 {
		k.epochs[name] = 1
	}
	publish(k.T, k.log, k.topics, &model.DeploymentConfigured{
		Deployment: name, Revision: k.revisions[name], Epoch: k.epochs[name], Spec: spec, ChangedBy: "test", Reason: "test",
	}, time.Now())
}

// decide publishes a decision of this instant about the deployment chat.
func (k *kube) decide(desired, target model.PerRole[int]) {
	k.T.Helper()
	decision := activeDecision("chat", time.Now().UTC(), desired, target)
	decision.Epoch = k.epochs["chat"]
	publish(k.T, k.log, k.topics, decision, time.Time{})
}

// token returns a token of one of Tidemark's service accounts.
func (k *kube) token(account string) string {
	k.T.Helper()
	request, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&authentication.TokenRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
		Spec:     authentication.TokenRequestSpec{ExpirationSeconds: new(int64(3600))},
	})
	if err != nil {
		k.Fatal(err)
	}
	request["metadata"] = map[string]any{"name": account}
	answer, err := k.admin.Resource(resource("", "v1", "serviceaccounts")).Namespace("tidemark").
		Create(k.T.Context(), &unstructured.Unstructured{Object: request}, metav1.CreateOptions{}, "token")
	if err != nil {
		k.Fatal(err)
	}
	token, _, _ := unstructured.NestedString(answer.Object, "status", "token")
	return token
}

// faults stands between an actuator and the API server.
type faults struct {
	mu sync.Mutex
	// before is asked about every request: it may change the world, wait, or
	// answer in the server's place, by a status that is not 0.
	before func(*http.Request) (status int)
}

func (f *faults) set(before func(*http.Request) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// through returns a kubeconfig that leads through faults to the API server.
func (k *kube) through(f *faults) string {
	k.T.Helper()
	settings := k.cluster.Config(k.token("tidemark-actuator"))
	transport, err := rest.TransportFor(settings)
	if err != nil {
		k.Fatal(err)
	}
	to, err := url.Parse(settings.Host)
	if err != nil {
		k.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: transport, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		before := f.before
		f.mu.Unlock()
		if before != nil {
			if status := before(r); status != 0 {
				w.Header().Set("Retry-After", "1")
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, "code": %d, "message": "injected"}`,
					map[int]string{429: "TooManyRequests", 503: "ServiceUnavailable"}[status], status)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	k.Cleanup(server.Close)
	file := k.TempDir() + "/kubeconfig"
	if err := os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q}}]
users: [{name: test, user: {}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, server.URL), 0o600); err != nil {
		k.Fatal(err)
	}
	return file
}

// begin starts an actuator of the actuator's own service account.
func (k *kube) begin(change ...func(*Config)) (actuator *worker, stop func()) {
	k.T.Helper()
	kubeconfig, err := k.cluster.Kubeconfig("actuator", k.token("tidemark-actuator"))
	if err != nil {
		k.Fatal(err)
	}
	config := DefaultConfig()
	config.Kubernetes.Kubeconfig = kubeconfig
	config.SettleEvery = 50 * time.Millisecond
	for _, c := range change {
		c(&config)
	}
	actuator = newWorker(config, k.log, k.topics, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.T.Context()))
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() { ended <- actuator.Run(ctx, func() { close(ready) }) }()
	<-ready
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			k.Errorf("the actuator ended with %v", err)
		}
	})
	k.Cleanup(stop)
	return actuator, stop
}

// await waits for the outcomes of a deployment to be these, each by its beginning.
func (k *kube) await(name string, outcomes ...string) {
	k.T.Helper()
	var got []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got = k.outcomes(name); slices.EqualFunc(got, outcomes, strings.HasPrefix) {
			return
		}
	}
	k.Fatalf("the actuations of %s are\n%q, want\n%q", name, got, outcomes)
}

// written returns the writes of the namespace's replicas that the API server let
// through, in their order.
func (k *kube) written() []kubetest.Request {
	k.T.Helper()
	requests, err := k.cluster.Requests()
	if err != nil {
		k.Fatal(err)
	}
	return slices.DeleteFunc(requests, func(r kubetest.Request) bool {
		return r.Object.Namespace != k.namespace || r.Status.Code != http.StatusOK || !strings.HasPrefix(r.User.Username, "system:serviceaccount:tidemark:")
	})
}

// asked returns the replicas that a write asks for.
func asked(r kubetest.Request) int {
	var scale struct {
		Spec struct {
			Replicas int `json:"replicas"`
		} `json:"spec"`
	}
	if json.Unmarshal(r.Body, &scale) != nil {
		return -1
	}
	return scale.Spec.Replicas
}

// TestKubernetesScalesEveryKind scales up, down and both ways, and lets the
// events tell the story.
func TestKubernetesScalesEveryKind(t *testing.T) {
	kinds := []model.KubernetesTarget{
		appsTarget("Deployment", ""),
		appsTarget("StatefulSet", ""),
		{APIVersion: "leaderworkerset.x-k8s.io/v1", Kind: "LeaderWorkerSet"},
		{APIVersion: "nvidia.com/v1alpha1", Kind: "DynamoGraphDeploymentScalingAdapter"},
		{APIVersion: "nvidia.com/v1alpha1", Kind: model.KindDynamoGraphDeployment, Service: "Worker"},
		{APIVersion: "example.com/v1", Kind: "ModelServer"},
	}
	for _, kind := range kinds {
		t.Run(kind.Kind, func(t *testing.T) {
			k := newKube(t)
			prefill, decode := kind, kind
			prefill.Name, decode.Name = "chat-prefill", "chat-decode"
			const cold = 600 * time.Millisecond
			k.workload(prefill, 2, cold)
			k.workload(decode, 4, cold)
			k.revise("chat", true, prefill, decode)
			k.begin()
			story := []string{}
			for _, step := range []struct{ from, to [2]int }{
				{[2]int{2, 4}, [2]int{3, 6}}, // up
				{[2]int{3, 6}, [2]int{2, 5}}, // down
				{[2]int{2, 5}, [2]int{4, 3}}, // both ways
			} {
				k.decide(both(step.from[0], step.from[1]), both(step.to[0], step.to[1]))
				story = append(story, "started", "applied", "settled")
				k.await("chat", story...)
				if p, d := k.replicas(prefill), k.replicas(decode); p != step.to[0] || d != step.to[1] {
					t.Fatalf("the objects are set to %d and %d, want %v", p, d, step.to)
				}
			}
			var took []string
			for _, fact := range k.facts("chat") {
				if settled, ok := fact.(*model.ScalingSettled); ok {
					took = append(took, fmt.Sprintf("%.2f s", settled.SettleS))
				}
			}
			t.Logf("up, down and both ways settled after %s", strings.Join(took, ", "))
			var order []string
			for _, r := range k.written() {
				order = append(order, r.Object.Name)
				if !strings.Contains(r.URI, "fieldManager=tidemark-actuator") {
					t.Errorf("a write names no field manager: %s", r.URI)
				}
				if subresource := r.Object.Subresource; (subresource == "scale") == (kind.Service != "") {
					t.Errorf("a write went to %s/%s", r.Object.Resource, subresource)
				}
			}
			if want := []string{"chat-prefill", "chat-decode", "chat-prefill", "chat-decode", "chat-decode", "chat-prefill"}; !slices.Equal(order, want) {
				t.Errorf("writes went to %q, want %q", order, want)
			}
		})
	}
}

// TestKubernetesRefusesAndFails has each reason once, from the real API server.
func TestKubernetesRefusesAndFails(t *testing.T) {
	target := appsTarget("Deployment", "chat")
	cases := []struct {
		name    string
		places  int    // where the pods are placed one by one
		others  string // the status of those that are not
		arrange func(*kube)
		faults  func(*kube) func(*http.Request) int
		config  func(*Config)
		want    []string
		detail  string // in the last one, a rejection
		writes  []int
	}{
		{name: "drift", arrange: func(k *kube) { k.patch(target, `{"spec": {"replicas": 5}}`) }, want: []string{"drift"}, detail: "role decode is set to 5, the decision saw 2"},
		{name: "paused", arrange: func(k *kube) { k.patch(target, `{"spec": {"paused": true}}`) }, want: []string{"not_ready"}, detail: "is paused"},
		{name: "going away", arrange: func(k *kube) {
			k.patch(target, `{"metadata": {"finalizers": ["example.com/wait"]}}`)
			if err := k.admin.Resource(k.resourceOf(target)).Namespace(k.namespace).Delete(k.T.Context(), target.Name, metav1.DeleteOptions{}); err != nil {
				k.Fatal(err)
			}
			k.Cleanup(func() {
				_, _ = k.admin.Resource(k.resourceOf(target)).Namespace(k.namespace).Patch(context.Background(), target.Name, types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`), metav1.PatchOptions{})
			})
		}, want: []string{"not_ready"}, detail: "is being deleted"},
		{name: "not there", arrange: func(k *kube) {
			if err := k.admin.Resource(k.resourceOf(target)).Namespace(k.namespace).Delete(k.T.Context(), target.Name, metav1.DeleteOptions{}); err != nil {
				k.Fatal(err)
			}
		}, want: []string{"not_ready"}, detail: "does not exist"},
		{name: "an autoscaler owns it", arrange: func(k *kube) {
			k.create(resource("autoscaling", "v2", "horizontalpodautoscalers"), k.namespace, `{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "theirs"}, "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}}}`)
		}, want: []string{"not_ready"}, detail: "-owns-it/theirs; remove one of the two"},
		{name: "a scaled object owns it", arrange: func(k *kube) {
			k.create(resource("keda.sh", "v1alpha1", "scaledobjects"), k.namespace, `{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": {"name": "chat"}}}`)
		}, want: []string{"not_ready"}, detail: "is scaled by ScaledObject"},
		{name: "forbidden", arrange: (*kube).unbind, want: []string{"failed: read decode: Deployment refusesandfails-forbidden/chat: the actuator may not do this; grant it by a role"}},
		{name: "admission", arrange: func(k *kube) {
			k.fewReplicas()
			k.refusesScale(target, 3)
		}, want: []string{"started", "failed: scale decode from 2 to 3: Deployment refusesandfails-admission/chat: admission refused it"}},
		{
			name: "a quota without room for its pods", arrange: func(k *kube) {
				k.create(resource("", "v1", "resourcequotas"), k.namespace, `{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "two"}, "spec": {"hard": {"pods": "2"}}}`)
				k.countsQuota("two", 2)
			}, config: func(c *Config) { c.SettleDeadline = 3 * time.Second },
			want: []string{"started", "applied", "failed: the fleet did not reach the target in 3s: decode has 2 of 3 ready: FailedCreate: pods"}, writes: []int{3},
		},
		{
			name: "pods that find no place", places: 2, others: unschedulable,
			config: func(c *Config) { c.SettleDeadline = 3 * time.Second },
			want:   []string{"started", "applied", "failed: the fleet did not reach the target in 3s: decode has 2 of 3 ready: 1 x Unschedulable: 0/7 nodes are available: 7 Insufficient nvidia.com/gpu"}, writes: []int{3},
		},
		{
			name: "pods without an image", places: 2, others: unpullable,
			config: func(c *Config) { c.SettleDeadline = 3 * time.Second },
			want:   []string{"started", "applied", "failed: the fleet did not reach the target in 3s: decode has 2 of 3 ready: 1 x ImagePullBackOff: Back-off pulling image engine"}, writes: []int{3},
		},
		{name: "conflict, once", faults: func(k *kube) func(*http.Request) int {
			var once sync.Once
			return func(r *http.Request) int {
				if r.Method == http.MethodPut {
					once.Do(func() { k.patch(target, `{"metadata": {"annotations": {"somebody": "else"}}}`) })
				}
				return 0
			}
		}, want: []string{"started", "applied", "settled"}, writes: []int{3}},
		{name: "conflict, at every attempt", faults: func(k *kube) func(*http.Request) int {
			n := 0
			return func(r *http.Request) int {
				if r.Method == http.MethodPut {
					n++
					k.patch(target, fmt.Sprintf(`{"metadata": {"annotations": {"somebody": "else%d"}}}`, n))
				}
				return 0
			}
		}, want: []string{"started", "conflict"}, detail: "at each of 5 attempts"},
		{name: "throttled, for a while", faults: func(*kube) func(*http.Request) int {
			n := 0
			return func(r *http.Request) int {
				if n++; r.Method == http.MethodPut && n%2 == 0 || n < 3 {
					return http.StatusTooManyRequests
				}
				return 0
			}
		}, want: []string{"started", "applied", "settled"}, writes: []int{3}},
		{name: "an answer that is lost", faults: func(k *kube) func(*http.Request) int {
			var once sync.Once
			return func(r *http.Request) (status int) {
				if r.Method == http.MethodPut {
					once.Do(func() {
						body, _ := io.ReadAll(r.Body)
						r.Body = io.NopCloser(bytes.NewReader(body))
						k.passOn(r, body)
						status = http.StatusServiceUnavailable
					})
				}
				return status
			}
		}, want: []string{"started", "applied", "settled"}, writes: []int{3}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k := newKube(t)
			if c.places > 0 {
				k.node = ""
				k.schedule(target.Name, c.places, c.others)
			}
			k.workload(target, 2, 0)
			k.revise("chat", true, model.KubernetesTarget{}, target, onlyDecode)
			k.ready(target, 2)
			if c.arrange != nil {
				c.arrange(k)
			}
			changes := []func(*Config){}
			if c.config != nil {
				changes = append(changes, c.config)
			}
			if c.faults != nil {
				f := &faults{}
				kubeconfig := k.through(f)
				f.set(c.faults(k))
				changes = append(changes, func(config *Config) { config.Kubernetes.Kubeconfig = kubeconfig })
			}
			k.begin(changes...)
			k.decide(model.PerRole[int]{Decode: new(2)}, model.PerRole[int]{Decode: new(3)})
			k.await("chat", c.want...)
			var numbers []int
			for _, r := range k.written() {
				numbers = append(numbers, asked(r))
			}
			if !slices.Equal(numbers, c.writes) {
				t.Errorf("written were %v, want %v", numbers, c.writes)
			}
			facts := k.facts("chat")
			if rejected, ok := facts[len(facts)-1].(*model.ScalingRejected); ok && !strings.Contains(rejected.Detail, c.detail) {
				t.Errorf("detail is %q, want it to say %q", rejected.Detail, c.detail)
			}
		})
	}
}

// onlyDecode makes a deployment one of a decode pool alone.
func onlyDecode(spec *model.Deployment) {
	spec.Topology = model.TopologyDecode
	spec.Roles.Prefill = nil
	spec.Actuator.Kubernetes.Roles.Prefill = nil
	spec.Source.Simulated.Replicas.Prefill = nil
}

// passOn sends a request to the API server, whose answer gets lost.
func (k *kube) passOn(r *http.Request, body []byte) {
	transport, err := rest.TransportFor(k.cluster.Config(k.token("tidemark-actuator")))
	if err != nil {
		k.Error(err)
		return
	}
	request, err := http.NewRequestWithContext(k.T.Context(), r.Method, k.cluster.Admin().Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		k.Error(err)
		return
	}
	request.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		k.Error(err)
		return
	}
	response.Body.Close()
}

// ready waits until so many pods of a Deployment are ready.
func (k *kube) ready(target model.KubernetesTarget, n int) {
	k.T.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		object, err := k.admin.Resource(k.resourceOf(target)).Namespace(k.namespace).Get(k.T.Context(), target.Name, metav1.GetOptions{})
		if err != nil {
			k.Fatal(err)
		}
		if numberAt(object, "status", "readyReplicas") == n {
			return
		}
	}
	k.Fatalf("%s does not have %d ready replicas", target.Name, n)
}

// refusesScale waits until admission refuses a number, which it does a moment
// after its policy was made.
func (k *kube) refusesScale(target model.KubernetesTarget, replicas int) {
	k.T.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, err := k.admin.Resource(k.resourceOf(target)).Namespace(k.namespace).Patch(k.T.Context(), target.Name, types.MergePatchType,
			fmt.Appendf(nil, `{"spec": {"replicas": %d}}`, replicas), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "scale")
		if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			return
		}
	}
	k.Fatal("admission refuses nothing")
}

// countsQuota waits until a quota has counted the pods that there are.
func (k *kube) countsQuota(name string, pods int) {
	k.T.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		quota, err := k.admin.Resource(resource("", "v1", "resourcequotas")).Namespace(k.namespace).Get(k.T.Context(), name, metav1.GetOptions{})
		if err != nil {
			k.Fatal(err)
		}
		if used, _, _ := unstructured.NestedString(quota.Object, "status", "used", "pods"); used == fmt.Sprint(pods) {
			return
		}
	}
	k.Fatal("the quota counts nothing")
}

// unschedulable and unpullable are what pods say that do not start.
const (
	unschedulable = `{"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/7 nodes are available: 7 Insufficient nvidia.com/gpu."}]}}`
	unpullable    = `{"status": {"containerStatuses": [{"name": "engine", "image": "engine", "imageID": "", "ready": false, "restartCount": 0,
		"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image engine"}}}]}}`
)

// schedule plays a scheduler that has so many places for the pods of a name, and
// gives all others a status.
func (k *kube) schedule(name string, places int, others string) {
	pods := k.admin.Resource(resource("", "v1", "pods")).Namespace(k.namespace)
	ctx := k.T.Context()
	done := make(chan struct{})
	k.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; time.Sleep(30 * time.Millisecond) {
			list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
			if err != nil {
				continue
			}
			for i := range list.Items {
				pod := &list.Items[i]
				if node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName"); node != "" {
					continue
				}
				if places > 0 {
					binding := &unstructured.Unstructured{Object: map[string]any{
						"apiVersion": "v1", "kind": "Binding", "metadata": map[string]any{"name": pod.GetName()},
						"target": map[string]any{"apiVersion": "v1", "kind": "Node", "name": "node-0"},
					}}
					if _, err := pods.Create(ctx, binding, metav1.CreateOptions{}, "binding"); err == nil {
						places--
					}
					continue
				}
				_, _ = pods.Patch(ctx, pod.GetName(), types.MergePatchType, []byte(others), metav1.PatchOptions{}, "status")
			}
		}
	}()
}
