package jose

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// Header is a parsed protected header.
type Header struct {
	Alg      Alg
	KeyID    string
	Type     string // as written
	JWK      *Key   // only when Rules.AllowJWK
	Critical []string
	B64      bool // true unless RFC 7797 says otherwise
	Raw      map[string]json.RawMessage
}

// Rules say what a caller accepts. The zero value accepts nothing.
type Rules struct {
	Algs     []Alg
	Types    []string // accepted typ values, compared per RFC 7515 4.1.9 (case-insensitive, optional application/ prefix); empty: any, also none
	Critical []string // crit names understood (only "b64" has meaning here; what others mean is for the caller to do)
	AllowJWK bool     // a public jwk header is parsed, otherwise refused
	MaxBytes int      // whole compact JWS, a detached payload not counted; 0 means 16 KiB
}

// parseHeader reads a decoded protected header and holds it to the rules.
func parseHeader(data []byte, rules Rules) (Header, error) {
	list, err := strictjson.Members(data)
	if err != nil {
		return Header{}, fmt.Errorf("header: %w", err)
	}
	h := Header{B64: true, Raw: make(map[string]json.RawMessage, len(list))}
	var jwk json.RawMessage
	for _, m := range list {
		h.Raw[m.Name] = m.Raw
		if err := h.add(m, &jwk); err != nil {
			return Header{}, fmt.Errorf("header: %w", err)
		}
	}
	if err := rules.judge(&h); err != nil {
		return Header{}, err
	}
	if jwk == nil {
		return h, nil
	}
	if !rules.AllowJWK {
		return Header{}, unusable("header brings its own key (jwk)")
	}
	key, err := ParseKey(jwk)
	if err != nil {
		return Header{}, fmt.Errorf("header jwk: %w", err)
	}
	h.JWK = &key
	return h, nil
}

func (h *Header) add(m strictjson.Member, jwk *json.RawMessage) (err error) {
	switch m.Name {
	case "alg":
		var s string
		s, err = strictjson.Text(m.Name, m.Raw)
		h.Alg = Alg(s)
	case "kid":
		if h.KeyID, err = strictjson.Text(m.Name, m.Raw); len(h.KeyID) > MaxKeyIDBytes {
			return tooLarge("kid", len(h.KeyID), MaxKeyIDBytes)
		}
	case "typ":
		h.Type, err = strictjson.Text(m.Name, m.Raw)
	case "cty", "jku", "x5u", "x5t", "x5t#S256":
		_, err = strictjson.Text(m.Name, m.Raw) // never followed, never trusted
	case "x5c":
		_, err = strictjson.Texts(m.Name, m.Raw) // never trusted
	case "jwk":
		*jwk = m.Raw
	case "crit":
		h.Critical, err = strictjson.Texts(m.Name, m.Raw)
		if err == nil && len(h.Critical) == 0 {
			return malformed("crit is empty (RFC 7515 section 4.1.11)")
		}
	case "b64":
		if s := string(m.Raw); s != "true" && s != "false" {
			return malformed("b64 is not a boolean")
		}
		h.B64 = string(m.Raw) == "true"
	case "zip", "enc":
		return malformed("%q belongs to JWE", m.Name)
	}
	return err
}

// judge holds alg, crit and typ to the rules.
func (r Rules) judge(h *Header) error {
	if _, known := suiteOf(h.Alg); !known || !slices.Contains(r.Algs, h.Alg) {
		return fmt.Errorf("%w: %q", ErrAlg, h.Alg)
	}
	for i, name := range h.Critical {
		switch _, present := h.Raw[name]; {
		case isRegistered(name):
			return malformed("crit names the registered header %q", name)
		case !present:
			return malformed("crit names %q, which the header does not have", name)
		case slices.Contains(h.Critical[:i], name):
			return malformed("crit names %q twice", name)
		case !slices.Contains(r.Critical, name):
			return fmt.Errorf("%w: %q", ErrCritical, name)
		}
	}
	if _, present := h.Raw["b64"]; present && !slices.Contains(h.Critical, "b64") {
		return fmt.Errorf("%w: b64 is not in crit (RFC 7797 section 6)", ErrCritical)
	}
	if len(r.Types) == 0 {
		return nil
	}
	for _, t := range r.Types {
		if h.Type != "" && sameType(h.Type, t) {
			return nil
		}
	}
	return fmt.Errorf("%w: typ %q", ErrType, h.Type)
}

// isRegistered names the headers that crit may not hold, being defined by the
// JWS, JWE and JWA specifications themselves.
func isRegistered(name string) bool {
	switch name {
	case "alg", "jku", "jwk", "kid", "x5u", "x5c", "x5t", "x5t#S256", "typ", "cty", "crit",
		"enc", "zip", "epk", "apu", "apv", "iv", "tag", "p2s", "p2c":
		return true
	}
	return false
}

// sameType compares media types as RFC 7515 section 4.1.9 says: without a
// slash, "application/" is meant. Only ASCII letters have case here.
func sameType(a, b string) bool {
	const prefix = "application/"
	if !strings.Contains(a, "/") {
		a = prefix + a
	}
	if !strings.Contains(b, "/") {
		b = prefix + b
	}
	return lowerASCII(a) == lowerASCII(b)
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}
