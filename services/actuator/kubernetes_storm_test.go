//go:build e2e

package actuator

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/kubetest"
)

// TestKubernetesAdvisoryGetsNoWrite holds the API server's audit log against a
// storm: actuators that stop and start, an active deployment beside that flaps,
// decisions that are forged, stale, repeated and out of order, operators who
// scale by hand and change bounds. Once it is advisory, nothing of Tidemark may as
// much as try to write to the deployment, which was active before: the decisions
// of that time are in the storm, too.
func TestKubernetesAdvisoryGetsNoWrite(t *testing.T) {
	k := newKube(t)
	targets := map[string][2]model.KubernetesTarget{}
	for _, name := range []string{"advisory", "flapping"} {
		targets[name] = [2]model.KubernetesTarget{appsTarget("Deployment", name+"-prefill"), appsTarget("Deployment", name+"-decode")}
		k.workload(targets[name][0], 2, 0)
		k.workload(targets[name][1], 4, 0)
	}
	random := rand.New(rand.NewPCG(1, 20))
	revise := func(name string, active bool) {
		k.revise(name, active, targets[name][0], targets[name][1], func(spec *model.Deployment) {
			spec.Behavior.DecisionTTLS = float64(5 + random.IntN(60))
			spec.Roles.Prefill.MaxReplicas, spec.Roles.Decode.MaxReplicas = 3+random.IntN(4), 6+random.IntN(7)
		})
	}
	var old []events.Event
	revise("advisory", true)
	_, stop := k.begin()
	before := activeDecision("advisory", time.Now().UTC(), both(2, 4), both(3, 4))
	old = append(old, publish(t, k.log, k.topics, before, time.Time{}))
	k.await("advisory", "started", "applied", "settled")
	stop()
	// Its last decision as an active deployment meets no actuator.
	before = activeDecision("advisory", time.Now().UTC(), both(3, 4), both(2, 4))
	old = append(old, publish(t, k.log, k.topics, before, time.Time{}))
	revise("advisory", false)
	since, outcomes := time.Now(), len(k.facts("advisory"))
	revise("flapping", false)
	active, stops := false, map[int]func(){}
	for step := range 250 {
		switch random.IntN(10) {
		case 0:
			i := random.IntN(2)
			if stop := stops[i]; stop != nil {
				stop()
				delete(stops, i)
			} else {
				_, stops[i] = k.begin()
			}
		case 1:
			if active = !active; active {
				k.epochs["flapping"]++
			}
			revise("flapping", active)
		case 2:
			revise("advisory", false)
		case 3:
			for range min(3, len(old)) {
				again := old[random.IntN(len(old))]
				again.ID = fmt.Sprint("again-", step, "-", random.IntN(1000))
				if err := k.log.Publisher().Publish("test.decisions", again.Message()); err != nil {
					t.Fatal(err)
				}
			}
		case 4:
			name := []string{"advisory", "flapping"}[random.IntN(2)]
			k.patch(targets[name][random.IntN(2)], fmt.Sprintf(`{"spec": {"replicas": %d}}`, 1+random.IntN(4)))
		default:
			name := []string{"advisory", "flapping"}[random.IntN(2)]
			desired := both(k.replicas(targets[name][0]), k.replicas(targets[name][1]))
			decision := activeDecision(name, time.Now().UTC(), desired, both(1+random.IntN(3), 1+random.IntN(6)))
			if name == "advisory" {
				decision.Epoch = random.IntN(3)
			} else {
				decision.Epoch = max(0, k.epochs[name]-random.IntN(4)/3)
			}
			old = append(old, publish(t, k.log, k.topics, decision, time.Time{}))
		}
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
	}
	for _, stop := range stops {
		stop()
	}
	requests, err := k.cluster.Requests()
	if err != nil {
		t.Fatal(err)
	}
	writes := 0
	for _, r := range requests {
		if r.Object.Namespace != k.namespace || !strings.Contains(r.User.Username, "tidemark") || r.At.Before(since) {
			continue
		}
		if writes++; strings.HasPrefix(r.Object.Name, "advisory") {
			t.Errorf("%s tried %s %s: %d", r.User.Username, r.Verb, r.URI, r.Status.Code)
		}
	}
	rejected := 0
	for _, fact := range k.facts("advisory")[outcomes:] {
		if r, ok := fact.(*model.ScalingRejected); ok && r.Reason == model.RejectedNotActive {
			rejected++
		} else {
			t.Errorf("an actuation of the advisory deployment: %#v", fact)
		}
	}
	if writes == 0 || rejected == 0 {
		t.Errorf("%d writes to the other deployment and %d refusals: the storm shows nothing", writes, rejected)
	}
	t.Logf("%d decisions for the advisory deployment were refused, and the other one was written %d times", rejected, writes)
}

