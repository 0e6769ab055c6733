package cli

import (
	"net/http"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/rotate"
	"github.com/stella-ops/stella/internal/secret"
)

// tokenDoer sends a token along, and tells apart that none can be had.
type tokenDoer struct {
	client  *oauth.Client
	instead string // what to type when no token can be had; empty: there is no other way
}

// Do implements rotate.Doer.
func (t *tokenDoer) Do(req *http.Request) (*http.Response, error) {
	if _, err := t.client.Token(req.Context()); err != nil {
		if fault.KindOf(err) == fault.Transient && t.instead != "" && req.Context().Err() == nil {
			err = fault.Errorf(fault.Transient, "%w", err).Hint("no token can be had? %s", t.instead)
		}
		return nil, &rotate.NoTokenError{Err: err}
	}
	return t.client.Do(req)
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
