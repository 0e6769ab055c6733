package token

import (
	"net/http"
	"strconv"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/wire"
)

// answer is a token on its way to its client.
type answer struct {
	token   *mint.Token
	grant   *mint.Grant
	refresh string // refresh token, or ""
	until   time.Time
}

// write answers with the token (RFC 6749 section 5.1).
func (a *answer) write(w http.ResponseWriter, nonce string) {
	buf := wire.GetBuffer()
	defer wire.PutBuffer(buf)
	b := append(buf.AvailableBuffer(), `{"access_token":"`...)
	b = append(b, a.token.Compact...)
	b = append(b, `","token_type":"`...)
	b = append(b, a.grant.Type()...)
	b = append(b, `","expires_in":`...)
	b = strconv.AppendInt(b, a.token.Lifetime(), 10)
	if a.refresh != "" {
		b = append(b, `,"refresh_token":"`...)
		b = append(b, a.refresh...)
		b = append(b, `","refresh_token_expires_in":`...) // not registered, but widely understood
		b = strconv.AppendInt(b, a.until.Unix()-a.token.IssuedAt.Unix(), 10)
	}
	b = append(b, `,"scope":`...)
	b = mint.AppendString(b, a.grant.Scope)
	b = append(b, "}\n"...)
	buf.Write(b)
	wire.SetHeaders(w.Header(), nonce)
	_, _ = w.Write(buf.Bytes())
}

// audit says what was issued, by its names, never the token.
func (a *answer) audit(e *audit.Event, label string) {
	if e == nil {
		return
	}
	e.Set(eventName(label))
	e.Outcome(audit.Success, "")
	if a.grant.Subject != a.grant.ClientID {
		e.Subject(a.grant.Subject, a.grant.Name, "", a.grant.Tenant)
	}
	e.Tenant(a.grant.Tenant)
	e.Scopes(a.grant.Scopes)
	e.Prop("token.aud", a.grant.Audience, audit.None)
	e.Prop("token.kid", a.token.KID, audit.None)
	e.Prop("token.jti", a.token.JTI, audit.None)
	e.Prop("token.jkt", a.grant.JKT, audit.None)
	e.Prop("token.x5t", a.grant.X5T, audit.None)
}
