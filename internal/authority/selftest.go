package authority

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/keyring"
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

// selfTest signs with the active key and verifies with the published one.
func (s *Server) selfTest() error {
	signer, err := s.keys.Signer()
	if err != nil {
		return err
	}
	const typ, text = "stella-self-test+jwt", "stella-authority/self-test/v1"
	compact, err := signer.Sign(map[string]any{"typ": typ}, []byte(text))
	if err != nil {
		return err
	}
	jws, err := jose.Parse(compact, jose.Rules{Algs: []jose.Alg{jose.ES256}, Types: []string{typ}})
	if err != nil {
		return err
	}
	key, ok := s.keys.Ring().Set().Key(jws.Header.KeyID)
	if !ok {
		return fmt.Errorf("key %q signs but is not published", jws.Header.KeyID)
	}
	_, err = jws.Verify(key)
	return err
}
