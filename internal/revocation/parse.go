package revocation

import (
	"bytes"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/jose"
)

// Bounds of members.
const (
	maxText     = 512 // of any text, in bytes
	maxScopes   = 256
	maxMetadata = 64
	maxNumber   = 1 << 53 // any JSON library keeps whole numbers up to here
	maxReason   = 64
	minHex      = 16
	maxHex      = 64
	years       = "between 1970 and 2200"
)

// Parse reads a bundle of at most MaxBytes. It must be in canonical form: what
// is accepted, Encode writes again byte for byte. Errors wrap ErrSchema.
func Parse(data []byte) (*Bundle, error) {
	if len(data) > MaxBytes {
		return nil, schema("it has %d bytes, at most %d are allowed", len(data), MaxBytes)
	}
	var b Bundle
	if err := jose.DecodeStrict(data, &b); err != nil {
		return nil, schema("%w", err)
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	again, err := b.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, schema("it is not in canonical form: byte %d differs", differs(again, data))
	}
	return &b, nil
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// check holds a bundle to the schema and its lists to their order.
func (b *Bundle) check() error {
	u, err := url.Parse(b.Issuer)
	switch {
	case !version(b.SchemaVersion):
		return schema("schemaVersion is not 1.0.N")
	case err != nil || u.Scheme == "" || u.Host == "" || !plain(b.Issuer):
		return schema("issuer is not a URI")
	case !sane(b.IssuedAt):
		return schema("issuedAt is missing or not %s", years)
	case b.Sequence < 0 || b.Sequence > maxNumber:
		return schema("sequence is not a number from 0 to 2^53")
	case b.Revocations == nil:
		return schema("revocations is missing")
	case b.BundleID != "" && !lowerHex(b.BundleID):
		return schema("bundleId is not 16 to 64 digits of lower-case hex")
	case b.SigningKeyID != "" && !plain(b.SigningKeyID):
		return schema("signingKeyId is not plain text of at most %d bytes", maxText)
	}
	for name, at := range map[string]time.Time{"validFrom": b.ValidFrom, "expiresAt": b.ExpiresAt} {
		if !at.IsZero() && !sane(at) {
			return schema("%s is not %s", name, years)
		}
	}
	if err := checkMetadata(b.Metadata); err != nil {
		return err
	}
	for i := range b.Revocations {
		if why := b.Revocations[i].check(); why != "" {
			return schema("revocations[%d]: %s", i, why)
		}
		if i > 0 && compare(b.Revocations[i-1], b.Revocations[i]) >= 0 {
			return schema("revocations[%d] is not after the one before it, by category, id and revokedAt", i)
		}
	}
	return nil
}

// check returns why an entry is not one, or "".
func (e *Entry) check() string {
	for name, text := range map[string]string{"clientId": e.ClientID, "subjectId": e.SubjectID, "tokenType": e.TokenType} {
		if text != "" && !plain(text) {
			return fmt.Sprintf("%s is not plain text of at most %d bytes", name, maxText)
		}
	}
	switch {
	case e.ID == "" || !plain(e.ID):
		return fmt.Sprintf("id is not plain text of 1 to %d bytes", maxText)
	case !sane(e.RevokedAt):
		return "revokedAt is missing or not " + years
	case e.Reason != "" && !Code(e.Reason):
		return "reason is not a machine code"
	case len(e.Scopes) > maxScopes || slices.ContainsFunc(e.Scopes, func(s string) bool { return s == "" || !plain(s) }):
		return fmt.Sprintf("scopes are not at most %d plain texts", maxScopes)
	}
	for i := 1; i < len(e.Scopes); i++ {
		if e.Scopes[i-1] >= e.Scopes[i] {
			return "scopes are not sorted and unique"
		}
	}
	switch e.Category {
	case Token:
		if e.TokenType == "" || e.ClientID == "" {
			return "a token needs tokenType and clientId"
		}
	case Subject:
		if e.SubjectID == "" {
			return "a subject needs subjectId"
		}
	case Client:
		if e.ClientID == "" {
			return "a client needs clientId"
		}
	case Key:
	default:
		return "category is not token, subject, client or key"
	}
	return ""
}

// Code reports whether s is a machine code: 1 to 64 letters, digits and ._:-
func Code(s string) bool {
	return s != "" && len(s) <= maxReason && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._:-", r))
	})
}

func checkMetadata(m map[string]any) error {
	if len(m) > maxMetadata {
		return schema("metadata has more than %d members", maxMetadata)
	}
	for name, value := range m {
		ok := false
		switch v := value.(type) {
		case string:
			ok = plain(v)
		case bool:
			ok = true
		case float64:
			ok = v == math.Trunc(v) && math.Abs(v) <= maxNumber && !(v == 0 && math.Signbit(v))
		}
		if !ok || !plain(name) {
			return schema("metadata is not plain text, booleans and whole numbers up to 2^53")
		}
	}
	return nil
}

// plain reports whether s is text that all JSON libraries write alike, within
// bounds: no control characters and no line separators.
func plain(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029'
	})
}

func sane(t time.Time) bool { return t.Unix() > 0 && t.Year() < 2200 }

func lowerHex(s string) bool {
	return len(s) >= minHex && len(s) <= maxHex && strings.Trim(s, "0123456789abcdef") == ""
}

func version(s string) bool {
	n, ok := strings.CutPrefix(s, "1.0.")
	return ok && n != "" && len(n) <= 9 && strings.Trim(n, "0123456789") == ""
}