// TestKubernetesRolesAllowNoMore tries with each service's identity what it must
// not be able to do.
func TestKubernetesRolesAllowNoMore(t *testing.T) {
	k := newKube(t)
	target := appsTarget("Deployment", "chat")
	k.workload(target, 2, 0)
	k.create(resource("apps", "v1", "deployments"), "default", `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "elsewhere"}, "spec": {"replicas": 0,
		"selector": {"matchLabels": {"app": "elsewhere"}}, "template": {"metadata": {"labels": {"app": "elsewhere"}}, "spec": {"containers": [{"name": "engine", "image": "engine"}]}}}}`)
	deployments, pods, secrets := k.resourceOf(target), resource("", "v1", "pods"), resource("", "v1", "secrets")
	patch := []byte(`{"spec": {"replicas": 3}}`)
	pod := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "new"},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "engine", "image": "engine"}}},
	}}
	ctx := t.Context()
	everything := map[string]func(dynamic.Interface) error{
		"scale by patch": func(api dynamic.Interface) error {
			_, err := api.Resource(deployments).Namespace(k.namespace).Patch(ctx, "chat", types.MergePatchType, patch, metav1.PatchOptions{}, "scale")
			return err
		},
		"change a Deployment": func(api dynamic.Interface) error {
			_, err := api.Resource(deployments).Namespace(k.namespace).Patch(ctx, "chat", types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		},
		"delete a Deployment": func(api dynamic.Interface) error {
			return api.Resource(deployments).Namespace(k.namespace).Delete(ctx, "chat", metav1.DeleteOptions{})
		},
		"make a pod": func(api dynamic.Interface) error {
			_, err := api.Resource(pods).Namespace(k.namespace).Create(ctx, pod, metav1.CreateOptions{})
			return err
		},
		"read a secret": func(api dynamic.Interface) error {
			_, err := api.Resource(secrets).Namespace(k.namespace).List(ctx, metav1.ListOptions{})
			return err
		},
	}
	scale := func(namespace, name string) func(dynamic.Interface) error {
		return func(api dynamic.Interface) error {
			scale := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": map[string]any{"name": name, "namespace": namespace}, "spec": map[string]any{"replicas": int64(2)},
			}}
			_, err := api.Resource(deployments).Namespace(namespace).Update(ctx, scale, metav1.UpdateOptions{}, "scale")
			return err
		}
	}
	for _, account := range []string{"tidemark-collector", "tidemark-decider", "tidemark-reporter", "tidemark-actuator"} {
		api, err := dynamic.NewForConfig(k.cluster.Config(k.token(account)))
		if err != nil {
			t.Fatal(err)
		}
		for what, try := range everything {
			if err := try(api); !apierrors.IsForbidden(err) {
				t.Errorf("%s may %s: %v", account, what, err)
			}
		}
		if err := scale("default", "elsewhere")(api); !apierrors.IsForbidden(err) {
			t.Errorf("%s may scale in a namespace that is not bound: %v", account, err)
		}
		err = scale(k.namespace, "chat")(api)
		if isActuator := account == "tidemark-actuator"; isActuator && err != nil || !isActuator && !apierrors.IsForbidden(err) {
			t.Errorf("%s scales in a bound namespace: %v", account, err)
		}
	}
}

