package fleets

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/model"
)

// apiServer answers like an API server: objects by path.
type apiServer struct {
	t       *testing.T
	objects map[string]string
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		a.t.Errorf("%s %s: the collector sends GET and nothing else", r.Method, r.URL)
	}
	key := r.URL.Path
	if token := r.URL.Query().Get("continue"); token != "" {
		key += "?" + token
	}
	if selector := r.URL.Query().Get("labelSelector"); selector != "" && selector != "app=decode" {
		a.t.Errorf("pods are selected by %q", selector)
	}
	object, ok := a.objects[key]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		object = `{"kind":"Status","message":"not found"}`
	}
	if code, text, found := strings.Cut(object, " "); found && len(code) == 3 {
		var status int
		_, _ = fmt.Sscan(code, &status)
		w.WriteHeader(status)
		object = text
	}
	fmt.Fprint(w, object)
}

func pods(next string, all ...string) string {
	return fmt.Sprintf(`{"metadata":{"continue":%q},"items":[%s]}`, next, strings.Join(all, ","))
}

const (
	apps       = `{"resources":[{"name":"deployments","kind":"Deployment"},{"name":"deployments/scale","kind":"Scale"}]}`
	ready      = `{"status":{"phase":"Running","conditions":[{"type":"PodScheduled","status":"True"},{"type":"Ready","status":"True"}]}}`
	starting   = `{"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"True"},{"type":"Ready","status":"False"}]}}`
	unplaced   = `{"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable"}]}}`
	terminated = `{"metadata":{"deletionTimestamp":"2026-11-23T20:00:00Z"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`
	failed     = `{"status":{"phase":"Failed","conditions":[{"type":"Ready","status":"False"},{"type":"PodScheduled","status":"False"}]}}`

	deployment = "/apis/apps/v1/namespaces/chat/deployments/decode"
	list       = "/api/v1/namespaces/chat/pods"
	graphs     = `{"resources":[{"name":"dynamographdeployments","kind":"DynamoGraphDeployment"}]}`
	graph      = "/apis/nvidia.com/v1alpha1/namespaces/chat/dynamographdeployments/decode"
)

func TestInventory(t *testing.T) {
	plain := model.KubernetesTarget{APIVersion: "apps/v1", Kind: "Deployment", Name: "decode"}
	dynamo := model.KubernetesTarget{APIVersion: "nvidia.com/v1alpha1", Kind: model.KindDynamoGraphDeployment, Name: "decode", Service: "Worker"}
	for name, test := range map[string]struct {
		target  model.KubernetesTarget
		objects map[string]string
		want    model.RoleReplicas
		status  model.Evidence
		error   string
	}{
		"pods of two pages": {plain, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": `{"spec":{"replicas":7},"status":{"replicas":7,"selector":"app=decode"}}`,
			list: pods("2", ready, starting, unplaced, terminated), list + "?2": pods("", ready, failed),
		}, model.RoleReplicas{Ready: 2, Desired: 7, Pending: 1}, model.Measured, ""},
		"scaled to zero": {plain, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": `{"spec":{},"status":{"selector":"app=decode"}}`, list: pods(""),
		}, model.RoleReplicas{}, model.Measured, ""},
		"no selector": {plain, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": `{"spec":{"replicas":3},"status":{"replicas":3}}`, deployment: `{"status":{"readyReplicas":2}}`,
		}, model.RoleReplicas{Ready: 2, Desired: 3}, model.Measured, ""},
		"nothing says what is ready": {plain, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": `{"spec":{"replicas":3}}`, deployment: `{}`,
		}, model.RoleReplicas{}, model.Failed, "kubernetes: Deployment chat/decode: says neither which pods are its own"},
		"no such object": {plain, map[string]string{"/apis/apps/v1": apps}, model.RoleReplicas{}, model.Absent, "deployments/decode/scale does not exist"},
		"no such kind":   {plain, map[string]string{"/apis/apps/v1": `{"resources":[]}`}, model.RoleReplicas{}, model.Absent, "kind Deployment of apps/v1 does not exist"},
		"forbidden": {plain, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": `403 {"message":"user may not get deployments/scale"}`,
		}, model.RoleReplicas{}, model.Failed, "403 Forbidden: user may not get deployments/scale"},
		"restarting": {plain, map[string]string{"/apis/apps/v1": "503 {}"}, model.RoleReplicas{}, model.Failed, "503 Service Unavailable"},
		"no JSON":    {plain, map[string]string{"/apis/apps/v1": "<html>"}, model.RoleReplicas{}, model.Failed, "invalid character"},
		"a graph of v1alpha1": {dynamo, map[string]string{
			"/apis/nvidia.com/v1alpha1": graphs,
			graph:                       `{"spec":{"services":{"Worker":{"replicas":4}}},"status":{"services":{"Worker":{"availableReplicas":0,"readyReplicas":3}}}}`,
		}, model.RoleReplicas{Ready: 0, Desired: 4}, model.Measured, ""},
		"a graph of v1beta1": {dynamo, map[string]string{
			"/apis/nvidia.com/v1alpha1": graphs, graph: `{"spec":{"components":[{"name":"Worker","replicas":4}]},"status":{"components":{"Worker":{"readyReplicas":3}}}}`,
		}, model.RoleReplicas{Ready: 3, Desired: 4}, model.Measured, ""},
		"a graph without it": {dynamo, map[string]string{"/apis/nvidia.com/v1alpha1": graphs, graph: `{}`}, model.RoleReplicas{}, model.Absent, "its service Worker does not exist"},
		"a graph that says nothing": {dynamo, map[string]string{
			"/apis/nvidia.com/v1alpha1": graphs, graph: `{"spec":{"services":{"Worker":{"replicas":4}}}}`,
		}, model.RoleReplicas{}, model.Failed, "its status does not say how many replicas of Worker are ready"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(&apiServer{t, test.objects})
			defer server.Close()
			fleet := &model.KubernetesFleet{Namespace: "chat"}
			fleet.Roles.Set(model.Decode, test.target)
			got := NewKubernetes(Access{URL: server.URL}).Inventory(t.Context(), fleet)
			if got.Status != test.status || !strings.Contains(got.Error, test.error) || strings.Contains(got.Error, "\n") {
				t.Fatalf("have %s %q, want %s %q", got.Status, got.Error, test.status, test.error)
			}
			replicas, there := got.Roles.Get(model.Decode)
			if there != (test.status == model.Measured) {
				t.Errorf("replicas are there: %v", there)
			}
			if diff := cmp.Diff(test.want, replicas); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPIServerThatIsNotThere(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	fleet := &model.KubernetesFleet{Namespace: "chat"}
	fleet.Roles.Set(model.Decode, model.KubernetesTarget{APIVersion: "v1", Kind: "Pod", Name: "x"})
	if got := NewKubernetes(Access{URL: server.URL}).Inventory(t.Context(), fleet); got.Status != model.Failed || !strings.Contains(got.Error, "connection refused") {
		t.Errorf("have %s %q", got.Status, got.Error)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if got := NewKubernetes(Access{}).Inventory(t.Context(), fleet); got.Status != model.Failed || !strings.Contains(got.Error, "name the API server by --kubernetes-url") {
		t.Errorf("have %s %q", got.Status, got.Error)
	}
}
