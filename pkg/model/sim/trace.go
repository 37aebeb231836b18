package sim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers of the trace formats that have one.
const (
	azureHeader = "TIMESTAMP,ContextTokens,GeneratedTokens"
	plainHeader = "t_ms,isl,osl"
)

// LoadTrace reads a trace of one of the formats that LoadAzure, LoadMooncake
// and LoadPlain read; the first line tells which. The name stands in errors.
//
// Like those, it reads the trace whole before it returns the requests, in the
// order of their arrival, and refuses it whole for one broken line: the error
// names the line, what is wrong with it and what is wanted.
func LoadTrace(r io.Reader, name string) ([]Request, error) {
	lines := newLines(r, name)
	first, ok := lines.next()
	switch {
	case lines.err != nil:
		return nil, lines.err
	case !ok:
		return nil, lines.none()
	case first == azureHeader:
		return loadAzure(lines)
	case first == plainHeader:
		return loadPlain(lines)
	case strings.HasPrefix(first, "{"):
		lines.again = true
		return loadMooncake(lines)
	}
	return nil, lines.fail("is %q, want the header %q or %q, or a JSON object", abridged(first), azureHeader, plainHeader)
}

// LoadAzure reads a trace of the AzurePublicDataset's LLM inference traces: CSV
// with the header TIMESTAMP,ContextTokens,GeneratedTokens. The first request
// arrives at the origin.
func LoadAzure(r io.Reader, name string) ([]Request, error) {
	lines := newLines(r, name)
	if err := lines.header(azureHeader); err != nil {
		return nil, err
	}
	return loadAzure(lines)
}

// LoadPlain reads CSV with the header t_ms,isl,osl: milliseconds since the
// origin, which may have decimals, and lengths in tokens.
func LoadPlain(r io.Reader, name string) ([]Request, error) {
	lines := newLines(r, name)
	if err := lines.header(plainHeader); err != nil {
		return nil, err
	}
	return loadPlain(lines)
}

// LoadMooncake reads a Mooncake trace: JSON lines with timestamp (milliseconds
// since the origin), input_length and output_length; other fields are passed
// over. Those traces round timestamps to slots of 3 s: requests of one
// timestamp are spread over the 3 s after it, or up to the next timestamp if
// that is nearer, at random instants that are the same each time.
func LoadMooncake(r io.Reader, name string) ([]Request, error) {
	return loadMooncake(newLines(r, name))
}

func loadAzure(lines *lines) ([]Request, error) {
	var origin time.Time
	return loadCSV(lines, azureHeader, func(field string) (time.Duration, error) {
		at, err := azureTime(field)
		if err != nil {
			return 0, fmt.Errorf("TIMESTAMP is %q, want a time like 2023-11-16 18:15:46.6805900", abridged(field))
		}
		if origin.IsZero() {
			origin = at
		}
		return at.Sub(origin), nil
	})
}

// azureTime reads a timestamp of the traces of 2023, UTC implied, or of those
// of 2024, which name the zone.
func azureTime(field string) (time.Time, error) {
	at, err := time.Parse("2006-01-02 15:04:05", field)
	if err != nil {
		return time.Parse("2006-01-02 15:04:05Z07:00", field)
	}
	return at, nil
}

func loadPlain(lines *lines) ([]Request, error) {
	return loadCSV(lines, plainHeader, func(field string) (time.Duration, error) {
		ms, err := strconv.ParseFloat(field, 64)
		if err != nil || !validMs(ms) {
			return 0, fmt.Errorf("t_ms is %q, want milliseconds since the origin", abridged(field))
		}
		return fromMs(ms), nil
	})
}

// loadCSV reads the lines after a header of three columns: an instant, which
// at reads, and two lengths.
func loadCSV(lines *lines, header string, at func(field string) (time.Duration, error)) ([]Request, error) {
	columns := strings.Split(header, ",")
	var loaded []Request
	for {
		line, ok := lines.next()
		if !ok {
			return lines.done(loaded)
		}
		fields := strings.Split(line, ",")
		if len(fields) != len(columns) {
			return nil, lines.fail("has %d fields, want %d: %s", len(fields), len(columns), header)
		}
		var r Request
		var err error
		if r.At, err = at(strings.TrimSpace(fields[0])); err != nil {
			return nil, lines.fail("%w", err)
		}
		for i, length := range [...]*int{&r.ISL, &r.OSL} {
			field := strings.TrimSpace(fields[i+1])
			if *length, err = strconv.Atoi(field); err != nil || !validLength(*length) {
				return nil, lines.fail("%s is %q, want %s", columns[i+1], abridged(field), wantLength)
			}
		}
		if err := lines.inOrder(loaded, r); err != nil {
			return nil, err
		}
		loaded = append(loaded, r)
	}
}

const mooncakeSlot = 3 * time.Second

