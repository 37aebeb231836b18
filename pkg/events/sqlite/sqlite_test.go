package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/internal/stream"
	"tidemark.dev/pkg/events/sqlite"
)

func TestParseURL(t *testing.T) {
	for _, test := range []struct {
		url  string
		want sqlite.Config
		err  string
	}{
		{"sqlite:///var/lib/tidemark/tidemark.db", sqlite.Config{Path: "/var/lib/tidemark/tidemark.db"}, ""},
		{"sqlite:////var/lib//tidemark.db", sqlite.Config{Path: "/var/lib/tidemark.db"}, ""},
		{"sqlite://tidemark.db", sqlite.Config{Path: "tidemark.db"}, ""},
		{"sqlite://my logs/of%20today%3F.db?synchronous=full", sqlite.Config{Path: "my logs/of today?.db", Full: true}, ""},
		{"sqlite://a.db?synchronous=normal", sqlite.Config{Path: "a.db"}, ""},
		{"sqlite://", sqlite.Config{}, "names no file"},
		{"sqlite:///", sqlite.Config{}, "names no file"},
		{"sqlite://logs/", sqlite.Config{}, "names no file"},
		{"sqlite://:memory:", sqlite.Config{}, "names no file"},
		{"sqlite://a%zz.db", sqlite.Config{}, "not escaped rightly"},
		{"sqlite://a.db?synchronous=off", sqlite.Config{}, `synchronous is "off", want normal or full`},
		{"sqlite://a.db?mode=ro", sqlite.Config{}, `there is no parameter "mode"`},
		{"memory://", sqlite.Config{}, "want sqlite://"},
	} {
		config, err := sqlite.ParseURL(test.url)
		if config != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s is %+v (%v), want %+v (%s)", test.url, config, err, test.want, test.err)
		}
	}
}

func open(t testing.TB, path string) *stream.Log {
	t.Helper()
	log, err := sqlite.Open(context.Background(), sqlite.Config{Path: path}, stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

func execute(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, path, want string) {
	t.Helper()
	_, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}, stream.Options{})
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error is %v, want one line that names the file and says %q", err, want)
	}
}

func TestFilesThatAreNoLogsAreRefused(t *testing.T) {
	dir := t.TempDir()

	newer := filepath.Join(dir, "newer.db")
	if err := open(t, newer).Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, newer, "PRAGMA user_version = 99")
	refused(t, newer, "schema version 99 and this build knows versions up to 1")

	others := filepath.Join(dir, "others.db")
	execute(t, others, "CREATE TABLE orders (id INTEGER)")
	refused(t, others, "another program's database")

	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("deployments:\n", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, text, "not a database")

	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "file", "log.db")}, stream.Options{})
	if err == nil || !strings.Contains(err.Error(), "open log") {
		t.Errorf("a directory that cannot be made gives %v", err)
	}
}

