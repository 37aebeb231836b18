package fleets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/httpclient"
)

// serviceAccount is where Kubernetes puts a pod's credentials.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// Access says how the API server is reached.
type Access struct {
	// URL is the API server's address. Empty is that of the cluster in which the
	// collector runs, with its service account.
	URL       string
	TokenFile string
	CAFile    string
}

// Kubernetes reads the API server. It sends GET and nothing else: the collector
// holds no code that could change a fleet.
type Kubernetes struct {
	access Access

	mu        sync.Mutex
	client    *http.Client
	base      *url.URL
	resources map[string]string // by API version and kind: the plural
	watches   map[podsKey]*podWatch

	// How pods are watched; a test has no time for what is below.
	quiet, firstPause time.Duration
}

// NewKubernetes returns a reader of the API server.
func NewKubernetes(access Access) *Kubernetes {
	return &Kubernetes{access: access, resources: map[string]string{}, watches: map[podsKey]*podWatch{}, quiet: quiet, firstPause: firstPause}
}

// open opens the client.
func (k *Kubernetes) open() (*http.Client, *url.URL, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, k.base, nil
	}
	access := k.access
	if access.URL == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return nil, nil, errors.New("the collector does not run in a cluster; name the API server by --kubernetes-url")
		}
		access = Access{
			URL:       "https://" + net.JoinHostPort(host, port),
			TokenFile: filepath.Join(serviceAccount, "token"), CAFile: filepath.Join(serviceAccount, "ca.crt"),
		}
	}
	base, err := url.Parse(access.URL)
	if err != nil {
		return nil, nil, err
	}
	client, err := httpclient.New(&model.HTTPClient{BearerTokenFile: access.TokenFile, TLS: model.ClientTLS{CAFile: access.CAFile}}, access.URL)
	if err != nil {
		return nil, nil, err
	}
	k.client, k.base = client, base
	return client, base, nil
}

// errNotThere says that the API server does not know an object.
var errNotThere = errors.New("does not exist")

// get reads one object into a value.
func (k *Kubernetes) get(ctx context.Context, elements []string, query url.Values, into any) error {
	body, err := k.send(ctx, elements, query)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(into)
}

// send sends GET and returns the answer, if it is one.
func (k *Kubernetes) send(ctx context.Context, elements []string, query url.Values) (io.ReadCloser, error) {
	client, base, err := k.open()
	if err != nil {
		return nil, err
	}
	address := base.JoinPath(elements...)
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	var status struct{ Message string }
	// The message is for people; without it the status says enough.
	_ = json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(&status)
	if response.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s %w", path.Join(elements...), errNotThere)
	}
	return nil, fmt.Errorf("%s: %s", response.Status, status.Message)
}

// resource returns the path of an object.
func (k *Kubernetes) resource(ctx context.Context, namespace string, target model.KubernetesTarget) ([]string, error) {
	root := []string{"apis", target.APIVersion}
	if !strings.Contains(target.APIVersion, "/") {
		root[0] = "api"
	}
	key := target.APIVersion + " " + target.Kind
	k.mu.Lock()
	plural := k.resources[key]
	k.mu.Unlock()
	if plural == "" {
		var list struct {
			Resources []struct{ Name, Kind string }
		}
		if err := k.get(ctx, root, nil, &list); err != nil {
			return nil, err
		}
		for _, r := range list.Resources {
			if r.Kind == target.Kind && !strings.Contains(r.Name, "/") {
				plural = r.Name
			}
		}
		if plural == "" {
			return nil, fmt.Errorf("kind %s of %s %w", target.Kind, target.APIVersion, errNotThere)
		}
		k.mu.Lock()
		k.resources[key] = plural
		k.mu.Unlock()
	}
	return append(root, "namespaces", namespace, plural, target.Name), nil
}

