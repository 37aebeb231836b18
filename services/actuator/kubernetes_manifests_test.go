//go:build e2e

package actuator

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestKubernetesTakesTheManifests has the API server look at every object of
// deploy/kubernetes, as strictly as it can, and at the pods that they lead to
// under the restricted level of pod security.
func TestKubernetesTakesTheManifests(t *testing.T) {
	k := newKube(t)
	content, err := os.ReadFile("../../deploy/kubernetes/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var kustomization struct{ Resources []string }
	if err := yaml.Unmarshal(content, &kustomization); err != nil {
		t.Fatal(err)
	}
	cluster := []string{"Namespace", "ClusterRole"}
	kinds := map[string]int{}
	var withToken []string
	for _, file := range kustomization.Resources {
		for _, object := range manifests(t, "../../deploy/kubernetes/"+file) {
			kinds[object.GetKind()]++
			namespace := "tidemark"
			if slices.Contains(cluster, object.GetKind()) {
				namespace = ""
			}
			resources := k.admin.Resource(guess(object)).Namespace(namespace)
			_, err := resources.Create(t.Context(), object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
			}
			if object.GetKind() != "Deployment" {
				continue
			}
			spec, _, _ := unstructured.NestedMap(object.Object, "spec", "template", "spec")
			if token, _, _ := unstructured.NestedBool(spec, "automountServiceAccountToken"); token {
				withToken = append(withToken, object.GetName())
			}
			create := func(spec map[string]any) error {
				pod := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": object.GetName()}, "spec": spec}}
				_, err := k.admin.Resource(resource("", "v1", "pods")).Namespace("tidemark").
					Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
				return err
			}
			if err := create(spec); err != nil {
				t.Errorf("a pod of %s: %v", object.GetName(), err)
			}
			// The check is one that can fail.
			careless := maps.Clone(spec)
			delete(careless, "securityContext")
			if err := create(careless); err == nil || !strings.Contains(err.Error(), "PodSecurity") {
				t.Errorf("a pod of %s that may run as root is taken: %v", object.GetName(), err)
			}
		}
	}
	for kind, want := range map[string]int{"Deployment": 4, "ServiceAccount": 4, "PodDisruptionBudget": 4, "NetworkPolicy": 5, "ClusterRole": 1} {
		if kinds[kind] != want {
			t.Errorf("%d of kind %s, want %d", kinds[kind], kind, want)
		}
	}
	if want := []string{"tidemark-actuator"}; !slices.Equal(withToken, want) {
		t.Errorf("pods of %q get a token, want those of %q alone", withToken, want)
	}
}
