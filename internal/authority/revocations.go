package authority

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/introspect"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/refresh"
	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/optok"
	"github.com/stella-ops/stella/internal/revocation"
)

// Reason codes of revocations that the Authority makes itself.
const (
	reasonClientDeleted = "client_deleted"
	reasonReuse         = "refresh_ended"
)

// newRevocations makes the register of what is revoked; the issuer must be
// final.
func (s *Server) newRevocations() *revoke.Register {
	return revoke.New(revoke.Options{
		Records: s.store, Issuer: s.issuer, Keys: s.revokedKeys, Signer: s.keys.Signer, Current: s.mayHaveSigned,
		// Not today's lifetime: tokens of before may live longer.
		TokenLifetime: maxAccessTokenLifetime, Skew: s.cfg.Signing.ClockSkew.Std(), Now: s.now,
	})
}

// revokedKeys are the keys that no verifier may trust any more.
func (s *Server) revokedKeys() []revoke.RevokedKey {
	ring := s.keys.Ring()
	if ring == nil {
		return nil
	}
	var gone []revoke.RevokedKey
	for _, k := range ring.Keys {
		if k.State == keyring.Revoked {
			gone = append(gone, revoke.RevokedKey{KID: k.KID, At: k.EndedAt})
		}
	}
	return gone
}

// mayHaveSigned reports whether a list under a kid may go on being handed out:
// the active key's, and the standby's, which another replica may have activated
// a moment ago.
func (s *Server) mayHaveSigned(kid string) bool {
	ring := s.keys.Ring()
	if ring == nil {
		return false
	}
	k := ring.Find(kid)
	return k != nil && (k.State == keyring.Active || k.State == keyring.Published || k.State == keyring.Staged)
}

// revokeSubject ends everything that a person was given so far.
func (s *Server) revokeSubject(ctx context.Context, subject, reason string) error {
	_, err := s.revocations.Add(ctx, revoke.Entry{Entry: revocation.Entry{
		Category: revocation.Subject, ID: subject, SubjectID: subject, Reason: reason,
	}})
	return err
}

// revokeClient ends everything that a client was given so far.
func (s *Server) revokeClient(ctx context.Context, id, reason string) error {
	_, err := s.revocations.Add(ctx, revoke.Entry{Entry: revocation.Entry{
		Category: revocation.Client, ID: id, ClientID: id, Reason: reason,
		// Other replicas may know the client for so long yet.
		RevokedAt: s.now().Add(s.cfg.Storage.ClientCache.Std()),
	}})
	return err
}

