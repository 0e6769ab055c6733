package httpd

import (
	"errors"
	"io"
)

// ErrTooLarge ends a body that is longer than ClientOptions.MaxBody.
var ErrTooLarge = errors.New("the answer is too large")

// CutError is a body that ended before its time: an outage, where malformed
// content in a whole body is not.
type CutError struct{ Err error }

// Error implements error.
func (e *CutError) Error() string { return "the answer was cut short: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *CutError) Unwrap() error { return e.Err }

// boundedBody fails past its bound, and goes on failing.
type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	if err != nil && err != io.EOF {
		err = &CutError{err}
	}
	return n, err
}
