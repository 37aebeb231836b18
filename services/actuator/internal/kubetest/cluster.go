// Package kubetest runs a real Kubernetes control plane for tests, on loopback:
// etcd, kube-apiserver, kube-controller-manager, and kwok, whose nodes bring
// pods up after a while without running them. The programs are those that
// tools/kubernetes/build builds.
package kubetest

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

// AssetsVariable names the directory of the programs.
const AssetsVariable = "TIDEMARK_KUBERNETES"

// RequireVariable makes it an error that there are no programs.
const RequireVariable = "TIDEMARK_REQUIRE_KUBERNETES"

// ErrNoAssets says that there are no programs to run.
var ErrNoAssets = errors.New("no Kubernetes: run these tests by make test-kubernetes, which builds it")

// patience is how long a program may take to be ready, on a loaded machine.
const patience = 2 * time.Minute

// Cluster is a control plane at work.
type Cluster struct {
	dir, assets string
	host        string
	adminToken  string
	programs    []*program
	apiserver   *program
	serving     []string // the arguments of the API server
}

// Start starts a control plane. Whoever started it stops it.
func Start(ctx context.Context) (*Cluster, error) {
	assets := os.Getenv(AssetsVariable)
	if assets == "" {
		return nil, ErrNoAssets
	}
	dir, err := os.MkdirTemp("", "tidemark-kubernetes-")
	if err != nil {
		return nil, err
	}
	token := make([]byte, 16)
	if _, err := rand.Read(token); err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, assets: assets, adminToken: hex.EncodeToString(token)}
	if err := c.start(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// auditPolicy records every request that could change something, with what was
// sent, once it was answered.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    verbs: [get, list, watch]
  - level: Request
`

func (c *Cluster) start(ctx context.Context) error {
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	etcd, peer, secure := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1], ports[2]
	c.host = "https://127.0.0.1:" + secure
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"sa.key":     string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"tokens.csv": c.adminToken + `,admin,1,"system:masters"` + "\n",
		"audit.yaml": auditPolicy,
	} {
		if err := os.WriteFile(c.path(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	kubeconfig, err := c.Kubeconfig("admin", c.adminToken)
	if err != nil {
		return err
	}
	stages, err := c.stages()
	if err != nil {
		return err
	}
	if _, err = c.run(ctx, "etcd", func() bool { return answers(ctx, etcd+"/health", "") },
		"--data-dir="+c.path("etcd"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--unsafe-no-fsync", "--log-level=warn"); err != nil {
		return err
	}
	c.serving = []string{
		"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + secure, "--cert-dir=" + c.path("certs"),
		"--service-cluster-ip-range=10.0.0.0/24", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path("sa.key"), "--service-account-signing-key-file=" + c.path("sa.key"),
		"--token-auth-file=" + c.path("tokens.csv"), "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none", "--audit-policy-file=" + c.path("audit.yaml"), "--audit-log-path=" + c.path("audit.log"), "--audit-log-mode=blocking",
	}
	if err := c.Up(ctx); err != nil {
		return err
	}
	if _, err = c.run(ctx, "kube-controller-manager", nil,
		"--kubeconfig="+kubeconfig, "--leader-elect=false", "--secure-port=0",
		"--controllers=deployment-controller,replicaset-controller,statefulset-controller,resourcequota-controller,garbage-collector-controller"); err != nil {
		return err
	}
	_, err = c.run(ctx, "kwok", func() bool { return answers(ctx, "http://127.0.0.1:"+ports[3]+"/healthz", "") },
		"--kubeconfig="+kubeconfig, "--config="+stages, "--manage-all-nodes=true", "--node-ip=127.0.0.1", "--server-address=127.0.0.1:"+ports[3])
	return err
}

// ReadyAfter is the annotation of a pod that says how long it takes to become
// ready: 500ms.
const ReadyAfter = "tidemark.dev/ready-after"

// stages is kwok's own description of how pods and nodes live, with a cold start.
func (c *Cluster) stages() (string, error) {
	content, err := os.ReadFile(filepath.Join(c.assets, "stages.yaml"))
	if err != nil {
		return "", err
	}
	documents := strings.Split(string(content), "\n---\n")
	for i, document := range documents {
		if strings.Contains(document, "name: pod-ready") {
			documents[i] = strings.Replace(document, "\nspec:\n", "\nspec:\n  delay:\n    durationFrom:\n      expressionFrom: '.metadata.annotations[\""+ReadyAfter+"\"]'\n", 1)
		}
	}
	file := c.path("stages.yaml")
	return file, os.WriteFile(file, []byte(strings.Join(documents, "\n---\n")), 0o600)
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// Stop stops everything, the API server before what it stores in.
func (c *Cluster) Stop() {
	for i := len(c.programs) - 1; i >= 0; i-- {
		c.programs[i].stop()
	}
	_ = os.RemoveAll(c.dir)
}

// Config returns how the API server is reached with a token. The certificate is
// made anew at each start, and nobody else listens there.
func (c *Cluster) Config(token string) *rest.Config {
	return &rest.Config{Host: c.host, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: 500, Burst: 1000, WarningHandler: rest.NoWarnings{}}
}

// Admin returns how the API server is reached by somebody who may do anything.
func (c *Cluster) Admin() *rest.Config { return c.Config(c.adminToken) }

// CAFile returns the file of the authority of the API server's certificate.
func (c *Cluster) CAFile() string { return c.path("certs/apiserver.crt") }

// Kubeconfig writes a file by which the API server is reached with a token.
func (c *Cluster) Kubeconfig(name, token string) (string, error) {
	file := c.path(name + ".kubeconfig")
	return file, os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, c.host, token), 0o600)
}

// Down ends the API server, as at the begin of a restart.
func (c *Cluster) Down() {
	c.apiserver.stop()
	c.programs = slices.DeleteFunc(c.programs, func(p *program) bool { return p == c.apiserver })
}

// Up starts the API server at the address that it has always had.
func (c *Cluster) Up(ctx context.Context) (err error) {
	c.apiserver, err = c.run(ctx, "kube-apiserver", func() bool { return answers(ctx, c.host+"/readyz", c.adminToken) }, c.serving...)
	return err
}

// Freeze stops the API server from answering, without closing its connections.
func (c *Cluster) Freeze() error { return syscall.Kill(c.apiserver.pid, syscall.SIGSTOP) }

// Thaw ends a freeze.
func (c *Cluster) Thaw() error { return syscall.Kill(c.apiserver.pid, syscall.SIGCONT) }

// Request is a request that could have changed something, as the API server's
// audit log has it.
type Request struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	Impersonated struct {
		Username string `json:"username"`
	} `json:"impersonatedUser"`
	Object struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	Status struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	URI  string          `json:"requestURI"`
	Body json.RawMessage `json:"requestObject"`
	At   time.Time       `json:"stageTimestamp"`
}

// Requests returns the requests so far, whether they were let through or not.
func (c *Cluster) Requests() ([]Request, error) {
	file, err := os.Open(c.path("audit.log"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var requests []Request
	for decoder := json.NewDecoder(bufio.NewReader(file)); ; {
		var request Request
		switch err := decoder.Decode(&request); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return requests, nil
		case err != nil:
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		requests = append(requests, request)
	}
}

// program is a program at work, below a shell that ends it when this process is
// gone, however it went.
type program struct {
	name, log string
	pid       int
	keep      io.Closer
	ended     chan struct{}
}

const keeper = `log=$1; shift; "$@" >"$log" 2>&1 </dev/null & pid=$!; echo $pid; cat >/dev/null; kill -CONT $pid; kill $pid; wait $pid`

// run starts a program and waits until it is ready.
func (c *Cluster) run(ctx context.Context, name string, ready func() bool, args ...string) (*program, error) {
	p := &program{name: name, log: c.path(name + ".log"), ended: make(chan struct{})}
	command := exec.CommandContext(context.WithoutCancel(ctx), "sh", append([]string{"-c", keeper, name, p.log, filepath.Join(c.assets, name)}, args...)...)
	keep, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.keep = keep
	c.programs = append(c.programs, p)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		p.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	go func() {
		defer close(p.ended)
		_ = command.Wait() // Its status is that of a shell whose child was killed.
	}()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	for deadline := time.Now().Add(patience); ready != nil && !ready(); {
		if time.Now().After(deadline) || ctx.Err() != nil || syscall.Kill(p.pid, 0) != nil {
			content, _ := os.ReadFile(p.log)
			return nil, fmt.Errorf("%s is not ready; it says:\n%s", name, content[max(0, len(content)-4096):])
		}
		time.Sleep(50 * time.Millisecond)
	}
	return p, nil
}

func (p *program) stop() {
	_ = p.keep.Close()
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
		<-p.ended
	}
}

// freePorts returns ports that nobody listens at.
func freePorts(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		_, ports[i], err = net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return nil, err
		}
	}
	return ports, nil
}

// answers reports whether a URL answers 200.
func answers(ctx context.Context, url, token string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport, err := rest.TransportFor(&rest.Config{BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		return false
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}
