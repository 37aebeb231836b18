package fleets

import (
	"net/http/httptest"
	"strings"
	"testing"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
)

func TestCheck(t *testing.T) {
	const (
		scale   = `{"spec":{"replicas":1},"status":{"selector":"app=decode"}}`
		two     = `{"spec":{"containers":[{"resources":{"limits":{"nvidia.com/gpu":"1","memory":"8Gi"}}},{"resources":{"limits":{"nvidia.com/gpu":"1"}}},{}]}}`
		groups  = `{"resources":[{"name":"leaderworkersets","kind":"LeaderWorkerSet"}]}`
		group   = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/chat/leaderworkersets/decode"
		noLimit = `{"spec":{"containers":[{}]}}`
	)
	plain := model.KubernetesTarget{APIVersion: "apps/v1", Kind: "Deployment", Name: "decode"}
	lws := model.KubernetesTarget{APIVersion: "leaderworkerset.x-k8s.io/v1", Kind: "LeaderWorkerSet", Name: "decode"}
	dynamo := model.KubernetesTarget{APIVersion: "nvidia.com/v1alpha1", Kind: model.KindDynamoGraphDeployment, Name: "decode", Service: "Worker"}
	for name, test := range map[string]struct {
		target  model.KubernetesTarget
		written int
		objects map[string]string
		want    string
	}{
		"as it is written": {plain, 2, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": scale, list: pods(""), deployment: `{"spec":{"template":` + two + `}}`,
		}, ""},
		"otherwise": {plain, 4, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": scale, list: pods(""), deployment: `{"spec":{"template":` + two + `}}`,
		}, "error: chat: roles.decode.gpus_per_replica: is 4, and a replica of Deployment chat/decode asks for 2: budgets and GPU-hours are wrong; write 2"},
		"not written": {plain, 0, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": scale, list: pods(""), deployment: `{"spec":{"template":` + two + `}}`,
		}, "warning: chat: roles.decode.gpus_per_replica: is missing, and a replica of Deployment chat/decode asks for 2; write 2"},
		"not said": {plain, 4, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": scale, list: pods(""), deployment: `{"spec":{"template":` + noLimit + `}}`,
		}, ""},
		"a group of three": {lws, 4, map[string]string{
			"/apis/leaderworkerset.x-k8s.io/v1": groups, group + "/scale": scale, list: pods(""),
			group: `{"spec":{"leaderWorkerTemplate":{"size":3,"workerTemplate":` + two + `}}}`,
		}, "error: chat: roles.decode.gpus_per_replica: is 4, and a replica of LeaderWorkerSet chat/decode asks for 6"},
		"a leader of its own": {lws, 4, map[string]string{
			"/apis/leaderworkerset.x-k8s.io/v1": groups, group + "/scale": scale, list: pods(""),
			group: `{"spec":{"leaderWorkerTemplate":{"size":3,"leaderTemplate":` + noLimit + `,"workerTemplate":` + two + `}}}`,
		}, ""},
		"a graph of two nodes": {dynamo, 4, map[string]string{
			"/apis/nvidia.com/v1alpha1": graphs,
			graph: `{"spec":{"services":{"Worker":{"replicas":1,"resources":{"limits":{"gpu":"4"}},"multinode":{"nodeCount":2}}}},
				"status":{"services":{"Worker":{"readyReplicas":1}}}}`,
		}, "error: chat: roles.decode.gpus_per_replica: is 4, and a replica of DynamoGraphDeployment chat/decode asks for 8"},
		"a graph of v1beta1": {dynamo, 4, map[string]string{
			"/apis/nvidia.com/v1alpha1": graphs,
			graph:                       `{"spec":{"components":[{"name":"Worker","replicas":1,"podTemplate":` + two + `}]},"status":{"components":{"Worker":{"readyReplicas":1}}}}`,
		}, "error: chat: roles.decode.gpus_per_replica: is 4, and a replica of DynamoGraphDeployment chat/decode asks for 2"},
		"not there": {plain, 2, map[string]string{"/apis/apps/v1": apps}, "error: chat: source.fleet.kubernetes: absent: kubernetes: Deployment chat/decode: "},
		"the template is forbidden": {plain, 2, map[string]string{
			"/apis/apps/v1": apps, deployment + "/scale": scale, list: pods(""), deployment: `403 {"message":"user may not get deployments"}`,
		}, "unchecked: chat: roles.decode.gpus_per_replica: cannot be held against the pods: 403 Forbidden: user may not get deployments"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(&apiServer{t, test.objects})
			defer server.Close()
			fleet := &model.KubernetesFleet{Namespace: "chat"}
			fleet.Roles.Set(model.Decode, test.target)
			d := &model.Deployment{Name: "chat", Topology: model.TopologyDecode}
			d.Roles.Set(model.Decode, model.RoleSpec{GPUsPerReplica: test.written})
			f := &lint.Findings{Deployment: "chat"}
			NewKubernetes(Access{URL: server.URL}).Check(t.Context(), f, d, fleet)
			got := ""
			for _, finding := range f.All {
				got += finding.String() + "\n"
			}
			if got = strings.TrimSuffix(got, "\n"); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" || strings.Contains(got, "\n") {
				t.Errorf("have %q, want one line that begins with %q", got, test.want)
			}
		})
	}
}

// TestCheckFromElsewhere: outside of a cluster nobody is asked who is not named.
func TestCheckFromElsewhere(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	f := &lint.Findings{Deployment: "chat"}
	NewKubernetes(Access{}).Check(t.Context(), f, &model.Deployment{}, &model.KubernetesFleet{})
	if len(f.All) != 1 || f.All[0].Severity != lint.Unchecked || !strings.Contains(f.All[0].Message, "--kubernetes-url") {
		t.Errorf("have %v", f.All)
	}
}
