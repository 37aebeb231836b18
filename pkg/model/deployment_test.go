package model_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark.dev/pkg/model"
)

func TestDecodeDeploymentsReadsEverySetting(t *testing.T) {
	data, err := os.ReadFile("testdata/deployments.yaml")
	if err != nil {
		t.Fatal(err)
	}
	deployments, err := model.DecodeDeployments(data)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	chat := deployments[0]
	if got, want := chat.Name, "chat-70b"; got != want {
		t.Errorf("name = %q, want %q", got, want)
	}
	if got := chat.Mode(); got != model.Advisory {
		t.Errorf("mode = %q, want advisory", got)
	}
	prefill, ok := chat.Roles.Get(model.Prefill)
	want := model.RoleSpec{
		GPUsPerReplica: 2, MinReplicas: 1, MaxReplicas: 32,
		Engine: model.Engine{MaxNumBatchedTokens: 8192, MaxNumSeqs: 256, ContextLength: 131072, MaxKVTokens: 590818},
	}
	if diff := cmp.Diff(want, prefill); !ok || diff != "" {
		t.Errorf("prefill (-want +got):\n%s", diff)
	}
	if chat.Budget.MaxGPUs != 16 || chat.Budget.MinGPUs != model.Unbounded {
		t.Errorf("budget = %+v", chat.Budget)
	}
}

func TestDecodeDeploymentsAppliesDefaults(t *testing.T) {
	deployments, err := model.DecodeDeployments([]byte(`{"deployments": [
		{"name": "a", "topology": "decode", "target": "latency", "roles": {"decode": {"max_replicas": 3}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := model.DefaultDeployment()
	want.Name, want.Topology, want.Target = "a", model.TopologyDecode, model.TargetLatency
	want.Throughput.Enabled = false
	want.Roles.Set(model.Decode, model.RoleSpec{MinReplicas: 1, MaxReplicas: 3})
	if diff := cmp.Diff(want, deployments[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeDeploymentsReportsEveryProblemWithPathAndLine(t *testing.T) {
	const broken = `deployments:
  - name: Chat
    advisory: maybe
    no_operation: true
    topology: disaggregated
    roles:
      prefill: {min_replicas: 0, max_replicas: 4, gpus: 2}
    load: {buckets: 5, interval_s: .nan}
    budget: {max_gpus: 8}
    scaling_mode: noop
  - name: b
    topology: circular
    target: sla
`
	_, err := model.DecodeDeployments([]byte(broken))
	var config *model.ConfigError
	if !errors.As(err, &config) {
		t.Fatalf("error = %v, want a *ConfigError", err)
	}
	for _, want := range []string{
		`line 2: deployments[0].name: is "Chat", want 1 to 63`,
		`line 3: deployments[0].advisory: want true or false, have "maybe"`,
		`line 4: deployments[0].no_operation: is not known here: write advisory: true`,
		`line 7: deployments[0].roles.decode: is missing; topology disaggregated has it`,
		`line 7: deployments[0].roles.prefill.min_replicas: is 0, want at least 1`,
		`line 7: deployments[0].roles.prefill.gpus: is not a known key; the keys here are gpus_per_replica`,
		`line 8: deployments[0].load.buckets: is 5, want a perfect square`,
		`line 8: deployments[0].load.interval_s: want a number, have ".nan"`,
		`line 10: deployments[0].scaling_mode: is not known here: write advisory: true`,
		`line 12: deployments[1].topology: is "circular", want one of`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q in:\n%v", want, err)
		}
	}
}

func TestDecodeDeploymentsRefusesBrokenDocuments(t *testing.T) {
	for name, test := range map[string]struct{ document, want string }{
		"empty":        {"", "the file is empty"},
		"no list":      {"deployments: []", "no deployment is configured"},
		"not YAML":     {"deployments: [", "line 1"},
		"two":          {"deployments: []\n---\ndeployments: []", "more than one document"},
		"wrong shape":  {"- a\n- b", "want keys and values, have a list"},
		"twice":        {"deployments: [{name: a, name: b}]", "is given twice"},
		"same name":    {"deployments: [{name: a}, {name: a}]", `"a" is the name of deployments[0] too`},
		"itself":       {"deployments: &a [*a]", "want keys and values"},
		"null":         {"deployments: [{name: a, roles: {decode: }}]", "has no value"},
		"loops off":    {"deployments: [{name: a, load: {enabled: false}, throughput: {enabled: false}}]", "nothing would ever be decided"},
		"small budget": {"deployments: [{name: a, topology: decode, roles: {decode: {gpus_per_replica: 4, min_replicas: 2, max_replicas: 9}}, budget: {max_gpus: 6}}]", "min_replicas of all roles need 8"},
		"unknown gpus": {"deployments: [{name: a, topology: decode, roles: {decode: {max_replicas: 9}}, budget: {max_gpus: 6}}]", "a GPU budget cannot be kept without it"},
		"thresholds":   {"deployments: [{name: a, topology: decode, target: load, roles: {decode: {max_replicas: 9}}, load: {decode_scale_up_kv_percent: 40, decode_scale_down_kv_percent: 50}}]", "want more than load.decode_scale_down_kv_percent"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := model.DecodeDeployments([]byte(test.document))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want one that says %q", err, test.want)
			}
		})
	}
}

func FuzzDecodeDeployments(f *testing.F) {
	data, err := os.ReadFile("testdata/deployments.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("deployments: &a [*a]"))
	f.Add([]byte(`{"deployments": [{"name": "a", "roles": {"decode": {"max_replicas": 1e99}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		deployments, err := model.DecodeDeployments(data)
		if (err == nil) == (len(deployments) == 0) {
			t.Errorf("%d deployments and error %v: want one or the other", len(deployments), err)
		}
	})
}
