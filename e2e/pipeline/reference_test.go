//go:build e2e

package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// referenceStack is NVIDIA Dynamo's frontend in front of its simulated engine,
// and a Prometheus that scrapes it: nothing in it was written here.
type referenceStack struct {
	frontend   string
	prometheus string
	// iterations is where the engine publishes its forward-pass metrics.
	iterations string
}

// servedModel is the name of the model that the simulated engine serves. Its
// tokenizer splits at spaces, so that the tokens of a prompt are its words.
const servedModel = "tiny"

// startReferenceStack starts the stack, and waits until it answers.
func startReferenceStack(t *testing.T) referenceStack {
	t.Helper()
	python, err := filepath.Abs(filepath.Join("..", "..", ".cache", "dynamo", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	for program, require := range map[string]string{python: "TIDEMARK_REQUIRE_DYNAMO", "prometheus": "TIDEMARK_REQUIRE_PROMETHEUS"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv(require) == "1" {
				t.Fatalf("%s is required: %v", filepath.Base(program), err)
			}
			t.Skipf("the reference stack is not there (make dynamo installs it): %v", err)
		}
	}
	dir := t.TempDir()
	writeModel(t, filepath.Join(dir, "model"))
	environment := append(os.Environ(),
		"DYN_DISCOVERY_BACKEND=file", "DYN_FILE_KV="+filepath.Join(dir, "discovery"), "DYN_REQUEST_PLANE=tcp", "DYN_EVENT_PLANE=zmq",
		"DYN_TCP_RPC_HOST=127.0.0.1", "HF_HUB_OFFLINE=1", "TMPDIR="+dir)
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	background(t, environment, python, "-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", port)
	background(t, environment, python, "-m", "dynamo.mocker", "--model-path", filepath.Join(dir, "model"), "--model-name", servedModel, "--speedup-ratio", "5")
	stack := referenceStack{frontend: "http://127.0.0.1:" + port, prometheus: "http://" + freeAddress(t)}
	until(t, "the reference stack serves its model", func() bool {
		return strings.Contains(fetch(stack.frontend+"/v1/models"), servedModel)
	})
	until(t, "the engine says where it publishes its forward-pass metrics", func() bool {
		stack.iterations = forwardPassSocket(t, filepath.Join(dir, "discovery"))
		return stack.iterations != ""
	})

	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: dynamo\n  static_configs: [{targets: ['127.0.0.1:%s']}]\n", port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, environment, "prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+strings.TrimPrefix(stack.prometheus, "http://"))
	until(t, "Prometheus is ready", func() bool { return strings.Contains(fetch(stack.prometheus+"/-/ready"), "Ready") })
	return stack
}

// forwardPassSocket returns the address of the socket at which the engine
// publishes, as it stands in the stack's discovery, or nothing while it does not.
func forwardPassSocket(t *testing.T, discovery string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(discovery, "v1", "event_channels", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var channel struct {
			Topic     string
			Transport struct {
				Kind   string
				Config struct{ Endpoint string }
			}
		}
		text, err := readFile(file)
		if err != nil || json.Unmarshal([]byte(text), &channel) != nil {
			continue // it is being written
		}
		if channel.Topic == "forward-pass-metrics" && channel.Transport.Kind == "Zmq" {
			return channel.Transport.Config.Endpoint
		}
	}
	return ""
}

// background runs a program until the test ends, and shows what it printed last
// if the test failed.
func background(t *testing.T, environment []string, name string, args ...string) {
	t.Helper()
	var output buffer
	command := exec.Command(name, args...) //nolint:noctx // it ends by kill
	command.Env, command.Stdout, command.Stderr = environment, &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s %s printed\n%s", name, strings.Join(args, " "), tail(output.String(), 10))
		}
	})
}

// fetch returns a page, or nothing while it is not there.
func fetch(url string) string {
	response, err := http.Get(url) //nolint:gosec,noctx // a page of a program that the test started
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return ""
	}
	return string(content)
}

