// Package sqlite is the embedded log: one file that several processes share,
// without a daemon, and that anyone can open with sqlite3 (see the view log).
//
// What is published survives the death of the process at any moment. By default
// (synchronous=normal) the last moments before a power failure may be missing,
// without a gap; with synchronous=full nothing that Publish returned for is.
// The file must lie on a local file system: SQLite's write-ahead log does not
// work over a network.
package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver: SQLite in pure Go

	"tidemark.dev/pkg/events/internal/stream"
)

// Config names the file of a log.
type Config struct {
	Path string
	// Full makes each commit wait for the disk.
	Full bool
}

// ParseURL returns the configuration of a URL such as sqlite:///path/file.db,
// sqlite://relative/file.db or sqlite:///path/file.db?synchronous=full.
func ParseURL(text string) (Config, error) {
	rest, ok := strings.CutPrefix(text, "sqlite://")
	if !ok {
		return Config{}, errors.New("log URL: want sqlite:// and the path of a file")
	}
	// Not url.Parse: what stands in a relative path is no host.
	escaped, query, _ := strings.Cut(rest, "?")
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return Config{}, fmt.Errorf("log URL: the path %q is not escaped rightly: %w", escaped, err)
	}
	if path == "" || strings.HasSuffix(path, "/") || strings.HasPrefix(path, ":") {
		return Config{}, fmt.Errorf("log URL: %q names no file; want sqlite:///path/tidemark.db (or memory:// for a log that is not kept)", path)
	}
	// Clean, for some write an absolute path with four slashes.
	config := Config{Path: filepath.Clean(filepath.FromSlash(path))}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return Config{}, fmt.Errorf("log URL: its parameters cannot be read: %w", err)
	}
	for name, values := range parameters {
		value := values[len(values)-1]
		switch {
		case name == "synchronous" && value == "full":
			config.Full = true
		case name == "synchronous" && value == "normal":
		case name == "synchronous":
			return Config{}, fmt.Errorf("log URL: synchronous is %q, want normal or full", value)
		default:
			return Config{}, fmt.Errorf("log URL: there is no parameter %q; there is synchronous", name)
		}
	}
	return config, nil
}

// busyTimeout is how long a statement waits for another process's transaction.
const busyTimeout = 10 * time.Second

// readers is the number of connections that read at the same time. More
// readers than that take turns.
const readers = 8

// dsn returns the driver's name of the file. A write transaction takes the
// write lock when it begins: one that began by reading would fail where
// another process wrote meanwhile.
func (c Config) dsn(queryOnly bool) string {
	synchronous := "normal"
	if c.Full {
		synchronous = "full"
	}
	values := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
			"journal_mode(wal)",
			"synchronous(" + synchronous + ")",
		},
	}
	if queryOnly {
		values.Set("_txlock", "deferred")
		values.Add("_pragma", "query_only(true)")
	}
	return "file:" + (&url.URL{Path: filepath.ToSlash(c.Path)}).EscapedPath() + "?" + values.Encode()
}

// Open opens the log, and makes the file and its directories if there are none.
func Open(ctx context.Context, config Config, options stream.Options) (*stream.Log, error) {
	if err := os.MkdirAll(filepath.Dir(config.Path), 0o755); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	s, err := open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", config.Path, err)
	}
	return stream.New(s, options), nil
}

// store keeps a log in one file. One connection writes, so that goroutines
// queue in the process and not in the file system.
type store struct {
	writer, reader *sql.DB
	holder         string

	// watcher asks for the version of the file: it must be a connection that
	// does not change it.
	watcher *sql.Conn

	insert, last           *sql.Stmt
	acquire, hold          *sql.Stmt
	scan, scanKey          *sql.Stmt
	lastRead, ends, findAt *sql.Stmt
	version                *sql.Stmt

	mu     sync.RWMutex
	topics map[string]int64
}

