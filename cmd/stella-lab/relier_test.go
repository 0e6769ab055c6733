package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/optok"
	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/testenv"
)

// held is a token in the hands of whom it was issued to.
type held struct {
	name, raw string
	prover    *dpop.Prover
	claims    *jose.Claims
	kid       string
}

func hold(t *testing.T, name, raw string, p *dpop.Prover) *held {
	t.Helper()
	jws, err := jose.Parse(raw, jose.Rules{Algs: []jose.Alg{jose.ES256}})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	claims, err := jose.ParseClaims(jws.UnverifiedPayload())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &held{name, raw, p, claims, jws.Header.KeyID}
}

// relier is a service that accepts tokens and follows what is revoked.
type relier struct {
	name string
	optok.Verifier
	set   *revocation.Set
	lists *optok.Revocations
}

const resource = "https://jobs.example"

func (l *lab) relier(t *testing.T, name string, keys optok.Keys, o optok.RevocationOptions, state *revocation.State) *relier {
	t.Helper()
	set, err := revocation.NewSet(revocation.Options{Issuer: l.Issuer, State: state})
	if err != nil {
		t.Fatal(err)
	}
	o.Set, o.Keys, o.Client = set, keys, l.CA.Client()
	var seen sync.Map
	r := &relier{name: name, set: set, lists: optok.NewRevocations(o)}
	r.Verifier = optok.Verifier{
		Issuer: l.Issuer, Audience: testenv.LoadAudience, BaseURL: resource, Keys: keys, Revoked: r.lists.Check, Skew: l.Lifetimes.Skew,
		Replay: func(_ context.Context, key string, _ time.Time) (bool, error) {
			_, before := seen.LoadOrStore(key, true)
			return !before, nil
		},
	}
	return r
}

// connected is a relier that fetches keys and lists below base and looks for
// new lists every quarter of the cache lifetime.
func (l *lab) connected(t *testing.T, name, base string) *relier {
	t.Helper()
	keys := jwks.New(base+"/jwks", jwks.Options{Client: l.CA.Client(), Cooldown: 100 * time.Millisecond})
	r := l.relier(t, name, keys.Key, optok.RevocationOptions{URL: base + "/revocations", Interval: l.Lifetimes.Cache / 4}, nil)
	go r.lists.Run(t.Context())
	return r
}

// offline is a relier that has a file of keys and a directory in which it
// remembers the last list; lists are carried to it.
func (l *lab) offline(t *testing.T, keyFile, stateDir string) (r *relier, done func()) {
	t.Helper()
	data, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ParseSet(data)
	if err != nil {
		t.Fatal(err)
	}
	state, err := revocation.OpenState(stateDir)
	if err != nil {
		t.Fatal(err)
	}
	r = l.relier(t, "offline", optok.Keys(revocation.KeysIn(keys)), optok.RevocationOptions{}, state)
	return r, func() { state.Close() }
}

// accepts asks with a fresh proof; nil means yes.
func (r *relier) accepts(t *testing.T, h *held) error {
	t.Helper()
	proof, err := h.prover.Proof(http.MethodGet, resource+"/jobs", dpop.ProofOptions{AccessToken: h.raw})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, resource+"/jobs", nil)
	req.Header.Set("Authorization", "DPoP "+h.raw)
	req.Header.Set("DPoP", proof)
	_, err = r.Verify(req)
	return err
}

// refuses reports whether a token is refused as a bad one: that the relier
// cannot tell is neither yes nor no.
func (r *relier) refuses(t *testing.T, h *held) bool {
	t.Helper()
	err := r.accepts(t, h)
	refusal, ok := errors.AsType[*optok.Error](err)
	return ok && refusal.Status == http.StatusUnauthorized && refusal.Code == optok.CodeToken
}

// carried is a list as it is carried in three files.
type carried struct{ dir string }

func (c carried) path() string { return filepath.Join(c.dir, revocation.FileBundle) }

func (c carried) read(t *testing.T) (bundle []byte, jws, digest string) {
	t.Helper()
	var files [3][]byte
	for i, name := range []string{revocation.FileBundle, revocation.FileSignature, revocation.FileDigest} {
		var err error
		if files[i], err = os.ReadFile(filepath.Join(c.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return files[0], string(files[1]), string(files[2])
}

// load takes the list in, as it is in the files.
func (r *relier) load(t *testing.T, c carried) error {
	t.Helper()
	bundle, jws, digest := c.read(t)
	return r.lists.Load(t.Context(), bundle, jws, digest)
}

// export lets the operator write the list as it is now.
func (l *lab) export(t *testing.T, name string) carried {
	t.Helper()
	c := carried{filepath.Join(l.home, name)}
	l.exits(t, 0, "auth", "revoke", "export", "--out", c.dir, "--bootstrap")
	return c
}