// writeModel writes all that the stack wants of a model: a tokenizer of 256
// words, and the shape of a network that nobody runs.
func writeModel(t *testing.T, dir string) {
	t.Helper()
	vocabulary := map[string]int{"<unk>": 0, "<s>": 1, "</s>": 2}
	for i := range 256 {
		vocabulary[fmt.Sprintf("w%d", i)] = len(vocabulary)
	}
	type object = map[string]any
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]object{
		"tokenizer.json": {
			"version": "1.0", "added_tokens": []any{}, "pre_tokenizer": object{"type": "Whitespace"},
			"model": object{"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
		},
		"tokenizer_config.json": {
			"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 8192,
			"chat_template": "{% for m in messages %}{{ m['content'] }} {% endfor %}",
		},
		"config.json": {
			"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
			"num_key_value_heads": 4, "vocab_size": len(vocabulary), "max_position_embeddings": 8192, "bos_token_id": 1, "eos_token_id": 2,
		},
	} {
		data, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// complete sends one request of isl tokens, and waits for its osl tokens.
func (s referenceStack) complete(t *testing.T, isl, osl int) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"model": servedModel, "prompt": strings.TrimSpace(strings.Repeat("w7 ", isl)), "max_tokens": osl, "ignore_eos": true})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(s.frontend+"/v1/completions", "application/json", bytes.NewReader(body)) //nolint:noctx // local
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Usage struct {
			Prompt     int `json:"prompt_tokens"`
			Completion int `json:"completion_tokens"`
		} `json:"usage"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if answer.Usage.Prompt != isl || answer.Usage.Completion != osl {
		t.Fatalf("the stack counts %d and %d tokens of a request of %d and %d", answer.Usage.Prompt, answer.Usage.Completion, isl, osl)
	}
}

// TestReferenceStack sends real requests through Dynamo's frontend to its
// simulated engine, and compares what the observations say with what was sent:
// through Prometheus, the collector, the decider and the reporter, advisory. What
// the engine does is taken from the forward-pass metrics that it publishes.
func TestReferenceStack(t *testing.T) {
	stack := startReferenceStack(t)
	file := filepath.Join(t.TempDir(), "deployments.yaml")
	config := fmt.Sprintf(`deployments:
  - name: tiny
    topology: aggregated
    target: sla
    sla: {ttft_ms: 500, itl_ms: 50}
    roles: {aggregated: {gpus_per_replica: 1, max_replicas: 8, engine: {max_num_batched_tokens: 8192, max_num_seqs: 256, max_kv_tokens: 1048576}}}
    load: {interval_s: 1}
    throughput: {interval_s: 6, predictor: constant}
    source:
      prometheus: {url: %q, preset: dynamo, model: %s}
      engines: {roles: {aggregated: {zmq: [%q]}}}
      fleet: {static: {aggregated: 1}}
