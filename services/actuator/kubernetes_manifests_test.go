//go:build e2e

package actuator

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	authorization "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"tidemark.dev/pkg/model"
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
	for kind, want := range map[string]int{"Deployment": 4, "ServiceAccount": 4, "PodDisruptionBudget": 4, "NetworkPolicy": 5, "ClusterRole": 2} {
		if kinds[kind] != want {
			t.Errorf("%d of kind %s, want %d", kinds[kind], kind, want)
		}
	}
	if want := []string{"tidemark-collector", "tidemark-actuator"}; !slices.Equal(withToken, want) {
		t.Errorf("pods of %q get a token, want those of %q alone", withToken, want)
	}
}

// TestKubernetesRolesAllowExactly has the API server list all that each identity
// may do in a namespace with fleets, and in one without.
func TestKubernetesRolesAllowExactly(t *testing.T) {
	k := newKube(t)
	// prepare lets the actuator scale these for the tests, everywhere.
	modelServers := []string{"get example.com/modelservers", "get example.com/modelservers/scale", "update example.com/modelservers/scale"}
	for account, want := range map[string]struct{ bound, unbound []string }{
		"tidemark-collector": {bound: []string{
			"get apps/deployments",
			"get apps/deployments/scale",
			"get apps/statefulsets",
			"get apps/statefulsets/scale",
			"get leaderworkerset.x-k8s.io/leaderworkersets",
			"get leaderworkerset.x-k8s.io/leaderworkersets/scale",
			"get nvidia.com/dynamographdeployments",
			"get nvidia.com/dynamographdeploymentscalingadapters",
			"get nvidia.com/dynamographdeploymentscalingadapters/scale",
			"list /pods",
			"watch /pods",
		}},
		"tidemark-decider":  {},
		"tidemark-reporter": {},
		"tidemark-actuator": {unbound: modelServers, bound: slices.Concat([]string{
			"get apps/deployments",
			"get apps/deployments/scale",
			"get apps/statefulsets",
			"get apps/statefulsets/scale",
			"get leaderworkerset.x-k8s.io/leaderworkersets",
			"get leaderworkerset.x-k8s.io/leaderworkersets/scale",
			"get nvidia.com/dynamographdeployments",
			"get nvidia.com/dynamographdeploymentscalingadapters",
			"get nvidia.com/dynamographdeploymentscalingadapters/scale",
			"list /events",
			"list /pods",
			"list /resourcequotas",
			"list autoscaling/horizontalpodautoscalers",
			"list keda.sh/scaledobjects",
			"patch nvidia.com/dynamographdeployments",
			"update apps/deployments/scale",
			"update apps/statefulsets/scale",
			"update leaderworkerset.x-k8s.io/leaderworkersets/scale",
			"update nvidia.com/dynamographdeploymentscalingadapters/scale",
		}, modelServers)},
	} {
		slices.Sort(want.bound)
		if got := k.allowed(account, k.namespace); !slices.Equal(got, want.bound) {
			t.Errorf("%s may, where it is bound,\n%q, want\n%q", account, got, want.bound)
		}
		if got := k.allowed(account, "default"); !slices.Equal(got, want.unbound) {
			t.Errorf("%s may, where it is not bound,\n%q, want\n%q", account, got, want.unbound)
		}
	}
}

// allowed returns what an account may do in a namespace, as the API server says.
// That anyone may ask about themselves is left out.
func (k *kube) allowed(account, namespace string) []string {
	k.T.Helper()
	api, err := dynamic.NewForConfig(k.cluster.Config(k.token(account)))
	if err != nil {
		k.Fatal(err)
	}
	question, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&authorization.SelfSubjectRulesReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectRulesReview"},
		Spec:     authorization.SelfSubjectRulesReviewSpec{Namespace: namespace},
	})
	if err != nil {
		k.Fatal(err)
	}
	answer, err := api.Resource(resource("authorization.k8s.io", "v1", "selfsubjectrulesreviews")).
		Create(k.T.Context(), &unstructured.Unstructured{Object: question}, metav1.CreateOptions{})
	if err != nil {
		k.Fatal(err)
	}
	var review authorization.SelfSubjectRulesReview
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(answer.Object, &review); err != nil {
		k.Fatal(err)
	}
	if review.Status.Incomplete {
		k.Fatalf("the API server does not know all that %s may: %s", account, review.Status.EvaluationError)
	}
	var allowed []string
	for _, rule := range review.Status.ResourceRules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				if strings.HasPrefix(resource, "selfsubject") {
					continue
				}
				for _, verb := range rule.Verbs {
					allowed = append(allowed, verb+" "+group+"/"+resource)
				}
			}
		}
	}
	slices.Sort(allowed)
	return slices.Compact(allowed)
}

// TestKubernetesCollectorCounts runs the collector's own program under its own
// account: it counts fleets of each kind where it is bound, says that it may not
// where it is not, and asks for nothing but to read.
func TestKubernetesCollectorCounts(t *testing.T) {
	k := newKube(t)
	fleets := map[string]model.PerRole[model.KubernetesTarget]{}
	for kind, target := range map[string]model.KubernetesTarget{
		"deployment": appsTarget("Deployment", ""),
		"set":        appsTarget("StatefulSet", ""),
		"group":      {APIVersion: "leaderworkerset.x-k8s.io/v1", Kind: "LeaderWorkerSet"},
		"adapter":    {APIVersion: "nvidia.com/v1alpha1", Kind: "DynamoGraphDeploymentScalingAdapter"},
		"graph":      {APIVersion: "nvidia.com/v1alpha1", Kind: model.KindDynamoGraphDeployment, Service: "Worker"},
	} {
		prefill, decode := target, target
		prefill.Name, decode.Name = kind+"-prefill", kind+"-decode"
		k.workload(prefill, 1, 0)
		k.workload(decode, 3, 0)
		fleets[kind] = both(prefill, decode)
	}
	fleets["elsewhere"] = fleets["deployment"]
	var specs []model.Deployment
	for name, roles := range fleets {
		spec := activeSpec(name)
		spec.Advisory, spec.Actuator = true, nil
		spec.Load.IntervalS = 1
		spec.Source = &model.Source{Fleet: &model.FleetSource{Kubernetes: &model.KubernetesFleet{Namespace: k.namespace, Roles: roles}}}
		if name == "elsewhere" {
			spec.Source.Fleet.Kubernetes.Namespace = "default"
		}
		specs = append(specs, spec)
	}
	collector := k.collect(specs...)
	var seen map[string]*model.Observation
	wanted := func() bool {
		seen = collector.newest()
		for name := range fleets {
			if seen[name] == nil {
				return false
			}
			fleet := seen[name].Fleet
			prefill, _ := fleet.Roles.Get(model.Prefill)
			decode, _ := fleet.Roles.Get(model.Decode)
			counted := fleet.Status == model.Measured && prefill == model.RoleReplicas{Ready: 1, Desired: 1} && decode == model.RoleReplicas{Ready: 3, Desired: 3}
			forbidden := fleet.Status == model.Failed && strings.Contains(fleet.Error, "403 Forbidden")
			if name == "elsewhere" && !forbidden || name != "elsewhere" && !counted {
				return false
			}
		}
		return true
	}
	collector.await("fleets of each kind are counted", wanted)
	collector.stop()
}