func open(ctx context.Context, config Config) (*store, error) {
	writer, err := sql.Open("sqlite", config.dsn(false))
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	reader, err := sql.Open("sqlite", config.dsn(true))
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader.SetMaxOpenConns(readers + 1)
	reader.SetMaxIdleConns(readers + 1)
	s := &store{writer: writer, reader: reader, topics: map[string]int64{}}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	s.holder = fmt.Sprintf("%s:%d", host, os.Getpid())
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *store) prepare(ctx context.Context) error {
	if err := migrate(ctx, s.writer); err != nil {
		return err
	}
	watcher, err := s.reader.Conn(ctx)
	if err != nil {
		return err
	}
	s.watcher = watcher
	prepare := func(prepared **sql.Stmt, on interface {
		PrepareContext(context.Context, string) (*sql.Stmt, error)
	}, query string,
	) {
		if err == nil {
			*prepared, err = on.PrepareContext(ctx, query)
		}
	}
	const last = `SELECT position, coalesce(appended_us, 0) FROM messages WHERE topic_id = ? ORDER BY position DESC LIMIT 1`
	const columns = `SELECT position, id, key, appended_us, headers, payload FROM messages WHERE topic_id = ? AND position >= ? AND position < ?`
	prepare(&s.insert, s.writer, `INSERT INTO messages (topic_id, position, id, key, appended_us, headers, payload)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (topic_id, id) DO NOTHING`)
	prepare(&s.last, s.writer, last)
	prepare(&s.acquire, s.writer, `INSERT INTO consumers (topic_id, group_name, position, epoch, holder, held_until_us)
		VALUES (?1, ?2, 0, 1, ?3, ?4)
		ON CONFLICT DO UPDATE SET epoch = epoch + 1, holder = excluded.holder, held_until_us = excluded.held_until_us WHERE held_until_us <= ?5
		RETURNING position, epoch`)
	prepare(&s.hold, s.writer, `UPDATE consumers SET position = ?, holder = ?, held_until_us = ? WHERE topic_id = ? AND group_name = ? AND epoch = ?`)
	prepare(&s.scan, s.reader, columns+` ORDER BY position LIMIT ?`)
	prepare(&s.scanKey, s.reader, columns+` AND key = ? ORDER BY position LIMIT ?`)
	prepare(&s.lastRead, s.reader, last)
	prepare(&s.ends, s.reader, `SELECT name, (SELECT max(position) + 1 FROM messages WHERE messages.topic_id = topics.topic_id) FROM topics`)
	prepare(&s.findAt, s.reader, `SELECT position, appended_us FROM messages
		WHERE topic_id = ? AND position >= ? AND appended_us IS NOT NULL ORDER BY position LIMIT 1`)
	prepare(&s.version, watcher, `PRAGMA data_version`)
	return err
}

