package events

import "errors"

// The classes of errors decide how a failed message is handled. An error of
// neither class is transient: it is tried again.
var (
	// ErrPermanent marks an error that no repetition mends: the message belongs
	// in the dead letters.
	ErrPermanent = errors.New("permanent")
	// ErrFatal marks an error after which the process cannot go on rightly.
	ErrFatal = errors.New("fatal")
)

// Permanent marks an error as permanent without changing its text. It returns
// nil for nil.
func Permanent(err error) error { return classify(err, ErrPermanent) }

// Fatal marks an error as fatal without changing its text. It returns nil for
// nil. An error that is permanent as well is handled as fatal.
func Fatal(err error) error { return classify(err, ErrFatal) }

// classified is an error with its class, which errors.Is finds and Error does
// not print: a reason in a dead letter is for a person.
type classified struct{ err, class error }

func (c *classified) Error() string   { return c.err.Error() }
func (c *classified) Unwrap() []error { return []error{c.err, c.class} }

func classify(err, class error) error {
	if err == nil || errors.Is(err, class) {
		return err
	}
	return &classified{err: err, class: class}
}
