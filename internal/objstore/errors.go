package objstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/stella-ops/stella/internal/fault"
)

// What may go wrong, for errors.Is. Kinds as fault.KindOf gives them are in
// brackets.
var (
	ErrNotFound    = errors.New("no such object")                      // [not_found]
	ErrNotModified = errors.New("not modified")                        // [unclassified] for branches, not for people
	ErrChanged     = errors.New("the object changed")                  // [transient] read it again from the start
	ErrRange       = errors.New("the object ends before this offset")  // [unclassified] the caller knows what it means
	ErrDenied      = errors.New("access denied")                       // [denied]
	ErrTransient   = errors.New("passing failure")                     // [transient] try again later
	ErrKey         = errors.New("unusable key")                        // [input], or [trust] when a store gave the key
	ErrIrregular   = errors.New("not a regular file")                  // [trust] a link, device, FIFO or socket
	ErrUnsupported = errors.New("this kind of place cannot do that")   // [input]
	ErrOffline     = errors.New("needs the network, which is off")     // [offline]
	ErrRedirect    = errors.New("redirected, which is never followed") // [trust]
)

// Op is what was being done, as messages say it.
type Op string

// The operations.
const (
	OpRead   Op = "reading"
	OpList   Op = "listing"
	OpWrite  Op = "writing"
	OpDelete Op = "removing"
)

// shown bounds a key in a message, in bytes before it is quoted.
const shown = 200

// Fail makes the error of one operation, `OP "KEY" of PLACE: WHY: CAUSE`. why
// is one of the sentinels above and gives the kind; cause may be nil. Stores
// use it; cause must be printable, bounded and free of secrets.
func Fail(op Op, place, key string, why, cause error) *fault.Error {
	if cause == nil {
		return fault.Errorf(kindOf(why), "%s: %w", Naming(op, place, key), why)
	}
	return fault.Errorf(kindOf(why), "%s: %w: %w", Naming(op, place, key), why, cause)
}

// Naming is the first part of messages, `reading "KEY" of PLACE`.
func Naming(op Op, place, key string) string {
	if op == OpList && key == "" {
		return fmt.Sprintf("%s %s", op, place)
	}
	if len(key) > shown {
		return fmt.Sprintf("%s %.*q… (%d bytes) of %s", op, shown, key, len(key), place)
	}
	return fmt.Sprintf("%s %q of %s", op, key, place)
}

// Dead gives the error of a context that is over, with the operation named;
// nil while it is not.
func Dead(ctx context.Context, op Op, place, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", Naming(op, place, key), err)
	}
	return nil
}

func kindOf(why error) fault.Kind {
	switch why {
	case ErrNotFound:
		return fault.NotFound
	case ErrDenied:
		return fault.Denied
	case ErrTransient, ErrChanged:
		return fault.Transient
	case ErrIrregular, ErrRedirect:
		return fault.Trust
	case ErrKey, ErrUnsupported:
		return fault.Input
	case ErrOffline:
		return fault.Offline
	}
	return fault.Unclassified
}
