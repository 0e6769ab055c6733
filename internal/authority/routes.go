package authority

import (
	"context"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/lifecycle"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/optok"
)

// Paths of the public listener, below the issuer. The lifecycle API's are in
// package keyring.
const (
	pathDiscovery = "/.well-known/openid-configuration"
	pathJWKS      = "/jwks"
	pathJWKSAlias = "/.well-known/jwks.json"
	pathToken     = "/token"
	pathClients   = "/internal/clients"
)

// routes builds the public handler; the issuer must be final.
func (s *Server) routes() (http.Handler, error) {
	endpoint, err := token.New(token.Deps{
		Settings: func() *token.Settings { return s.set.Load().token },
		Clients:  s.clients, Once: s.store, Signer: s.keys.Signer, MaxLifetime: s.maxLifetime, Nonces: s.nonces.Load,
		Count:   func(i token.Issued) { s.counter.Add(i.KID, i.Expiry.Unix()) },
		Outcome: s.metrics.outcome, Ready: s.db.Err, Now: s.now, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	g := &guard.Guard{Header: s.bootstrapHeader, Key: s.bootstrapKey, Verifier: s.verifier()}
	api := &lifecycle.API{
		Keys: s.keys, Vantage: s.store, Counter: s.counter, Guard: g, Required: s.points,
		Issuer: s.issuer, JWKSURI: s.issuer + pathJWKS, Replica: s.cfg.Replica,
		Import:   lifecycle.Importer{Base: s.cfg.Signing.KeyDirectory, Root: s.cfg.Signing.ImportDirectory},
		Database: s.db.Err, Timeout: min(s.cfg.Storage.CommandTimeout.Std(), 5*time.Second),
		KeySource: string(s.cfg.Signing.KeySource),
		Now:       s.now, Log: s.log, RequestID: httpd.RequestID,
	}
	s.advance = api.Run
	doc, err := discovery(s.issuer)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+pathToken, endpoint)
	mux.Handle("GET "+pathDiscovery, doc)
	set := &keySet{keys: s.keys, now: s.now}
	mux.Handle("GET "+pathJWKS, set)
	mux.Handle("GET "+pathJWKSAlias, set)
	mux.Handle("GET /health", s.http.Health())
	mux.Handle("GET /ready", s.http.Ready())
	s.clientRoutes(mux, g)
	api.Register(mux)
	return mux, nil
}

// verifier checks tokens for this server's own APIs against its own keys: the
// one that signs and those that signed before it. A tainted key is published
// still, but whoever has it must not drive the keyring; a key that has never
// signed has no tokens.
func (s *Server) verifier() *optok.Verifier {
	return &optok.Verifier{
		Issuer: s.issuer, Audience: guard.Audience, BaseURL: s.issuer,
		Keys: s.ownKey,
		Replay: func(ctx context.Context, key string, until time.Time) (bool, error) {
			if err := s.db.Err(); err != nil {
				return false, err
			}
			return s.store.Once(ctx, token.OnceProof, key, until)
		},
		Skew: s.cfg.Signing.ClockSkew.Std(), ProofAge: s.cfg.Security.DPoP.ProofLifetime.Std(),
		Now: s.now,
	}
}

// unseenKey is how old the last look at the key history may be when a token
// names a key that has not signed so far: another replica may just have
// activated it. Callers who are nobody cause no more looks than one in this
// time.
const unseenKey = 20 * time.Millisecond

// ownKey finds a key that may have signed tokens and is still trusted.
func (s *Server) ownKey(ctx context.Context, kid string) (jose.Key, error) {
	signed := func(k *keyring.Key) bool { return k.State == keyring.Active || k.State == keyring.Retiring }
	ring := s.keys.Ring()
	if ring == nil {
		return jose.Key{}, jwks.ErrUnknownKey
	}
	k := ring.Find(kid)
	if k != nil && k.State == keyring.Published && s.keys.Unseen() > unseenKey {
		if err := s.keys.Refresh(ctx); err != nil {
			return jose.Key{}, err
		}
		k = s.keys.Ring().Find(kid)
	}
	if k == nil || !signed(k) {
		return jose.Key{}, jwks.ErrUnknownKey
	}
	return k.JWK, nil
}

// httpConfig is the httpd side of the configuration.
func (s *Server) httpConfig() httpd.Config {
	l := httpd.Listener{Address: s.cfg.Listen, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handler.ServeHTTP(w, r) // set before the first request is accepted
	})}
	if !s.cfg.InsecureHTTP {
		l.TLS = &httpd.TLS{CertFile: s.cfg.TLS.Certificate, KeyFile: s.cfg.TLS.Key}
	}
	return httpd.Config{
		Name: "stella-authority", Listeners: []httpd.Listener{l},
		Admin:              httpd.Admin{Address: s.cfg.Admin.Listen},
		ReadyWhenListening: true,
		Checks: []httpd.Check{
			{Name: "database", Func: func(context.Context) error { return s.db.Err() }},
			{Name: "signing", Func: s.tested},
			{Name: "self-test", Func: s.testedLive, Live: true},
		},
		Limits: httpd.Limits{Body: 128 << 10},
		Reload: s.reload, Log: s.log, Level: s.deps.Level, Gauge: s.metrics.registry,
	}
}
