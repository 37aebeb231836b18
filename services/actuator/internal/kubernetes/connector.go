package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	autoscaling "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
)

// Connector scales what deployments name under actuator.kubernetes.
type Connector struct {
	api    lazily
	steps  connector.Steps
	owners *owners
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Pools     = (*Connector)(nil)
	_ connector.Explainer = (*Connector)(nil)
)

// New returns a connector. It speaks to nobody before it is asked something.
func New(config Config, steps connector.Steps, logger *slog.Logger) *Connector {
	logs.to.Store(logger)
	return &Connector{api: lazily{config: config}, steps: steps, owners: newOwners()}
}

// Name returns the connector's name in actuations.
func (c *Connector) Name() string { return "kubernetes" }

// Apply sets the pools of an order step by step.
func (c *Connector) Apply(ctx context.Context, order connector.Order) error {
	return c.steps.Apply(ctx, c, order)
}

// object is a target as it was read.
type object struct {
	client   *client
	target   model.KubernetesTarget
	what     string // kind namespace/name, for people
	resource schema.GroupVersionResource
	whole    *unstructured.Unstructured
}

// read reads the object that has the replicas of a role.
func (c *Connector) read(ctx context.Context, configured *model.DeploymentConfigured, role model.Role) (*object, error) {
	api, err := c.api.client()
	if err != nil {
		return nil, err
	}
	settings := configured.Spec.Actuator.Kubernetes
	target, _ := settings.Roles.Get(role)
	what := fmt.Sprintf("%s %s/%s", target.Kind, settings.Namespace, target.Name)
	kind := schema.FromAPIVersionAndKind(target.APIVersion, target.Kind)
	mapping, err := api.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, classify(what, err)
	}
	whole, err := api.objects.Resource(mapping.Resource).Namespace(settings.Namespace).Get(ctx, target.Name, metav1.GetOptions{})
	if err != nil {
		return nil, classify(what, err)
	}
	return &object{client: api, target: target, what: what, resource: mapping.Resource, whole: whole}, nil
}

// Pool reads the replicas of a role. It refuses an object that goes, that is
// paused, or that another autoscaler scales.
func (c *Connector) Pool(ctx context.Context, configured *model.DeploymentConfigured, role model.Role) (connector.Pool, error) {
	o, err := c.read(ctx, configured, role)
	if err != nil {
		return connector.Pool{}, err
	}
	if err := o.standsStill(); err != nil {
		return connector.Pool{}, err
	}
	if err := c.owners.check(ctx, o); err != nil {
		return connector.Pool{}, err
	}
	return o.pool(ctx)
}

// standsStill refuses an object that goes or that is paused.
func (o *object) standsStill() error {
	if o.whole.GetDeletionTimestamp() != nil {
		return connector.Refuse(model.RejectedNotReady, "%s is being deleted", o.what)
	}
	if paused, _, _ := unstructured.NestedBool(o.whole.Object, "spec", "paused"); paused {
		return connector.Refuse(model.RejectedNotReady, "%s is paused", o.what)
	}
	return nil
}

// pool reads the replicas.
func (o *object) pool(ctx context.Context) (connector.Pool, error) {
	if o.target.Service != "" {
		return o.servicePool()
	}
	current, err := o.scale(ctx)
	if err != nil {
		return connector.Pool{}, err
	}
	running := int(current.Status.Replicas)
	// Pods that are on their way out hold their GPUs until they are gone.
	if going, ok := o.status("terminatingReplicas"); ok {
		running += going
	}
	return connector.Pool{Set: int(current.Spec.Replicas), Running: &running, Version: current.ResourceVersion}, nil
}

// Set sets the replicas of a role, if the object is at the version that was read.
func (c *Connector) Set(ctx context.Context, configured *model.DeploymentConfigured, role model.Role, pool connector.Pool, replicas int) error {
	return c.set(ctx, configured, role, pool, replicas, nil)
}

