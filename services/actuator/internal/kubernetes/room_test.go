package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"tidemark.dev/pkg/model"
)

// TestPerReplica: what a replica counts for in quotas, by the template of its pods.
func TestPerReplica(t *testing.T) {
	for name, c := range map[string]struct{ kind, object, want string }{
		"limits stand for requests": {"Deployment", `
spec:
  template:
    spec:
      initContainers: [{name: load, resources: {requests: {cpu: "9"}}}]
      containers:
        - {name: engine, resources: {requests: {cpu: "4"}, limits: {memory: 64Gi, nvidia.com/gpu: 2}}}
        - {name: sidecar, resources: {requests: {cpu: 500m, memory: 1Gi}}}
`, "count/pods=1 cpu=9 limits.memory=64Gi limits.nvidia.com/gpu=2 memory=65Gi pods=1 requests.cpu=9 requests.memory=65Gi requests.nvidia.com/gpu=2"},
		"nothing asked for": {"StatefulSet", `spec: {template: {spec: {containers: [{name: engine}]}}}`, "count/pods=1 pods=1"},
		"no template":       {"Deployment", `spec: {}`, "Deployment llm/chat has no template of its pods"},
		"a group of one template": {"LeaderWorkerSet", `
spec: {leaderWorkerTemplate: {size: 4, workerTemplate: {spec: {containers: [{name: engine, resources: {limits: {nvidia.com/gpu: 8}}}]}}}}
`, "count/pods=4 limits.nvidia.com/gpu=32 pods=4 requests.nvidia.com/gpu=32"},
		"a group whose leader differs": {"LeaderWorkerSet", `
spec:
  leaderWorkerTemplate:
    size: 3
    leaderTemplate: {spec: {containers: [{name: router, resources: {requests: {cpu: "2"}}}]}}
    workerTemplate: {spec: {containers: [{name: engine, resources: {limits: {nvidia.com/gpu: 8}}}]}}
`, "count/pods=3 cpu=2 limits.nvidia.com/gpu=16 pods=3 requests.cpu=2 requests.nvidia.com/gpu=16"},
		"a group of leaders alone": {"LeaderWorkerSet", `spec: {leaderWorkerTemplate: {workerTemplate: {spec: {containers: [{name: engine}]}}}}`, "count/pods=1 pods=1"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &object{target: model.KubernetesTarget{Kind: c.kind}, what: c.kind + " llm/chat", whole: &unstructured.Unstructured{}}
			if err := yaml.Unmarshal([]byte(c.object), &o.whole.Object); err != nil {
				t.Fatal(err)
			}
			uses, err := o.perReplica(t.Context())
			var got []string
			for name, quantity := range uses {
				got = append(got, fmt.Sprintf("%s=%s", name, quantity.String()))
			}
			slices.Sort(got)
			text := strings.Join(got, " ")
			if err != nil {
				text = err.Error()
			}
			if text != c.want {
				t.Errorf("a replica counts for\n%s, want\n%s", text, c.want)
			}
		})
	}
}
