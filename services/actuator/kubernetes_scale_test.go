//go:build e2e

package actuator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/kubetest"
)

// many is a number of active deployments, each with one object of its own, and
// an actuator at work on them.
type many struct {
	*kube
	names []string
	set   []int
	// published is when each change was, by object and number of replicas.
	published map[change]time.Time
	outcomes  <-chan any
}

type change struct {
	name string
	to   int
}

// newMany makes deployments whose objects nobody but the actuator touches.
func newMany(t testing.TB, n int) *many {
	t.Helper()
	m := &many{kube: newKube(t), published: map[change]time.Time{}}
	var making errgroup.Group
	making.SetLimit(16)
	for i := range n {
		name := fmt.Sprintf("model-%04d", i)
		m.names, m.set = append(m.names, name), append(m.set, 1)
		making.Go(func() error {
			m.create(resource("example.com", "v1", "modelservers"), m.namespace, `{"apiVersion": "example.com/v1", "kind": "ModelServer", "metadata": {"name": %q}, "spec": {"replicas": 1}}`, name)
			return nil
		})
	}
	if err := making.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, name := range m.names {
		m.revise(name, true, model.KubernetesTarget{}, model.KubernetesTarget{APIVersion: "example.com/v1", Kind: "ModelServer", Name: name}, onlyDecode, func(spec *model.Deployment) {
			spec.Roles.Decode.MaxReplicas, spec.Budget.MaxGPUs = 10_000, model.Unbounded
			spec.Behavior.DecisionTTLS = time.Hour.Seconds()
		})
	}
	m.outcomes = m.follow()
	m.begin(func(c *Config) { c.SettleEvery = time.Second })
	return m
}

// follow hands on what becomes of decisions.
func (m *many) follow() <-chan any {
	outcomes, ended := make(chan any, 2*len(m.names)), make(chan struct{})
	ctx, cancel := context.WithCancel(m.T.Context())
	m.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		for record, err := range m.log.Follow(ctx, m.topics.Name(events.TopicActuations), events.Range{}) {
			if err != nil {
				m.Error(err)
				return
			}
			event, err := record.Event()
			if err != nil {
				m.Error(err)
				return
			}
			switch fact, err := event.Fact(); fact.(type) {
			case *model.ScalingStarted:
			default:
				select {
				case outcomes <- fact:
				case <-ctx.Done():
				}
				if err != nil {
					m.Error(err)
				}
			}
		}
	}()
	return outcomes
}

// decide publishes a decision that adds a replica to one deployment.
func (m *many) decide(i int) {
	decision := activeDecision(m.names[i], time.Now().UTC(), model.PerRole[int]{Decode: new(m.set[i])}, model.PerRole[int]{Decode: new(m.set[i] + 1)})
	decision.ValidUntil = decision.ObservedAt.Add(time.Hour)
	m.set[i]++
	m.published[change{m.names[i], m.set[i]}] = time.Now()
	publish(m.T, m.log, m.topics, decision, time.Time{})
}

// applied waits until so many decisions are carried out.
func (m *many) applied(n int) {
	m.T.Helper()
	deadline := time.After(5 * time.Minute)
	for done := 0; done < n; {
		select {
		case fact := <-m.outcomes:
			if _, ok := fact.(*model.ScalingApplied); !ok {
				m.Fatalf("an outcome is %#v", fact)
			}
			done++
		case <-deadline:
			m.Fatalf("%d of %d decisions are carried out after 5 min", done, n)
		}
	}
}

// latencies looks that each decision was written exactly once, on condition of a
// version, and returns how long after its publication the API server had done
// that, by the server's own audit log, shortest first.
func (m *many) latencies() []time.Duration {
	m.T.Helper()
	var latencies []time.Duration
	times := map[change]int{}
	for _, r := range m.written() {
		if !conditioned(r) {
			m.Errorf("a write is not conditioned on a version: %s", r.Body)
		}
		written := change{r.Object.Name, asked(r)}
		at, known := m.published[written]
		if !known {
			m.Errorf("%s was set to %d, which nobody decided", r.Object.Name, asked(r))
		}
		times[written]++
		latencies = append(latencies, r.At.Sub(at))
	}
	for decided := range m.published {
		if n := times[decided]; n != 1 {
			m.Errorf("%s was set to %d %d times, want once", decided.name, decided.to, n)
		}
	}
	slices.Sort(latencies)
	return latencies
}

func conditioned(r kubetest.Request) bool {
	var body struct {
		Metadata struct{ ResourceVersion string }
	}
	return json.Unmarshal(r.Body, &body) == nil && body.Metadata.ResourceVersion != ""
}

func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

// TestKubernetesThousandDeployments changes a thousand deployments at once: each is
// written exactly once, and none is forgotten.
func TestKubernetesThousandDeployments(t *testing.T) {
	m := newMany(t, 1000)
	began := time.Now()
	for i := range m.names {
		m.decide(i)
	}
	m.applied(len(m.names))
	took := time.Since(began)
	latencies := m.latencies()
	if t.Failed() {
		return
	}
	t.Logf("a change of %d deployments at once: written p50 %v and p99 %v after publication, all done after %v",
		len(m.names), percentile(latencies, 50).Round(time.Millisecond), percentile(latencies, 99).Round(time.Millisecond), took.Round(time.Millisecond))
}

func report(b *testing.B, latencies []time.Duration) {
	if len(latencies) == 0 {
		return
	}
	b.ReportMetric(percentile(latencies, 50).Seconds()*1000, "p50-ms")
	b.ReportMetric(percentile(latencies, 99).Seconds()*1000, "p99-ms")
}

// BenchmarkKubernetesDecision is one decision after the other, round a thousand
// active deployments: an operation ends when its outcome is in the log, p50 and
// p99 are from its publication to the write in the API server's audit log.
func BenchmarkKubernetesDecision(b *testing.B) {
	m := newMany(b, 1000)
	n := 0
	for b.Loop() {
		m.decide(n % len(m.names))
		m.applied(1)
		n++
	}
	report(b, m.latencies())
}

// BenchmarkKubernetesThousandDecisions is a decision for each of a thousand active
// deployments at once: what the last of them has to wait for.
func BenchmarkKubernetesThousandDecisions(b *testing.B) {
	m := newMany(b, 1000)
	rounds := 0
	for b.Loop() {
		for i := range m.names {
			m.decide(i)
		}
		m.applied(len(m.names))
		rounds++
	}
	b.ReportMetric(float64(rounds*len(m.names))/b.Elapsed().Seconds(), "decisions/s")
	report(b, m.latencies())
}
