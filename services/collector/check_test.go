package collector

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
)

// lintable returns a deployment whose traffic alone is measured, of which the
// configuration says nothing amiss.
func lintable(t *testing.T, name, prometheus string) *model.Deployment {
	t.Helper()
	specs, err := model.DecodeDeployments([]byte(`deployments:
  - name: ` + name + `
    advisory: false
    topology: decode
    load: {enabled: false}
    roles: {decode: {gpus_per_replica: 1, max_replicas: 4}}
    source:
      fleet: {static: {decode: 1}}
      prometheus: ` + prometheus + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &specs[0]
}

// wantFindings checks that findings are texts by which they begin, "..." standing
// for anything.
func wantFindings(t *testing.T, found []lint.Finding, want []string) {
	t.Helper()
	ok := len(found) == len(want)
	for i := 0; ok && i < len(want); i++ {
		rest := found[i].String()
		for n, part := range strings.Split(want[i], "...") {
			at := strings.Index(rest, part)
			if at < 0 || n == 0 && at > 0 {
				ok = false
				break
			}
			rest = rest[at+len(part):]
		}
	}
	if !ok {
		var have []string
		for _, f := range found {
			have = append(have, f.String())
		}
		t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(have, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// TestCheckEndsInTime: a server that accepts and never answers is waited for no
// longer than all sources may take, and what there was no time for is said.
func TestCheckEndsInTime(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var all []*model.Deployment
	for i := range 3 * maxChecks {
		all = append(all, lintable(t, fmt.Sprintf("d-%02d", i), fmt.Sprintf("{url: \"http://%s\", preset: vllm, model: m-%d, timeout_s: 600}", silent.Addr(), i)))
	}
	began := time.Now()
	found := Check(t.Context(), CheckConfig{Timeout: 500 * time.Millisecond}, all, all)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %v", took)
	}
	if len(found) != len(all) {
		t.Fatalf("%d findings, want one for each of %d deployments: %v", len(found), len(all), found)
	}
	for i, finding := range found {
		wantFindings(t, []lint.Finding{finding}, []string{map[bool]string{
			true:  "error: " + all[i].Name + ": source.prometheus.url: cannot be read from here: prometheus: query series: no answer within 0.5 s",
			false: "unchecked: " + all[i].Name + ": source: is not looked at: those of other deployments took the 0.5 s that there were",
		}[finding.Severity == lint.Error]})
	}
}

// TestCheckAsksNobody: without time nothing is asked, and the configurations are
// held against each other all the same.
func TestCheckAsksNobody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) }))
	defer server.Close()
	a := lintable(t, "a", `{url: "`+server.URL+`", preset: vllm, model: org/a}`)
	b := lintable(t, "b", `{url: "`+server.URL+`/", preset: vllm, model: org/a, namespace: blue}`)
	wantFindings(t, Check(t.Context(), CheckConfig{}, []*model.Deployment{b, a}, []*model.Deployment{a, b}), []string{
		"error: a: source.prometheus.labels: model, namespace and labels match every series of deployment b too",
	})
}
