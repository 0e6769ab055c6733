package authority

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/lifecycle"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/refresh"
	"github.com/stella-ops/stella/internal/authority/serviceaccount"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/optok"
)

// listenerMTLS names the listener for clients with certificates.
const listenerMTLS = "MTLS"

// Paths of the public listener, below the issuer. The lifecycle API's are in
// package keyring.
const (
	pathDiscovery = "/.well-known/openid-configuration"
	pathJWKS      = "/jwks"
	pathJWKSAlias = "/.well-known/jwks.json"
	pathToken     = "/token"
	pathClients   = "/internal/clients"

	pathIntrospect = "/introspect"
	pathAccounts   = "/internal/service-accounts/tokens"
	pathDevice     = "/device" // and /device_authorization
)

// routes builds the handlers of the listeners; the issuer must be final.
func (s *Server) routes() error {
	s.revocations = s.newRevocations()
	s.metrics.followRevocations(s.countRevocations())
	s.families = &refresh.Families{Store: s.store, Now: s.now, Ended: s.familyEnded}
	s.codes = &device.Codes{
		Records: s.store, Now: s.now,
		Lifetime: func() time.Duration { return s.set.Load().cfg.DeviceCodeLifetime.Std() },
	}
	s.minter = s.newMinter(func(i mint.Issued) { s.counter.Add(i.KID, i.Expiry.Unix()) })
	auth, err := clientauth.New(clientauth.Deps{
		Settings: func() *clientauth.Settings { return s.set.Load().auth },
		Clients:  s.clients, Once: s.store, Trust: s.trust, Admit: s.admit, Now: s.now,
	})
	if err != nil {
		return err
	}
	page, err := s.devicePage()
	if err != nil {
		return err
	}
	public, err := s.listenerRoutes(auth, s.issuer)
	if err != nil {
		return err
	}
	public.Handle(device.PathPage, page)
	public.Handle(device.PathPage+"/", page)
	s.legacyRoutes(public)
	s.handler = s.outside(public)
	if s.mtlsURL == "" {
		return nil
	}
	withCerts, err := s.listenerRoutes(auth, s.mtlsURL)
	if err != nil {
		return err
	}
	s.mtlsHandler = s.outside(withCerts)
	return nil
}

// listenerRoutes are what both listeners serve; base is the URL by which
// clients know the one in question, which DPoP proofs must name.
func (s *Server) listenerRoutes(auth *clientauth.Authenticator, base string) (*http.ServeMux, error) {
	mux := http.NewServeMux()
	for pattern, h := range s.oauthRoutes(auth) {
		mux.Handle(pattern, h)
	}
	g := s.newGuard(base)
	s.revocationRoutes(mux, auth, g)
	s.operatorRoutes(mux, g)
	return mux, s.publish(mux)
}

// outside puts around a handler what every request gets.
func (s *Server) outside(h http.Handler) http.Handler {
	return audit.Middleware(s.sinks, audit.Options{Now: s.now, Remote: s.remoteText})(s.internalLimit(h))
}

// oauthRoutes are the endpoints that clients authenticate at, on each listener.
func (s *Server) oauthRoutes(auth *clientauth.Authenticator) map[string]http.Handler {
	endpoint := &token.Endpoint{Deps: token.Deps{
		Settings: func() *token.Settings { return s.set.Load().token },
		Auth:     auth, Once: s.once, Minter: s.minter, Devices: s.codes, Families: s.families, People: s.people,
		Revoked: s.grantRevoked, Nonces: s.nonces.Load, Outcome: s.metrics.answered, Ready: s.db.Err, Now: s.now, Log: s.log,
	}}
	begin := &device.Endpoint{
		Codes: s.codes, Issuer: s.issuer, Authenticate: auth.Authenticate, Choose: s.chooseForDevice, Ready: s.db.Err,
		Remote: s.remoteText, Log: s.log,
	}
	return map[string]http.Handler{
		"POST " + pathToken:                endpoint,
		"POST " + device.PathAuthorization: begin,
		"POST " + pathIntrospect:           s.newIntrospection(auth),
	}
}

// publish adds what anybody may read.
func (s *Server) publish(mux *http.ServeMux) error {
	doc, err := discovery(s.issuer, s.mtlsURL)
	if err != nil {
		return err
	}
	mux.Handle("GET "+pathDiscovery, doc)
	set := &keySet{keys: s.keys, now: s.now}
	mux.Handle("GET "+pathJWKS, set)
	mux.Handle("GET "+pathJWKSAlias, set)
	mux.Handle("GET /health", s.http.Health())
	mux.Handle("GET /ready", s.http.Ready())
	return nil
}

