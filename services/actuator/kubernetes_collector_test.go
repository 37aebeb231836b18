//go:build e2e

package actuator

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

// collectorProgram is the collector's own program at work under its own account.
// The actuator's suites run it because they have the control plane.
type collectorProgram struct {
	k       *kube
	log     events.Log
	command *exec.Cmd
	said    said
}

// said is what a program has said so far.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// collect runs the collector on deployments until it is stopped.
func (k *kube) collect(specs ...model.Deployment) *collectorProgram {
	k.T.Helper()
	dir := k.TempDir()
	program := filepath.Join(dir, "collector")
	if out, err := exec.CommandContext(k.T.Context(), "go", "build", "-trimpath", "-o", program, "tidemark.dev/services/collector/cmd/collector").CombinedOutput(); err != nil {
		k.Fatalf("build the collector: %v\n%s", err, out)
	}
	url := "sqlite://" + filepath.Join(dir, "tidemark.db")
	log, err := drivers.OpenURL(k.T.Context(), url)
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() {
		if err := log.Close(); err != nil {
			k.Error(err)
		}
	})
	for _, spec := range specs {
		publish(k.T, log, events.Topics{Prefix: "tidemark."}, &model.DeploymentConfigured{Deployment: spec.Name, Revision: 1, Spec: spec, ChangedBy: "test", Reason: "test"}, time.Now())
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(k.token("tidemark-collector")), 0o600); err != nil {
		k.Fatal(err)
	}
	c := &collectorProgram{k: k, log: log}
	c.command = exec.CommandContext(k.T.Context(), program, "--log", url, "--listen", "",
		"--kubernetes-url", k.cluster.Admin().Host, "--kubernetes-token-file", token, "--kubernetes-ca-file", k.cluster.CAFile())
	c.command.Stdout, c.command.Stderr = &c.said, &c.said
	if err := c.command.Start(); err != nil {
		k.Fatal(err)
	}
	return c
}

// newest returns the newest observation of each deployment.
func (c *collectorProgram) newest() map[string]*model.Observation {
	c.k.T.Helper()
	seen := map[string]*model.Observation{}
	for record, err := range c.log.Read(c.k.T.Context(), "tidemark.observations", events.Range{}) {
		if err != nil {
			c.k.Fatal(err)
		}
		event, err := record.Event()
		if err != nil {
			c.k.Fatal(err)
		}
		fact, err := event.Fact()
		if err != nil {
			c.k.Fatal(err)
		}
		observation, ok := fact.(*model.Observation)
		if !ok {
			c.k.Fatalf("among the observations is %#v", fact)
		}
		seen[observation.Deployment] = observation
	}
	return seen
}

// await waits until something holds of what the collector sees.
func (c *collectorProgram) await(what string, holds func() bool) {
	c.k.T.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().Before(deadline) {
			continue
		}
		for name, observation := range c.newest() {
			c.k.Errorf("of %s it saw %+v and %+v", name, observation.Fleet, observation.Engines)
		}
		c.k.Fatalf("not so after a minute: %s; the collector says\n%s", what, c.said.String())
	}
}

// stop stops the collector, and sees that it asked the API server for nothing but
// to read: the audit log holds everything else.
func (c *collectorProgram) stop() {
	c.k.T.Helper()
	_ = c.command.Process.Signal(syscall.SIGTERM)
	if err := c.command.Wait(); err != nil {
		c.k.Errorf("the collector ended with %v; it says\n%s", err, c.said.String())
	}
	requests, err := c.k.cluster.Requests()
	if err != nil {
		c.k.Fatal(err)
	}
	for _, r := range requests {
		if r.Object.Namespace == c.k.namespace && strings.HasSuffix(r.User.Username, ":tidemark-collector") {
			c.k.Errorf("the collector asked to %s %s", r.Verb, r.URI)
		}
	}
}

// page is what an engine says of itself.
const page = `vllm:num_requests_running{model_name="m"} 3
vllm:num_requests_waiting{model_name="m"} 1
vllm:kv_cache_usage_perc{model_name="m"} 0.5
vllm:cache_config_info{block_size="16",num_gpu_blocks="2500"} 1
`

// enginesAt serves engines at one port of several addresses of this machine.
func enginesAt(t *testing.T, addresses ...string) (port int) {
	t.Helper()
	for _, address := range addresses {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("%s:%d", address, port))
		if err != nil {
			t.Fatal(err)
		}
		if port, err = strconv.Atoi(listener.Addr().String()[len(address)+1:]); err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) })}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
	}
	return port
}

// pod makes a pod of a role. Nobody places it, so that nobody but the test says
// how it is.
func (k *kube) pod(name, role string) {
	k.T.Helper()
	k.create(resource("", "v1", "pods"), k.namespace, `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "labels": {"app": "chat", "role": %q}, "finalizers": ["tidemark.dev/test"]},
		"spec": {"containers": [{"name": "engine", "image": "engine"}]}}`, name, role)
}