// set writes, or has the API server try the write when dryRun says so.
func (c *Connector) set(ctx context.Context, configured *model.DeploymentConfigured, role model.Role, pool connector.Pool, replicas int, dryRun []string) error {
	api, err := c.api.client()
	if err != nil {
		return err
	}
	settings := configured.Spec.Actuator.Kubernetes
	target, _ := settings.Roles.Get(role)
	what := fmt.Sprintf("%s %s/%s", target.Kind, settings.Namespace, target.Name)
	kind := schema.FromAPIVersionAndKind(target.APIVersion, target.Kind)
	mapping, err := api.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return classify(what, err)
	}
	if target.Service != "" {
		patch := fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"spec":{"services":{%q:{"replicas":%d}}}}`, pool.Version, target.Service, replicas)
		_, err = api.objects.Resource(mapping.Resource).Namespace(settings.Namespace).Patch(ctx, target.Name, types.MergePatchType,
			[]byte(patch), metav1.PatchOptions{FieldManager: FieldManager, DryRun: dryRun})
		return classify(what, err)
	}
	wanted := &autoscaling.Scale{
		ObjectMeta: metav1.ObjectMeta{Namespace: settings.Namespace, Name: target.Name, ResourceVersion: pool.Version},
		Spec:       autoscaling.ScaleSpec{Replicas: int32(replicas)}, // the gate keeps it below max_replicas
	}
	_, err = api.scales.Scales(settings.Namespace).Update(ctx, mapping.Resource.GroupResource(), wanted,
		metav1.UpdateOptions{FieldManager: FieldManager, DryRun: dryRun})
	return classify(what, err)
}

// Ready returns how many replicas of each role are ready, as the controllers of
// the objects say, or else as their pods do.
func (c *Connector) Ready(ctx context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error) {
	var ready model.PerRole[int]
	for _, role := range configured.Spec.Topology.Roles() {
		o, err := c.read(ctx, configured, role)
		if err != nil {
			return ready, err
		}
		if count, known, err := o.ready(ctx); err != nil {
			return ready, err
		} else if known {
			ready.Set(role, count)
		}
	}
	return ready, nil
}

// scale reads the scale subresource.
func (o *object) scale(ctx context.Context) (*autoscaling.Scale, error) {
	current, err := o.client.scales.Scales(o.whole.GetNamespace()).Get(ctx, o.resource.GroupResource(), o.whole.GetName(), metav1.GetOptions{})
	if err != nil {
		return nil, classify("the scale of "+o.what, err)
	}
	return current, nil
}

// ready counts the ready replicas. They are not known while the object's
// controller has not seen its newest revision.
func (o *object) ready(ctx context.Context) (count int, known bool, err error) {
	if o.target.Service != "" {
		count, known = o.serviceReady()
		return count, known, nil
	}
	if seen, ok := o.status("observedGeneration"); ok && int64(seen) < o.whole.GetGeneration() {
		return 0, false, nil
	}
	if count, known = o.status("readyReplicas"); known {
		return count, true, nil
	}
	// These two leave the field out when it is zero. Of other kinds that is not
	// known: they may have no such field, and then their pods are counted.
	if o.resource.Group == "apps" {
		return 0, true, nil
	}
	current, err := o.scale(ctx)
	if err != nil || current.Status.Selector == "" {
		return 0, false, err
	}
	pods, err := o.pods(ctx, current.Status.Selector)
	if err != nil {
		return 0, false, err
	}
	for i := range pods {
		if podReady(&pods[i]) {
			count++
		}
	}
	return count, true, nil
}

// status returns a number of the object's status, and whether it is there.
func (o *object) status(field ...string) (int, bool) {
	return number(o.whole.Object, append([]string{"status"}, field...)...)
}

// number returns a whole number of a JSON document, and whether it is there.
func number(document map[string]any, path ...string) (int, bool) {
	value, found, err := unstructured.NestedFieldNoCopy(document, path...)
	if !found || err != nil {
		return 0, false
	}
	switch n := value.(type) {
	case int64:
		return int(n), true
	case float64:
		return int(n), true
	case string:
		parsed, err := strconv.Atoi(n)
		return parsed, err == nil
	}
	return 0, false
}

// servicePool reads the replicas of a service of a DynamoGraphDeployment. One
// that says nothing of its replicas has one.
func (o *object) servicePool() (connector.Pool, error) {
	if _, found, _ := unstructured.NestedMap(o.whole.Object, "spec", "services", o.target.Service); !found {
		return connector.Pool{}, connector.Refuse(model.RejectedNotReady, "%s has no service %s", o.what, o.target.Service)
	}
	pool := connector.Pool{Set: 1, Version: o.whole.GetResourceVersion()}
	if set, ok := number(o.whole.Object, "spec", "services", o.target.Service, "replicas"); ok {
		pool.Set = set
	}
	if running, ok := o.status("services", o.target.Service, "replicas"); ok {
		pool.Running = &running
	}
	return pool, nil
}

// serviceReady counts the ready replicas of a service of a DynamoGraphDeployment:
// those that are available, where that is said.
func (o *object) serviceReady() (int, bool) {
	if available, ok := o.status("services", o.target.Service, "availableReplicas"); ok {
		return available, true
	}
	return o.status("services", o.target.Service, "readyReplicas")
}