// TestKubernetesTwoActuators gives every decision to two actuators, late and out
// of order, over connections that take their time and that are cut now and then:
// what was sent meanwhile, writes too, arrives when the other one has long gone
// on. In the audit log, no number of an older decision comes after that of a
// newer one.
func TestKubernetesTwoActuators(t *testing.T) {
	k := newKube(t)
	random := newDice(2)
	var late atomic.Int32
	slow := func() string {
		f := &faults{}
		var back atomic.Int64 // the end of a cut, in ns since 1970
		f.set(func(r *http.Request) int {
			if random.roll(20) == 0 || r.Method == http.MethodPut && (late.Load() == 0 || random.roll(4) == 0) {
				back.Store(time.Now().Add(time.Duration(200+random.roll(800)) * time.Millisecond).UnixNano())
			}
			if cut := time.Until(time.Unix(0, back.Load())); cut > 0 {
				if r.Method == http.MethodPut {
					late.Add(1)
				}
				time.Sleep(cut)
			}
			time.Sleep(time.Duration(random.roll(5)*random.roll(5)*random.roll(5)) * 2 * time.Millisecond)
			return 0
		})
		return k.through(f)
	}
	var actuators []*worker
	for range 2 {
		kubeconfig := slow()
		actuator, _ := k.begin(func(c *Config) { c.Kubernetes.Kubeconfig = kubeconfig })
		actuators = append(actuators, actuator)
	}
	target := model.KubernetesTarget{APIVersion: "example.com/v1", Kind: "ModelServer", Name: "chat"}
	k.workload(target, 10, 0)
	// The decisions are not in the log: its order would put them right.
	k.revise("chat", true, model.KubernetesTarget{}, target, onlyDecode, func(spec *model.Deployment) {
		spec.Roles.Decode.MaxReplicas, spec.Budget.MaxGPUs = 99, model.Unbounded
	})
	const decisions = 60
	byTarget := map[int]time.Time{}
	var working sync.WaitGroup
	for n := range decisions {
		from := k.replicas(target)
		if random.roll(3) == 0 {
			from = 10 + random.roll(n+4) // what one before or after it sets
		}
		decision := activeDecision("chat", time.Now().UTC(), model.PerRole[int]{Decode: &from}, model.PerRole[int]{Decode: new(11 + n)})
		if decision.Action == model.Hold {
			continue
		}
		byTarget[11+n] = decision.ObservedAt
		event, err := events.Seal(decision, events.About{Source: "/tidemark/test"})
		if err != nil {
			t.Fatal(err)
		}
		for _, actuator := range actuators {
			delay := time.Duration(random.roll(400)) * time.Millisecond
			working.Go(func() {
				time.Sleep(delay)
				msg := event.Message()
				msg.SetContext(t.Context())
				if err := actuator.Handle(msg); err != nil {
					t.Errorf("decision %d: %v", n, err)
				}
			})
		}
		time.Sleep(time.Duration(random.roll(80)) * time.Millisecond)
	}
	working.Wait()
	var newest time.Time
	var numbers []int
	for _, r := range k.written() {
		at := byTarget[asked(r)]
		if at.Before(newest) {
			t.Errorf("%d, of %v, was written after a number of %v", asked(r), at, newest)
		}
		newest = at
		numbers = append(numbers, asked(r))
	}
	if len(numbers) < 3 || late.Load() == 0 {
		t.Errorf("only %v were written, %d writes were sent while cut off: the test shows nothing", numbers, late.Load())
	}
	t.Logf("%d decisions to two actuators, %d writes sent while cut off, written: %v", len(byTarget), late.Load(), numbers)
}

// TestKubernetesHalfDonePair stops an actuator between the two writes of a
// rebalancing: the next one finishes it, and writes nothing twice.
func TestKubernetesHalfDonePair(t *testing.T) {
	k := newKube(t)
	prefill, decode := appsTarget("Deployment", "chat-prefill"), appsTarget("Deployment", "chat-decode")
	k.workload(prefill, 2, 0)
	k.workload(decode, 4, 0)
	k.ready(prefill, 2)
	k.ready(decode, 4)
	k.revise("chat", true, prefill, decode)
	f, reached := &faults{}, make(chan struct{})
	reach := sync.OnceFunc(func() { close(reached) })
	f.set(func(r *http.Request) int {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "chat-prefill") {
			reach()
			// Only behind the body is it seen that the actuator is gone.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return http.StatusServiceUnavailable
		}
		return 0
	})
	kubeconfig := k.through(f)
	_, stop := k.begin(func(c *Config) { c.Kubernetes.Kubeconfig = kubeconfig })
	k.decide(both(2, 4), both(3, 2))
	select {
	case <-reached:
	case <-time.After(time.Minute):
		t.Fatal("the second write is not begun after a minute")
	}
	stop()
	if p, d := k.replicas(prefill), k.replicas(decode); p != 2 || d != 2 {
		t.Errorf("half done, the objects are set to %d and %d, want 2 and 2", p, d)
	}
	k.begin()
	k.await("chat", "started", "applied", "settled")
	var order []string
	for _, r := range k.written() {
		order = append(order, fmt.Sprint(r.Object.Name, "=", asked(r)))
	}
	if want := []string{"chat-decode=2", "chat-prefill=3"}; !slices.Equal(order, want) {
		t.Errorf("written were %q, want %q", order, want)
	}
}

