package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"tidemark.dev/pkg/model"
)

var (
	podsResource   = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	eventsResource = schema.GroupVersionResource{Version: "v1", Resource: "events"}
)

// Bounds of an explanation: it is one line for a person.
const (
	mostReasons = 3
	mostOfText  = 240
	podsLooked  = 500
)

// Explain says why replicas of a role do not become ready: what keeps their pods
// from being made, placed or started, the commonest first.
func (c *Connector) Explain(ctx context.Context, configured *model.DeploymentConfigured, role model.Role) string {
	o, err := c.read(ctx, configured, role)
	if err != nil {
		return err.Error()
	}
	var found reasons
	found.ofConditions(o.whole.Object, "ReplicaFailure", "True")
	if o.target.Service == "" {
		if current, err := o.scale(ctx); err == nil && current.Status.Selector != "" {
			pods, err := o.pods(ctx, current.Status.Selector)
			if err != nil {
				return err.Error()
			}
			for i := range pods {
				found.ofPod(&pods[i])
			}
		}
	} else {
		found.ofConditions(o.whole.Object, "Ready", "False")
	}
	if len(found) == 0 {
		found.ofEvents(ctx, o)
	}
	return found.String()
}

// pods lists the pods that a selector names.
func (o *object) pods(ctx context.Context, selector string) ([]unstructured.Unstructured, error) {
	list, err := o.client.objects.Resource(podsResource).Namespace(o.whole.GetNamespace()).
		List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: podsLooked})
	if err != nil {
		return nil, classify("the pods of "+o.what, err)
	}
	if list.GetContinue() != "" {
		return nil, fmt.Errorf("the pods of %s are more than %d, which is more than are looked at", o.what, podsLooked)
	}
	return list.Items, nil
}

func podReady(pod *unstructured.Unstructured) bool {
	return pod.GetDeletionTimestamp() == nil && slices.ContainsFunc(conditions(pod.Object), func(c condition) bool {
		return c.kind == "Ready" && c.status == "True"
	})
}

// condition is a condition of an object's status.
type condition struct{ kind, status, reason, message string }

func conditions(object map[string]any) []condition {
	listed, _, _ := unstructured.NestedSlice(object, "status", "conditions")
	all := make([]condition, 0, len(listed))
	for _, one := range listed {
		if fields, ok := one.(map[string]any); ok {
			all = append(all, condition{text(fields, "type"), text(fields, "status"), text(fields, "reason"), text(fields, "message")})
		}
	}
	return all
}

func text(fields map[string]any, path ...string) string {
	value, _, _ := unstructured.NestedString(fields, path...)
	return value
}

// reasons counts what keeps replicas from becoming ready.
type reasons []counted

type counted struct {
	reason string
	pods   int
}

func (r *reasons) add(reason, message string, pods int) {
	if message != "" {
		reason += ": " + message
	}
	if i := slices.IndexFunc(*r, func(c counted) bool { return c.reason == reason }); i >= 0 {
		(*r)[i].pods += pods
		return
	}
	*r = append(*r, counted{reason, pods})
}

func (r *reasons) ofConditions(object map[string]any, kind, status string) {
	for _, c := range conditions(object) {
		if c.kind == kind && c.status == status {
			r.add(cmp.Or(c.reason, c.kind), c.message, 0)
		}
	}
}

func (r *reasons) ofPod(pod *unstructured.Unstructured) {
	if podReady(pod) || pod.GetDeletionTimestamp() != nil {
		return
	}
	for _, c := range conditions(pod.Object) {
		if c.kind == "PodScheduled" && c.status == "False" {
			r.add(cmp.Or(c.reason, "Unschedulable"), c.message, 1)
			return
		}
	}
	for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
		statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", field)
		for _, one := range statuses {
			fields, _ := one.(map[string]any)
			if reason := text(fields, "state", "waiting", "reason"); reason != "" {
				r.add(reason, text(fields, "state", "waiting", "message"), 1)
				return
			}
			if reason := text(fields, "state", "terminated", "reason"); reason != "" && field == "containerStatuses" {
				r.add(reason, text(fields, "state", "terminated", "message"), 1)
				return
			}
		}
	}
	r.add("not ready yet", "", 1)
}

// ofEvents takes the newest warning about the object itself: a StatefulSet tells
// in no other way why it makes no pods.
func (r *reasons) ofEvents(ctx context.Context, o *object) {
	list, err := o.client.objects.Resource(eventsResource).Namespace(o.whole.GetNamespace()).List(ctx, metav1.ListOptions{
		FieldSelector: "type=Warning,involvedObject.uid=" + string(o.whole.GetUID()), Limit: podsLooked,
	})
	if err != nil || len(list.Items) == 0 {
		return
	}
	newest := slices.MaxFunc(list.Items, func(a, b unstructured.Unstructured) int {
		return strings.Compare(text(a.Object, "lastTimestamp"), text(b.Object, "lastTimestamp"))
	})
	r.add(text(newest.Object, "reason"), text(newest.Object, "message"), 0)
}

func (r *reasons) String() string {
	slices.SortStableFunc(*r, func(a, b counted) int { return b.pods - a.pods })
	var lines []string
	for _, c := range (*r)[:min(len(*r), mostReasons)] {
		line := strings.Join(strings.Fields(c.reason), " ")
		if len(line) > mostOfText {
			line = line[:mostOfText] + "..."
		}
		if c.pods > 0 {
			line = fmt.Sprintf("%d x %s", c.pods, line)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}
