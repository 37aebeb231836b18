//go:build e2e

package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/prometheustest"
)

// traffic is what a test sent to engines, and what they answered.
type traffic struct {
	mu            sync.Mutex
	requests      int
	prompt, reply int
}

// send sends requests to engines, each after a random pause, and waits for the
// answers.
func (s *traffic) send(t *testing.T, engines []*process, served string, requests int, random *rand.Rand) {
	t.Helper()
	var answers sync.WaitGroup
	for i := range requests {
		prompt, reply := 50+random.IntN(900), 5+random.IntN(60)
		engine := engines[i%len(engines)]
		answers.Go(func() {
			body := fmt.Sprintf(`{"model":%q,"max_tokens":%d,"prompt":[%s]}`, served, reply, strings.TrimSuffix(strings.Repeat("1,", prompt), ","))
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+engine.address+"/v1/completions", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != http.StatusOK || strings.Count(string(answer), "tide ")+1 < reply {
				t.Errorf("status %s, %v: %s", response.Status, err, bytes.TrimSpace(answer))
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.requests, s.prompt, s.reply = s.requests+1, s.prompt+prompt, s.reply+reply
		})
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond) // requests arrive one after another
	}
	answers.Wait()
}

// TestObservationsMatchWhatWasSent sends real requests to engines, which
// Prometheus scrapes and the collector observes: over all windows of the
// throughput loop the observations count each request once, and their lengths are
// those that were sent. Engines that die are seen to be gone, and nothing that is
// not measured becomes zero.
func TestObservationsMatchWhatWasSent(t *testing.T) {
	prometheustest.Require(t)
	var engines []*process
	var targets []string
	for range 3 {
		engine := start(t, io.Discard, io.Discard, "tidemark", "engine", "--model", "org/chat", "--speed", "10")
		engines = append(engines, engine)
		targets = append(targets, engine.address)
	}
	// Another model's engine, which must not be seen.
	other := start(t, io.Discard, io.Discard, "tidemark", "engine", "--model", "org/other", "--speed", "10")
	for _, engine := range append([]*process{other}, engines...) {
		until(t, "an engine serves", func() bool { status, _ := engine.get(t, "/health"); return status == http.StatusOK })
	}
	prometheus := prometheustest.Start(t, t.TempDir(), fmt.Sprintf(
		"scrape_configs: [{job_name: engines, scrape_interval: 1s, static_configs: [{targets: ['%s', '%s']}]}]", strings.Join(targets, "', '"), other.address))

	url := newLog(t)
	file := write(t, "deployments.yaml", fmt.Sprintf(`deployments:
  - name: chat
    topology: aggregated
    target: sla
    roles: {aggregated: {gpus_per_replica: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, context_length: 131072, max_kv_tokens: 590818}}}
    load: {interval_s: 1}
    throughput: {enabled: true, interval_s: 5, predictor: constant}
    source:
      prometheus: {url: "%s", preset: vllm, model: org/chat, max_age_s: 4}
      engines: {preset: vllm, roles: {aggregated: {endpoints: ["http://%s"]}}}
      fleet: {static: {aggregated: 3}}
`, prometheus.URL, strings.Join(targets, `", "http://`)))
	succeed(t, "apply", "-f", file, "--log", url, "--reason", "the test begins")
	var summaries, errs buffer
	up := start(t, &summaries, &errs, "tidemark", "up", "--log", url)
	up.ready(t)
	log := openLog(t, url)
	windows := func() []*model.TrafficObservation {
		var all []*model.TrafficObservation
		for _, o := range facts[*model.Observation](t, log, events.TopicObservations) {
			if o.fact.Loops.Throughput {
				all = append(all, o.fact.Traffic)
			}
		}
		return all
	}
	newest := func() *model.Observation {
		all := facts[*model.Observation](t, log, events.TopicObservations)
		if len(all) == 0 {
			return &model.Observation{}
		}
		return all[len(all)-1].fact
	}

	until(t, "a window without requests is idle", func() bool {
		all := windows()
		return len(all) > 0 && all[len(all)-1].Status == model.Idle
	})
	for _, w := range windows() {
		if w.Status != model.Idle && w.Status != model.Absent {
			t.Errorf("a window before the first request is %s: %q", w.Status, w.Error)
		}
	}
	var sent, ignored traffic
	sent.send(t, engines, "org/chat", 300, rand.New(rand.NewPCG(1, 2)))
	ignored.send(t, []*process{other}, "org/other", 20, rand.New(rand.NewPCG(3, 4)))
	until(t, "the window after the last request is idle", func() bool {
		all := windows()
		return all[len(all)-1].Status == model.Idle && len(all) > 1 && all[len(all)-2].Status == model.Idle
	})
	var requests, prompt, reply float64
	measured, quantiles, lastOnly := 0, 0, false
	for _, w := range windows() {
		if w.Status != model.Measured {
			if w.Status != model.Idle && w.Status != model.Absent {
				t.Errorf("a window is %s: %q", w.Status, w.Error)
			}
			continue
		}
		measured++
		requests += *w.Requests
		prompt += *w.MeanISL * *w.Requests
		reply += *w.MeanOSL * *w.Requests
		// A window counts the requests that ended in it, and the time to a first
		// token where that came: behind the last arrivals requests only end.
		if w.MeanTTFTMs == nil {
			lastOnly = true
		} else if lastOnly || *w.MeanTTFTMs <= 0 {
			t.Errorf("a window lacks first tokens, and a later one has some: %+v", w)
		}
		if w.MeanITLMs == nil || *w.MeanITLMs <= 0 {
			t.Errorf("a window lacks the latency between tokens: %+v", w)
		}
		if w.P95TTFTMs != nil && w.P95ITLMs != nil {
			quantiles++
		}
	}
	if quantiles == 0 {
		t.Error("no window has percentiles of both latencies")
	}
	if measured < 2 || requests != float64(sent.requests) || sent.requests != 300 {
		t.Errorf("%d windows count %v requests, and %d were sent", measured, requests, sent.requests)
	}
	for _, sum := range []struct {
		of        string
		have      float64
		wantCount int
	}{{"prompts", prompt, sent.prompt}, {"answers", reply, sent.reply}} {
		if math.Abs(sum.have-float64(sum.wantCount)) > 1e-6*float64(sum.wantCount) {
			t.Errorf("the tokens of all %s are %v, and %d were sent", sum.of, sum.have, sum.wantCount)
		}
	}

	engines[0].kill()
	until(t, "two engines are left", func() bool {
		e := newest().Engines
		return e != nil && e.Status == model.Measured && len(e.Samples) == 2
	})
	engines[1].kill()
	engines[2].kill()
	until(t, "no engine is left", func() bool { e := newest().Engines; return e != nil && e.Status == model.Failed })
	prometheus.Stop()
	until(t, "Prometheus is down", func() bool {
		all := windows()
		return all[len(all)-1].Status == model.Failed
	})
	if o := newest(); o.Fleet.Status != model.Measured || !strings.Contains(o.Engines.Error, "connection refused") {
		t.Errorf("the newest observation is %+v, engines %q", o.Fleet, o.Engines.Error)
	}
	up.stop(t)

	reasons := map[model.Reason]int{}
	for _, d := range checkDecisions(t, log) {
		reasons[d.fact.Reasons.Load]++
		if d.fact.Mode != model.Advisory {
			t.Errorf("decision %s is %s", d.ID, d.fact.Mode)
		}
	}
	if reasons[model.ReasonWorkerCountMismatch] == 0 || reasons[model.ReasonNoFPMData] == 0 {
		t.Errorf("reasons of the load loop are %v; want some for the engines that were gone", reasons)
	}
	if n := end(t, log, events.TopicActuations); n != 0 {
		t.Errorf("%d actuations of an advisory deployment", n)
	}
	if decisions, lines := int(end(t, log, events.TopicDecisions)), strings.Count(summaries.String(), "[summary]"); lines != decisions {
		t.Errorf("%d summary lines for %d decisions", lines, decisions)
	}
}
