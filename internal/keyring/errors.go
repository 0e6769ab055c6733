package keyring

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

var (
	// ErrConflict means that another writer made this version first.
	ErrConflict = errors.New("the keyring has moved on")
	// errRaced is an ErrConflict that trying again may cure.
	errRaced = fmt.Errorf("%w while this change was made", ErrConflict)
	// ErrMissing means that the store holds no keyring.
	ErrMissing = errors.New("no keyring here")
	// ErrNoActive means that no key may sign now: after a taint with outage.
	ErrNoActive = errors.New("no key may sign now")
	// ErrLease means that this replica has not seen the history for longer
	// than the sign lease. It must not sign: its key may have been tainted.
	ErrLease = errors.New("the key history has been out of reach for longer than the sign lease")
)

// OrderError refuses a transition that comes too early or in the wrong state.
// Nothing was changed.
type OrderError struct {
	Message  string
	Earliest time.Time // when it would be allowed; zero when time does not help
	Next     string    // the command to type
	// Lagging names the vantage points in the way; only those that need repair,
	// if there are any.
	Lagging []string
}

// LookAgain is the next command where vantage points were looked at too early
// to tell whether they need repair.
const LookAgain = "stella auth rotate advance"

// Error implements error.
func (e *OrderError) Error() string { return e.Message }

// Fault gives the error its kind and hints for the command line.
func (e *OrderError) Fault() *fault.Error {
	f := &fault.Error{Kind: fault.Order, Err: e}
	if !e.Earliest.IsZero() {
		f.Hint("earliest time: %s", e.Earliest.UTC().Format(time.RFC3339))
	}
	stuck := len(e.Lagging) > 0 && e.Earliest.IsZero()
	if stuck && e.Next == LookAgain {
		return f.Hint("look again: %s", LookAgain)
	}
	if e.Next != "" {
		f.Hint("next: %s", e.Next)
	}
	if stuck {
		f.Hint("first repair %s, or take it out of signing.vantagePoints of the Authority (SIGHUP); one that an operator reported: stella auth rotate forget %s",
			strings.Join(e.Lagging, ", "), e.Lagging[0])
	}
	return f
}
