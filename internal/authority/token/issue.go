package token

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/authority/clients"
)

// issuance is one token in the making.
type issuance struct {
	client   *clients.Client
	now      time.Time
	tenant   string
	audience string
	scopes   []string
	scope    string
	jkt      string // empty: bearer

	kid, jti, token string
	lifetime        int64 // seconds
}

// issue signs the token and counts it. The count comes first in time: a token
// that is counted but never reaches its client only delays a retirement.
func (e *Endpoint) issue(out *issuance, signer *boundSigner, set *Settings) error {
	out.lifetime = int64(min(set.Lifetime, e.MaxLifetime()) / time.Second)
	out.jti = rand.Text() // at least 128 random bits
	out.kid = signer.kid
	iat := out.now.Unix()
	buf := e.buffers.get()
	defer e.buffers.put(buf)
	buf.Write(out.claims(buf.AvailableBuffer(), set.Issuer, iat))
	e.Count(Issued{KID: out.kid, Expiry: time.Unix(iat+out.lifetime, 0)})
	var err error
	out.token, err = signer.bound.Sign(buf.Bytes())
	return err
}

// claims appends the claims set of RFC 9068 and of the OpTok, built by hand:
// a map would cost more than the signature's hash.
func (o *issuance) claims(b []byte, issuer string, iat int64) []byte {
	b = append(b, `{"iss":`...)
	b = appendString(b, issuer)
	b = append(b, `,"sub":`...)
	b = appendString(b, o.client.ID)
	b = append(b, `,"aud":`...)
	b = appendString(b, o.audience)
	b = append(b, `,"exp":`...)
	b = strconv.AppendInt(b, iat+o.lifetime, 10)
	b = append(b, `,"iat":`...)
	b = strconv.AppendInt(b, iat, 10)
	b = append(b, `,"nbf":`...)
	b = strconv.AppendInt(b, iat, 10)
	b = append(b, `,"jti":"`...)
	b = append(b, o.jti...)
	b = append(b, `","client_id":`...)
	b = appendString(b, o.client.ID)
	if len(o.scopes) > 0 {
		b = append(b, `,"scope":`...)
		b = appendString(b, o.scope)
		b = append(b, `,"scp":[`...)
		for i, s := range o.scopes {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, s)
		}
		b = append(b, ']')
	}
	b = append(b, `,"stellaops:tenant":`...)
	b = appendString(b, o.tenant)
	if o.client.AllTenants != "" {
		b = append(b, `,"stellaops:allowed_tenants":`...)
		b = appendString(b, o.client.AllTenants)
	}
	if o.jkt != "" {
		b = append(b, `,"cnf":{"jkt":`...)
		b = appendString(b, o.jkt)
		b = append(b, '}')
	}
	return append(b, '}')
}

// write answers with the token (RFC 6749 section 5.1).
func (o *issuance) write(w http.ResponseWriter, buffers *bufferPool, nonce string) {
	buf := buffers.get()
	defer buffers.put(buf)
	b := append(buf.AvailableBuffer(), `{"access_token":"`...)
	b = append(b, o.token...)
	b = append(b, `","token_type":"`...)
	if o.jkt != "" {
		b = append(b, "DPoP"...)
	} else {
		b = append(b, "Bearer"...)
	}
	b = append(b, `","expires_in":`...)
	b = strconv.AppendInt(b, o.lifetime, 10)
	b = append(b, `,"scope":`...)
	b = appendString(b, o.scope)
	b = append(b, "}\n"...)
	buf.Write(b)
	setHeaders(w.Header(), nonce)
	_, _ = w.Write(buf.Bytes())
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		case c < utf8.RuneSelf:
			b = append(b, c)
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // U+FFFD for what is not UTF-8
			i += n
		}
	}
	return append(b, '"')
}
