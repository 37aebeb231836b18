package dynamo_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tidemark.dev/cmd/tidemark/internal/dynamo"
	"tidemark.dev/pkg/model"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden converts every file of testdata. Beside each lies what comes out:
// the deployment, then the notes, or the problems.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.[yj]*")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if converted, err := dynamo.Convert(data, ""); err != nil {
				fmt.Fprintln(&got, err)
			} else {
				fmt.Fprintf(&got, "%s\n\n", encode(t, &converted.Deployment))
				for _, note := range converted.Notes {
					fmt.Fprintln(&got, note)
				}
			}
			golden := strings.TrimSuffix(file, filepath.Ext(file)) + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil { //nolint:gosec // golden files are read by all
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("%s becomes\n%s\nwant\n%s", file, got.String(), want)
			}
		})
	}
}

func encode(t *testing.T, d *model.Deployment) string {
	t.Helper()
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// decodes wants a deployment to be one that our own decoder reads back as it is.
func decodes(t *testing.T, d *model.Deployment) {
	t.Helper()
	back, err := model.DecodeDeployments([]byte(`{"deployments": [` + encode(t, d) + `]}`))
	if err != nil {
		t.Fatalf("the deployment is refused: %v", err)
	}
	if !reflect.DeepEqual(back, []model.Deployment{*d}) {
		t.Errorf("the deployment reads back as\n%s\nwant\n%s", encode(t, &back[0]), encode(t, d))
	}
}

// others are values that no field has by default, one for each kind of field.
var others = map[string]string{
	"mode": "agg", "optimization_target": "latency", "load_predictor": "kalman", "scaling_mode": "active",
	"enable_throughput_scaling": "false\nenable_load_scaling: true", "enable_load_scaling": "true", "advisory": "false", "no_operation": "false",
	"load_predictor_log1p": "true", "model_name": "meta/other",
	"metric_pulling_prometheus_endpoint":                "http://prometheus:9090",
	"throughput_metrics_source":                         "router\nmetric_pulling_prometheus_endpoint: http://prometheus:9090",
	"namespace":                                         "prod\nmetric_pulling_prometheus_endpoint: http://prometheus:9090",
	"metric_pulling_prometheus_token_file":              "token\nmetric_pulling_prometheus_endpoint: https://prometheus:9090",
	"metric_pulling_prometheus_ssl_verify":              "false\nmetric_pulling_prometheus_endpoint: https://prometheus:9090",
	"metric_pulling_prometheus_ca_bundle":               "ca.pem\nmetric_pulling_prometheus_endpoint: https://prometheus:9090",
	"metric_pulling_prometheus_request_timeout_seconds": "7\nmetric_pulling_prometheus_endpoint: https://prometheus:9090",
	"load_predictor_warmup_trace":                       "other.jsonl",
	"fpm_sample_bucket_size":                            "9", "min_gpu_budget": "2", "min_endpoint": "3",
	"prefill_scale_up_queue_tokens": "9", "decode_scale_up_kv_rate": "9",
	"kalman_q_level": "7\nload_predictor: kalman", "kalman_q_trend": "7\nload_predictor: kalman",
	"kalman_r": "7\nload_predictor: kalman", "kalman_min_points": "7\nload_predictor: kalman",
	"prophet_window_size": "70\nload_predictor: prophet",
}

// TestEveryField gives one field after the other another value than its default:
// it changes the deployment, or a note says why it does not.
func TestEveryField(t *testing.T) {
	names, err := os.ReadFile("testdata/fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	plain := convert(t, "model_name: meta/llama\noptimization_target: sla\n")
	for name := range strings.Lines(string(names)) {
		name = strings.TrimSpace(name)
		t.Run(name, func(t *testing.T) {
			value, special := others[name]
			if !special {
				value = "7"
			}
			file := fmt.Sprintf("%s: %s\n", name, value)
			if name != "model_name" {
				file += "model_name: meta/llama\n"
			}
			if name != "optimization_target" {
				file += "optimization_target: sla\n"
			}
			got := convert(t, file)
			decodes(t, &got.Deployment)
			noted := slices.IndexFunc(got.Notes, func(n dynamo.Note) bool { return n.Line == 1 && n.Subject == name })
			changed := !reflect.DeepEqual(got.Deployment, plain.Deployment)
			switch {
			case noted >= 0 && strings.Contains(got.Notes[noted].Text, "not known"):
				t.Error("it is not known as a field")
			case noted < 0 && !changed:
				t.Error("it changes nothing, and no note says why")
			case noted >= 0 && changed:
				t.Errorf("it changes the deployment, and a note says that it does not: %v", got.Notes[noted])
			}
		})
	}
}

func convert(t *testing.T, file string) dynamo.Conversion {
	t.Helper()
	converted, err := dynamo.Convert([]byte(file), "")
	if err != nil {
		t.Fatalf("%v in\n%s", err, file)
	}
	return converted
}

// TestAdvisory: whatever said that nothing is to be changed says so here.
func TestAdvisory(t *testing.T) {
	for file, want := range map[string]bool{
		"advisory: true":                       true,
		"advisory: \"True\"":                   true,
		"advisory: null":                       true,
		"no_operation: true":                   true,
		"no_operation: yes":                    true,
		"scaling_mode: advisory":               true,
		"scaling_mode: noop":                   true,
		"mode: agg":                            true, // nobody said that it may act
		"advisory: true\nno_operation: false":  true,
		"advisory: false\nno_operation: true":  true,
		"advisory: false\nscaling_mode: noop":  true,
		"advisory: false":                      false,
		"no_operation: 0":                      false,
		"scaling_mode: active":                 false,
		"scaling_mode: active\nadvisory: true": true,
	} {
		got := convert(t, file)
		if got.Deployment.Advisory != want {
			t.Errorf("%q becomes advisory: %v", file, got.Deployment.Advisory)
		}
		said := slices.ContainsFunc(got.Notes, func(n dynamo.Note) bool { return n.Subject == "advisory" })
		silent := want && (strings.Contains(file, "rue") || strings.Contains(file, "yes") || strings.Contains(file, "noop") || strings.Contains(file, "mode: advisory"))
		if said == silent {
			t.Errorf("%q: a note on advisory is given: %v, want %v", file, said, !silent)
		}
	}
}

// TestBounds: replicas are bounded by what the budget leaves to a role.
func TestBounds(t *testing.T) {
	got := convert(t, "max_gpu_budget: 20\nprefill_engine_num_gpu: 2\ndecode_engine_num_gpu: 4\nmin_endpoint: 2").Deployment
	prefill, _ := got.Roles.Get(model.Prefill)
	decode, _ := got.Roles.Get(model.Decode)
	// Two decode replicas keep 8 of 20 GPUs, two prefill replicas 4.
	if prefill.MaxReplicas != 6 || decode.MaxReplicas != 4 {
		t.Errorf("prefill is bounded by %d and decode by %d, want 6 and 4", prefill.MaxReplicas, decode.MaxReplicas)
	}
	for _, budget := range []string{"-1", "-7"} {
		got := convert(t, "max_gpu_budget: "+budget).Deployment
		if got.Budget.MaxGPUs != model.Unbounded {
			t.Errorf("max_gpu_budget %s becomes %d", budget, got.Budget.MaxGPUs)
		}
	}
}

// TestSource: what the file says of Prometheus becomes a source of traffic, if
// it is enough for one.
func TestSource(t *testing.T) {
	const server = "metric_pulling_prometheus_endpoint: http://prometheus:9090\n"
	for _, c := range []struct {
		name, file string
		want       *model.PrometheusSource
	}{
		{"no server", "model_name: a/b\nnamespace: prod\nthroughput_metrics_source: router", nil},
		{"a frontend without a model", server + "namespace: prod", nil},
		{"a frontend", server + "model_name: a/b\nnamespace: prod-chat", &model.PrometheusSource{Preset: model.PresetDynamo, Model: "a/b", Namespace: "prod-chat"}},
		{"a frontend in any namespace", server + "model_name: a/b", &model.PrometheusSource{Preset: model.PresetDynamo, Model: "a/b"}},
		{"a router", server + "namespace: prod-chat\nthroughput_metrics_source: router\nmodel_name: a/b", &model.PrometheusSource{Preset: model.PresetDynamoRouter, Namespace: "prod_chat"}},
		{
			"a server that is reached with care", strings.Replace(server, "http:", "https:", 1) + "model_name: a/b\nmetric_pulling_prometheus_token_file: /token\nmetric_pulling_prometheus_ca_bundle: /ca.pem\n" +
				"metric_pulling_prometheus_ssl_verify: false\nmetric_pulling_prometheus_request_timeout_seconds: 10",
			&model.PrometheusSource{
				URL: "https://prometheus:9090", Preset: model.PresetDynamo, Model: "a/b", TimeoutS: 10,
				HTTP: model.HTTPClient{BearerTokenFile: "/token", TLS: model.ClientTLS{CAFile: "/ca.pem"}},
			},
		},
		{
			"a server that is reached without", server + "model_name: a/b\nmetric_pulling_prometheus_token_file: /token",
			&model.PrometheusSource{Preset: model.PresetDynamo, Model: "a/b", HTTP: model.HTTPClient{BearerTokenFile: "/token", AllowCredentialsOverHTTP: true}},
		},
		{"a router in the planner's namespace", server + "throughput_metrics_source: router", &model.PrometheusSource{Preset: model.PresetDynamoRouter, Namespace: "dynamo"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			converted := convert(t, c.file)
			got := converted.Deployment
			decodes(t, &got)
			switch {
			case c.want == nil && got.Source == nil:
				if !slices.ContainsFunc(converted.Notes, func(n dynamo.Note) bool { return n.Subject == "namespace" }) {
					t.Error("no note says that the namespace is not carried over")
				}
			case c.want == nil || got.Source == nil:
				t.Errorf("the source is %+v, want %+v", got.Source, c.want)
			default:
				c.want.URL, c.want.MaxAgeS, c.want.TimeoutS = cmp.Or(c.want.URL, "http://prometheus:9090"), 60, cmp.Or(c.want.TimeoutS, 4)
				if !reflect.DeepEqual(got.Source.Prometheus, c.want) {
					t.Errorf("the source is %+v, want %+v", got.Source.Prometheus, c.want)
				}
			}
		})
	}
	if _, err := dynamo.Convert([]byte("model_name: a/b\nmetric_pulling_prometheus_endpoint: prometheus"), ""); err == nil || !strings.Contains(err.Error(), "line 2: source.prometheus.url") {
		t.Errorf("an address that is none is taken: %v", err)
	}
}

// TestSecret: a token in the file goes nowhere.
func TestSecret(t *testing.T) {
	got := convert(t, "model_name: a/b\nmetric_pulling_prometheus_endpoint: https://prometheus:9090\nmetric_pulling_prometheus_token: hush")
	if text := encode(t, &got.Deployment) + fmt.Sprint(got.Notes); strings.Contains(text, "hush") {
		t.Errorf("the token is in what is printed: %s", text)
	}
}

func TestNames(t *testing.T) {
	for model, want := range map[string]string{
		"meta-llama/Llama-3.1-70B-Instruct": "llama-3-1-70b-instruct",
		"/models/_Qwen__3_":                 "qwen--3",
		strings.Repeat("x", 62) + "-y":      strings.Repeat("x", 62),
		"ü":                                 "dynamo",
	} {
		if got := convert(t, "model_name: "+model).Deployment.Name; got != want {
			t.Errorf("a deployment of %q is named %q, want %q", model, got, want)
		}
	}
	got, err := dynamo.Convert([]byte("model_name: x"), "chat")
	if err != nil || got.Deployment.Name != "chat" {
		t.Errorf("a deployment that is to be named chat is named %q: %v", got.Deployment.Name, err)
	}
	if _, err := dynamo.Convert(nil, "No Name"); err == nil || !strings.Contains(err.Error(), "lower-case") {
		t.Errorf("a name that none can have is taken: %v", err)
	}
}

// FuzzConvert wants every file refused with its problems, or converted into a
// deployment that our own decoder reads back, the same each time.
func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob("testdata/*.[yj]*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a: &a 5\nttft: *a\n<<: {mode: agg}\n"))
	f.Add([]byte("max_gpu_budget: 1e300\nmin_endpoint: -0\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := dynamo.Convert(data, "fuzzed")
		again, errAgain := dynamo.Convert(data, "fuzzed")
		if fmt.Sprint(err) != fmt.Sprint(errAgain) || !reflect.DeepEqual(got, again) {
			t.Fatalf("converted twice, it is %+v (%v) and %+v (%v)", got, err, again, errAgain)
		}
		if err == nil {
			decodes(t, &got.Deployment)
		} else if err.Error() == "" {
			t.Fatal("it is refused without a word")
		}
	})
}
