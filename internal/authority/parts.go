package authority

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/limit"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/store/redisstore"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/httpd"
)

// openParts opens what is configured beside keys and store.
func (s *Server) openParts(sec *secrets) error {
	if err := s.openRedis(sec); err != nil {
		return err
	}
	files := map[string]clientauth.TrustFiles{}
	for _, t := range s.cfg.MTLS.Tenants {
		files[t.Tenant] = clientauth.TrustFiles{Roots: t.Roots, CRL: t.CRL}
	}
	var err error
	if s.trust, err = clientauth.NewTrust(files, s.log); err != nil {
		return err
	}
	s.newDirectory()
	return nil
}

// openRedis opens what replicas share besides the database, and decides where
// used proofs are remembered. Used assertions are in the database always: they
// are good for minutes, and a Redis that has lost its memory would have to
// refuse them for as long. The issuer is part of every key there.
func (s *Server) openRedis(sec *secrets) error {
	c := s.cfg.Redis
	if c.URL != "" {
		skew, proof := s.cfg.Signing.ClockSkew.Std(), s.cfg.Security.DPoP.ProofLifetime.Std()
		st, err := redisstore.Open(redisstore.Options{
			URL: c.URL, Password: sec.redis, CAFile: c.CAFile, Prefix: c.Prefix, Issuer: s.issuer, Timeout: c.Timeout.Std(),
			// From the moment at which a proof may come early until it is too old.
			Spans: map[string]time.Duration{token.OnceProof: proof + 2*skew},
			Now:   s.now, Log: s.log,
		})
		if err != nil {
			return err
		}
		s.redis = st
	}
	switch s.cfg.Security.DPoP.ReplayStore {
	case replayRedis:
		s.once = s.redis
	case replayMemory:
		s.once = mem.New(0)
	default:
		s.once = s.store
	}
	s.newLimiter()
	return nil
}

// newLimiter makes the limits of 1.7 of the platform's contracts, shared by all
// replicas where there is a Redis.
func (s *Server) newLimiter() {
	o := limit.Options{
		Rules: func() limit.Rules { return s.set.Load().rates }, Now: s.now, Log: s.log,
		Rejected: func(_ context.Context, e limit.Endpoint) { s.metrics.rejected("authority-" + string(e)) },
	}
	if s.redis != nil {
		o.Shared, o.Timeout = s.redis, s.cfg.Redis.Timeout.Std()
		o.SharedUp = s.metrics.redisUp
		s.metrics.redisUp(true)
	}
	s.limiter = limit.New(o)
}

// remote is where a request comes from.
func (s *Server) remote(r *http.Request) netip.Addr {
	return httpd.RemoteAddr(r, s.set.Load().proxies)
}

func (s *Server) remoteText(r *http.Request) string { return s.remote(r).String() }

// admit holds the callers of an OAuth endpoint to the limits.
func (s *Server) admit(r *http.Request, clientID string) error {
	e := limit.Token
	if strings.HasPrefix(r.URL.Path, pathDevice) {
		e = limit.Authorize
	}
	return s.limiter.Admit(r, e, s.remote(r), clientID)
}

// internalLimit holds the callers of the operators' API to the limits.
func (s *Server) internalLimit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/internal/") && !s.limiter.Allow(w, r, limit.Internal, s.remote(r), "") {
			ev := audit.Of(r.Context())
			ev.Set(audit.TypeInternal)
			ev.Outcome(audit.RateLimited, wire.RateLimited)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newDirectory makes the directory of people, by the standard plug-in.
func (s *Server) newDirectory() {
	s.people = users.New(users.Options{
		Store:  s.store,
		Policy: func() users.Policy { return s.set.Load().cfg.standard.Policy() },
		OnRevoke: func(ctx context.Context, subject, reason string) error {
			return s.revokeSubject(ctx, subject, reason)
		},
		Observe: func(o users.Outcome) {
			switch o {
			case users.Refused:
				s.metrics.loginFailed()
			case users.Locked:
				s.metrics.lockedOut()
			}
		},
		Now: s.now, Log: s.log,
	})
}

// firstUser makes the bootstrap user of the manifest, where there is none of
// that name.
func (s *Server) firstUser(ctx context.Context) error {
	doc, err := s.firstDocument(s.cfg)
	if err != nil || doc == nil {
		return err
	}
	made, err := s.people.Ensure(ctx, doc, s.set.Load().token.KnownTenant)
	if made {
		s.log.InfoContext(ctx, "made the bootstrap user of the standard plug-in")
	}
	return err
}

// firstDocument reads and checks the bootstrap user of a configuration; nil
// when there is none.
func (s *Server) firstDocument(cfg *Config) (*users.Document, error) {
	doc, err := cfg.standard.First()
	if err != nil || doc == nil {
		return nil, err
	}
	if err := doc.Check(cfg.standard.Policy().Password, s.set.Load().token.KnownTenant); err != nil {
		return nil, fault.Errorf(fault.Config, "%s: bootstrapUser: %w", cfg.standard.Path, err)
	}
	return doc, nil
}

