package device

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// alphabet has no vowels, so no words, and nothing that looks like a digit
// (RFC 8628 section 6.1).
const (
	alphabet   = "BCDFGHJKLMNPQRSTVWXZ"
	userLength = 8
)

// newUserCode makes a code without its dash.
func newUserCode() string {
	code := make([]byte, 0, userLength)
	var b [2 * userLength]byte
	for len(code) < userLength {
		_, _ = rand.Read(b[:])
		for _, v := range b {
			// 240 is the largest multiple of 20: no letter is likelier.
			if v < 240 && len(code) < userLength {
				code = append(code, alphabet[int(v)%len(alphabet)])
			}
		}
	}
	return string(code)
}

// parseUserCode undoes what people do to a code: case, dashes and spaces. It
// reports false for what is not one.
func parseUserCode(typed string) (string, bool) {
	if len(typed) > 64 {
		return "", false
	}
	code := make([]byte, 0, userLength)
	for _, c := range []byte(strings.ToUpper(typed)) {
		switch {
		case c == '-' || c == ' ':
		case len(code) == userLength || strings.IndexByte(alphabet, c) < 0:
			return "", false
		default:
			code = append(code, c)
		}
	}
	return string(code), len(code) == userLength
}

// formatUserCode writes a code as people see it.
func formatUserCode(code string) string { return code[:userLength/2] + "-" + code[userLength/2:] }

// newSecret makes 256 random bits.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// is256 reports whether s is 32 bytes in the one base64url encoding they have.
func is256(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 32 && len(s) == 43 // the decoder skips line ends
}

// digest is how secrets are stored and looked up: they have 256 bits, so
// SHA-256 cannot be undone and no comparison tells anything by its time.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
