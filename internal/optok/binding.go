package optok

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/stella-ops/stella/internal/jose"
)

// binding returns the thumbprints of cnf: jkt (RFC 9449 section 6.1), x5t#S256
// (RFC 8705 section 3.1) or both; none for a token without cnf. A confirmation
// with anything else in it, or with nothing, is not understood, so not ok.
func binding(c *jose.Claims) (jkt, x5t string, ok bool) {
	raw, has := c.Raw["cnf"]
	if !has {
		return "", "", true
	}
	var cnf map[string]json.RawMessage
	if json.Unmarshal(raw, &cnf) != nil || len(cnf) == 0 {
		return "", "", false
	}
	for name, value := range cnf {
		into := &jkt
		switch name {
		case "jkt":
		case "x5t#S256":
			into = &x5t
		default:
			return "", "", false
		}
		if json.Unmarshal(value, into) != nil || !thumbprint(*into) {
			return "", "", false
		}
	}
	return jkt, x5t, true
}

// thumbprint reports whether s is a SHA-256 in base64url without padding, in
// its one spelling: hex, padded and of other hashes are not.
func thumbprint(s string) bool {
	if len(s) != base64.RawURLEncoding.EncodedLen(sha256.Size) {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil
}

// certificate checks that the connection has the client certificate that the
// token is bound to. The certificate itself may be self-signed or expired: the
// token says which one it must be (RFC 8705 section 3). Only the connection
// counts, never a header.
func certificate(r *http.Request, p *Principal, bound bool) error {
	if p.X5T == "" {
		return nil
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return invalidToken(bound, "the token is bound to a client certificate, and there is none", nil)
	}
	if subtle.ConstantTimeCompare([]byte(CertificateThumbprint(r.TLS.PeerCertificates[0].Raw)), []byte(p.X5T)) != 1 {
		return invalidToken(bound, "the token is bound to another client certificate", nil)
	}
	return nil
}

// CertificateThumbprint is the x5t#S256 of a certificate in DER (RFC 8705
// section 3.1).
func CertificateThumbprint(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// revoked asks about a token that is acceptable otherwise.
func (v *Verifier) revoked(ctx context.Context, p *Principal, bound bool) error {
	if v.Revoked == nil {
		return nil
	}
	reason, revoked, err := v.Revoked(ctx, p)
	switch {
	case err != nil:
		return unavailable(err)
	case revoked:
		return invalidToken(bound, "the token is revoked", errors.New("reason: "+reason))
	}
	return nil
}
