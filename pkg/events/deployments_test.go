package events_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
)

// configured returns the event of a revision, and retired that which ends a deployment.
func configured(t *testing.T, name string, revision, epoch int, by string) *message.Message {
	t.Helper()
	fact, ok := everyEvent()["deployment-configured/v1/advisory"].fact.(*model.DeploymentConfigured)
	if !ok {
		t.Fatal("the golden revision is gone")
	}
	fact.Deployment, fact.Spec.Name, fact.Revision, fact.Epoch, fact.ChangedBy = name, name, revision, epoch, by
	return sealedMessage(t, fact)
}

func retired(t *testing.T, name string, revision int) *message.Message {
	t.Helper()
	return sealedMessage(t, &model.DeploymentRetired{Deployment: name, Revision: revision, ChangedBy: "ops", Reason: "moved"})
}

func sealedMessage(t *testing.T, fact any) *message.Message {
	t.Helper()
	event, err := events.Seal(fact, events.About{Source: "/tidemark/control", Time: observedAt})
	if err != nil {
		t.Fatal(err)
	}
	return event.Message()
}

// asOthersMake gives a message an ID of its own, as it has on a log that keeps
// both of two claims to a revision.
func asOthersMake(msg *message.Message, id string) *message.Message {
	msg.Metadata["ce_id"] = id
	return msg
}

func names(all []*model.DeploymentConfigured) string {
	var list []string
	for _, d := range all {
		list = append(list, d.Deployment)
	}
	return strings.Join(list, " ")
}

func TestDeploymentTable(t *testing.T) {
	log, logs := openMemory(t), &written{}
	publish(t, log, events.TopicDeployments,
		configured(t, "chat-70b", 1, 0, "first"),
		configured(t, "chat-8b", 1, 0, "first"),
		message.NewMessage("", []byte("noise")),
		everyObservation(t),
		configured(t, "chat-70b", 2, 1, "first"),
		asOthersMake(configured(t, "chat-70b", 2, 7, "second"), "another claim to revision 2"),
		configured(t, "embed", 1, 0, "first"),
		retired(t, "embed", 2),
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	table := events.NewDeploymentTable(log, topics, slog.New(slog.NewTextHandler(logs, nil)))
	if err := table.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if got := names(table.All()); got != "chat-70b chat-8b" {
		t.Errorf("deployments are %s", got)
	}
	current, ok := table.Current("chat-70b")
	if !ok || current.Revision != 2 || current.ChangedBy != "first" {
		t.Errorf("current revision of chat-70b is %+v: the first claim to a revision stands", current)
	}
	if old, ok := table.Revision("chat-70b", 1); !ok || old.Revision != 1 {
		t.Errorf("revision 1 of chat-70b is %+v, %v", old, ok)
	}
	if _, ok := table.Current("embed"); ok {
		t.Error("a retired deployment is current")
	}
	if _, ok := table.Revision("embed", 1); !ok {
		t.Error("a retired deployment has lost its past")
	}
	for _, unknown := range []string{"embed", "chat-9b"} {
		if _, ok := table.Revision(unknown, 2); ok {
			t.Errorf("%s has a revision 2", unknown)
		}
	}
	for name, want := range map[string][2]int{"chat-70b": {3, 1}, "chat-8b": {2, 0}, "embed": {3, 0}, "chat-9b": {1, 0}} {
		if got := [2]int{table.NextRevision(name), table.LastEpoch(name)}; got != want {
			t.Errorf("next revision and last epoch of %s are %v, want %v", name, got, want)
		}
	}
	if table.Skipped() != 2 || strings.Count(logs.String(), "entry of the deployments is left out") != 2 {
		t.Errorf("%d entries were left out, want 2; the logs say\n%s", table.Skipped(), logs)
	}
}

func everyObservation(t *testing.T) *message.Message {
	t.Helper()
	event, err := events.Seal(everyEvent()["observation/v1/idle"].fact, events.About{Source: "/tidemark/collector"})
	if err != nil {
		t.Fatal(err)
	}
	return event.Message()
}

func TestDeploymentTableFollows(t *testing.T) {
	log := openMemory(t)
	table := events.NewDeploymentTable(log, topics, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := table.Start(ctx); err != nil {
		t.Fatal(err)
	}
	changed := table.Changed()
	select {
	case <-changed:
		t.Fatal("an empty table changed")
	default:
	}
	waited := make(chan error, 1)
	go func() {
		configured, err := table.WaitRevision(ctx, "chat-70b", 2)
		if err == nil && configured.Revision != 2 {
			err = errors.New("another revision was waited for")
		}
		waited <- err
	}()
	publish(t, log, events.TopicDeployments, configured(t, "chat-70b", 1, 0, "ops"))
	select {
	case <-changed:
	case <-ctx.Done():
		t.Fatal("the table did not change")
	}
	publish(t, log, events.TopicDeployments, configured(t, "chat-70b", 2, 0, "ops"))
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	publish(t, log, events.TopicDeployments, retired(t, "chat-70b", 3))
	if err := table.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	if _, ok := table.Current("chat-70b"); ok {
		t.Error("a table that has caught up does not know what was in the log before")
	}
	short, stop := context.WithCancel(ctx)
	stop()
	if _, err := table.WaitRevision(short, "chat-70b", 9); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a revision that does not come ends with %v", err)
	}
}

func TestDeploymentTableNeedsTheLog(t *testing.T) {
	log := openMemory(t)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	table := events.NewDeploymentTable(log, topics, slog.New(slog.DiscardHandler))
	if err := table.Start(t.Context()); err == nil {
		t.Error("a table without a log starts")
	}
}
