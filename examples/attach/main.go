// Command attach is a consumer of decisions: it prints the changes that
// Tidemark wants, as they are decided. Started again, it goes on where it was.
//
//	go run . kafka://broker:9092
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := attach(ctx, os.Args[len(os.Args)-1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "attach:", err)
		os.Exit(1)
	}
}

func attach(ctx context.Context, url string, out io.Writer) error {
	log, err := drivers.OpenURL(ctx, url)
	if err != nil {
		return err
	}
	defer log.Close()
	subscriber, err := log.Subscriber("attach") // the group whose position the log keeps
	if err != nil {
		return err
	}
	decisions, err := subscriber.Subscribe(ctx, "tidemark.decisions")
	if err != nil {
		return err
	}
	for msg := range decisions { // ends with the context
		event, err := events.EventOf(msg)
		var fact any
		if err == nil {
			fact, err = event.Fact()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "attach: passed over:", err) // what cannot be read must not hold up the rest
		}
		if d, ok := fact.(*model.ScalingDecision); ok && d.Action != model.Hold {
			fmt.Fprintf(out, "%s %s %s (%s)\n", d.ObservedAt.Format("15:04:05"), d.Deployment, d.Action, d.Mode)
		}
		msg.Ack() // only now is it handled; after a crash it would come again
	}
	return subscriber.Close()
}
