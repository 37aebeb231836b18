//go:build e2e

package actuator

import (
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/kubernetes"
)

// fewReplicas makes a policy of the namespace that admits two replicas and no more.
func (k *kube) fewReplicas() {
	k.T.Helper()
	policies, bindings := resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies"), resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings")
	k.create(policies, "", `{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": %q},
		"spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments/scale"]}]},
		"validations": [{"expression": "object.spec.replicas <= 2", "message": "no more than two here"}]}}`, k.namespace)
	k.create(bindings, "", `{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": %[1]q},
		"spec": {"policyName": %[1]q, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": %[1]q}}}}}`, k.namespace)
}

// mayOnlyRead takes the actuator's role in the namespace from it, but for what
// reads.
func (k *kube) mayOnlyRead() {
	k.T.Helper()
	k.unbind()
	k.create(resource("rbac.authorization.k8s.io", "v1", "roles"), k.namespace, `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reads"}, "rules": [
		{"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get"]}, {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]}]}`)
	k.create(resource("rbac.authorization.k8s.io", "v1", "rolebindings"), k.namespace, `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "reads"},
		"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads"}, "subjects": [{"kind": "ServiceAccount", "name": "tidemark-actuator", "namespace": "tidemark"}]}`)
}

// unbind takes the actuator's role in the namespace from it.
func (k *kube) unbind() {
	k.T.Helper()
	if err := k.admin.Resource(resource("rbac.authorization.k8s.io", "v1", "rolebindings")).Namespace(k.namespace).Delete(k.T.Context(), "tidemark-actuator", metav1.DeleteOptions{}); err != nil {
		k.Fatal(err)
	}
}

// asLeft returns what an object is by those who asked for it: its generation, which
// is that of its spec, and who wrote it. Its controller may write its status.
func (k *kube) asLeft(target model.KubernetesTarget) string {
	k.T.Helper()
	object := k.object(target)
	left := fmt.Sprint("generation ", object.GetGeneration())
	for _, field := range object.GetManagedFields() {
		if field.Subresource != "status" {
			left += ", " + field.Manager
		}
	}
	return left
}

// object reads an object as an administrator.
func (k *kube) object(target model.KubernetesTarget) *unstructured.Unstructured {
	k.T.Helper()
	object, err := k.admin.Resource(k.resourceOf(target)).Namespace(k.namespace).Get(k.T.Context(), target.Name, metav1.GetOptions{})
	if err != nil {
		k.Fatal(err)
	}
	return object
}

// intent is an advisory deployment of two pools in the namespace, whose decision
// sets them to these.
func (k *kube) intent(prefill, decode model.KubernetesTarget, target model.PerRole[int]) Intent {
	spec := activeSpec("chat")
	spec.Advisory = true
	spec.Actuator = &model.Actuator{Kubernetes: &model.KubernetesActuator{Namespace: k.namespace, Roles: both(prefill, decode)}}
	decision := activeDecision("chat", time.Now().UTC(), both(2, 2), target)
	decision.Mode = model.Advisory
	return Intent{&model.DeploymentConfigured{Deployment: "chat", Revision: 1, Spec: spec, ChangedBy: "test", Reason: "test"}, decision}
}

// summaries returns what trials say, a line each.
func summaries(trials []Trial) []string {
	var lines []string
	for _, t := range trials {
		line := fmt.Sprintf("%s to %d:", t.Role, t.To)
		if t.From != nil {
			line = fmt.Sprintf("%s from %d to %d:", t.Role, *t.From, t.To)
		}
		for _, problem := range t.Problems {
			line += fmt.Sprintf(" %s (%s)", problem.Reason, problem.Detail)
		}
		for _, unknown := range t.Unknown {
			line += fmt.Sprintf(" unknown (%s)", unknown)
		}
		lines = append(lines, line)
	}
	return lines
}