// operatorRoutes adds the operators' API: keys, clients, people, tokens of
// service accounts.
func (s *Server) operatorRoutes(mux *http.ServeMux, g *guard.Guard) {
	api := &lifecycle.API{
		Keys: s.keys, Vantage: s.store, Counter: s.counter, Guard: g, Required: s.points,
		Issuer: s.issuer, JWKSURI: s.issuer + pathJWKS, Replica: s.cfg.Replica,
		Import:   lifecycle.Importer{Base: s.cfg.Signing.KeyDirectory, Root: s.cfg.Signing.ImportDirectory},
		Database: s.db.Err, Timeout: min(s.cfg.Storage.CommandTimeout.Std(), 5*time.Second),
		KeySource: string(s.cfg.Signing.KeySource),
		Now:       s.now, Log: s.log, RequestID: httpd.RequestID,
	}
	s.advance = api.Run
	api.Register(mux)
	s.clientRoutes(mux, g)
	known := func(id string) bool { return s.set.Load().token.KnownTenant(id) }
	people := &users.API{Users: s.people, Guard: g.Bootstrap, Ready: s.db.Err, KnownTenant: known, Log: s.log}
	people.Register(mux)
	accounts := &serviceaccount.API{
		Operator: g.Firsthand, Clients: s.clients, KnownTenant: known, Minter: s.minter, Outcome: s.metrics.answered,
		Ready: s.db.Err, Now: s.now,
	}
	mux.HandleFunc("POST "+pathAccounts, func(w http.ResponseWriter, r *http.Request) {
		answer, err := accounts.Serve(r)
		if err != nil {
			problem.Write(w, r, s.log, httpd.RequestID(r.Context()), err)
			return
		}
		problem.JSON(w, http.StatusOK, answer)
	})
}

// verifier checks tokens for this server's own APIs against its own keys: the
// one that signs and those that signed before it. A tainted key is published
// still, but whoever has it must not drive the keyring; a key that has never
// signed has no tokens.
func (s *Server) verifier(base string) *optok.Verifier {
	return &optok.Verifier{
		Issuer: s.issuer, Audience: guard.Audience, BaseURL: base,
		Keys: s.ownKey, Revoked: s.tokenRevoked,
		Replay: func(ctx context.Context, key string, until time.Time) (bool, error) {
			if err := s.db.Err(); err != nil {
				return false, err
			}
			return s.once.Once(ctx, token.OnceProof, key, until)
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
	k, err := s.findKey(ctx, kid)
	if err != nil {
		return jose.Key{}, err
	}
	if k == nil || k.State != keyring.Active && k.State != keyring.Retiring {
		return jose.Key{}, jwks.ErrUnknownKey
	}
	return k.JWK, nil
}

// findKey finds a key of any state, nil when there is none. Before it calls one
// that may just have been activated by another replica unused, it looks again.
func (s *Server) findKey(ctx context.Context, kid string) (*keyring.Key, error) {
	ring := s.keys.Ring()
	if ring == nil {
		return nil, nil
	}
	k := ring.Find(kid)
	if k != nil && k.State == keyring.Published && s.keys.Unseen() > unseenKey {
		if err := s.keys.Refresh(ctx); err != nil {
			return nil, err
		}
		k = s.keys.Ring().Find(kid)
	}
	return k, nil
}

// httpConfig is the httpd side of the configuration.
func (s *Server) httpConfig() httpd.Config {
	l := httpd.Listener{Address: s.cfg.Listen, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handler.ServeHTTP(w, r) // set before the first request is accepted
	})}
	if !s.cfg.InsecureHTTP {
		l.TLS = &httpd.TLS{CertFile: s.cfg.TLS.Certificate, KeyFile: s.cfg.TLS.Key}
	}
	listeners := []httpd.Listener{l}
	if s.cfg.MTLS.Listen != "" {
		// Any certificate may be presented: who is believed for what is
		// decided for each client, by its tenant's roots.
		listeners = append(listeners, httpd.Listener{
			Name: listenerMTLS, Address: s.cfg.MTLS.Listen,
			TLS:     &httpd.TLS{CertFile: s.cfg.TLS.Certificate, KeyFile: s.cfg.TLS.Key, ClientAuth: tls.RequestClientCert},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.mtlsHandler.ServeHTTP(w, r) }),
		})
	}
	return httpd.Config{
		Name: "stella-authority", Listeners: listeners, Observe: s.metrics.observe,
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