// TestOpenedByManyAtOnce opens a file that is not there yet: one makes it, and
// the others wait.
func TestOpenedByManyAtOnce(t *testing.T) {
	for round := range 5 {
		path := filepath.Join(t.TempDir(), "log.db")
		var opening sync.WaitGroup
		for n := range 10 {
			opening.Go(func() {
				log, err := sqlite.Open(context.Background(), sqlite.Config{Path: path}, stream.Options{})
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				defer log.Close()
				if err := log.Publisher().Publish("tidemark.trial", message.NewMessage(strconv.Itoa(n), nil)); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		opening.Wait()
		if ends, err := open(t, path).Ends(t.Context(), "tidemark.trial"); err != nil || ends[0] != 10 {
			t.Errorf("round %d: the topic ends at %v (%v), want 10", round, ends, err)
		}
	}
}

func TestFileNamesThatLookLikeParameters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "50% of it? #1 & more.db")
	if err := open(t, path).Publisher().Publish("tidemark.trial", message.NewMessage("1", nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// TestTheFileCanBeRead looks at a log as a person with sqlite3 does.
func TestTheFileCanBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	log := open(t, path)
	event := events.Event{ID: "A1", Type: "dev.tidemark.trial.v1", Source: "/trial", PartitionKey: "chat-70b", Data: []byte(`{"n":1}`)}
	broken := message.NewMessage("A2", []byte{0xff})
	if err := log.Publisher().Publish("tidemark.trial", event.Message(), broken); err != nil {
		t.Fatal(err)
	}
	execute(t, path, `UPDATE messages SET headers = '{"ce_type"' WHERE id = 'A2'`)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT topic, position, appended_at, coalesce(key, '-'), coalesce(type, '-'), id, data FROM log ORDER BY position`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var topic, appended, key, kind, id, data string
		var position int
		if err := rows.Scan(&topic, &position, &appended, &key, &kind, &id, &data); err != nil {
			t.Fatal(err)
		}
		if at, err := time.Parse(time.RFC3339, appended); err != nil || time.Since(at) > time.Minute {
			t.Errorf("appended_at is %s", appended)
		}
		lines = append(lines, fmt.Sprintf("%s %d %s %s %s %q", topic, position, key, kind, id, data))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(lines, "\n"), "tidemark.trial 0 chat-70b dev.tidemark.trial.v1 A1 \"{\\\"n\\\":1}\"\ntidemark.trial 1 - - A2 \"\\xff\""; got != want {
		t.Errorf("the view log shows\n%s\nwant\n%s", got, want)
	}
}

func TestBrokenHeadersAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	log := open(t, path)
	if err := log.Publisher().Publish("tidemark.trial", message.NewMessage("A1", []byte("payload"))); err != nil {
		t.Fatal(err)
	}
	execute(t, path, `UPDATE messages SET headers = '{"ce_id": 7}'`)
	for record, err := range log.Read(t.Context(), "tidemark.trial", events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		if record.Headers[sqlite.BrokenHeaders] != `{"ce_id": 7}` || string(record.Payload) != "payload" {
			t.Errorf("record is %v with %q", record.Headers, record.Payload)
		}
	}
}

// TestInstantsRiseWithPositions sets the clock back: what was appended last is
// in the future, and what follows is not appended before it.
func TestInstantsRiseWithPositions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	log := open(t, path)
	publisher := log.Publisher()
	if err := publisher.Publish("tidemark.trial", message.NewMessage("A1", nil), message.NewMessage("A2", nil)); err != nil {
		t.Fatal(err)
	}
	ahead := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	execute(t, path, fmt.Sprintf(`UPDATE messages SET appended_us = %d WHERE id = 'A2'`, ahead.UnixMicro()))
	if err := publisher.Publish("tidemark.trial", message.NewMessage("A3", nil)); err != nil {
		t.Fatal(err)
	}
	found := 0
	for record, err := range log.Read(t.Context(), "tidemark.trial", events.Range{From: events.Bound{Time: ahead}}) {
		if err != nil {
			t.Fatal(err)
		}
		if !record.AppendedAt.Equal(ahead) {
			t.Errorf("position %d was appended at %v, want %v", record.Position, record.AppendedAt, ahead)
		}
		found++
	}
	if found != 2 {
		t.Errorf("%d records were appended then or later, want 2", found)
	}
}

// TestOneFile: a log that nobody has open is one file, whoever closed it last.
func TestOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tidemark.db")
	first, second := open(t, path), open(t, path)
	for n := range 300 {
		if err := first.Publisher().Publish("topic", message.NewMessage(strconv.Itoa(n), []byte("payload"))); err != nil {
			t.Fatal(err)
		}
	}
	for _, log := range []*stream.Log{second, first} {
		// A reader that stops half way, and one that follows.
		for _, err := range log.Read(t.Context(), "topic", events.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		for _, err := range log.Follow(t.Context(), "topic", events.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 1 {
		t.Errorf("files are %q (%v), want the log's own", files, err)
	}
}
