// Package kubernetes carries decisions out on Kubernetes: it sets the replicas
// of Deployments, StatefulSets and all else that has a scale subresource, and of
// the services of a DynamoGraphDeployment, which has none.
//
// Every write is conditioned on the version of the object that was read, and
// names its field manager. It reads what a write depends on and nothing else:
// the objects, their pods when replicas do not come, and who else scales them.
// It opens no connection until an order or a question about an active
// deployment makes it.
package kubernetes

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/clientcmd"
)

// FieldManager is the name under which the API server records what was written.
const FieldManager = "tidemark-actuator"

// Config says how the API server is reached.
type Config struct {
	// Kubeconfig names a file with the server's address and credentials. Empty
	// takes those of the pod that the process runs in, or else the usual files.
	Kubeconfig string
	// QPS and Burst bound the requests of this process.
	QPS   float64
	Burst int
	// Timeout bounds one request.
	Timeout time.Duration
	// As is whom to act as, if the credentials may: the API server then judges by
	// what that user may do.
	As string
	// TriesOnly makes it impossible to change anything: no request leaves that
	// neither reads nor is a dry run.
	TriesOnly bool
}

// DefaultConfig returns the configuration of a process that is told nothing. The
// bounds let a thousand deployments change in a minute.
func DefaultConfig() Config { return Config{QPS: 400, Burst: 800, Timeout: 5 * time.Second} }

// client is what the API server is spoken to with.
type client struct {
	objects dynamic.Interface
	scales  scale.ScalesGetter
	mapper  *restmapper.DeferredDiscoveryRESTMapper
}

// dial makes clients of a configuration. It sends nothing.
func dial(config Config) (*client, error) {
	settings, err := load(config)
	if err != nil {
		return nil, err
	}
	return connect(settings)
}

// load reads the address and the credentials.
func load(config Config) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = config.Kubeconfig
	settings, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the Kubernetes API server: %w", err)
	}
	settings.QPS, settings.Burst, settings.Timeout = float32(config.QPS), config.Burst, config.Timeout
	settings.UserAgent = FieldManager
	settings.Impersonate.UserName = config.As
	if config.TriesOnly {
		settings.Wrap(func(next http.RoundTripper) http.RoundTripper { return triesOnly{next} })
	}
	return settings, nil
}

// triesOnly lets requests through that change nothing.
type triesOnly struct{ next http.RoundTripper }

func (t triesOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.URL.Query().Get("dryRun") != metav1.DryRunAll {
		return nil, fmt.Errorf("%s %s is no dry run, and was not sent", r.Method, r.URL.Path)
	}
	return t.next.RoundTrip(r)
}

func connect(settings *rest.Config) (*client, error) {
	objects, err := dynamic.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("make a client of the Kubernetes API server: %w", err)
	}
	found, err := discovery.NewDiscoveryClientForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("make a client of the Kubernetes API server: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	scales, err := scale.NewForConfig(settings, mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(found))
	if err != nil {
		return nil, fmt.Errorf("make a client of the Kubernetes API server: %w", err)
	}
	return &client{objects: objects, scales: scales, mapper: mapper}, nil
}

// lazily makes a client at the first call, and again after a call that failed.
type lazily struct {
	config Config

	mu   sync.Mutex
	made *client
}

func (l *lazily) client() (*client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made != nil {
		return l.made, nil
	}
	made, err := dial(l.config)
	l.made = made
	return made, err
}
