package model

import (
	"net/url"
	"regexp"
	"strings"
)

// Actuator says what carries decisions out: exactly one is set.
type Actuator struct {
	Simulated  *SimulatedActuator  `json:"simulated,omitempty"`
	Kubernetes *KubernetesActuator `json:"kubernetes,omitempty"`
	Webhook    *WebhookActuator    `json:"webhook,omitempty"`
}

// SimulatedActuator applies decisions to the simulated fleet of the source, by
// recording them.
type SimulatedActuator struct{}

// KubernetesActuator sets the replicas of Kubernetes objects. Credentials and
// the address of the API server belong to the actuator's process.
type KubernetesActuator struct {
	Namespace string                    `json:"namespace"`
	Roles     PerRole[KubernetesTarget] `json:"roles"`
}

// KubernetesTarget names the object whose replicas are those of a role: a
// Deployment, a StatefulSet, or any other object with a scale subresource.
type KubernetesTarget struct {
	APIVersion string `json:"api_version"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	// Service names the service within a DynamoGraphDeployment, the one kind
	// that has no scale subresource.
	Service string `json:"service,omitzero"`
}

// WebhookActuator hands decisions to somebody else over HTTP.
type WebhookActuator struct {
	URL string `json:"url"`
	// SecretFile names a file on the actuator's machine: a configuration holds no
	// secret, for every revision of it is in the log.
	SecretFile string `json:"secret_file"`
	// TimeoutS bounds one attempt.
	TimeoutS float64 `json:"timeout_s"`
}

func (w *WebhookActuator) setDefaults() { w.TimeoutS = 5 }

// mostWebhookTimeoutS leaves room for several attempts in what one decision may take.
const mostWebhookTimeoutS = 15

func (w *WebhookActuator) check(c *checks) {
	const path = "actuator.webhook"
	switch address, err := url.Parse(w.URL); {
	case err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Host == "":
		c.fail(path+".url", "is not a URL such as https://scheduler.example/scale")
	case address.User != nil:
		c.fail(path+".url", "holds credentials, and every revision is in the log; requests are signed by the key in secret_file")
	}
	if w.SecretFile == "" {
		c.fail(path+".secret_file", "is missing; requests are signed by the key in it")
	}
	c.positive(path+".timeout_s", w.TimeoutS)
	if w.TimeoutS > mostWebhookTimeoutS {
		c.fail(path+".timeout_s", "is %v, want at most %v", w.TimeoutS, mostWebhookTimeoutS)
	}
}

// KindDynamoGraphDeployment is the kind whose services are scaled one by one.
const KindDynamoGraphDeployment = "DynamoGraphDeployment"

func (t *KubernetesTarget) setDefaults() { t.APIVersion, t.Kind = "apps/v1", "Deployment" }

// Patterns of what the Kubernetes API takes for a name.
var (
	kubernetesName       = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$`)
	kubernetesKind       = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
	kubernetesAPIVersion = regexp.MustCompile(`^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?v[a-z0-9]+$`)
)

// checkActuator checks what carries decisions out.
func (d *Deployment) checkActuator(c *checks) {
	a := d.Actuator
	var given []string
	if a.Simulated != nil {
		given = append(given, "simulated")
	}
	if a.Kubernetes != nil {
		given = append(given, "kubernetes")
	}
	if a.Webhook != nil {
		given = append(given, "webhook")
		a.Webhook.check(c)
	}
	switch len(given) {
	case 0:
		c.fail("actuator", "names nothing that carries decisions out; give one of simulated, kubernetes, webhook, or leave the key out")
	case 1:
	default:
		c.fail("actuator", "names %s; give one", strings.Join(given, " and "))
	}
	if a.Simulated != nil && (d.Source == nil || d.Source.Simulated == nil) {
		c.fail("actuator.simulated", "needs source.simulated: it scales the simulated fleet")
	}
	if a.Kubernetes != nil {
		checkKubernetes(c, "actuator.kubernetes", d.Topology, a.Kubernetes.Namespace, a.Kubernetes.Roles)
	}
}

// checkKubernetes checks which objects are the roles of a deployment.
func checkKubernetes(c *checks, path string, topology Topology, namespace string, roles PerRole[KubernetesTarget]) {
	if !namePattern.MatchString(namespace) {
		c.fail(path+".namespace", "is %q, want the name of a namespace", namespace)
	}
	inTopology := map[Role]bool{}
	for _, role := range topology.Roles() {
		inTopology[role] = true
	}
	seen := map[KubernetesTarget]Role{}
	for _, role := range AllRoles {
		at := path + ".roles." + string(role)
		target, given := roles.Get(role)
		switch {
		case given && !inTopology[role]:
			c.fail(at, "is given, and topology %s has no such role", topology)
			continue
		case !given && inTopology[role]:
			c.fail(at, "is missing; name the object whose replicas are those of the role")
			continue
		case !given:
			continue
		}
		if !kubernetesAPIVersion.MatchString(target.APIVersion) {
			c.fail(at+".api_version", "is %q, want a group and version such as apps/v1", target.APIVersion)
		}
		if !kubernetesKind.MatchString(target.Kind) {
			c.fail(at+".kind", "is %q, want a kind such as Deployment", target.Kind)
		}
		if !kubernetesName.MatchString(target.Name) {
			c.fail(at+".name", "is %q, want the name of the object", target.Name)
		}
		switch isGraph := target.Kind == KindDynamoGraphDeployment; {
		case isGraph && target.Service == "":
			c.fail(at+".service", "is missing; a %s holds several services", KindDynamoGraphDeployment)
		case !isGraph && target.Service != "":
			c.fail(at+".service", "is given, and only a %s holds services", KindDynamoGraphDeployment)
		}
		if other, again := seen[target]; again {
			c.fail(at, "is the object of role %s too", other)
		}
		seen[target] = role
	}
}
