package keyring

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io/fs"
	"sync"
)

// service is a Provider in memory that can be made to fail.
type service struct {
	mu     sync.Mutex
	keys   map[string]*ecdsa.PrivateKey // by reference
	names  map[string]string            // name: reference
	ended  map[string]bool              // destroyed references
	makes  int                          // calls of Make
	opens  int                          // calls of Open
	signAs *ecdsa.PrivateKey            // signs with this one instead
	down   error
	hang   chan struct{} // makes Make and Open wait
}

func newService() *service {
	return &service{keys: map[string]*ecdsa.PrivateKey{}, names: map[string]string{}, ended: map[string]bool{}}
}

func (s *service) set(do func(*service)) { s.mu.Lock(); defer s.mu.Unlock(); do(s) }

func (s *service) wait(ctx context.Context) error {
	s.mu.Lock()
	hang, down := s.hang, s.down
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return down
}

func (s *service) Make(ctx context.Context, name string) (string, error) {
	if err := s.wait(ctx); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makes++
	if ref, ok := s.names[name]; ok {
		return ref, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ref := "mem:" + name
	s.keys[ref], s.names[name] = key, ref
	return ref, err
}

func (s *service) Adopt(ctx context.Context, ref string) (string, error) {
	_, err := s.Open(ctx, ref)
	return ref, err
}

func (s *service) Open(ctx context.Context, ref string) (RemoteKey, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	if key := s.keys[ref]; key != nil {
		return &serviceKey{s, key}, nil
	}
	return nil, fs.ErrNotExist
}

func (s *service) Destroy(ctx context.Context, ref string) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, ref)
	s.ended[ref] = true
	return nil
}

type serviceKey struct {
	s   *service
	key *ecdsa.PrivateKey
}

func (k *serviceKey) Public() *ecdsa.PublicKey { return &k.key.PublicKey }

func (k *serviceKey) SignDigest(ctx context.Context, digest []byte) ([]byte, error) {
	if err := k.s.wait(ctx); err != nil {
		return nil, err
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	if k.s.signAs != nil {
		return ecdsa.SignASN1(rand.Reader, k.s.signAs, digest)
	}
	return ecdsa.SignASN1(rand.Reader, k.key, digest)
}
