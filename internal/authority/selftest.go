package authority

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/optok"
)

// selfTestKeep is how long the result of a self-test is good for: a key at a
// provider costs a call each time.
const selfTestKeep = 500 * time.Millisecond

// selfTestResult is the latest self-test.
type selfTestResult struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// tested says whether this replica signs.
func (s *Server) tested(context.Context) error {
	t := &s.lastTest
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at.IsZero() || time.Since(t.at) > selfTestKeep {
		t.err = s.selfTest()
		t.at = time.Now()
	}
	return t.err
}

// testedLive is tested without what no restart would cure: a provider of keys
// that is away, a key directory that is out of reach, no key that may sign.
// The key set is served meanwhile, by a process that has it.
func (s *Server) testedLive(ctx context.Context) error {
	if ring := s.keys.Ring(); ring != nil && s.keys.KeptOutside() {
		return nil // a probe that waits for a provider would be cut short
	}
	err := s.tested(ctx)
	if errors.As(err, new(*keyring.ProviderError)) || errors.Is(err, keyring.ErrLease) || errors.Is(err, keyring.ErrNoActive) {
		return nil
	}
	return err
}

// selfTestAudience is nobody's.
const selfTestAudience = "urn:stella:self-test"

// selfTest mints a token with the active key and verifies it with the published
// one, as a resource server would. The token never leaves.
func (s *Server) selfTest() error {
	m := s.newMinter(func(mint.Issued) {})
	key, err := m.Key()
	if err != nil {
		return err
	}
	t, err := m.Mint(key, &mint.Grant{
		Subject: selfTestAudience, ClientID: selfTestAudience, Audience: selfTestAudience, Tenant: "self-test", Lifetime: time.Second,
	}, s.now())
	if err != nil {
		return err
	}
	set := s.keys.Ring().Set()
	v := optok.Verifier{
		Issuer: s.issuer, Audience: selfTestAudience, Skew: time.Second, Now: s.now,
		Keys: func(_ context.Context, kid string) (jose.Key, error) {
			k, ok := set.Key(kid)
			if !ok {
				return k, fmt.Errorf("key %q signs but is not published", kid)
			}
			return k, nil
		},
	}
	_, err = v.Verify(&http.Request{Method: http.MethodGet, URL: &url.URL{}, Header: http.Header{"Authorization": {"Bearer " + t.Compact}}})
	return err
}
