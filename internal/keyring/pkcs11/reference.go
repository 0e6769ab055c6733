package pkcs11

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/fault"
)

// Scheme is the scheme of references to keys of a PKCS #11 token (RFC 7512).
const Scheme = "pkcs11"

// Bounds of references and of what they name. A token may hold longer ones;
// they are not ours.
const (
	scheme  = Scheme + ":"
	maxRef  = 1024
	maxID   = 64
	maxName = 128
)

// reference is a PKCS #11 URI (RFC 7512, section 2.3) that names a private key.
type reference struct {
	token  string // "" is the configured one
	object string // tells people more than id does; the token is not asked for it
	id     []byte
}

// String writes r as section 2.3 advises: every byte of the id is escaped, and
// so is all of the text that is not unreserved.
func (r reference) String() string {
	var b strings.Builder
	b.WriteString(scheme)
	if r.token != "" {
		fmt.Fprintf(&b, "token=%s;", escape(r.token))
	}
	if r.object != "" {
		fmt.Fprintf(&b, "object=%s;", escape(r.object))
	}
	b.WriteString("id=")
	for _, c := range r.id {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	b.WriteString(";type=private")
	return b.String()
}

// parse reads a reference to a key of the token that o names. It takes the path
// attributes token, object, id (required, 1 to 64 bytes) and type=private, each
// at most once, and nothing else: no query, for that is where RFC 7512 keeps
// PINs and modules. Errors are of kind Input and repeat nothing of what was
// given, which may be a secret in the wrong place.
func (o Options) parse(text string) (reference, error) {
	r, err := parse(text)
	if err != nil {
		return reference{}, fault.Errorf(fault.Input, "not a reference to a key of a PKCS#11 token: %w", err).
			Hint("a reference is %stoken=LABEL;object=NAME;id=%%AA%%BB;type=private", scheme)
	}
	if r.token != "" && r.token != o.Token {
		return reference{}, fault.Errorf(fault.Input, "the reference names a key of another PKCS#11 token than %q", o.Token)
	}
	return r, nil
}

func parse(text string) (r reference, err error) {
	if len(text) > maxRef {
		return r, fmt.Errorf("longer than %d bytes", maxRef)
	}
	path, ok := strings.CutPrefix(text, scheme)
	if !ok {
		return r, fmt.Errorf("it does not start with %s", scheme)
	}
	if strings.Contains(path, "?") {
		return r, fmt.Errorf("it has a query: PINs and modules stand in the configuration")
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(path, ";") {
		name, escaped, ok := strings.Cut(pair, "=")
		if !ok {
			return r, fmt.Errorf("an attribute without a value")
		}
		value, err := unescape(escaped)
		if err != nil {
			return r, err
		}
		if err := r.set(name, value); err != nil {
			return r, err
		}
		if seen[name] {
			return r, fmt.Errorf("%s stands there twice", name)
		}
		seen[name] = true
	}
	if !seen["id"] {
		return r, fmt.Errorf("it has no id")
	}
	return r, nil
}

func (r *reference) set(name string, value []byte) error {
	switch name {
	case "id":
		if len(value) == 0 || len(value) > maxID {
			return fmt.Errorf("an id has 1 to %d bytes", maxID)
		}
		r.id = value
		return nil
	case "type":
		if string(value) != "private" {
			return fmt.Errorf("its type is not private")
		}
		return nil
	case "token", "object":
		if len(value) == 0 || len(value) > maxName || !utf8.Valid(value) {
			return fmt.Errorf("its %s is not 1 to %d bytes of UTF-8", name, maxName)
		}
		if name == "token" {
			r.token = string(value)
		} else {
			r.object = string(value)
		}
		return nil
	case "pin-value", "pin-source", "module-path", "module-name":
		return fmt.Errorf("it has a %s, which stands in the configuration and nowhere else", name)
	}
	return fmt.Errorf("an attribute other than token, object, id and type")
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if unreserved(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

// unescape undoes percent-encoding; what RFC 7512 wants escaped must be.
func unescape(s string) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '%' {
			if !unreserved(c) && strings.IndexByte(":[]@!$'()*+,=&", c) < 0 { // pk11-pchar
				return nil, fmt.Errorf("a byte that must be percent-encoded")
			}
			out = append(out, c)
			continue
		}
		if len(s)-i < 3 {
			return nil, fmt.Errorf("a broken percent-encoding")
		}
		b, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return nil, fmt.Errorf("a broken percent-encoding")
		}
		out = append(out, b[0])
		i += 2
	}
	return out, nil
}

// checkName refuses names that keyring.Provider does not promise.
func checkName(name string) error {
	ok := name != "" && len(name) <= maxName
	for i := range min(len(name), maxName) {
		ok = ok && (name[i] == '-' || unreserved(name[i]) && strings.IndexByte("._~", name[i]) < 0)
	}
	if !ok {
		return fault.Errorf(fault.Input, "the name of a key has 1 to %d letters, digits and hyphens", maxName)
	}
	return nil
}
