// Package secret holds secrets and reads them from where a Ref points.
//
// It guarantees that a secret never prints: every formatter, marshaler and
// logger sees "[redacted]"; only Reveal gives the bytes. Secrets arrive by
// reference only, so no value appears in flags, configuration or process
// lists.
package secret

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Bytes is a secret value. The zero value is "no secret".
type Bytes struct{ b []byte }

// New wraps b, which the caller must not keep.
func New(b []byte) Bytes { return Bytes{b} }

// Reveal returns the secret itself. The result shares memory with s.
func (s Bytes) Reveal() []byte { return s.b }

// Empty reports whether there is no secret.
func (s Bytes) Empty() bool { return len(s.b) == 0 }

// Clear overwrites the secret with zeros.
func (s Bytes) Clear() { clear(s.b) }

// Format implements fmt.Formatter for every verb.
func (s Bytes) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String implements fmt.Stringer.
func (s Bytes) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Bytes) GoString() string { return redacted }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML use.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (s Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }
