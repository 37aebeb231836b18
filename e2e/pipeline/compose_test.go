//go:build e2e

package pipeline

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/kafka/kafkatest"
	"tidemark.dev/services/collector/prometheustest"
)

const composeDir = "../../deploy/compose"

// composeProject reads the compose file as docker compose config does: the same
// library checks it against the specification.
func composeProject(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(composeDir, "compose.yaml")}, cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestCompose checks the compose file, and that what it names is there.
func TestCompose(t *testing.T) {
	project := composeProject(t)
	for name, service := range project.Services {
		if build := service.Build; build != nil {
			if _, err := os.Stat(filepath.Join(build.Context, build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !volume.ReadOnly {
				t.Errorf("%s: %s can be written to", name, volume.Source)
			}
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is published to others than this machine", name, port.Published)
			}
		}
		if service.Image == "tidemark" && (!service.ReadOnly || len(service.CapDrop) == 0) {
			t.Errorf("%s may write to its image, or keeps capabilities", name)
		}
	}
	dockerfile, err := readFile(filepath.Join(composeDir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	last := dockerfile[strings.LastIndex(dockerfile, "\nFROM "):]
	if !strings.HasPrefix(last, "\nFROM scratch\n") || !strings.Contains(last, "\nUSER 65532:65532\n") || !strings.Contains(dockerfile, "CGO_ENABLED=0") {
		t.Error("the image is not static, from scratch and run by another than root")
	}
	for _, program := range []string{"./cmd/tidemark", "./services/collector/cmd/collector", "./services/decider/cmd/decider", "./services/actuator/cmd/actuator", "./services/reporter/cmd/reporter"} {
		if !strings.Contains(dockerfile, program) {
			t.Errorf("the image lacks %s", program)
		}
	}
}

// TestKafkaCompose runs what the compose file says without Docker: the same
// commands of the same programs on Apache Kafka, and a Prometheus that scrapes
// them by the same configuration.
func TestKafkaCompose(t *testing.T) {
	prometheustest.Require(t)
	project := composeProject(t)
	cluster := kafkatest.Start(t, kafkatest.Options{})
	var out, errs buffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the processes' logs end with\n%s", tail(errs.String(), 40))
		}
	})
	// here translates what is named in a container: hosts and mounted files.
	addresses := map[string]string{}
	here := func(service types.ServiceConfig, words []string) (translated []string) {
		for _, word := range words {
			for _, volume := range service.Volumes {
				word = strings.ReplaceAll(word, volume.Target, volume.Source)
			}
			translated = append(translated, word)
		}
		return translated
	}
	url := strings.ReplaceAll(*project.Services["topics"].Environment["TIDEMARK_LOG"], "kafka:9092", cluster.Brokers)
	for _, once := range []string{"topics", "deployments"} {
		service := project.Services[once]
		succeed(t, append(here(service, service.Command), "--log", url)...)
	}
	var running []*process
	for _, name := range []string{"collector", "decider", "actuator", "reporter"} {
		service := project.Services[name]
		if got := strings.ReplaceAll(*service.Environment["TIDEMARK_LOG"], "kafka:9092", cluster.Brokers); got != url {
			t.Errorf("%s works on %s, others on %s", name, got, url)
		}
		command := here(service, service.Command)
		if len(command) < 2 || command[0] != "--listen" {
			t.Fatalf("%s listens nowhere: %v", name, command)
		}
		_, port, _ := strings.Cut(command[1], ":")
		// start gives it an address of its own.
		p := start(t, &out, &errs, strings.TrimPrefix(service.Entrypoint[0], "/"), append(command[2:], "--log", url, "--log-level", "warn")...)
		addresses[name+":"+port] = p.address
		running = append(running, p)
	}
	for _, p := range running {
		p.ready(t)
	}
	configuration, err := readFile(filepath.Join(composeDir, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs("../../deploy/prometheus/tidemark.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	configuration = strings.NewReplacer("tidemark.rules.yml", rules, "scrape_interval: 5s", "scrape_interval: 1s").Replace(configuration)
	for there, address := range addresses {
		if !strings.Contains(configuration, there) {
			t.Errorf("Prometheus does not scrape %s", there)
		}
		configuration = strings.ReplaceAll(configuration, there, address)
	}
	prometheus := prometheustest.Start(t, t.TempDir(), configuration)
	for _, query := range []string{
		`sum(up{job="tidemark"}) == 4`,
		`sum(tidemark_collector_observations_total) > 0`,
		`sum(tidemark_decider_decisions_total) > 0`,
		`tidemark_actuator_subscribed == 0`,
		`sum(tidemark_events_publish_seconds_count{topic="tidemark.decisions"}) > 0`,
		`sum(tidemark_events_consumer_lag_messages{group="tidemark.decider", topic="tidemark.observations"}) >= 0`,
	} {
		until(t, query, func() bool { return answers(t.Context(), prometheus.URL, query) })
	}
	log := openLog(t, url)
	if got := end(t, log, events.TopicActuations); got != 0 {
		t.Errorf("%d actuations, and all is advisory", got)
	}
	for _, p := range running {
		p.stop(t)
	}
}

// answers reports whether a query has a result.
func answers(ctx context.Context, url, query string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/query", http.NoBody)
	if err != nil {
		return false
	}
	parameters := request.URL.Query()
	parameters.Set("query", query)
	request.URL.RawQuery = parameters.Encode()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	var answer struct {
		Data struct{ Result []any }
	}
	return json.NewDecoder(response.Body).Decode(&answer) == nil && len(answer.Data.Result) > 0
}
