package kubernetes

import (
	"context"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
)

// autoscalers are the kinds that scale other objects, and where they say which.
var autoscalers = []struct {
	kind     string
	resource schema.GroupVersionResource
	// optional kinds may not be installed. KEDA makes a HorizontalPodAutoscaler
	// of each ScaledObject, so that one that may not be listed shows too.
	optional bool
	field    []string
	// ownKind is the kind that is meant where none is named.
	ownKind string
}{
	{
		kind:     "HorizontalPodAutoscaler",
		resource: schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"},
		field:    []string{"spec", "scaleTargetRef"},
	},
	{
		kind:     "ScaledObject",
		resource: schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"},
		optional: true, field: []string{"spec", "scaleTargetRef"}, ownKind: "Deployment",
	},
}

// ownersKept is how long a list of a namespace's autoscalers is good for. An
// order reads it once, and not for each of its steps.
const ownersKept = 2 * time.Second

// owners knows who else scales the objects of a namespace.
type owners struct {
	mu     sync.Mutex
	listed map[string]ownership
}

type ownership struct {
	at time.Time
	// by names the autoscaler of a target.
	by map[scaled]string
}

// scaled identifies an object that something scales.
type scaled struct{ group, kind, name string }

func newOwners() *owners { return &owners{listed: map[string]ownership{}} }

// check refuses an object that another autoscaler scales: two that write the
// same number undo each other's work.
func (w *owners) check(ctx context.Context, o *object) error {
	owned, err := w.of(ctx, o.client, o.whole.GetNamespace())
	if err != nil {
		return err
	}
	group := schema.FromAPIVersionAndKind(o.target.APIVersion, o.target.Kind).Group
	targets := []scaled{{group, o.target.Kind, o.target.Name}}
	if o.target.Service != "" {
		// Other autoscalers reach a service through its scaling adapter.
		targets = append(targets, scaled{group, "DynamoGraphDeploymentScalingAdapter", o.target.Name + "-" + strings.ToLower(o.target.Service)})
	}
	for _, target := range targets {
		if by, found := owned[target]; found {
			return connector.Refuse(model.RejectedNotReady, "%s is scaled by %s; remove one of the two", o.what, by)
		}
	}
	return nil
}

func (w *owners) of(ctx context.Context, api *client, namespace string) (map[scaled]string, error) {
	w.mu.Lock()
	known, found := w.listed[namespace]
	w.mu.Unlock()
	if found && time.Since(known.at) < ownersKept {
		return known.by, nil
	}
	at, by := time.Now(), map[scaled]string{}
	for _, autoscaler := range autoscalers {
		list, err := api.objects.Resource(autoscaler.resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if autoscaler.optional && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || meta.IsNoMatchError(err)) {
			continue
		}
		if err != nil {
			return nil, classify("the "+autoscaler.kind+"s of "+namespace, err)
		}
		for i := range list.Items {
			target, _, _ := unstructured.NestedStringMap(list.Items[i].Object, autoscaler.field...)
			kind := target["kind"]
			if kind == "" {
				kind = autoscaler.ownKind
			}
			version := target["apiVersion"]
			if version == "" {
				version = "apps/v1"
			}
			group := schema.FromAPIVersionAndKind(version, kind).Group
			by[scaled{group, kind, target["name"]}] = autoscaler.kind + " " + namespace + "/" + list.Items[i].GetName()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listed[namespace] = ownership{at, by}
	return by, nil
}
