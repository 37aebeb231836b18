package drivers_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

// places are the logs that are measured.
var places = []struct {
	name string
	url  func(b *testing.B) string
}{
	{"memory", func(*testing.B) string { return "memory://" }},
	{"sqlite", func(b *testing.B) string { return "sqlite://" + filepath.Join(b.TempDir(), "log.db") }},
	{"sqlite-full", func(b *testing.B) string {
		return "sqlite://" + filepath.Join(b.TempDir(), "log.db") + "?synchronous=full"
	}},
}

func open(b *testing.B, url string) events.Log {
	b.Helper()
	log, err := drivers.OpenURL(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := log.Close(); err != nil {
			b.Error(err)
		}
	})
	return log
}

// observationEvents returns n observations of a deployment, 5 s apart.
func observationEvents(b *testing.B, n, offset int) []*message.Message {
	b.Helper()
	messages := make([]*message.Message, n)
	for i := range messages {
		observation := &model.Observation{
			Deployment: "chat-70b", ConfigRevision: 3,
			ObservedAt: time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC).Add(5 * time.Second * time.Duration(offset+i)),
			Loops:      model.Loops{Load: true},
			Fleet:      &model.FleetObservation{Status: model.Measured, AgeS: new(0.4)},
			Engines:    &model.EnginesObservation{Status: model.Measured, AgeS: new(0.4)},
		}
		for _, role := range []model.Role{model.Prefill, model.Decode} {
			observation.Fleet.Roles.Set(role, model.RoleReplicas{Ready: 2, Desired: 2})
			for worker := range 2 {
				observation.Engines.Samples = append(observation.Engines.Samples, model.EngineSample{
					Role: role, Worker: "w-" + strconv.Itoa(worker), AgeS: new(611.0), WallTimeS: new(0.084),
					Scheduled: model.EngineLoad{PrefillRequests: new(2), PrefillTokens: new(4096)},
					Queued:    model.EngineLoad{PrefillRequests: new(1), PrefillTokens: new(2048)},
				})
			}
		}
		event, err := events.Seal(observation, events.About{Source: "/tidemark/collector"})
		if err != nil {
			b.Fatal(err)
		}
		messages[i] = event.Message()
	}
	return messages
}

func BenchmarkPublish(b *testing.B) {
	for _, place := range places {
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/batch=%d", place.name, batch), func(b *testing.B) {
				log := open(b, place.url(b))
				publisher, messages, published := log.Publisher(), observationEvents(b, batch, 0), 0
				b.ReportAllocs()
				for b.Loop() {
					for _, msg := range messages {
						msg.Metadata["ce_id"] = events.DecisionID("chat-70b", strconv.Itoa(published), "1")
						published++
					}
					if err := publisher.Publish("tidemark.observations", messages...); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(published)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

// filled returns a log with n observations.
func filled(b *testing.B, url string, n int) events.Log {
	b.Helper()
	log := open(b, url)
	for offset := 0; offset < n; offset += 1000 {
		if err := log.Publisher().Publish("tidemark.observations", observationEvents(b, min(1000, n-offset), offset)...); err != nil {
			b.Fatal(err)
		}
	}
	return log
}

const fill = 20000

func BenchmarkReplay(b *testing.B) {
	for _, place := range places[:2] {
		b.Run(place.name, func(b *testing.B) {
			log := filled(b, place.url(b), fill)
			b.ReportAllocs()
			read := 0
			for b.Loop() {
				for _, err := range log.Read(b.Context(), "tidemark.observations", events.Range{}) {
					if err != nil {
						b.Fatal(err)
					}
					read++
				}
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func BenchmarkSubscribe(b *testing.B) {
	for _, place := range places[:2] {
		b.Run(place.name, func(b *testing.B) {
			log := filled(b, place.url(b), fill)
			b.ReportAllocs()
			read := 0
			for b.Loop() {
				subscriber, err := log.Subscriber("reader-" + strconv.Itoa(read))
				if err != nil {
					b.Fatal(err)
				}
				messages, err := subscriber.Subscribe(context.Background(), "tidemark.observations")
				if err != nil {
					b.Fatal(err)
				}
				for range fill {
					(<-messages).Ack()
					read++
				}
				if err := subscriber.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
