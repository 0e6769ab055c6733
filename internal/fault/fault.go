// Package fault gives every error that an operator may see a kind, a cause and
// hints, and holds the one table that maps kinds to exit codes.
//
// It guarantees that wrapping with %w keeps the kind, that a hint is a line an
// operator can act on (most are runnable commands), and that the exit code of
// a process depends on the kind alone.
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Error is a user-facing error: what was attempted and why it failed, its
// kind, and what to do next.
type Error struct {
	Kind  Kind
	Err   error
	Hints []string
}

// Error returns the cause without its hints.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of kind k; the format may wrap causes with %w.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// As gives err the kind k, keeping its text and its hints. A nil err stays nil.
func As(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Err: err}
}

// Hint appends one hint line and returns e for chaining.
func (e *Error) Hint(format string, args ...any) *Error {
	e.Hints = append(e.Hints, fmt.Sprintf(format, args...))
	return e
}

// KindOf returns the kind of the outermost *Error in err's chain. Errors of
// the context package are Transient for a deadline and Interrupted for a
// cancellation; anything else is Unclassified.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return None
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded):
		return Transient
	case errors.Is(err, context.Canceled):
		return Interrupted
	}
	return Unclassified
}

// HintsOf collects the hints of every *Error in err's tree, outermost first
// and joined errors in their order.
func HintsOf(err error) []string {
	var hints []string
	if e, ok := err.(*Error); ok && e != nil {
		hints = append(hints, e.Hints...)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		hints = append(hints, HintsOf(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, sub := range e.Unwrap() {
			hints = append(hints, HintsOf(sub)...)
		}
	}
	return hints
}
