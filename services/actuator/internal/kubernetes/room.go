package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"slices"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	podresources "k8s.io/component-helpers/resource"
)

var quotasResource = schema.GroupVersionResource{Version: "v1", Resource: "resourcequotas"}

// demand is how many more replicas of an object a trial would have, or fewer.
type demand struct {
	object *object
	trial  int // its index
	more   int
}

// room enters which trials the quotas of the namespace have no room for. Replicas
// that are taken away make room for those that are added. Quotas with scopes,
// and pods of which it is not known what they ask for, are left to be unknown.
func (c *Connector) room(ctx context.Context, trials []Trial, asked []demand) {
	if !slices.ContainsFunc(asked, func(d demand) bool { return d.more > 0 }) {
		return
	}
	unknown := func(format string, args ...any) {
		for _, d := range asked {
			if d.more > 0 {
				trials[d.trial].Unknown = append(trials[d.trial].Unknown, fmt.Sprintf(format, args...))
			}
		}
	}
	namespace := asked[0].object.whole.GetNamespace()
	list, err := asked[0].object.client.objects.Resource(quotasResource).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		unknown("whether quotas have room: %v", classify("the ResourceQuotas of "+namespace, err))
		return
	}
	var quotas []core.ResourceQuota
	for i := range list.Items {
		var quota core.ResourceQuota
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &quota); err != nil {
			unknown("whether ResourceQuota %s has room: %v", list.Items[i].GetName(), err)
			continue
		}
		if len(quota.Spec.Scopes) > 0 || quota.Spec.ScopeSelector != nil {
			unknown("whether ResourceQuota %s has room: it is for some pods only, by its scopes", quota.Name)
			continue
		}
		quotas = append(quotas, quota)
	}
	if len(quotas) == 0 {
		return
	}
	// What is taken away comes first, as it does when it is carried out.
	slices.SortStableFunc(asked, func(a, b demand) int { return min(1, max(0, a.more)) - min(1, max(0, b.more)) })
	for _, d := range asked {
		if d.more == 0 {
			continue
		}
		trial := &trials[d.trial]
		each, err := d.object.perReplica(ctx)
		if err != nil {
			if d.more > 0 {
				trial.Unknown = append(trial.Unknown, fmt.Sprintf("whether quotas have room: %v", err))
			}
			continue
		}
		for i := range quotas {
			status := &quotas[i].Status
			for _, name := range slices.Sorted(maps.Keys(status.Hard)) {
				need, counted := each[name]
				used, known := status.Used[name]
				if !counted || !known {
					continue
				}
				hard, before := status.Hard[name], used.String()
				need.Mul(int64(d.more))
				used.Add(need)
				status.Used[name] = used
				if d.more > 0 && used.Cmp(hard) > 0 {
					trial.fail(ReasonQuota, fmt.Sprintf("ResourceQuota %s/%s has no room for %d more: %s is at %s of %s, and they need %s",
						namespace, quotas[i].Name, d.more, name, before, hard.String(), need.String()))
				}
			}
		}
	}
}

// perReplica returns what one more replica counts for in quotas, by the names
// that quotas have for it: as the object's template has it, or else as its pods
// are at present.
func (o *object) perReplica(ctx context.Context) (core.ResourceList, error) {
	switch o.target.Kind {
	case "Deployment", "StatefulSet":
		return o.templateUse("spec", "template")
	case "LeaderWorkerSet":
		const group = "leaderWorkerTemplate"
		each, err := o.templateUse("spec", group, "workerTemplate")
		if err != nil {
			return nil, err
		}
		uses := each
		if _, own, _ := unstructured.NestedMap(o.whole.Object, "spec", group, "leaderTemplate"); own {
			if uses, err = o.templateUse("spec", group, "leaderTemplate"); err != nil {
				return nil, err
			}
		}
		uses = uses.DeepCopy()
		if size, ok := number(o.whole.Object, "spec", group, "size"); ok {
			addTimes(uses, each, size-1)
		}
		return uses, nil
	}
	return o.presentUse(ctx)
}

// templateUse returns what a pod of a template counts for.
func (o *object) templateUse(path ...string) (core.ResourceList, error) {
	template, found, _ := unstructured.NestedMap(o.whole.Object, path...)
	if !found {
		return nil, fmt.Errorf("%s has no template of its pods", o.what)
	}
	var pod core.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod); err != nil {
		return nil, fmt.Errorf("the pods of %s: %w", o.what, err)
	}
	return use(&core.Pod{Spec: pod.Spec}), nil
}

// presentUse returns what the pods of the object count for, by replica.
func (o *object) presentUse(ctx context.Context) (core.ResourceList, error) {
	if o.target.Service != "" {
		return nil, fmt.Errorf("what a replica of %s asks for is not known", o.what)
	}
	current, err := o.scale(ctx)
	if err != nil {
		return nil, err
	}
	replicas := int64(current.Status.Replicas)
	if current.Status.Selector == "" || replicas == 0 {
		return nil, fmt.Errorf("%s has no pods to tell by what one asks for", o.what)
	}
	list, err := o.pods(ctx, current.Status.Selector)
	if err != nil {
		return nil, err
	}
	all := core.ResourceList{}
	for i := range list {
		var pod core.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list[i].Object, &pod); err != nil {
			return nil, fmt.Errorf("pod %s: %w", list[i].GetName(), err)
		}
		if pod.DeletionTimestamp == nil && pod.Status.Phase != core.PodSucceeded && pod.Status.Phase != core.PodFailed {
			addTimes(all, use(&pod), 1)
		}
	}
	for name, sum := range all {
		all[name] = *resource.NewMilliQuantity((sum.MilliValue()+replicas-1)/replicas, sum.Format)
	}
	return all, nil
}

// use returns what a pod counts for in quotas.
func use(pod *core.Pod) core.ResourceList {
	for _, containers := range [...][]core.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			// As the API server does it, when the pod is made.
			resources := &containers[i].Resources
			for name, limit := range resources.Limits {
				if _, requested := resources.Requests[name]; !requested {
					if resources.Requests == nil {
						resources.Requests = core.ResourceList{}
					}
					resources.Requests[name] = limit
				}
			}
		}
	}
	uses := core.ResourceList{core.ResourcePods: resource.MustParse("1"), "count/pods": resource.MustParse("1")}
	for name, quantity := range podresources.PodRequests(pod, podresources.PodResourcesOptions{}) {
		uses[core.DefaultResourceRequestsPrefix+name] = quantity
		switch name {
		case core.ResourceCPU, core.ResourceMemory, core.ResourceEphemeralStorage:
			uses[name] = quantity
		}
	}
	for name, quantity := range podresources.PodLimits(pod, podresources.PodResourcesOptions{}) {
		uses["limits."+name] = quantity
	}
	return uses
}

func addTimes(sum, each core.ResourceList, n int) {
	for name, quantity := range each {
		quantity.Mul(int64(n))
		total := sum[name]
		total.Add(quantity)
		sum[name] = total
	}
}