// dice are random numbers for several goroutines.
type dice struct {
	mu     sync.Mutex
	random *rand.Rand
}

func newDice(seed uint64) *dice { return &dice{random: rand.New(rand.NewPCG(seed, 9))} }

func (d *dice) roll(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.IntN(n)
}

// TestKubernetesBudgetHolds lets requests be late, refused and lost while a
// deployment is rebalanced within its budget, and adds up after each write what
// the API server was asked for, and at each write what pods there are.
func TestKubernetesBudgetHolds(t *testing.T) {
	k := newKube(t)
	const budget = 16 // prefill replicas take two GPUs, decode replicas one
	prefill, decode := appsTarget("Deployment", "chat-prefill"), appsTarget("Deployment", "chat-decode")
	k.workload(prefill, 2, 0)
	k.workload(decode, 4, 0)
	k.ready(prefill, 2)
	k.ready(decode, 4)
	k.revise("chat", true, prefill, decode)
	random, f := newDice(4), &faults{}
	var increases atomic.Int32
	f.set(func(r *http.Request) int {
		if r.Method == http.MethodPut && k.holdsWithPods(r, map[string]int{prefill.Name: 2, decode.Name: 1}, budget) {
			increases.Add(1)
		}
		time.Sleep(time.Duration(random.roll(20)) * time.Millisecond)
		switch {
		case r.Method == http.MethodPut && random.roll(4) == 0:
			return http.StatusServiceUnavailable
		case random.roll(40) == 0:
			return http.StatusServiceUnavailable
		}
		return 0
	})
	kubeconfig := k.through(f)
	k.begin(func(c *Config) { c.Kubernetes.Kubeconfig = kubeconfig })
	for range 15 {
		before := len(k.facts("chat"))
		desired, target := both(k.replicas(prefill), k.replicas(decode)), both(1+random.roll(6), 1+random.roll(12))
		if 2**target.Prefill+*target.Decode > budget || *desired.Prefill == *target.Prefill && *desired.Decode == *target.Decode {
			continue
		}
		k.decide(desired, target)
		k.until("an outcome", func() bool {
			return slices.ContainsFunc(k.facts("chat")[before:], func(fact any) bool {
				_, started := fact.(*model.ScalingStarted)
				_, settled := fact.(*model.ScalingSettled)
				return !started && !settled
			})
		})
	}
	set, writes, both := map[string]int{"chat-prefill": 2, "chat-decode": 4}, 0, 0
	last := ""
	for _, r := range k.written() {
		set[r.Object.Name] = asked(r)
		if gpus := 2*set["chat-prefill"] + set["chat-decode"]; gpus > budget {
			t.Errorf("after write %d, %d GPUs are asked for, and the budget is %d", writes, gpus, budget)
		}
		if writes++; last != r.Object.Name {
			both++
		}
		last = r.Object.Name
	}
	if writes < 6 || both < 4 || increases.Load() < 3 {
		t.Errorf("%d writes, %d of them after one of the other role, %d increases tried: the test shows nothing", writes, both, increases.Load())
	}
	t.Logf("%d writes, %d increases tried: %q", writes, increases.Load(), k.outcomes("chat"))
}

