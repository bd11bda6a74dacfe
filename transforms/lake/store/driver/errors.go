package driver

import (
	"errors"
	"fmt"
)

// What an error means to the caller. Decide on these with errors.Is, never on a message.
var (
	// ErrExists says that the name is taken. The caller reads the object back: it may be its own, after a lost reply.
	ErrExists = errors.New("object exists already")

	// ErrNotFound says that there is no such object. The caller goes on without it.
	ErrNotFound = errors.New("no such object")

	// ErrTransient says that trying again later may help (throttled, unavailable, a connection lost). Package store has tried
	// again already before a caller sees it: give the work back, so that it is done again later.
	ErrTransient = errors.New("temporary failure")

	// ErrPermanent says that trying again does not help until a person has done something (no space, no permission, no
	// such bucket, a key that is not allowed). The caller stops, and shows the error.
	ErrPermanent = errors.New("permanent failure")
)

// Mark returns err with one of the sentinels added to what errors.Is finds. The message stays that of err.
// Mark of a nil error is nil.
func Mark(sentinel, err error) error {
	if err == nil {
		return nil
	}
	return &marked{err: err, mark: sentinel}
}

// Markf is Mark of fmt.Errorf.
func Markf(sentinel error, format string, args ...any) error {
	return Mark(sentinel, fmt.Errorf(format, args...))
}

type marked struct{ err, mark error }

func (m *marked) Error() string   { return m.err.Error() }
func (m *marked) Unwrap() []error { return []error{m.err, m.mark} }
