package cli

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/rotate"
	"github.com/stella-ops/stella/internal/secret"
)

// tokenDoer sends a token along, and tells apart that none can be had.
type tokenDoer struct {
	client  *oauth.Client
	instead string // what to type when no token can be had; empty: there is no other way
	login   string // what a person types who is not logged in; empty: the client is none
}

// newTokenDoer sends the tokens of s, which were asked for by want.
func newTokenDoer(s *authSession, want tokenWant) *tokenDoer {
	t := &tokenDoer{client: s.client}
	if s.config.Auth.Person() {
		t.login = "stella auth login" + want.flags()
	}
	return t
}

// Do implements rotate.Doer.
func (t *tokenDoer) Do(req *http.Request) (*http.Response, error) {
	if _, err := t.client.Token(req.Context()); err != nil {
		if fault.KindOf(err) == fault.Transient && t.instead != "" && req.Context().Err() == nil {
			err = fault.Errorf(fault.Transient, "%w", err).Hint("no token can be had? %s", t.instead)
		}
		if fault.KindOf(err) == fault.Denied && t.login != "" {
			err = fault.Errorf(fault.Denied, "%w", err).Hint("%s", t.login)
		}
		return nil, &rotate.NoTokenError{Err: err}
	}
	if err := t.home(req); err != nil {
		return nil, &rotate.NoTokenError{Err: err}
	}
	return t.client.Do(req)
}

// home sends req where the Authority takes the client's certificate.
func (t *tokenDoer) home(req *http.Request) error {
	home, err := t.client.Home(req.Context())
	if err != nil {
		return err
	}
	rest, ok := strings.CutPrefix(req.URL.String(), strings.TrimSuffix(t.client.Issuer(), "/"))
	if !ok {
		return nil
	}
	u, err := url.Parse(home + rest)
	if err != nil {
		return fault.As(fault.Trust, err)
	}
	req.URL, req.Host = u, u.Host
	return nil
}

// bootstrapDoer sends the bootstrap key along.
type bootstrapDoer struct {
	client *http.Client
	header string
	load   func() (secret.Bytes, error)
}

// Do implements rotate.Doer.
func (b *bootstrapDoer) Do(req *http.Request) (*http.Response, error) {
	key, err := b.load()
	if err != nil {
		return nil, err
	}
	req.Header.Set(b.header, string(key.Reveal()))
	client := *b.client // a key follows no redirect, and no change becomes a GET
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client.Do(req)
}
