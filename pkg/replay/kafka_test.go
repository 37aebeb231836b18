package replay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/replay"
	"tidemark.dev/pkg/replay/replaytest"
)

// TestKafka replays a log of several partitions, between which deployments are
// spread. The broker is one within this process; that it answers as Apache Kafka
// does is held by the tests of the driver.
func TestKafka(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	log, err := drivers.OpenURL(t.Context(), "kafka://"+strings.Join(cluster.ListenAddrs(), ",")+"?create=true&partitions=6")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	const each = 24
	names := []string{"chat", "embed", "rank", "code"}
	for _, name := range names {
		if err := replaytest.Write(log, topics, replaytest.Life{Deployment: name, Duration: each * 5 * time.Second, ActiveFrom: time.Minute}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		options replay.Options
		same    int
	}{
		"whole":          {replay.Options{}, len(names) * each},
		"one deployment": {replay.Options{Deployments: []string{"rank"}}, each},
	} {
		result := verify(t, log, test.options)
		want(t, result)
		if sum := result.Totals(); sum.Same != test.same || sum.Decisions != test.same || len(result.Lacks) > 0 {
			t.Errorf("%s: want %d decisions, all the same: %+v, lacks %v", name, test.same, sum, result.Lacks)
		}
	}
	story, err := replay.Tell(t.Context(), log, topics, "code")
	if err != nil || story.Observation == nil || story.Configured == nil || !story.Previous.Linked {
		t.Errorf("story is %+v (%v)", story, err)
	}
}
