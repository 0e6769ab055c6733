// Package objstore reads and writes whole objects by key: in a directory, a
// bucket, below a web address or in memory.
//
// It guarantees, for each of its stores, that a Put is seen whole or not at
// all and is durable when it returns nil; that one Body never mixes two
// versions of an object without an error; that a listing is in key order and
// complete, or an error; that nothing is tried twice unless its method says so;
// and that each error has a kind, tells its sentinel, names place and key in
// printable form, and holds no secret. What an object holds is not checked:
// callers verify digests. storetest holds all stores to this.
package objstore

import (
	"context"
	"io"
	"time"
)

// Get says which bytes of an object are wanted and under which condition. The
// zero value is the whole object, whatever it is.
type Get struct {
	Offset int64 // of the first byte wanted
	Length int64 // bytes wanted at most; 0: to the end

	// IfMatch and IfNoneMatch are ETags as Info.ETag gave them; "" for none.
	// A weak one (W/"…") in IfMatch is compared, but proves only that the
	// objects mean the same: their bytes may differ.
	IfMatch, IfNoneMatch string
}

// Ranged says whether less than the whole object is wanted.
func (g Get) Ranged() bool { return g.Offset != 0 || g.Length != 0 }

// Info describes an object.
type Info struct {
	Key      string    // relative to the place
	Size     int64     // bytes of the whole object; -1: unknown
	ETag     string    // opaque validator, quoted as on the wire; "" if the store has none
	Modified time.Time // zero: unknown
}

// Object is an object that is being read.
type Object struct {
	Info
	// Offset of the first byte of Body: what was asked for, or 0 when the
	// store ignored the range, and Body is then the whole object.
	Offset int64
	// Body fails with ErrTransient when it is cut and with ErrChanged when the
	// store can tell that the object changed under the reader. It may end
	// before the object does only with an error. It ends with the context that
	// was given to Open. The caller closes it, and bounds what it reads.
	Body io.ReadCloser
}

// Reader reads objects. It is safe for concurrent use, Bodies are not.
//
// Keys are relative to the place, slash-separated, and obey CheckKey. A
// context that is over gives its own error (Canceled, DeadlineExceeded), which
// is no ErrTransient.
type Reader interface {
	// Open starts to read an object. It asks once: the caller retries, after
	// ErrTransient only, and may resume with Offset and IfMatch.
	//
	// The error is ErrNotFound, ErrNotModified (IfNoneMatch held), ErrChanged
	// (IfMatch did not), ErrRange (Offset lies at or beyond the end, and is
	// not 0), ErrDenied, ErrKey or ErrTransient, or one of the store's own.
	Open(ctx context.Context, key string, g Get) (*Object, error)

	// List calls each for every object whose key begins with prefix, in byte
	// order of the keys, and returns nil only if it has given all of them.
	// Objects that come or go meanwhile may be given or not. An error of each
	// ends the listing and is returned as it is. prefix may end within a path
	// element; "" is everything. A key that CheckKey refuses is ErrKey of kind
	// Trust. Over https it is ErrUnsupported.
	List(ctx context.Context, prefix string, each func(Info) error) error

	// Place names the store for messages, s3://bucket/prefix, without secrets.
	Place() string
}

// Writer writes objects. It is safe for concurrent use: of two Puts of one key
// one is the last, and readers see the bytes of either.
type Writer interface {
	// Put makes or replaces an object: whole and durable when it returns nil;
	// after an error the old object or the new one is there, whole. body is
	// read from where it stands, holds exactly size bytes, and may be read
	// again from there. ETag and Modified of the result may be empty if the
	// store does not tell them.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64) (Info, error)

	// Delete removes an object durably. A missing one is no error.
	Delete(ctx context.Context, key string) error
}

// Store reads and writes.
type Store interface {
	Reader
	Writer
}
