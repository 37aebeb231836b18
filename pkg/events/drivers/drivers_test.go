package drivers_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/events/eventstest"
)

func TestMain(m *testing.M) { eventstest.Main(m, drivers.OpenURL) }

func sqliteURL(t *testing.T) string {
	t.Helper()
	return "sqlite://" + filepath.Join(t.TempDir(), "made on opening", "log.db")
}

func TestMemoryLog(t *testing.T) {
	eventstest.RunLogSuite(t, eventstest.Driver{
		URL:  func(*testing.T) string { return "memory://" },
		Open: drivers.OpenURL, Idempotent: true,
	})
}

func TestSQLiteLog(t *testing.T) {
	eventstest.RunLogSuite(t, eventstest.Driver{
		URL: sqliteURL, Open: drivers.OpenURL, Kept: true, Idempotent: true,
		Break: breakRows,
	})
}

// breakRows writes rows as somebody might who has the file open in sqlite3.
func breakRows(t *testing.T, url, topic string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+url[len("sqlite://"):]+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, row := range [eventstest.BrokenEntries]string{
		`NULL, NULL, NULL, NULL, NULL`,
		`'broken-1', 'chat-70b', 0, '{"ce_specversion": 1.0, "ce_id"', 'text where bytes belong'`,
		`'broken-2', NULL, 9e15, '[1, 2]', 3.5`,
	} {
		_, err := db.ExecContext(t.Context(), `INSERT INTO messages (topic_id, position, id, key, appended_us, headers, payload)
			SELECT topic_id, (SELECT max(position) + 1 FROM messages WHERE topic_id = topics.topic_id), `+row+`
			FROM topics WHERE name = ?`, topic)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// watermillOptions are for a suite that ends with messages in many hands and
// sends thousands back: none of its figures depends on the pauses.
var watermillOptions = drivers.Options{CloseGrace: 20 * time.Millisecond, NackPause: time.Millisecond}

func TestMemoryPubSub(t *testing.T) {
	runPubSub(t, "memory://")
}

func TestSQLitePubSub(t *testing.T) {
	runPubSub(t, sqliteURL(t))
}

func runPubSub(t *testing.T, url string) {
	t.Helper()
	if os.Getenv("STRESS_TEST_COUNT") == "" {
		// Watermill's suite, so many times at once. Its own default is 10.
		t.Setenv("STRESS_TEST_COUNT", "3")
	}
	log, err := drivers.Open(context.Background(), url, watermillOptions)
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

func TestOpenRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"":                                  "it has no scheme",
		"tidemark.db":                       "it has no scheme",
		"kafka://user:hunter2@broker:9092":  "it holds a user or a password",
		"postgres://user:hunter2@db/events": "there is no driver for postgres://",
		"memory://name":                     "a log in memory has no name",
		"sqlite://?password=hunter2":        "names no file",
	} {
		log, err := drivers.OpenURL(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", url, err, want)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error repeats a secret: %v", url, err)
		}
		if log != nil {
			t.Errorf("%s: there is a log", url)
		}
	}
}
