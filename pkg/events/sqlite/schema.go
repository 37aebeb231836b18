package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// applicationID marks the file as a Tidemark log: "Tide" in ASCII.
const applicationID = 0x54696465

// schema holds the steps from each version of the schema to the next, the first
// of them from an empty file. PRAGMA user_version says how many were made. A
// step that was released is never edited.
//
// The tables are STRICT, and payloads may be anything: whoever writes a row by
// hand cannot write one that a reader fails on. Position and ID are indexed;
// the rows themselves lie in the order in which they were appended.
var schema = [...]string{`
CREATE TABLE topics (
	topic_id INTEGER PRIMARY KEY,
	name     TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE messages (
	topic_id    INTEGER NOT NULL REFERENCES topics,
	position    INTEGER NOT NULL CHECK (position >= 0),
	id          TEXT,    -- unique in its topic: a second message with it is not appended
	key         TEXT,
	appended_us INTEGER, -- microseconds since 1970, UTC
	headers     TEXT,    -- a JSON object of strings
	payload     ANY,
	UNIQUE (topic_id, position),
	UNIQUE (topic_id, id)
) STRICT;

CREATE TABLE consumers (
	topic_id   INTEGER NOT NULL REFERENCES topics,
	group_name TEXT NOT NULL,
	position   INTEGER NOT NULL, -- of the next message
	epoch      INTEGER NOT NULL, -- counts the leases; an older one cannot commit
	holder     TEXT,
	held_until_us INTEGER NOT NULL,
	PRIMARY KEY (topic_id, group_name)
) STRICT;

CREATE VIEW log AS
SELECT name AS topic, position,
	strftime('%Y-%m-%dT%H:%M:%fZ', appended_us / 1e6, 'unixepoch') AS appended_at,
	key, iif(json_valid(headers), headers ->> 'ce_type', NULL) AS type, id,
	CAST(payload AS TEXT) AS data
FROM messages JOIN topics USING (topic_id);
`}

// migrate brings the file to this build's schema.
func migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it is an error by design
	var application, version, tables int
	for query, value := range map[string]*int{
		"PRAGMA application_id":              &application,
		"PRAGMA user_version":                &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := tx.QueryRowContext(ctx, query).Scan(value); err != nil {
			return err
		}
	}
	switch {
	case application != applicationID && (application != 0 || version != 0 || tables != 0):
		return fmt.Errorf("the file is another program's database; name a file of its own for the log")
	case version > len(schema):
		return fmt.Errorf("the log has schema version %d and this build knows versions up to %d; run a newer tidemark", version, len(schema))
	case version == len(schema):
		return nil
	}
	for _, step := range schema[version:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return fmt.Errorf("make schema version %d: %w", version+1, err)
		}
		version++
	}
	for _, pragma := range [...]string{
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", version),
	} {
		if _, err := tx.ExecContext(ctx, pragma); err != nil {
			return err
		}
	}
	return tx.Commit()
}
