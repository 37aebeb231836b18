package drivers_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

// A consumer of one's own: it joins as a group, so that its place in the log is
// kept, and is told of every decision once it is there, those of the past first.
func Example() {
	ctx, url := exampleLog()

	tidemark, err := drivers.OpenURL(ctx, url) // sqlite://tidemark.db, kafka://broker:9092
	if err != nil {
		log.Fatal(err)
	}
	defer tidemark.Close()
	subscriber, err := tidemark.Subscriber("my-alerts")
	if err != nil {
		log.Fatal(err)
	}
	defer subscriber.Close()
	decisions, err := subscriber.Subscribe(ctx, "tidemark.decisions")
	if err != nil {
		log.Fatal(err)
	}
	for msg := range decisions {
		if event, err := events.EventOf(msg); err == nil {
			if fact, err := event.Fact(); err == nil {
				if decision, ok := fact.(*model.ScalingDecision); ok && decision.Action != model.Hold {
					fmt.Println(decision.Deployment, decision.Action, decision.Reasons.Load)
				}
			}
		}
		msg.Ack()
		stopAfterExample(msg.UUID)
	}
	// Output: chat-70b scale_up scale_up
}

var stopAfterExample func(id string)

// exampleLog returns a log with two decisions, and a context that ends after the second.
func exampleLog() (context.Context, string) {
	dir, err := os.MkdirTemp("", "tidemark-example-")
	if err != nil {
		log.Fatal(err)
	}
	url := "sqlite://" + filepath.Join(dir, "tidemark.db")
	ctx, cancel := context.WithCancel(context.Background())
	filled, err := drivers.OpenURL(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer filled.Close()
	last := ""
	for i, action := range []model.Action{model.ScaleUp, model.Hold} {
		sealed, err := events.Seal(&model.ScalingDecision{
			Deployment: "chat-70b", ObservationID: fmt.Sprint(i), PlannerVersion: "1", ObservedAt: time.Date(2026, 11, 23, 20, 0, 5*i, 0, time.UTC),
			Action: action, Reasons: model.Reasons{Load: model.Reason(action)},
		}, events.About{Source: "/example"})
		if err != nil {
			log.Fatal(err)
		}
		if err := filled.Publisher().Publish("tidemark.decisions", sealed.Message()); err != nil {
			log.Fatal(err)
		}
		last = sealed.ID
	}
	stopAfterExample = func(id string) {
		if id == last {
			cancel()
			_ = os.RemoveAll(dir) // the temporary folder of an example
		}
	}
	return ctx, url
}