// TestKubernetesPreflight has the API server try decisions of an advisory
// deployment under all that can stand in their way, and looks that nothing is
// written.
func TestKubernetesPreflight(t *testing.T) {
	prefill, decode := appsTarget("Deployment", "chat-prefill"), appsTarget("Deployment", "chat-decode")
	quotas := resource("", "v1", "resourcequotas")
	cases := []struct {
		name    string
		arrange func(*kube)
		server  func(*http.Request) int
		as      string // who is impersonated, by an administrator
		target  [2]int
		want    [2]string // of prefill and decode, by their beginnings
	}{
		{name: "passes", target: [2]int{1, 3}, want: [2]string{"prefill from 2 to 1:", "decode from 2 to 3:"}},
		{name: "passes as the actuator", as: "tidemark-actuator", target: [2]int{1, 3}, want: [2]string{"prefill from 2 to 1:", "decode from 2 to 3:"}},
		{name: "passes unchanged", target: [2]int{2, 2}, want: [2]string{"prefill from 2 to 2:", "decode from 2 to 2:"}},
		{
			name: "forbidden", arrange: (*kube).unbind, target: [2]int{2, 3},
			want: [2]string{`prefill to 2: forbidden (Deployment preflight-forbidden/chat-prefill: the actuator may not do this; grant it by a role: deployments.apps "chat-prefill" is forbidden: User "system:serviceaccount:tidemark:tidemark-actuator" cannot get`, "decode to 3: forbidden"},
		},
		{
			name: "may only read", arrange: (*kube).mayOnlyRead, target: [2]int{2, 3},
			want: [2]string{
				`prefill from 2 to 2: forbidden (Deployment preflight-may-only-read/chat-prefill: the actuator may not do this; grant it by a role: deployments.apps "chat-prefill" is forbidden: User "system:serviceaccount:tidemark:tidemark-actuator" cannot update`,
				"decode from 2 to 3: forbidden",
			},
		},
		{
			name: "the collector may not", as: "tidemark-collector", target: [2]int{2, 3},
			want: [2]string{"prefill from 2 to 2: forbidden", "decode from 2 to 3: forbidden"},
		},
		{
			name: "quota", arrange: func(k *kube) {
				k.create(quotas, k.namespace, `{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "five"}, "spec": {"hard": {"pods": "5"}}}`)
				k.countsQuota("five", 4)
			}, target: [2]int{3, 4},
			want: [2]string{"prefill from 2 to 3:", "decode from 2 to 4: quota (ResourceQuota preflight-quota/five has no room for 2 more: pods is at 5 of 5, and they need 2)"},
		},
		{
			name: "quota with room by what goes", arrange: func(k *kube) {
				k.create(quotas, k.namespace, `{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "four"}, "spec": {"hard": {"pods": "4"}}}`)
				k.countsQuota("four", 4)
			}, target: [2]int{3, 1}, want: [2]string{"prefill from 2 to 3:", "decode from 2 to 1:"},
		},
		{
			name: "quota for some", arrange: func(k *kube) {
				k.create(quotas, k.namespace, `{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "batch"}, "spec": {"hard": {"pods": "1"}, "scopes": ["Terminating"]}}`)
			}, target: [2]int{2, 3}, want: [2]string{"prefill from 2 to 2:", "decode from 2 to 3: unknown (whether ResourceQuota batch has room"},
		},
		{
			name: "admission", arrange: func(k *kube) { k.fewReplicas(); k.refusesScale(decode, 3) }, target: [2]int{1, 3},
			want: [2]string{"prefill from 2 to 1:", "decode from 2 to 3: admission (Deployment preflight-admission/chat-decode: admission refused it"},
		},
		{
			name: "not found", arrange: func(k *kube) {
				if err := k.admin.Resource(k.resourceOf(decode)).Namespace(k.namespace).Delete(k.T.Context(), decode.Name, metav1.DeleteOptions{}); err != nil {
					k.Fatal(err)
				}
			}, target: [2]int{3, 3},
			want: [2]string{"prefill from 2 to 3:", "decode to 3: not_found (Deployment preflight-not-found/chat-decode does not exist)"},
		},
		{
			name: "paused, and scaled by another", arrange: func(k *kube) {
				k.patch(prefill, `{"spec": {"paused": true}}`)
				k.create(resource("autoscaling", "v2", "horizontalpodautoscalers"), k.namespace, `{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "theirs"}, "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-prefill"}}}`)
			}, target: [2]int{3, 3},
			want: [2]string{"prefill from 2 to 3: not_ready (Deployment preflight-paused-and-scaled-by-another/chat-prefill is paused) owned (Deployment", "decode from 2 to 3:"},
		},
		{
			name: "out of reach", server: func(*http.Request) int { return http.StatusServiceUnavailable }, target: [2]int{3, 3},
			want: [2]string{"prefill to 3: unavailable", "decode to 3: unavailable"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k := newKube(t)
			k.workload(prefill, 2, 0)
			k.workload(decode, 2, 0)
			k.ready(prefill, 2)
			k.ready(decode, 2)
			if c.arrange != nil {
				c.arrange(k)
			}
			config := PreflightConfig{}
			var err error
			switch {
			case c.server != nil:
				f := &faults{}
				f.set(c.server)
				config.Kubeconfig = k.through(f)
			case c.as != "":
				config.As = "system:serviceaccount:tidemark:" + c.as
				config.Kubeconfig, err = k.cluster.Kubeconfig("preflight", k.cluster.Admin().BearerToken)
			default:
				config.Kubeconfig, err = k.cluster.Kubeconfig("preflight", k.token("tidemark-actuator"))
			}
			if err != nil {
				t.Fatal(err)
			}
			intent := k.intent(prefill, decode, both(c.target[0], c.target[1]))
			before := k.asLeft(prefill)
			trials, err := Preflight(t.Context(), config, []Intent{intent}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			got := summaries(trials)
			if len(got) != 2 {
				t.Fatalf("trials are %q", got)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) || strings.HasSuffix(want, ":") && got[i] != want {
					t.Errorf("the trial says\n%s, want\n%s", got[i], want)
				}
			}
			if after := k.asLeft(prefill); after != before {
				t.Errorf("the object went from %s to %s", before, after)
			}
			k.onlyTried()
		})
	}
}

