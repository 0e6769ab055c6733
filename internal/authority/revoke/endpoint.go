package revoke

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/revocation"
)

// ErrNotOurs means that a token is none of ours, not valid any more, or not
// the client's: there is nothing to revoke.
var ErrNotOurs = errors.New("no token of this client")

// accessToken is the tokenType of our access tokens (RFC 7009 section 4.1.2).
const accessToken = "access_token"

// ReasonClient is the reason code of a token that its client gave back.
const ReasonClient = "client_request"

// AccessToken is what revocation needs to know of a verified access token.
type AccessToken struct {
	revocation.Claims
	Expiry time.Time
}

// revoke serves POST /revoke (RFC 7009). A token that is unknown, expired or
// another client's gets the same answer as one that was revoked, and is left
// alone. The hint decides nothing: a token's form does.
func (a *API) revoke(w http.ResponseWriter, r *http.Request) {
	e := audit.Of(r.Context())
	e.Set(audit.TypeRevoke)
	err := a.doRevoke(r, e)
	switch {
	case errors.Is(err, ErrNotOurs):
		e.Outcome(audit.Failure, err.Error())
	case err != nil:
		refusal := wire.AsRefusal(err)
		status := refusal.StatusCode()
		e.Outcome(audit.OutcomeOf(status), refusal.Code)
		if status >= http.StatusInternalServerError {
			a.Log.ErrorContext(r.Context(), "revocation refused", "request_id", a.RequestID(r.Context()), "err", err)
		}
		wire.WriteError(w, err)
		return
	default:
		e.Outcome(audit.Success, "")
	}
	wire.WriteJSON(w, http.StatusOK, struct{}{})
}

func (a *API) doRevoke(r *http.Request, e *audit.Event) error {
	f, err := wire.ReadForm(r)
	if err != nil {
		return err
	}
	clientID, err := a.Authenticate(r, f)
	if err != nil {
		return err
	}
	e.Client(clientID, "")
	token := f.Get("token")
	if token == "" {
		return wire.Refuse(wire.InvalidRequest, "token is missing")
	}
	if strings.Count(token, ".") == 2 {
		t, err := a.AccessToken(r.Context(), token)
		if err == nil {
			return a.revokeAccess(r.Context(), t, clientID, e)
		}
		if !errors.Is(err, ErrNotOurs) {
			return err
		}
	}
	return a.Refresh(r.Context(), token, clientID)
}

func (a *API) revokeAccess(ctx context.Context, t *AccessToken, clientID string, e *audit.Event) error {
	if t.ClientID != clientID {
		return ErrNotOurs
	}
	e.Subject(t.Subject, "", "", "")
	e.Prop(audit.PropTokenID, t.TokenID, audit.None)
	// Neither subject nor scopes: the list is public.
	_, err := a.Register.Add(ctx, Entry{Expiry: t.Expiry, Entry: revocation.Entry{
		Category: revocation.Token, ID: t.TokenID, Reason: ReasonClient, ClientID: t.ClientID, TokenType: accessToken,
	}})
	return err
}

// ReadAccess is what API.AccessToken does with a Reader.
func ReadAccess(ctx context.Context, r *mint.Reader, token string) (*AccessToken, error) {
	c, kid, err := r.Read(ctx, token)
	if errors.Is(err, mint.ErrNotOurs) {
		return nil, errors.Join(ErrNotOurs, err)
	}
	if err != nil {
		return nil, err
	}
	out := &AccessToken{Expiry: c.Expiry, Claims: revocation.Claims{
		TokenID: c.ID, Subject: c.Subject, KID: kid, IssuedAt: c.IssuedAt,
	}}
	if ok, err := c.Decode("client_id", &out.ClientID); err != nil || !ok {
		return nil, errors.Join(ErrNotOurs, err)
	}
	return out, nil
}
