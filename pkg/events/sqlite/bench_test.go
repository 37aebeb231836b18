package sqlite_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
)

// BenchmarkUniqueID measures what it costs that IDs are unique: inserts into a
// table like that of messages, with and without the index that makes them so.
// IDs are in no order, as those of events are.
func BenchmarkUniqueID(b *testing.B) {
	payload := make([]byte, 1000)
	for _, table := range []struct{ name, unique, conflict string }{
		{"plain", "", ""},
		{"unique", ", UNIQUE (topic_id, id)", "ON CONFLICT (topic_id, id) DO NOTHING"},
	} {
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/batch=%d", table.name, batch), func(b *testing.B) {
				db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "log.db")+
					"?_txlock=immediate&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
				if err != nil {
					b.Fatal(err)
				}
				defer db.Close()
				db.SetMaxOpenConns(1)
				if _, err := db.ExecContext(b.Context(), `CREATE TABLE messages (topic_id INTEGER NOT NULL, position INTEGER NOT NULL,
					id TEXT, payload ANY, UNIQUE (topic_id, position)`+table.unique+`) STRICT`); err != nil {
					b.Fatal(err)
				}
				insert, err := db.PrepareContext(b.Context(), `INSERT INTO messages VALUES (1, ?, ?, ?) `+table.conflict)
				if err != nil {
					b.Fatal(err)
				}
				position := 0
				for b.Loop() {
					tx, err := db.BeginTx(b.Context(), nil)
					if err != nil {
						b.Fatal(err)
					}
					for range batch {
						sum := sha256.Sum256([]byte(strconv.Itoa(position)))
						if _, err := tx.StmtContext(b.Context(), insert).ExecContext(b.Context(), position, hex.EncodeToString(sum[:16]), payload); err != nil {
							b.Fatal(err)
						}
						position++
					}
					if err := tx.Commit(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(position)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}