// TestKubernetesDrainingPodsHoldTheirGPUs: pods that an earlier decision took away
// and that are still there count in the budget.
func TestKubernetesDrainingPodsHoldTheirGPUs(t *testing.T) {
	k := newKube(t)
	prefill, decode := appsTarget("Deployment", "chat-prefill"), appsTarget("Deployment", "chat-decode")
	k.node = "elsewhere" // where nobody ends pods
	k.workload(prefill, 4, 0)
	k.node = "node-0"
	k.workload(decode, 4, 0)
	k.ready(decode, 4)
	says := func(replicas, going int) func() bool {
		return func() bool {
			object := k.object(prefill)
			return numberAt(object, "status", "replicas") == replicas && numberAt(object, "status", "terminatingReplicas") == going
		}
	}
	k.until("pod of prefill", says(4, 0))
	k.revise("chat", true, prefill, decode) // 16 GPUs, of which prefill replicas take two
	k.begin()
	k.decide(both(4, 4), both(2, 4))
	k.await("chat", "started", "applied")
	k.until("pod on its way out", says(2, 2))
	k.decide(both(2, 4), both(2, 11))
	k.await("chat", "started", "applied", "not_ready")
	facts := k.facts("chat")
	const why = "the budget of 16 GPUs has no room yet: prefill is set to 2 and still has 4"
	if rejected, ok := facts[len(facts)-1].(*model.ScalingRejected); !ok || rejected.Detail != why {
		t.Errorf("the last outcome is %#v, want a rejection that says %q", facts[len(facts)-1], why)
	}
	pods := k.admin.Resource(resource("", "v1", "pods")).Namespace(k.namespace)
	list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + prefill.Name})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].GetDeletionTimestamp() != nil {
			if err := pods.Delete(t.Context(), list.Items[i].GetName(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.until("end of them", says(2, 0))
	k.decide(both(2, 4), both(2, 11))
	k.await("chat", "started", "applied", "not_ready", "started", "applied", "settled")
}

// holdsWithPods looks at the moment of a write that the replicas it asks for find
// room in a budget of GPUs beside the pods that the other roles still have, those
// that are on their way out included. What adds no replica is not looked at.
func (k *kube) holdsWithPods(r *http.Request, gpus map[string]int, budget int) (looked bool) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		k.Error(err)
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	total := 0
	for name, each := range gpus {
		list, err := k.admin.Resource(resource("", "v1", "pods")).Namespace(k.namespace).List(r.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return false // the actuator has given the write up
		}
		pods, to := len(list.Items), asked(kubetest.Request{Body: body})
		if strings.Contains(r.URL.Path, "/"+name+"/") {
			if to <= pods {
				return false
			}
			pods = to
		}
		total += pods * each
	}
	if total > budget {
		k.Errorf("%s of %d replicas: with the pods that there are, that is %d GPUs of %d", r.URL.Path, asked(kubetest.Request{Body: body}), total, budget)
	}
	return true
}

// until waits for something to be so.
func (k *kube) until(what string, so func() bool) {
	k.T.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
	}
	k.Fatalf("there is no %s after a minute", what)
}

// TestKubernetesServerThatDoesNotAnswer: nothing hangs, nothing is forgotten, and
// the next decision is carried out.
func TestKubernetesServerThatDoesNotAnswer(t *testing.T) {
	k := newKube(t)
	target := model.KubernetesTarget{APIVersion: "example.com/v1", Kind: "ModelServer", Name: "chat"}
	k.workload(target, 2, 0)
	k.revise("chat", true, model.KubernetesTarget{}, target, onlyDecode)
	f := &faults{}
	kubeconfig := k.through(f)
	k.begin(func(c *Config) { c.Kubernetes.Kubeconfig, c.Kubernetes.Timeout = kubeconfig, 200*time.Millisecond })
	f.set(func(r *http.Request) int {
		<-r.Context().Done()
		return http.StatusServiceUnavailable
	})
	k.decide(model.PerRole[int]{Decode: new(2)}, model.PerRole[int]{Decode: new(3)})
	k.until("failure", func() bool { return len(k.outcomes("chat")) > 0 })
	got := k.outcomes("chat")
	if len(got) != 1 || !strings.Contains(got[0], "the API server cannot be reached") {
		t.Fatalf("the actuations are %q, want a failure that says so", got)
	}
	f.set(nil)
	k.decide(model.PerRole[int]{Decode: new(2)}, model.PerRole[int]{Decode: new(3)})
	k.await("chat", "failed: ", "started", "applied", "settled")
}