func loadMooncake(lines *lines) ([]Request, error) {
	var loaded []Request
	for {
		line, ok := lines.next()
		if !ok {
			spread(loaded)
			return lines.done(loaded)
		}
		var fields struct {
			Timestamp    *float64 `json:"timestamp"`
			InputLength  *int     `json:"input_length"`
			OutputLength *int     `json:"output_length"`
		}
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
				return nil, lines.fail("%s is a JSON %s, want a number, whole if it is a length", wrong.Field, wrong.Value)
			}
			return nil, lines.fail("is not a JSON object: %w", err)
		}
		for _, f := range [...]struct {
			name   string
			exists bool
		}{
			{"timestamp", fields.Timestamp != nil},
			{"input_length", fields.InputLength != nil},
			{"output_length", fields.OutputLength != nil},
		} {
			if !f.exists {
				return nil, lines.fail("has no %s, want timestamp, input_length and output_length", f.name)
			}
		}
		if !validMs(*fields.Timestamp) {
			return nil, lines.fail("timestamp is %v, want milliseconds since the origin", *fields.Timestamp)
		}
		for _, f := range [...]struct {
			name   string
			length int
		}{{"input_length", *fields.InputLength}, {"output_length", *fields.OutputLength}} {
			if !validLength(f.length) {
				return nil, lines.fail("%s is %d, want %s", f.name, f.length, wantLength)
			}
		}
		r := Request{At: fromMs(*fields.Timestamp), ISL: *fields.InputLength, OSL: *fields.OutputLength}
		if err := lines.inOrder(loaded, r); err != nil {
			return nil, err
		}
		loaded = append(loaded, r)
	}
}

// spread gives requests of one timestamp instants within their slot, in order.
func spread(loaded []Request) {
	random := rand.New(rand.NewPCG(0, streamSlots))
	var offsets []time.Duration
	for rest := loaded; len(rest) > 0; {
		at := rest[0].At
		n := slices.IndexFunc(rest, func(r Request) bool { return r.At > at })
		slot := mooncakeSlot
		if n < 0 {
			n = len(rest)
		} else {
			slot = min(slot, rest[n].At-at)
		}
		if n > 1 {
			offsets = offsets[:0]
			for range n {
				offsets = append(offsets, time.Duration(random.Int64N(int64(slot))))
			}
			slices.Sort(offsets)
			for i, offset := range offsets {
				rest[i].At += offset
			}
		}
		rest = rest[n:]
	}
}

// validMs bounds an instant: milliseconds from the origin to maxAt.
func validMs(ms float64) bool { return ms >= 0 && ms <= float64(maxAt.Milliseconds()) }

func fromMs(ms float64) time.Duration {
	return time.Duration(math.Round(ms * float64(time.Millisecond)))
}

func validLength(tokens int) bool { return tokens >= 1 && tokens <= maxLimit }

var wantLength = fmt.Sprintf("a whole number of tokens from 1 to %d", maxLimit)

// maxLine bounds the memory that a line can ask for.
const maxLine = 16 << 20

// lines reads the lines of a trace that are not blank, and knows where it is.
type lines struct {
	name    string
	scanner *bufio.Scanner
	number  int
	line    string // the present one
	again   bool   // next returns it once more
	err     error
}

func newLines(r io.Reader, name string) *lines {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	return &lines{name: name, scanner: scanner}
}

// next returns the next line without the space around it, or false after the
// last one and after an error.
func (l *lines) next() (string, bool) {
	if l.again {
		l.again = false
		return l.line, true
	}
	for l.scanner.Scan() {
		l.number++
		l.line = l.scanner.Text()
		if l.number == 1 {
			l.line = strings.TrimPrefix(l.line, "\uFEFF") // byte order mark
		}
		if l.line = strings.TrimSpace(l.line); l.line != "" {
			return l.line, true
		}
	}
	if err := l.scanner.Err(); err != nil {
		l.number++
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("is longer than %d bytes", maxLine)
		}
		l.err = l.fail("%w", err)
	}
	return "", false
}

func (l *lines) fail(format string, args ...any) error {
	return fmt.Errorf("trace %s, line %d: %w", l.name, l.number, fmt.Errorf(format, args...))
}

func (l *lines) none() error { return fmt.Errorf("trace %s holds no request", l.name) }

// header reads the first line, which is to be the given one.
func (l *lines) header(want string) error {
	got, ok := l.next()
	switch {
	case l.err != nil:
		return l.err
	case !ok:
		return l.none()
	case got != want:
		return l.fail("is %q, want the header %q", abridged(got), want)
	}
	return nil
}

func (l *lines) inOrder(loaded []Request, r Request) error {
	if n := len(loaded); n > 0 && r.At < loaded[n-1].At {
		return l.fail("is %v earlier than the request before it, want requests in order of arrival", loaded[n-1].At-r.At)
	}
	if r.At > maxAt {
		return l.fail("is %v after the first request, want at most %v", r.At, maxAt)
	}
	return nil
}

// done returns what was loaded, if the trace ended well.
func (l *lines) done(loaded []Request) ([]Request, error) {
	switch {
	case l.err != nil:
		return nil, l.err
	case len(loaded) == 0:
		return nil, l.none()
	}
	return loaded, nil
}

// abridged keeps an error that quotes the input to one readable line.
func abridged(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
