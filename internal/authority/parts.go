package authority

import (
	"log/slog"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/store/redisstore"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/fault"
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