// Inventory counts the replicas of a fleet.
func (k *Kubernetes) Inventory(ctx context.Context, fleet *model.KubernetesFleet) *model.FleetObservation {
	began := time.Now()
	var mu sync.Mutex
	observed := &model.FleetObservation{Status: model.Measured}
	roles, ctx := errgroup.WithContext(ctx)
	for _, role := range model.AllRoles {
		target, given := fleet.Roles.Get(role)
		if !given {
			continue
		}
		roles.Go(func() error {
			replicas, err := k.replicas(ctx, fleet.Namespace, target)
			if err != nil {
				return fmt.Errorf("kubernetes: %s %s/%s: %w", target.Kind, fleet.Namespace, target.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			observed.Roles.Set(role, replicas)
			return nil
		})
	}
	switch err := roles.Wait(); {
	case errors.Is(err, errNotThere):
		return &model.FleetObservation{Status: model.Absent, Error: httpclient.Line(err)}
	case err != nil:
		return &model.FleetObservation{Status: model.Failed, Error: httpclient.Line(err)}
	}
	observed.AgeS = new(time.Since(began).Seconds())
	return observed
}

// replicas counts the replicas of one object: what it is set to by its scale
// subresource, and what is ready and what cannot be placed by its pods.
func (k *Kubernetes) replicas(ctx context.Context, namespace string, target model.KubernetesTarget) (model.RoleReplicas, error) {
	at, err := k.resource(ctx, namespace, target)
	if err != nil {
		return model.RoleReplicas{}, err
	}
	if target.Kind == model.KindDynamoGraphDeployment {
		return k.graphReplicas(ctx, at, target.Service)
	}
	var scale struct {
		Spec   struct{ Replicas int }
		Status struct{ Selector string }
	}
	if err := k.get(ctx, append(at, "scale"), nil, &scale); err != nil {
		return model.RoleReplicas{}, err
	}
	counted := model.RoleReplicas{Desired: scale.Spec.Replicas}
	if scale.Status.Selector == "" {
		var object struct {
			Status struct{ ReadyReplicas *int }
		}
		if err := k.get(ctx, at, nil, &object); err != nil {
			return model.RoleReplicas{}, err
		}
		if object.Status.ReadyReplicas == nil && counted.Desired > 0 {
			return model.RoleReplicas{}, errors.New("says neither which pods are its own, by status.selector of its scale, nor how many are ready, by status.readyReplicas")
		}
		if object.Status.ReadyReplicas != nil {
			counted.Ready = *object.Status.ReadyReplicas
		}
		return counted, nil
	}
	return counted, k.countPods(ctx, namespace, scale.Status.Selector, &counted)
}

// countPods adds up the pods that a selector matches. One that is being deleted
// serves no more, and one that ended never will.
func (k *Kubernetes) countPods(ctx context.Context, namespace, selector string, counted *model.RoleReplicas) error {
	_, err := k.eachPod(ctx, namespace, selector, func(p *pod) {
		switch {
		case p.gone():
		case p.has("Ready", "True"):
			counted.Ready++
		case p.has("PodScheduled", "False"):
			counted.Pending++
		}
	})
	return err
}

// graphService is one service of a DynamoGraphDeployment.
type graphService struct {
	Name     string
	Replicas *int
}

// graphReplicas counts the replicas of one service of a DynamoGraphDeployment, by
// what it says of itself: spec.services is of v1alpha1, and spec.components of
// v1beta1.
func (k *Kubernetes) graphReplicas(ctx context.Context, at []string, service string) (model.RoleReplicas, error) {
	type state struct{ ReadyReplicas, AvailableReplicas *int }
	var graph struct {
		Spec struct {
			Services   map[string]graphService
			Components []graphService
		}
		Status struct{ Services, Components map[string]state }
	}
	if err := k.get(ctx, at, nil, &graph); err != nil {
		return model.RoleReplicas{}, err
	}
	spec, found := graph.Spec.Services[service]
	for _, component := range graph.Spec.Components {
		if component.Name == service {
			spec, found = component, true
		}
	}
	if !found {
		return model.RoleReplicas{}, fmt.Errorf("its service %s %w", service, errNotThere)
	}
	counted := model.RoleReplicas{Desired: 1} // as Kubernetes has it where nothing is said
	if spec.Replicas != nil {
		counted.Desired = *spec.Replicas
	}
	status, told := graph.Status.Services[service]
	if !told {
		status, told = graph.Status.Components[service]
	}
	switch {
	case status.AvailableReplicas != nil:
		counted.Ready = *status.AvailableReplicas
	case status.ReadyReplicas != nil:
		counted.Ready = *status.ReadyReplicas
	case told || counted.Desired > 0:
		return model.RoleReplicas{}, fmt.Errorf("its status does not say how many replicas of %s are ready", service)
	}
	return counted, nil
}