// status says how a pod is.
func (k *kube) status(name, ip, ready string, since time.Time) {
	k.T.Helper()
	patch := fmt.Sprintf(`{"status": {"phase": "Running", "podIP": %[1]q, "podIPs": [{"ip": %[1]q}], "conditions": [{"type": "Ready", "status": %[2]q, "lastTransitionTime": %[3]q}]}}`,
		ip, ready, since.UTC().Format(time.RFC3339))
	if _, err := k.admin.Resource(resource("", "v1", "pods")).Namespace(k.namespace).
		Patch(k.T.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		k.Fatal(err)
	}
}

// end deletes a pod, which stays until release.
func (k *kube) end(name string) {
	k.T.Helper()
	if err := k.admin.Resource(resource("", "v1", "pods")).Namespace(k.namespace).Delete(k.T.Context(), name, metav1.DeleteOptions{}); err != nil {
		k.Fatal(err)
	}
}

func (k *kube) release(name string) {
	k.T.Helper()
	if _, err := k.admin.Resource(resource("", "v1", "pods")).Namespace(k.namespace).
		Patch(k.T.Context(), name, types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`), metav1.PatchOptions{}); err != nil {
		k.Fatal(err)
	}
}

// TestKubernetesEngines: the collector scrapes the engines of ready pods as the
// API server tells of them, through its restart; what is not known any more is
// stale, and what there is none of is absent.
func TestKubernetesEngines(t *testing.T) {
	k := newKube(t)
	port := enginesAt(t, "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
	since := time.Now().Add(-10 * time.Minute)
	for name, role := range map[string]string{"a": "decode", "b": "decode", "c": "decode", "other": "prefill"} {
		k.pod(name, role)
	}
	k.status("a", "127.0.0.2", "True", since)
	k.status("b", "127.0.0.3", "False", since)
	k.status("c", "127.0.0.4", "True", since)
	k.status("other", "127.0.0.5", "True", since)

	spec := activeSpec("chat")
	spec.Advisory, spec.Actuator, spec.Topology = true, nil, model.TopologyDecode
	spec.Roles.Prefill = nil
	spec.Load.IntervalS = 1
	engines := &model.EnginesSource{Preset: model.PresetVLLM, MaxAgeS: 3, TimeoutS: 2}
	engines.Roles.Set(model.Decode, model.EnginePool{Kubernetes: &model.EnginePods{Namespace: k.namespace, Selector: "app=chat, role in (decode)", Port: port, Scheme: "http"}})
	spec.Source = &model.Source{Engines: engines}
	elsewhere := spec
	elsewhere.Name = "elsewhere"
	there := *engines
	there.Roles.Set(model.Decode, model.EnginePool{Kubernetes: &model.EnginePods{Namespace: "default", Selector: "app=chat", Port: port, Scheme: "http"}})
	elsewhere.Source = &model.Source{Engines: &there}
	collector := k.collect(spec, elsewhere)

	// sees waits for what the collector sees of the engines: the names of those
	// that have a sample, or a part of the error.
	sees := func(what string, status model.Evidence, want string) *model.EnginesObservation {
		t.Helper()
		var seen *model.EnginesObservation
		collector.await(what, func() bool {
			observation := collector.newest()["chat"]
			if observation == nil {
				return false
			}
			seen = observation.Engines
			var names []string
			for _, sample := range seen.Samples {
				names = append(names, sample.Worker)
			}
			if status == model.Measured {
				return seen.Status == status && strings.Join(names, " ") == want
			}
			return seen.Status == status && len(names) == 0 && strings.Contains(seen.Error, want)
		})
		return seen
	}
	got := sees("the ready ones of the role have a sample", model.Measured, "a c")
	if age := got.Samples[0].AgeS; age == nil || *age < 590 || *age > 900 {
		t.Errorf("the engine is ready since %v, and its age is %v", since, age)
	}
	if kv := got.Samples[0].Scheduled.DecodeKVTokens; kv == nil || *kv != 20000 {
		t.Errorf("decode_kv_tokens is %v", kv)
	}
	k.status("b", "127.0.0.3", "True", time.Now())
	sees("one more is ready", model.Measured, "a b c")
	k.end("c")
	sees("one is being deleted", model.Measured, "a b")
	k.status("a", "127.0.0.2", "False", time.Now())
	sees("one is ready no more", model.Measured, "b")
	collector.await("elsewhere it may not look", func() bool {
		o := collector.newest()["elsewhere"]
		return o != nil && o.Engines.Status == model.Failed && strings.Contains(o.Engines.Error, "403 Forbidden")
	})

	k.cluster.Down()
	sees("the API server is down for longer than max_age_s", model.Stale, "are not known any more: they were last listed")
	if err := k.cluster.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees("the API server is back", model.Measured, "b")
	k.status("a", "127.0.0.2", "True", time.Now())
	sees("it is followed again", model.Measured, "a b")
	k.release("c")
	k.end("a")
	k.end("b")
	sees("none is left", model.Absent, "no engine is found: 0 pods have app=chat, role in (decode) in namespace "+k.namespace)
	for _, name := range []string{"a", "b"} {
		k.release(name)
	}
	collector.stop()
}
