package revoke_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/store/mongostore"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/testenv"
)

const (
	issuer   = "https://authority.example"
	lifetime = 2 * time.Minute
	skew     = 30 * time.Second
)

// site is what the replicas of one Authority share.
type site struct {
	t    *testing.T
	open func() store.Records

	mu      sync.Mutex
	now     time.Time
	signers []*jose.Signer // the last one is active
	revoked []revoke.RevokedKey
	signErr error
}

func newSite(t *testing.T) *site {
	t.Helper()
	m := mem.New(0)
	s := &site{t: t, open: func() store.Records { return m }, now: time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)}
	s.rotate("k1")
	return s
}

// onMongo moves a site to a real database; every handle is its own connection.
func (s *site) onMongo() *site {
	uri, database := testenv.Mongo(s.t)
	s.open = func() store.Records {
		st, err := mongostore.Open(mongostore.Options{URI: uri, Database: database, Timeout: 30 * time.Second})
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = st.Close(context.Background()) })
		if err := st.Ping(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
		return st
	}
	return s
}

func (s *site) rotate(kid string) {
	s.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	signer, err := jose.NewSigner(k, jose.ES256, kid)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signers = append(s.signers, signer)
}

func (s *site) revoke(kid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = append(s.revoked, revoke.RevokedKey{KID: kid, At: s.now, Reason: "key_compromise"})
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *site) active() *jose.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signers[len(s.signers)-1]
}

func (s *site) options() revoke.Options {
	return revoke.Options{
		Records: s.open(), Issuer: issuer, TokenLifetime: lifetime, Skew: skew, Now: s.clock,
		Keys: func() []revoke.RevokedKey {
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Clone(s.revoked)
		},
		Signer: func() (*jose.Signer, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.signers[len(s.signers)-1], s.signErr
		},
		Current: func(kid string) bool { return kid == s.active().Key().KeyID },
	}
}

func (s *site) register() *revoke.Register { return revoke.New(s.options()) }

// key finds any key that ever signed.
func (s *site) key(_ context.Context, kid string) (jose.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, signer := range s.signers {
		if signer.Key().KeyID == kid {
			return signer.Key(), nil
		}
	}
	return jose.Key{}, jwks.ErrUnknownKey
}

// export makes the list and verifies it as a verifier does.
func (s *site) export(r *revoke.Register) *revocation.Verified {
	s.t.Helper()
	l, err := r.Export(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return s.verify(l)
}

func (s *site) verify(l *revoke.List) *revocation.Verified {
	s.t.Helper()
	d, err := revocation.ParseDocument(l.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := d.Verify(s.t.Context(), s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func ids(v *revocation.Verified) []string {
	out := []string{}
	for _, e := range v.Bundle.Revocations {
		out = append(out, string(e.Category)+" "+e.ID)
	}
	return out
}

func token(jti string) revoke.Entry {
	return revoke.Entry{Entry: revocation.Entry{
		Category: revocation.Token, ID: jti, Reason: "test", ClientID: "c", TokenType: "access_token",
	}}
}

func subject(id string) revoke.Entry {
	return revoke.Entry{Entry: revocation.Entry{Category: revocation.Subject, ID: id, SubjectID: id, Reason: "test"}}
}

func client(id string) revoke.Entry {
	return revoke.Entry{Entry: revocation.Entry{Category: revocation.Client, ID: id, ClientID: id, Reason: "test"}}
}

func add(t *testing.T, r *revoke.Register, e revoke.Entry) {
	t.Helper()
	if created, err := r.Add(t.Context(), e); err != nil || !created {
		t.Fatalf("%+v: %v %v", e, created, err)
	}
}

func isRevoked(t *testing.T, r *revoke.Register, c revocation.Claims) bool {
	t.Helper()
	_, revoked, err := r.Revoked(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return revoked
}

type downError struct{}

func (downError) Error() string { return "the store is out of reach" }

// broken fails one method of a store.
type broken struct {
	store.Records
	insert, record, list bool
}

func (b *broken) Insert(ctx context.Context, r store.Record) error {
	if b.insert {
		return downError{}
	}
	return b.Records.Insert(ctx, r)
}

func (b *broken) Record(ctx context.Context, k store.Kind, id string) (*store.Record, error) {
	if b.record {
		return nil, downError{}
	}
	return b.Records.Record(ctx, k, id)
}

func (b *broken) List(ctx context.Context, k store.Kind) ([]store.Record, error) {
	if b.list {
		return nil, downError{}
	}
	return b.Records.List(ctx, k)
}
