package model_test

import (
	"errors"
	"strings"
	"testing"

	"tidemark.dev/pkg/model"
)

// configured is a file with an actuator.
func configured(actuator string) []byte {
	return []byte(`deployments:
  - name: chat
    roles:
      prefill: {max_replicas: 4}
      decode: {max_replicas: 4}
    actuator:
` + actuator)
}

func TestActuatorIsRead(t *testing.T) {
	deployments, err := model.DecodeDeployments(configured(`      kubernetes:
        namespace: llm
        roles:
          prefill: {name: chat-prefill}
          decode: {api_version: nvidia.com/v1alpha1, kind: DynamoGraphDeployment, name: chat, service: VllmDecodeWorker}
`))
	if err != nil {
		t.Fatal(err)
	}
	roles := deployments[0].Actuator.Kubernetes.Roles
	if want := (model.KubernetesTarget{APIVersion: "apps/v1", Kind: "Deployment", Name: "chat-prefill"}); *roles.Prefill != want {
		t.Errorf("prefill is %+v, want %+v", *roles.Prefill, want)
	}
	if got := roles.Decode.Service; got != "VllmDecodeWorker" {
		t.Errorf("service of decode is %q", got)
	}
}

func TestActuatorIsRefused(t *testing.T) {
	cases := map[string]struct{ actuator, problem string }{
		"nothing":                     {"      {}\n", "line 7: deployments[0].actuator: names nothing that carries decisions out"},
		"two":                         {"      simulated: {}\n      kubernetes: {namespace: a, roles: {prefill: {name: p}, decode: {name: d}}}\n", "deployments[0].actuator: names simulated and kubernetes; give one"},
		"simulated, of nothing":       {"      simulated: {}\n", "actuator.simulated: needs source.simulated"},
		"no namespace":                {"      kubernetes: {roles: {prefill: {name: p}, decode: {name: d}}}\n", `actuator.kubernetes.namespace: is "", want the name of a namespace`},
		"a role without object":       {"      kubernetes: {namespace: a, roles: {prefill: {name: p}}}\n", "actuator.kubernetes.roles.decode: is missing; name the object"},
		"a role too many":             {"      kubernetes: {namespace: a, roles: {prefill: {name: p}, decode: {name: d}, aggregated: {name: x}}}\n", "actuator.kubernetes.roles.aggregated: is given, and topology disaggregated has no such role"},
		"one object twice":            {"      kubernetes: {namespace: a, roles: {prefill: {name: p}, decode: {name: p}}}\n", "actuator.kubernetes.roles.decode: is the object of role prefill too"},
		"an unnamed object":           {"      kubernetes: {namespace: a, roles: {prefill: {}, decode: {name: d}}}\n", `actuator.kubernetes.roles.prefill.name: is "", want the name of the object`},
		"a path for a name":           {"      kubernetes: {namespace: a, roles: {prefill: {name: ../x}, decode: {name: d}}}\n", "actuator.kubernetes.roles.prefill.name"},
		"a kind in lower case":        {"      kubernetes: {namespace: a, roles: {prefill: {kind: deployment, name: p}, decode: {name: d}}}\n", `actuator.kubernetes.roles.prefill.kind: is "deployment", want a kind such as Deployment`},
		"no version":                  {"      kubernetes: {namespace: a, roles: {prefill: {api_version: apps, name: p}, decode: {name: d}}}\n", `roles.prefill.api_version: is "apps", want a group and version`},
		"a graph, whole":              {"      kubernetes: {namespace: a, roles: {prefill: {api_version: nvidia.com/v1alpha1, kind: DynamoGraphDeployment, name: p}, decode: {name: d}}}\n", "roles.prefill.service: is missing; a DynamoGraphDeployment holds several services"},
		"a service of others":         {"      kubernetes: {namespace: a, roles: {prefill: {name: p, service: s}, decode: {name: d}}}\n", "roles.prefill.service: is given, and only a DynamoGraphDeployment holds services"},
		"a webhook without a secret":  {"      webhook: {url: \"https://scheduler.example/scale\"}\n", "actuator.webhook.secret_file: is missing; requests are signed by the key in it"},
		"a webhook that is no URL":    {"      webhook: {url: scheduler, secret_file: s}\n", "actuator.webhook.url: is not a URL such as"},
		"a webhook with a password":   {"      webhook: {url: \"https://me:secret@scheduler.example\", secret_file: s}\n", "actuator.webhook.url: holds credentials"},
		"a webhook that takes longer": {"      webhook: {url: \"https://scheduler.example\", secret_file: s, timeout_s: 60}\n", "actuator.webhook.timeout_s: is 60, want at most 15"},
		"an unknown key":              {"      kubernetes: {cluster: a}\n", "actuator.kubernetes.cluster: is not a known key"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := model.DecodeDeployments(configured(c.actuator))
			if _, ok := errors.AsType[*model.ConfigError](err); !ok || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("error is\n%v\nwant it to say\n%s", err, c.problem)
			}
		})
	}
}
