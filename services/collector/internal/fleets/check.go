package fleets

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
	"tidemark.dev/services/collector/internal/httpclient"
)

// Unnamed is what is said where no API server is named.
const Unnamed = "is not looked at: name the API server by --kubernetes-url"

// Named reports whether it is known which API server to ask: one is named, or
// the process runs in a cluster.
func (k *Kubernetes) Named() bool {
	return k.access.URL != "" || os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// Check looks at whether the objects of a fleet are there, and whether their pods
// ask for as many GPUs as the deployment says.
func (k *Kubernetes) Check(ctx context.Context, f *lint.Findings, d *model.Deployment, fleet *model.KubernetesFleet) {
	const path = "source.fleet.kubernetes"
	if !k.Named() {
		f.Add(lint.Unchecked, path, Unnamed)
		return
	}
	if observed := k.Inventory(ctx, fleet); observed.Status != model.Measured {
		f.Add(lint.Error, path, "%s: %s; while it is so every decision holds", observed.Status, observed.Error)
		return
	}
	for _, role := range d.Topology.Roles() {
		target, given := fleet.Roles.Get(role)
		if !given {
			continue
		}
		at := "roles." + string(role) + ".gpus_per_replica"
		gpus, told, err := k.gpusPerReplica(ctx, fleet.Namespace, target)
		spec, _ := d.Roles.Get(role)
		switch {
		case err != nil:
			f.Add(lint.Unchecked, at, "cannot be held against the pods: %s", httpclient.Brief(err))
		case told && spec.GPUsPerReplica != 0 && spec.GPUsPerReplica != gpus:
			f.Add(lint.Error, at, "is %d, and a replica of %s %s/%s asks for %d: budgets and GPU-hours are wrong; write %d", spec.GPUsPerReplica, target.Kind, fleet.Namespace, target.Name, gpus, gpus)
		case told && spec.GPUsPerReplica == 0:
			f.Add(lint.Warning, at, "is missing, and a replica of %s %s/%s asks for %d; write %d", target.Kind, fleet.Namespace, target.Name, gpus, gpus)
		}
	}
}

// podTemplate is what is read of the template of a pod.
type podTemplate struct {
	Spec struct {
		Containers []struct {
			Resources struct{ Limits map[string]string }
		}
	}
}

// gpuSuffix is how the resources of whole GPUs are named: nvidia.com/gpu,
// amd.com/gpu.
const gpuSuffix = "/gpu"

// gpus returns the GPUs that a pod asks for, and false where it asks for none:
// what it asks for otherwise, slices or claims, is not counted.
func (t *podTemplate) gpus() (total int, told bool) {
	for _, container := range t.Spec.Containers {
		for name, quantity := range container.Resources.Limits {
			if n, err := strconv.Atoi(quantity); err == nil && strings.HasSuffix(name, gpuSuffix) {
				total, told = total+n, true
			}
		}
	}
	return total, told
}

// gpusPerReplica reads the GPUs of one replica from the template of its pods.
func (k *Kubernetes) gpusPerReplica(ctx context.Context, namespace string, target model.KubernetesTarget) (gpus int, told bool, err error) {
	at, err := k.resource(ctx, namespace, target)
	if err != nil {
		return 0, false, err
	}
	var object struct {
		Spec struct {
			Template             podTemplate
			LeaderWorkerTemplate *struct {
				Size           *int
				LeaderTemplate *podTemplate
				WorkerTemplate podTemplate
			}
			Services   map[string]graphPods
			Components []graphPods
		}
	}
	if err := k.get(ctx, at, nil, &object); err != nil {
		return 0, false, err
	}
	if target.Kind == model.KindDynamoGraphDeployment {
		service, found := object.Spec.Services[target.Service]
		for _, component := range object.Spec.Components {
			if component.Name == target.Service {
				service, found = component, true
			}
		}
		if !found {
			return 0, false, errors.New("its service " + target.Service + " is not there")
		}
		gpus, told = service.gpus()
		return gpus, told, nil
	}
	if group := object.Spec.LeaderWorkerTemplate; group != nil {
		gpus, told = group.WorkerTemplate.gpus()
		leader := gpus
		if group.LeaderTemplate != nil {
			var its bool
			leader, its = group.LeaderTemplate.gpus()
			told = told || its
		}
		size := 1 // as it is where nothing is said
		if group.Size != nil {
			size = *group.Size
		}
		return leader + (size-1)*gpus, told, nil
	}
	gpus, told = object.Spec.Template.gpus()
	return gpus, told, nil
}

// graphPods is what a DynamoGraphDeployment says of the pods of one service.
type graphPods struct {
	Name      string
	Resources struct {
		Limits, Requests struct{ GPU string }
	}
	PodTemplate podTemplate
	Multinode   struct{ NodeCount int }
}

func (g *graphPods) gpus() (total int, told bool) {
	total, told = g.PodTemplate.gpus()
	for _, said := range [...]string{g.Resources.Requests.GPU, g.Resources.Limits.GPU} {
		if n, err := strconv.Atoi(said); err == nil {
			total, told = n, true
		}
	}
	return total * max(1, g.Multinode.NodeCount), told
}
