// Package drivers opens an event log by its URL, with whichever driver the
// scheme names. It is the one place that knows all of them.
package drivers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/archive"
	"tidemark.dev/pkg/events/internal/stream"
	"tidemark.dev/pkg/events/kafka"
	"tidemark.dev/pkg/events/memory"
	"tidemark.dev/pkg/events/sqlite"
)

// Options tune a log. The zero Options are the defaults.
type Options = stream.Options

// Open opens the log that a URL names:
//
//	sqlite:///var/lib/tidemark/tidemark.db   a file, made if it is not there
//	sqlite://tidemark.db?synchronous=full    a file in the working directory; each commit waits for the disk
//	memory://                                a log of this process, empty, and gone with it
//	kafka://broker-1:9092,broker-2:9092      a Kafka cluster; package kafka has the parameters
//	archive://day.jsonl                      a file of tidemark tail -o json, which is only read
//
// Errors do not repeat the URL, in which somebody may have written a secret.
func Open(ctx context.Context, url string, options Options) (events.Log, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return nil, errors.New("log URL: it has no scheme; want sqlite:///path/tidemark.db, memory:// or kafka://host:port")
	}
	switch scheme {
	case "sqlite":
		config, err := sqlite.ParseURL(url)
		if err != nil {
			return nil, err
		}
		return opened(sqlite.Open(ctx, config, options))
	case "archive":
		if rest == "" {
			return nil, errors.New("log URL: it names no file; want archive:///path/day.jsonl")
		}
		log, err := archive.Open(filepath.FromSlash(rest))
		if err != nil {
			return nil, err
		}
		return log, nil
	case "memory":
		if rest != "" {
			return nil, errors.New("log URL: a log in memory has no name; want memory://")
		}
		return memory.Open(options), nil
	case "kafka":
		config, err := kafka.ParseURL(url)
		if err != nil {
			return nil, err
		}
		log, err := kafka.Open(ctx, config, options)
		if err != nil {
			return nil, err
		}
		return log, nil
	}
	return nil, fmt.Errorf("log URL: there is no driver for %s://; want sqlite:///path/tidemark.db, memory:// or kafka://host:port", scheme)
}

// opened keeps a nil pointer from becoming a log that is not nil.
func opened(log *stream.Log, err error) (events.Log, error) {
	if err != nil {
		return nil, err
	}
	return log, nil
}

// OpenURL opens the log that a URL names with the default options.
func OpenURL(ctx context.Context, url string) (events.Log, error) {
	return Open(ctx, url, Options{})
}