// topicID returns the number of a topic, and whether there is the topic.
func (s *store) topicID(ctx context.Context, name string) (int64, bool, error) {
	s.mu.RLock()
	id, known := s.topics[name]
	s.mu.RUnlock()
	if known {
		return id, true, nil
	}
	err := s.reader.QueryRowContext(ctx, `SELECT topic_id FROM topics WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	s.mu.Lock()
	s.topics[name] = id
	s.mu.Unlock()
	return id, true, nil
}

// makeTopic returns the number of a topic, which it makes if there is none.
func (s *store) makeTopic(ctx context.Context, name string) (int64, error) {
	if id, exists, err := s.topicID(ctx, name); exists || err != nil {
		return id, err
	}
	if _, err := s.writer.ExecContext(ctx, `INSERT INTO topics (name) VALUES (?) ON CONFLICT DO NOTHING`, name); err != nil {
		return 0, err
	}
	id, _, err := s.topicID(ctx, name)
	return id, err
}

// Append appends entries in one transaction.
func (s *store) Append(topic string, entries []stream.Entry) (int64, error) {
	ctx := context.Background()
	id, err := s.makeTopic(ctx, topic)
	if err != nil {
		return 0, err
	}
	headers := make([]string, len(entries))
	for i := range entries {
		encoded, err := json.Marshal(entries[i].Headers)
		if err != nil {
			return 0, fmt.Errorf("encode headers: %w", err)
		}
		headers[i] = string(encoded)
	}
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it is an error by design
	// The clock is read under the write lock, so that instants rise with positions.
	end, appended := int64(0), time.Now().UnixMicro()
	var newest int64
	switch err := tx.StmtContext(ctx, s.last).QueryRowContext(ctx, id).Scan(&end, &newest); {
	case err == nil:
		end++
		appended = max(appended, newest)
	case !errors.Is(err, sql.ErrNoRows):
		return 0, err
	}
	insert := tx.StmtContext(ctx, s.insert)
	for i, entry := range entries {
		result, err := insert.ExecContext(ctx, id, end, orNull(entry.ID), orNull(entry.Key), appended, headers[i], entry.Payload)
		if err != nil {
			return 0, err
		}
		inserted, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		end += inserted
	}
	return end, tx.Commit()
}

func orNull(text string) sql.NullString { return sql.NullString{String: text, Valid: text != ""} }

// BrokenHeaders is the header under which a message carries headers that are
// not a JSON object of strings, as they stand in the file.
const BrokenHeaders = "broken-headers"

// scanBytes ends a page of entries that are large: a page is held in memory.
const scanBytes = 4 << 20

// Scan returns entries of a range.
func (s *store) Scan(ctx context.Context, topic string, from, to int64, key string, limit int) ([]stream.Entry, error) {
	id, exists, err := s.topicID(ctx, topic)
	if err != nil || !exists {
		return nil, err
	}
	var rows *sql.Rows
	if key == "" {
		rows, err = s.scan.QueryContext(ctx, id, from, to, limit)
	} else {
		rows, err = s.scanKey.QueryContext(ctx, id, from, to, key, limit)
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []stream.Entry
	for held := 0; held < scanBytes && rows.Next(); {
		var entry stream.Entry
		var id, key sql.NullString
		var appended sql.NullInt64
		var headers sql.RawBytes
		if err := rows.Scan(&entry.Position, &id, &key, &appended, &headers, &entry.Payload); err != nil {
			return nil, err
		}
		entry.ID, entry.Key = id.String, key.String
		if appended.Valid {
			entry.AppendedAt = time.UnixMicro(appended.Int64).UTC()
		}
		if len(headers) > 0 {
			if entry.Headers, err = decodeHeaders(headers); err != nil {
				entry.Headers = map[string]string{BrokenHeaders: string(headers)}
			}
		}
		page, held = append(page, entry), held+len(entry.Payload)
	}
	return page, rows.Err()
}

// End returns the end of a topic.
func (s *store) End(ctx context.Context, topic string) (int64, bool, error) {
	id, exists, err := s.topicID(ctx, topic)
	if err != nil || !exists {
		return 0, false, err
	}
	var last, appended int64
	err = s.lastRead.QueryRowContext(ctx, id).Scan(&last, &appended)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, true, nil
	}
	return last + 1, true, err
}

// Ends returns the end of every topic.
func (s *store) Ends(ctx context.Context) (map[string]int64, error) {
	rows, err := s.ends.QueryContext(ctx)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ends := map[string]int64{}
	for rows.Next() {
		var topic string
		var end sql.NullInt64
		if err := rows.Scan(&topic, &end); err != nil {
			return nil, err
		}
		ends[topic] = end.Int64
	}
	return ends, rows.Err()
}

// Find returns the position of an instant, by bisection: the instants of a
// topic rise with its positions.
func (s *store) Find(ctx context.Context, topic string, at time.Time) (int64, error) {
	high, exists, err := s.End(ctx, topic)
	if err != nil || !exists {
		return 0, err
	}
	id, _, err := s.topicID(ctx, topic)
	if err != nil {
		return 0, err
	}
	// The entries before low are older; the one at high, or the first after it
	// that has an instant, is not.
	low, wanted := int64(0), at.UnixMicro()
	if at.After(time.UnixMicro(wanted)) {
		wanted++
	}
	for low < high {
		middle := low + (high-low)/2
		var position, appended int64
		err := s.findAt.QueryRowContext(ctx, id, middle).Scan(&position, &appended)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			high = middle
		case err != nil:
			return 0, err
		case appended >= wanted:
			high = middle
		default:
			low = position + 1
		}
	}
	return low, nil
}

// Position returns the position of a group.
func (s *store) Position(ctx context.Context, topic, group string) (int64, error) {
	id, exists, err := s.topicID(ctx, topic)
	if err != nil || !exists {
		return 0, err
	}
	var position int64
	err = s.reader.QueryRowContext(ctx, `SELECT position FROM consumers WHERE topic_id = ? AND group_name = ?`, id, group).Scan(&position)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return position, err
}

// Acquire takes a lease.
func (s *store) Acquire(ctx context.Context, topic, group string, ttl time.Duration) (stream.Lease, int64, bool, error) {
	none := stream.Lease{}
	id, err := s.makeTopic(ctx, topic)
	if err != nil {
		return none, 0, false, err
	}
	// Asking costs no write lock, which others need while this one waits.
	var until int64
	err = s.reader.QueryRowContext(ctx, `SELECT held_until_us FROM consumers WHERE topic_id = ? AND group_name = ?`, id, group).Scan(&until)
	now := time.Now()
	if err == nil && until > now.UnixMicro() {
		return none, 0, false, nil
	}
	lease := stream.Lease{Topic: topic, Group: group}
	var position int64
	err = s.acquire.QueryRowContext(ctx, id, group, s.holder, now.Add(ttl).UnixMicro(), now.UnixMicro()).Scan(&position, &lease.Epoch)
	if errors.Is(err, sql.ErrNoRows) {
		return none, 0, false, nil
	}
	return lease, position, err == nil, err
}

// Hold moves a group's position and renews its lease.
func (s *store) Hold(ctx context.Context, lease stream.Lease, position int64, ttl time.Duration) error {
	return s.move(ctx, lease, position, orNull(s.holder), time.Now().Add(ttl).UnixMicro())
}

// Release moves a group's position and ends its lease.
func (s *store) Release(ctx context.Context, lease stream.Lease, position int64) error {
	return s.move(ctx, lease, position, sql.NullString{}, 0)
}

func (s *store) move(ctx context.Context, lease stream.Lease, position int64, holder sql.NullString, until int64) error {
	id, _, err := s.topicID(ctx, lease.Topic)
	if err != nil {
		return err
	}
	result, err := s.hold.ExecContext(ctx, position, holder, until, id, lease.Group, lease.Epoch)
	if err != nil {
		return err
	}
	moved, err := result.RowsAffected()
	if err == nil && moved == 0 {
		return stream.ErrFenced
	}
	return err
}

// Version changes when any other connection, of this process or another,
// committed something.
func (s *store) Version() (int64, error) {
	var version int64
	// A context that can end would cost a goroutine for each of these calls.
	err := s.version.QueryRowContext(context.Background()).Scan(&version)
	return version, err
}

// Close closes the file. The last to do so folds the write-ahead log into it, and
// removes it.
func (s *store) Close() error {
	var err error
	// SQLite keeps a connection open for the statements that are left on it.
	for _, statement := range []*sql.Stmt{s.insert, s.last, s.acquire, s.hold, s.scan, s.scanKey, s.lastRead, s.ends, s.findAt, s.version} {
		if statement != nil {
			err = errors.Join(err, statement.Close())
		}
	}
	if s.watcher != nil {
		err = errors.Join(err, s.watcher.Close())
	}
	return errors.Join(err, s.reader.Close(), s.writer.Close())
}