// familyEnded revokes the access tokens of a family of refresh tokens that has
// ended.
func (s *Server) familyEnded(ctx context.Context, f *refresh.Family, alive []refresh.Access) error {
	for _, t := range alive {
		_, err := s.revocations.Add(ctx, revoke.Entry{Expiry: t.Expires, Entry: revocation.Entry{
			Category: revocation.Token, ID: t.JTI, TokenType: "access_token", ClientID: f.ClientID, Reason: reasonReuse,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// grantRevoked reports whether what was given to a person or a client at a
// time has been revoked since.
func (s *Server) grantRevoked(ctx context.Context, subject, clientID string, given time.Time) (bool, error) {
	_, revoked, err := s.revocations.Revoked(ctx, revocation.Claims{Subject: subject, ClientID: clientID, IssuedAt: given})
	return revoked, err
}

// tokenRevoked is the question of our own APIs about a token.
func (s *Server) tokenRevoked(ctx context.Context, p *optok.Principal) (string, bool, error) {
	if err := s.db.Err(); err != nil {
		return "", false, err
	}
	return s.revocations.Revoked(ctx, revocation.Claims{
		TokenID: p.TokenID, Subject: p.Subject, ClientID: p.ClientID, KID: p.KID, IssuedAt: p.IssuedAt,
	})
}

// trustedKey finds a key that verifiers trust now: it is published and may have
// signed tokens.
func (s *Server) trustedKey(ctx context.Context, kid string) (jose.Key, error) {
	k, err := s.findKey(ctx, kid)
	if err != nil {
		return jose.Key{}, err
	}
	if k == nil || k.State != keyring.Active && k.State != keyring.Retiring && k.State != keyring.Tainted {
		return jose.Key{}, jwks.ErrUnknownKey
	}
	return k.JWK, nil
}

// reader reads access tokens of our own.
func (s *Server) reader() *mint.Reader {
	return &mint.Reader{Issuer: s.issuer, Keys: s.trustedKey, Skew: s.cfg.Signing.ClockSkew.Std(), Now: s.now}
}

// countRevocations is for metrics: what is on the newest list. While it cannot
// be read the counts are those of before.
func (s *Server) countRevocations() func() (map[string]int, int64) {
	var mu sync.Mutex
	counts, sequence := map[string]int{}, int64(0)
	return func() (map[string]int, int64) {
		mu.Lock()
		defer mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.db.Err() != nil {
			return counts, sequence
		}
		list, err := s.revocations.Current(ctx)
		if err != nil {
			return counts, sequence
		}
		fresh := map[string]int{}
		for i := range list.Bundle.Revocations {
			fresh[string(list.Bundle.Revocations[i].Category)]++
		}
		counts, sequence = fresh, list.Bundle.Sequence
		return counts, sequence
	}
}

// revocationRoutes adds /revoke, the revocation list and what changes it.
func (s *Server) revocationRoutes(mux *http.ServeMux, auth *clientauth.Authenticator, g *guard.Guard) {
	reader := s.reader()
	api := &revoke.API{
		Register: s.revocations, Operator: g.Operator,
		AccessToken: func(ctx context.Context, text string) (*revoke.AccessToken, error) {
			return revoke.ReadAccess(ctx, reader, text)
		},
		Authenticate: func(r *http.Request, f *wire.Form) (string, error) {
			if err := s.db.Err(); err != nil {
				return "", wire.Unavailable(err)
			}
			who, err := auth.Authenticate(r, f)
			if err != nil {
				return "", err
			}
			return who.Client.ID, who.Use(r.Context())
		},
		Refresh: func(ctx context.Context, text, clientID string) error {
			err := s.families.Revoke(ctx, text, clientID)
			if errors.Is(err, refresh.ErrInvalid) {
				return revoke.ErrNotOurs
			}
			return err
		},
		Known: s.knownToRevoke, Ready: s.db.Err, Keys: s.keys.Refresh, MaxAge: s.keys.MaxAge, Log: s.log, RequestID: httpd.RequestID,
	}
	api.Routes(mux)
}

// knownToRevoke reports whether a revocation can be about something. A subject is
// a person, whose subjects are not looked up, or a client.
func (s *Server) knownToRevoke(ctx context.Context, category revocation.Category, id string) (bool, error) {
	switch category {
	case revocation.Client:
	case revocation.Subject:
		if strings.HasPrefix(id, users.SubjectPrefix) {
			return true, nil
		}
	default:
		return true, nil
	}
	gone, err := s.clientGone(ctx, id)
	return !gone, err
}

// newIntrospection makes the introspection endpoint.
func (s *Server) newIntrospection(auth *clientauth.Authenticator) *introspect.Endpoint {
	return &introspect.Endpoint{Deps: introspect.Deps{
		Auth: auth, Tokens: s.reader(), Refresh: s.families.Look,
		Revoked: func(ctx context.Context, c *introspect.Claims) (bool, error) {
			_, revoked, err := s.revocations.Revoked(ctx, revocation.Claims{
				TokenID: c.JTI, Subject: c.Subject, ClientID: c.ClientID, KID: c.KID, IssuedAt: time.Unix(c.IssuedAt, 0),
			})
			if err != nil || revoked {
				return revoked, err
			}
			return s.clientGone(ctx, c.ClientID)
		},
		Ready: s.db.Err, Now: s.now,
	}}
}

// clientGone reports whether a client is not registered any more.
func (s *Server) clientGone(ctx context.Context, id string) (bool, error) {
	_, err := s.clients.Client(ctx, id)
	if clients.NotFound(err) {
		return true, nil
	}
	return false, err
}