// logIn checks a name and a password for the device page.
func (s *Server) logIn(ctx context.Context, name, password, remote string) (*device.Person, error) {
	p, err := s.people.Authenticate(ctx, name, password, remote)
	var locked *users.LockedOut
	switch {
	case errors.As(err, &locked):
		return nil, &device.LockedOut{RetryAfter: locked.RetryAfter}
	case errors.Is(err, users.ErrCredentials):
		return nil, device.ErrCredentials
	case err != nil:
		return nil, err
	}
	return &device.Person{
		Subject: p.Subject, Username: p.Name, DisplayName: p.DisplayName, Tenant: p.Tenant, Tenants: p.Tenants,
		Scopes: p.Scopes, Roles: p.Roles, AuthTime: p.AuthTime,
	}, nil
}

// devicePage makes the page on which people approve a login.
func (s *Server) devicePage() (*device.Page, error) {
	return device.NewPage(device.PageDeps{
		Codes: s.codes, Issuer: s.issuer, Login: s.logIn, Ready: s.db.Err, Remote: s.remoteText, Log: s.log,
		Take: func(r *http.Request) (time.Duration, error) {
			err := s.limiter.Admit(r, limit.Authorize, s.remote(r), "")
			if ref := wire.AsRefusal(err); err != nil && ref.Code == wire.RateLimited {
				return max(ref.RetryAfter, time.Second), nil
			}
			return 0, err
		},
	})
}

// chooseForDevice applies the rules of the token endpoint to what a device
// asks a person for.
func (s *Server) chooseForDevice(who *clientauth.Identity, f *wire.Form) (*device.Choice, error) {
	c, known := who.Client, s.set.Load().token.KnownTenant
	audience, err := token.ChooseAudience(c, f.Get("audience"), f.Get("resource"))
	if err != nil {
		return nil, err
	}
	scopes, _, err := token.ChooseScopes(c, f.Get("scope"))
	if err != nil {
		return nil, err
	}
	asked := f.Get("tenant")
	choice := &device.Choice{Scopes: scopes, Audience: audience}
	for _, t := range c.Tenants {
		if known(t) && who.Vouched(t) && (asked == "" || t == asked) {
			choice.Tenants = append(choice.Tenants, t)
		}
	}
	if len(choice.Tenants) == 0 {
		return nil, wire.Refuse(wire.InvalidRequest, "the tenant is not assigned to the client")
	}
	return choice, nil
}

// newMinter makes what signs tokens. The self-test's tokens are not counted:
// they never leave.
func (s *Server) newMinter(count func(mint.Issued)) *mint.Minter {
	return mint.New(mint.Deps{
		Issuer: func() string { return s.issuer }, Signer: s.keys.Signer, MaxLifetime: s.maxLifetime, Count: count,
		Lifetime: func() time.Duration { return s.set.Load().cfg.AccessTokenLifetime.Std() },
	})
}

// openAudit opens where audit records go.
func (s *Server) openAudit() error {
	if s.cfg.Audit.Log {
		s.sinks = append(s.sinks, audit.NewLog(s.log))
	}
	if path := s.cfg.Audit.File; path != "" {
		f, err := audit.OpenFile(path, audit.FileOptions{Log: s.log, Failed: s.metrics.auditFailed})
		if err != nil {
			return fault.As(fault.Config, err)
		}
		s.auditFile = f
		s.sinks = append(s.sinks, f)
	}
	return nil
}

// bypass lets callers from configured networks read the keyring, and tells.
func (s *Server) bypass(r *http.Request, scope string) (string, bool) {
	remote, proxies := s.remote(r), s.set.Load().proxies
	if slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(remote) }) {
		return "", false // a proxy that does not say for whom it asks
	}
	for _, n := range s.set.Load().bypass {
		if n.Contains(remote) {
			s.metrics.bypassed()
			s.log.WarnContext(r.Context(), audit.TemplateBypass, "RemoteIp", remote.String(), "RequiredScopes", scope)
			ev := audit.Of(r.Context())
			ev.Set(audit.TypeBypass)
			ev.Outcome(audit.Success, "")
			ev.Prop("required_scopes", scope, audit.None)
			return remote.String(), true
		}
	}
	return "", false
}

// newGuard makes what decides who may call the operators' API of a listener.
func (s *Server) newGuard(base string) *guard.Guard {
	return &guard.Guard{Header: s.bootstrapHeader, Key: s.bootstrapKey, Verifier: s.verifier(base), Bypass: s.bypass}
}

// discardLog is what a nil Deps.Log means.
func discardLog(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
