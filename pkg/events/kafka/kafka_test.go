package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/eventstest"
	"tidemark.dev/pkg/events/kafka"
	"tidemark.dev/pkg/events/kafka/kafkatest"
)

func TestMain(m *testing.M) { eventstest.Main(m, open, startBroker) }

// startBroker starts Apache Kafka for all tests, where there are its jars.
func startBroker() (done func(), err error) {
	libs := os.Getenv(kafkatest.LibsVariable)
	if libs == "" || os.Getenv(brokersVariable) != "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "tidemark-kafka-")
	if err != nil {
		return nil, err
	}
	cluster, stop, err := kafkatest.Run(libs, dir, kafkatest.Options{})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return func() {
		stop()
		_ = os.RemoveAll(dir) // a folder of the system's for such
	}, os.Setenv(brokersVariable, cluster.Brokers)
}

func open(ctx context.Context, url string) (events.Log, error) {
	return openWith(ctx, url, kafka.Options{})
}

// openWith opens a log whose warnings are seen with -v.
func openWith(ctx context.Context, url string, options kafka.Options) (events.Log, error) {
	config, err := kafka.ParseURL(url)
	if err != nil {
		return nil, err
	}
	if options.Logger == nil && slices.Contains(os.Args, "-test.v=true") {
		options.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	log, err := kafka.Open(ctx, config, options)
	if err != nil {
		return nil, err
	}
	return log, nil
}

// brokersVariable names the cluster of the tests: host:port,host:port. Without
// it they run on a broker within the test's process, which speaks the protocol
// and is not Apache Kafka.
const brokersVariable = "KAFKA_BROKERS"

// cluster returns the brokers to test on.
func cluster(t testing.TB) string {
	t.Helper()
	if brokers := os.Getenv(brokersVariable); brokers != "" {
		return brokers
	}
	return fake(t)
}

// fake returns the broker within the process.
func fake(t testing.TB, options ...kfake.Opt) string {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return strings.Join(c.ListenAddrs(), ",")
}

func TestKafkaLog(t *testing.T) {
	eventstest.RunLogSuite(t, eventstest.Driver{
		URL:  func(t *testing.T) string { return "kafka://" + cluster(t) + "?create=true&partitions=1" },
		Open: open, Kept: true, Break: breakRecords,
	})
}

// breakRecords publishes what no producer of events does.
func breakRecords(t *testing.T, url, topic string) {
	t.Helper()
	config, err := kafka.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	settings := sarama.NewConfig()
	settings.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer(config.Brokers, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	header := func(name, value string) sarama.RecordHeader {
		return sarama.RecordHeader{Key: []byte(name), Value: []byte(value)}
	}
	for _, record := range [eventstest.BrokenEntries]*sarama.ProducerMessage{
		{Topic: topic},
		{Topic: topic, Key: sarama.ByteEncoder{0xff, 0xfe}, Value: sarama.ByteEncoder{0, 1, 2}, Headers: []sarama.RecordHeader{
			header("ce_specversion", "1.0"), header("ce_specversion", "9"), header("\xff", "\xfe"), header("", ""),
		}},
		{Topic: topic, Value: sarama.StringEncoder(`{"specversion": "1.0", "id`), Headers: []sarama.RecordHeader{
			header("content-type", "application/cloudevents+json; charset=utf-8"),
		}},
	} {
		if _, _, err := producer.SendMessage(record); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKafkaPubSub runs Watermill's own suite.
func TestKafkaPubSub(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute")
	}
	if os.Getenv("STRESS_TEST_COUNT") == "" {
		t.Setenv("STRESS_TEST_COUNT", "1")
	}
	log, err := openWith(context.Background(), "kafka://"+cluster(t)+"?create=true&partitions=1",
		kafka.Options{CloseGrace: 20 * time.Millisecond, NackPause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	eventstest.RunPubSubSuite(t, log)
}
