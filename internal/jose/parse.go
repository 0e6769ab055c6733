package jose

import (
	"fmt"
	"strings"
)

// defaultMaxBytes bounds a compact JWS when Rules does not.
const defaultMaxBytes = 16 << 10

// JWS is a parsed but not yet verified JWS.
type JWS struct {
	Header Header

	input   []byte // what is signed
	payload []byte
	sig     []byte
}

// Parse parses a compact JWS (RFC 7515 section 7.1) with its payload inside.
// The signature is not checked: call Verify. Unencoded payloads (b64 false) are
// only for ParseDetached. Errors wrap ErrMalformed, ErrTooLarge, ErrAlg,
// ErrCritical, ErrType, ErrKey, or ErrSignature for an absent signature.
func Parse(compact string, rules Rules) (*JWS, error) {
	p, err := split(compact, rules)
	if err != nil {
		return nil, err
	}
	j, err := p.open(rules)
	if err != nil {
		return nil, err
	}
	if !j.Header.B64 {
		return nil, malformed("unencoded payload in an attached JWS")
	}
	if j.payload, err = decode64(p.payload); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	j.input = []byte(compact[:len(p.header)+1+len(p.payload)])
	return j, nil
}

// ParseDetached parses a compact JWS whose payload part is empty and whose
// payload is given (RFC 7515 appendix F). With b64 false in the header and
// "b64" in both crit and Rules.Critical the payload is signed as it is (RFC
// 7797), else in base64url. Rules.MaxBytes does not bound the payload. Errors
// are those of Parse.
func ParseDetached(compact string, payload []byte, rules Rules) (*JWS, error) {
	o, err := OpenDetached(compact, rules)
	if err != nil {
		return nil, err
	}
	j := &JWS{Header: o.Header, payload: payload, sig: o.sig}
	b := append(make([]byte, 0, len(o.prefix)+(len(payload)+2)/3*4), o.prefix...)
	if j.Header.B64 {
		b = append64(b, payload)
	} else {
		b = append(b, payload...)
	}
	j.input = b
	return j, nil
}

// parts are the three parts of a compact JWS, still encoded.
type parts struct{ header, payload, sig string }

func split(compact string, rules Rules) (parts, error) {
	limit := rules.MaxBytes
	if limit == 0 {
		limit = defaultMaxBytes
	}
	if len(compact) > limit {
		return parts{}, tooLarge("JWS", len(compact), limit)
	}
	header, rest, ok1 := strings.Cut(compact, ".")
	payload, sig, ok2 := strings.Cut(rest, ".")
	switch dots := strings.Count(sig, "."); {
	case dots == 2:
		return parts{}, malformed("five parts: encrypted (JWE), not signed")
	case !ok1 || !ok2 || dots != 0:
		return parts{}, malformed("not three parts divided by dots")
	}
	return parts{header, payload, sig}, nil
}

// open decodes header and signature.
func (p parts) open(rules Rules) (*JWS, error) {
	raw, err := decode64(p.header)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	h, err := parseHeader(raw, rules)
	if err != nil {
		return nil, err
	}
	if p.sig == "" {
		return nil, fmt.Errorf("%w: there is none", ErrSignature)
	}
	sig, err := decode64(p.sig)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return &JWS{Header: h, sig: sig}, nil
}

// UnverifiedPayload is the payload before any check; only for choosing a key.
func (j *JWS) UnverifiedPayload() []byte { return j.payload }