// onlyTried looks that no identity of Tidemark asked for a change that would be
// kept, and returns how many it had tried.
func (k *kube) onlyTried() int {
	k.T.Helper()
	requests, err := k.cluster.Requests()
	if err != nil {
		k.Fatal(err)
	}
	tried := 0
	for _, r := range requests {
		if r.Object.Namespace != k.namespace || !strings.Contains(r.User.Username+r.Impersonated.Username, "serviceaccount:tidemark:") {
			continue
		}
		if tried++; !strings.Contains(r.URI, "dryRun=All") {
			k.Errorf("%s%s was to be kept: %s %s", r.User.Username, r.Impersonated.Username, r.Verb, r.URI)
		}
	}
	return tried
}

// TestKubernetesPreflightOfEveryKind tries what is scaled in other ways.
func TestKubernetesPreflightOfEveryKind(t *testing.T) {
	for _, kind := range []model.KubernetesTarget{
		appsTarget("StatefulSet", ""),
		{APIVersion: "leaderworkerset.x-k8s.io/v1", Kind: "LeaderWorkerSet"},
		{APIVersion: "nvidia.com/v1alpha1", Kind: "DynamoGraphDeploymentScalingAdapter"},
		{APIVersion: "nvidia.com/v1alpha1", Kind: model.KindDynamoGraphDeployment, Service: "Worker"},
	} {
		t.Run(kind.Kind, func(t *testing.T) {
			k := newKube(t)
			prefill, decode := kind, kind
			prefill.Name, decode.Name = "chat-prefill", "chat-decode"
			k.workload(prefill, 2, 0)
			k.workload(decode, 2, 0)
			kubeconfig, err := k.cluster.Kubeconfig("preflight", k.token("tidemark-actuator"))
			if err != nil {
				t.Fatal(err)
			}
			trials, err := Preflight(t.Context(), PreflightConfig{Kubeconfig: kubeconfig}, []Intent{k.intent(prefill, decode, both(1, 3))}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(summaries(trials), "\n")
			if want := "prefill from 2 to 1:\ndecode from 2 to 3:"; got != want {
				t.Errorf("the trials say\n%s, want\n%s", got, want)
			}
			if p, d := k.replicas(prefill), k.replicas(decode); p != 2 || d != 2 {
				t.Errorf("the objects are set to %d and %d, want 2 and 2", p, d)
			}
			// One that met a change of the status is tried again.
			if tried := k.onlyTried(); tried < 2 {
				t.Errorf("%d writes were tried, want 2", tried)
			}
		})
	}
}

// TestKubernetesPreflightChangesNothing tries objects that nobody else touches, as
// somebody who may do anything: they stay at their version, and the client that
// tries cannot even be made to write.
func TestKubernetesPreflightChangesNothing(t *testing.T) {
	k := newKube(t)
	target := model.KubernetesTarget{APIVersion: "example.com/v1", Kind: "ModelServer", Name: "chat"}
	k.create(k.resourceOf(target), k.namespace, `{"apiVersion": "example.com/v1", "kind": "ModelServer", "metadata": {"name": "chat"}, "spec": {"replicas": 2}}`)
	kubeconfig, err := k.cluster.Kubeconfig("preflight", k.cluster.Admin().BearerToken)
	if err != nil {
		t.Fatal(err)
	}
	before := k.object(target).GetResourceVersion()
	intent := k.intent(target, target, both(1, 3))
	trials, err := Preflight(t.Context(), PreflightConfig{Kubeconfig: kubeconfig}, []Intent{intent}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(summaries(trials), "\n"), "prefill from 2 to 1:\ndecode from 2 to 3:"; got != want {
		t.Errorf("the trials say\n%s, want\n%s", got, want)
	}
	server := kubernetes.DefaultConfig()
	server.Kubeconfig, server.TriesOnly = kubeconfig, true
	through := kubernetes.New(server, connector.DefaultSteps(), slog.New(slog.DiscardHandler))
	pool, err := through.Pool(t.Context(), intent.Configured, model.Decode)
	if err != nil {
		t.Fatal(err)
	}
	if err := through.Set(t.Context(), intent.Configured, model.Decode, pool, 3); err == nil || !strings.Contains(err.Error(), "is no dry run, and was not sent") {
		t.Errorf("a write ended with %v", err)
	}
	if after := k.object(target).GetResourceVersion(); after != before {
		t.Errorf("the object went from version %s to %s", before, after)
	}
}

// TestKubernetesDoctor runs the command that people run.
func TestKubernetesDoctor(t *testing.T) {
	k := newKube(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "tidemark")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "tidemark.dev/cmd/tidemark").CombinedOutput(); err != nil {
		t.Fatalf("build tidemark: %v\n%s", err, out)
	}
	prefill, decode := appsTarget("Deployment", "chat-prefill"), appsTarget("Deployment", "chat-decode")
	k.workload(prefill, 2, 0)
	k.workload(decode, 2, 0)
	k.ready(prefill, 2)
	k.ready(decode, 2)
	url := "sqlite://" + filepath.Join(dir, "tidemark.db")
	log, err := drivers.OpenURL(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	topics := events.Topics{Prefix: "tidemark."}
	intent := k.intent(prefill, decode, both(1, 3))
	intent.Configured.Spec.Roles.Prefill.Engine.MaxNumBatchedTokens = 8192
	publish(t, log, topics, intent.Configured, time.Now())
	publish(t, log, topics, k.intent(prefill, decode, both(9, 9)).Decision, time.Now())
	publish(t, log, topics, intent.Decision, time.Now())
	idle := intent.Configured.Spec
	idle.Name, idle.Actuator = "idle", &model.Actuator{Kubernetes: &model.KubernetesActuator{Namespace: k.namespace, Roles: both(appsTarget("Deployment", "idle-prefill"), appsTarget("Deployment", "idle-decode"))}}
	publish(t, log, topics, &model.DeploymentConfigured{Deployment: "idle", Revision: 1, Spec: idle, ChangedBy: "test", Reason: "test"}, time.Now())
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := k.cluster.Kubeconfig("preflight", k.token("tidemark-actuator"))
	if err != nil {
		t.Fatal(err)
	}
	doctor := func(args ...string) (string, int) {
		command := exec.CommandContext(t.Context(), program, append([]string{"doctor", "--log", url, "--check-timeout", "0", "--preflight", "--kubeconfig", kubeconfig}, args...)...)
		out, _ := command.CombinedOutput()
		return string(out), command.ProcessState.ExitCode()
	}
	passes := "chat: prefill from 2 to 1: would pass: Deployment doctor/chat-prefill\nchat: decode from 2 to 3: would pass: Deployment doctor/chat-decode\n"
	if out, code := doctor(); code != 0 || !strings.HasSuffix(out, passes) || !strings.Contains(out, "idle: nothing is tried: it has no decision since ") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	k.mayOnlyRead()
	out, code := doctor("--deployment", "chat")
	if code != 1 || strings.Contains(out, "idle: nothing") || !strings.Contains(out, "chat: prefill from 2 to 1: forbidden: Deployment doctor/chat-prefill: the actuator may not do this; grant it by a role") ||
		!strings.HasSuffix(out, "tidemark: preflight: 2 of 2 roles would not pass; nothing was changed\n") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	k.onlyTried()
}
