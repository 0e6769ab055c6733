package revoke_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/wire"
)

// rig is the API of one replica behind a real server.
type rig struct {
	*site
	srv      *httptest.Server
	register *revoke.Register
	store    *broken
	maxAge   time.Duration
	refresh  func(ctx context.Context, token, clientID string) error

	records chan audit.Record
}

func (g *rig) Write(_ context.Context, r *audit.Record) { g.records <- *r }

// audited returns the one record of the last request.
func (g *rig) audited() audit.Record {
	g.t.Helper()
	select {
	case r := <-g.records:
		return r
	case <-time.After(10 * time.Second):
		g.t.Fatal("no audit record")
		return audit.Record{}
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	g := &rig{site: newSite(t), maxAge: 5 * time.Minute, records: make(chan audit.Record, 64)}
	o := g.options()
	g.store = &broken{Records: o.Records}
	o.Records = g.store
	g.register = revoke.New(o)
	g.refresh = func(context.Context, string, string) error { return revoke.ErrNotOurs }
	reader := &mint.Reader{Issuer: issuer, Keys: g.key, Skew: skew, Now: g.clock}
	api := &revoke.API{
		Register: g.register,
		Operator: func(r *http.Request, scope string) (string, error) {
			if r.Header.Get("Authorization") != "Bearer "+scope {
				return "", problem.New(problem.Unauthenticated, "an access token is needed")
			}
			return "client:ops", nil
		},
		Authenticate: func(_ *http.Request, f *wire.Form) (string, error) {
			if f.Get("client_secret") != "right" {
				return "", wire.Refuse(wire.InvalidClient, "client authentication failed")
			}
			return f.Get("client_id"), nil
		},
		AccessToken: func(ctx context.Context, token string) (*revoke.AccessToken, error) {
			return revoke.ReadAccess(ctx, reader, token)
		},
		Refresh:   func(ctx context.Context, token, clientID string) error { return g.refresh(ctx, token, clientID) },
		MaxAge:    func() time.Duration { return g.maxAge },
		Log:       slog.New(slog.DiscardHandler),
		RequestID: func(context.Context) string { return "rid" },
	}
	mux := http.NewServeMux()
	api.Routes(mux)
	g.srv = httptest.NewServer(audit.Middleware(g, audit.Options{})(mux))
	t.Cleanup(func() {
		g.srv.Close()
		if n := len(g.records); n != 0 {
			t.Errorf("%d audit records too many", n)
		}
	})
	return g
}

func (g *rig) do(method, path, body string, header map[string]string) (*http.Response, []byte) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.srv.URL+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := g.srv.Client().Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp, data
}

func (g *rig) accessToken(jti, clientID string, change func(map[string]any)) string {
	g.t.Helper()
	claims := map[string]any{
		"iss": issuer, "aud": "api://jobs", "sub": "u", "client_id": clientID, "jti": jti,
		"iat": g.clock().Unix(), "exp": g.clock().Add(time.Minute).Unix(),
	}
	if change != nil {
		change(claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		g.t.Fatal(err)
	}
	token, err := g.active().Sign(map[string]any{"typ": "at+jwt"}, payload)
	if err != nil {
		g.t.Fatal(err)
	}
	return token
}

func (g *rig) giveBack(token, clientID string) (*http.Response, []byte) {
	g.t.Helper()
	form := url.Values{"token": {token}, "client_id": {clientID}, "client_secret": {"right"}}
	return g.do("POST", revoke.PathRevoke, form.Encode(), map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
}
