package reporter

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/services/reporter/internal/metrics"
	"tidemark.dev/services/reporter/internal/reporttest"
	"tidemark.dev/services/reporter/internal/web"
)

// BenchmarkLoad reads a day of 5 s ticks of one deployment from an embedded log:
// what a reporter does when it starts.
func BenchmarkLoad(b *testing.B) {
	log, err := drivers.OpenURL(b.Context(), "sqlite://"+filepath.Join(b.TempDir(), "tidemark.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	day := reporttest.Day{Name: "chat-70b", Seed: 1, Ticks: reporttest.TicksOfDay, Step: 5 * time.Second, ActiveAt: reporttest.Midnight.Add(12 * time.Hour)}
	byTopic := map[string][]*message.Message{}
	published := 0
	for _, f := range day.Generate() {
		event, err := events.Seal(f.Fact, events.About{Source: "/tidemark/recorded", Time: reporttest.Midnight})
		if err != nil {
			b.Fatal(err)
		}
		topic, err := events.TopicOf(event)
		if err != nil {
			b.Fatal(err)
		}
		byTopic[topic] = append(byTopic[topic], event.Message())
		published++
	}
	for topic, messages := range byTopic {
		if err := log.Publisher().Publish(topics.Name(topic), messages...); err != nil {
			b.Fatal(err)
		}
	}
	deployments := events.NewDeploymentTable(log, topics, quiet)
	if err := deployments.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := &Reporter{config: DefaultConfig(), log: log, topics: topics, logger: quiet, now: time.Now, metrics: metrics.New(), live: web.NewLive(24 * time.Hour), deployments: deployments}
		if _, err := r.load(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(published)/b.Elapsed().Seconds(), "events/s")
}