`, stack.prometheus, servedModel, stack.iterations)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	url := newLog(t)
	var output buffer
	up := start(t, &output, &output, "tidemark", "up", "--log", url)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("tidemark up printed\n%s", tail(output.String(), 30))
		}
	})
	up.ready(t)
	succeed(t, "apply", "-f", file, "--log", url)
	log := openLog(t, url)

	// The frontend has no series of a model before its first request. The
	// windows that follow it are covered.
	stack.complete(t, 1, 1)
	until(t, "a window is idle after the first request", func() bool {
		seen := trafficOf(t, log, time.Time{})
		return len(seen) > 0 && seen[len(seen)-1].Status == model.Idle
	})
	began := time.Now()
	requests, islSum, oslSum := 0.0, 0.0, 0.0
	for i := range 40 {
		isl, osl := 20+37*i%400, 2+i%9
		stack.complete(t, isl, osl)
		requests, islSum, oslSum = requests+1, islSum+float64(isl), oslSum+float64(osl)
	}
	// One long request after another, until a tick of the load loop has seen one.
	const longISL, longOSL = 300, 400
	until(t, "the engine is observed at work", func() bool {
		stack.complete(t, longISL, longOSL)
		requests, islSum, oslSum = requests+1, islSum+longISL, oslSum+longOSL
		return slices.ContainsFunc(engineSamples(t, log), func(sample model.EngineSample) bool { return *sample.Scheduled.DecodeRequests > 0 })
	})

	var counted, isl, osl float64
	until(t, "all requests were observed, and an idle window after them", func() bool {
		counted, isl, osl = 0, 0, 0
		idle := false
		for _, o := range trafficOf(t, log, began) {
			if idle = o.Status == model.Idle; o.Status == model.Measured {
				counted += *o.Requests
				isl += *o.Requests * *o.MeanISL
				osl += *o.Requests * *o.MeanOSL
			}
		}
		return counted >= requests && idle
	})
	if counted != requests {
		t.Errorf("%v requests were observed, want %v", counted, requests)
	}
	if math.Abs(isl/islSum-1) > 0.01 || math.Abs(osl/oslSum-1) > 0.01 {
		t.Errorf("%v and %v tokens were observed, want %v and %v within 1 %%", isl, osl, islSum, oslSum)
	}
	until(t, "the engine is observed to rest", func() bool {
		samples := engineSamples(t, log)
		last := samples[len(samples)-1]
		return *last.WallTimeS == 0 && *last.Scheduled.DecodeRequests == 0
	})
	workers := map[string]bool{}
	for _, sample := range engineSamples(t, log) {
		workers[sample.Worker] = true
		now, waiting := sample.Scheduled, sample.Queued
		// At most one request at a time was sent.
		if *now.PrefillRequests+*now.DecodeRequests+*waiting.PrefillRequests+*waiting.DecodeRequests > 1 ||
			*now.PrefillTokens > 420 || *now.DecodeKVTokens > longISL+longOSL || *sample.WallTimeS < 0 || *sample.WallTimeS > 10 {
			t.Errorf("the engine is observed to do more than was asked of it: %+v", sample)
		}
		if (*now.PrefillRequests+*now.DecodeRequests > 0) != (*sample.WallTimeS > 0) || (*now.DecodeRequests > 0) != (*now.DecodeKVTokens > 0) {
			t.Errorf("the engine is observed to be at work and at rest: %+v", sample)
		}
	}
	if len(workers) != 1 || workers[stack.iterations] || workers[""] {
		t.Errorf("the engine is observed as %v, want the one name that Dynamo gave it", workers)
	}
	if status, page := up.get(t, "/metrics"); status != http.StatusOK || !strings.Contains(page, `deployment="tiny"`) {
		t.Errorf("the reporter's metrics do not name the deployment: status %d", status)
	}
	up.stop(t)
	checkDecisions(t, log)
	if done := records(t, log, events.TopicActuations); len(done) > 0 {
		t.Errorf("an advisory deployment has %d actuations", len(done))
	}
	if letters := records(t, log, events.TopicDeadLetters); len(letters) > 0 {
		t.Errorf("%d messages went to the dead letters: %s", len(letters), letters[0].Payload)
	}
}

// engineSamples returns what was observed of engines, the oldest first. All
// figures of a sample are known.
func engineSamples(t *testing.T, log events.Log) []model.EngineSample {
	t.Helper()
	var samples []model.EngineSample
	for _, o := range facts[*model.Observation](t, log, events.TopicObservations) {
		if o.fact.Engines != nil {
			samples = append(samples, o.fact.Engines.Samples...)
		}
	}
	for _, sample := range samples {
		for _, load := range []model.EngineLoad{sample.Scheduled, sample.Queued} {
			if load.PrefillRequests == nil || load.PrefillTokens == nil || load.DecodeRequests == nil || load.DecodeKVTokens == nil {
				t.Fatalf("a figure is not known: %+v", sample)
			}
		}
		if sample.WallTimeS == nil {
			t.Fatalf("the time of an iteration is not known: %+v", sample)
		}
	}
	return samples
}

// trafficOf returns the traffic of the windows that ended after an instant.
func trafficOf(t *testing.T, log events.Log, after time.Time) []*model.TrafficObservation {
	t.Helper()
	var traffic []*model.TrafficObservation
	for _, o := range facts[*model.Observation](t, log, events.TopicObservations) {
		if o.fact.Loops.Throughput && o.fact.Traffic != nil && o.fact.ObservedAt.After(after) {
			traffic = append(traffic, o.fact.Traffic)
		}
	}
	return traffic
}
