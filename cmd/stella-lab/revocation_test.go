package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/optok"
	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/testenv"
)

// revoking is a lab with services that follow what is revoked, and tokens.
type revoking struct {
	*lab
	connected []*relier
	offline   *relier
	end       func() // of the offline one
	keyFile   string // keys that were carried to the offline one
	stateDir  string
}

func startRevoking(t *testing.T) *revoking {
	t.Helper()
	lives := testenv.Compressed()
	lives.Token = time.Minute // so that no token ends before the test does
	v := &revoking{lab: startLab(t, testenv.FleetOptions{Lifetimes: lives})}
	v.await(t, "a mature standby", standbyMature) // so that the keys that are carried have the next one
	v.keyFile, v.stateDir = filepath.Join(v.home, "jwks.json"), filepath.Join(v.home, "state")
	if err := os.Mkdir(v.stateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.keyFile, v.get(t, "/jwks"), 0o600); err != nil {
		t.Fatal(err)
	}
	v.connected = []*relier{v.lab.connected(t, "connected", v.Issuer), v.lab.connected(t, "behind the caching edge", v.EdgeURL)}
	v.offline, v.end = v.lab.offline(t, v.keyFile, v.stateDir)
	t.Cleanup(func() { v.end() })
	return v
}

func (v *revoking) get(t *testing.T, path string) []byte {
	t.Helper()
	resp, err := v.CA.Client().Get(v.Issuer + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return body
}

// service registers a client and returns what mints its tokens.
func (v *revoking) service(t *testing.T, id string) func(name string) *held {
	t.Helper()
	secretFile, err := v.Register(t.Context(), id, testenv.LoadScope, testenv.LoadAudience)
	if err != nil {
		t.Fatal(err)
	}
	c := v.caller(t, id, secretFile, newProver(t))
	return func(name string) *held {
		t.Helper()
		r, err := c.token(t.Context(), clientForm())
		if err != nil {
			t.Fatal(err)
		}
		return hold(t, name, r.Access, c.prover)
	}
}

// person logs a person in and returns their token and what refreshes it.
func (v *revoking) person(t *testing.T, name string) (h *held, refresh func() reply) {
	t.Helper()
	if err := v.RegisterUser(t.Context(), name, password, testenv.LoadScope); err != nil {
		t.Fatal(err)
	}
	c := v.caller(t, personalID, "", newProver(t))
	code, err := c.login(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.token(t.Context(), deviceForm(code))
	if err != nil || r.Access == "" {
		t.Fatalf("login of %s: %s, %v", name, r, err)
	}
	return hold(t, name, r.Access, c.prover), func() reply {
		again, err := c.token(t.Context(), refreshForm(r.Refresh))
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
}

// all is every relier, the offline one last.
func (v *revoking) all() []*relier { return append(append([]*relier{}, v.connected...), v.offline) }

func (v *revoking) accepted(t *testing.T, by []*relier, tokens ...*held) {
	t.Helper()
	for _, r := range by {
		for _, h := range tokens {
			if err := r.accepts(t, h); err != nil {
				t.Errorf("control: %s refuses the token %q: %v", r.name, h.name, err)
			}
		}
	}
}

// typed is a command, and when it was given and done.
type typed struct{ began, done time.Time }

func (v *revoking) typed(t *testing.T, args ...string) typed {
	t.Helper()
	began := time.Now()
	v.exits(t, 0, append(args, "--reason", "test", "--bootstrap")...)
	return typed{began, time.Now()}
}

// spreads measures how long after the command that revokes it everybody refuses a token:
// the connected ones by themselves, the offline one when the list has come.
// Others' tokens stay good.
func (v *revoking) spreads(t *testing.T, cmd typed, revoked *held, good ...*held) carried {
	t.Helper()
	for _, r := range v.connected {
		v.until(t, r.name+" refuses "+revoked.name, func() bool { return r.refuses(t, revoked) })
		took := time.Since(cmd.began)
		t.Logf("%s: refused by %q %s after the command was given, which took %s; cache lifetime %s", revoked.name, r.name,
			took.Round(time.Millisecond), cmd.done.Sub(cmd.began).Round(time.Millisecond), v.Lifetimes.Cache)
		// A replica looks at most once a second, a service every quarter of the
		// lifetime, and the machine may be slow.
		limit := cmd.done.Sub(cmd.began) + v.Lifetimes.Cache + 2*time.Second
		if r != v.connected[0] {
			limit += time.Second + v.Lifetimes.Cache/4 // a cache adds its own age
		}
		if took > limit {
			t.Errorf("%s refuses %s only after %s, want %s", r.name, revoked.name, took, limit)
		}
	}
	if v.offline.refuses(t, revoked) {
		t.Errorf("%s: nobody told the offline one", revoked.name)
	}
	c := v.export(t, revoked.name)
	if err := v.offline.load(t, c); err != nil {
		t.Fatal(err)
	}
	if !v.offline.refuses(t, revoked) {
		t.Errorf("%s: the list is there, and it is accepted", revoked.name)
	}
	v.accepted(t, v.all(), good...)
	return c
}

// TestRevocationEverywhere: a revoked token, client, subject and key are
// refused by services that follow the list within about a cache lifetime, and
// by one without a network at once when the list is carried to it; everything
// else goes on. A list that is older or changed has no effect.
func TestRevocationEverywhere(t *testing.T) {
	v := startRevoking(t)
	if err := v.RegisterPublic(t.Context(), personalID, testenv.LoadScope, testenv.LoadAudience); err != nil {
		t.Fatal(err)
	}
	one, two := v.service(t, "one"), v.service(t, "two")
	token, sibling, client := one("token"), one("sibling"), two("client")
	ana, anaAgain := v.person(t, "ana")
	bob, bobAgain := v.person(t, "bob")
	if err := v.offline.load(t, v.export(t, "first")); err != nil {
		t.Fatal(err)
	}
	for _, r := range v.connected {
		v.until(t, r.name+" has a list", func() bool { return r.set.Current() != nil })
	}
	v.accepted(t, v.all(), token, sibling, client, ana, bob)

	cmd := v.typed(t, "auth", "revoke", "token", token.claims.ID, "--client", "one")
	older := v.spreads(t, cmd, token, sibling, client, ana, bob)

	cmd = v.typed(t, "auth", "revoke", "client", "two")
	v.spreads(t, cmd, client, sibling, ana, bob)
	v.until(t, "what the client gets from then on is good", func() bool {
		return v.connected[0].accepts(t, two("later")) == nil
	})

	cmd = v.typed(t, "auth", "revoke", "subject", ana.claims.Subject)
	newer := v.spreads(t, cmd, ana, sibling, bob)
	if r := anaAgain(); r.Code != "invalid_grant" {
		t.Errorf("the revoked login goes on: %s", r)
	}
	if r := bobAgain(); r.Access == "" {
		t.Errorf("control: another's login: %s", r)
	}
	v.older(t, older, newer, client, ana)
	v.changed(t, newer)
	v.key(t, one, sibling)
}

// older: a list of before has no effect, also after a restart.
func (v *revoking) older(t *testing.T, older, newer carried, revoked ...*held) {
	t.Helper()
	refused := func(when string) {
		t.Helper()
		if err := v.offline.load(t, older); !errors.Is(err, revocation.ErrOlder) || fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: an older list: %v", when, err)
		}
		for _, h := range revoked {
			if !v.offline.refuses(t, h) {
				t.Errorf("%s: the older list brought %q back", when, h.name)
			}
		}
	}
	refused("running")
	v.end()
	v.offline, v.end = v.lab.offline(t, v.keyFile, v.stateDir)
	refused("restarted")
	state := filepath.Join(v.home, "operator-state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	verify := func(want int, c carried) {
		t.Helper()
		v.exits(t, want, "auth", "revoke", "verify", "--bundle", c.path(), "--key", v.keyFile, "--state", state)
	}
	verify(0, older)
	verify(0, newer)
	verify(21, older)
	verify(0, newer)
}

// changed: no list with one other byte is believed.
func (v *revoking) changed(t *testing.T, c carried) {
	t.Helper()
	bundle, jws, _ := c.read(t)
	at := bytes.Index(bundle, []byte(`"sequence": `)) + len(`"sequence": `)
	bad := bytes.Clone(bundle)
	bad[at] = '9' // a number still, but a higher one
	fresh := v.relier(t, "fresh", v.offline.Keys, optok.RevocationOptions{}, nil)
	for _, digest := range []string{revocation.Digest(bundle), revocation.Digest(bad)} {
		if err := fresh.lists.Load(t.Context(), bad, jws, digest); fault.KindOf(err) != fault.Trust || fresh.set.Current() != nil {
			t.Errorf("a changed list: %v", err)
		}
	}
	if err := fresh.load(t, c); err != nil {
		t.Errorf("control: %v", err)
	}
	spoilt := carried{filepath.Join(v.home, "spoilt")}
	if err := os.CopyFS(spoilt.dir, os.DirFS(c.dir)); err != nil {
		t.Fatal(err)
	}
	v.exits(t, 0, "auth", "revoke", "verify", "--bundle", spoilt.path(), "--key", v.keyFile)
	if err := os.WriteFile(spoilt.path(), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	v.exits(t, 21, "auth", "revoke", "verify", "--bundle", spoilt.path(), "--key", v.keyFile)
	if err := os.WriteFile(filepath.Join(spoilt.dir, revocation.FileDigest), []byte(revocation.Digest(bad)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v.exits(t, 21, "auth", "revoke", "verify", "--bundle", spoilt.path(), "--key", v.keyFile)
}

// key: what a revoked key signed is refused by all, the list that says so is
// signed by another key, and so are the tokens from then on.
func (v *revoking) key(t *testing.T, mint func(string) *held, signed *held) {
	t.Helper()
	kid := signed.kid
	list := func() *revocation.Verified {
		t.Helper()
		doc, err := revocation.ParseDocument(v.get(t, "/revocations"))
		if err != nil {
			t.Fatal(err)
		}
		set, err := jose.ParseSet(v.get(t, "/jwks"))
		if err != nil {
			t.Fatal(err)
		}
		good, err := doc.Verify(t.Context(), revocation.KeysIn(set))
		if err != nil {
			t.Fatal(err)
		}
		return good
	}
	if was := list(); was.KID != kid {
		t.Fatalf("control: the list is signed by %s, tokens by %s", was.KID, kid)
	}
	signed.name = "key"
	v.typed(t, "auth", "rotate", "taint")
	v.accepted(t, v.all(), signed) // tainted is not revoked
	v.until(t, "no list is handed out under the tainted key", func() bool { return list().KID != kid })
	cmd := v.typed(t, "auth", "rotate", "revoke", kid)
	var heirs *held
	v.until(t, "the heir signs", func() bool {
		heirs = mint("heir's")
		return heirs.kid != kid
	})
	c := v.spreads(t, cmd, signed, heirs)
	bundle, jws, digest := c.read(t)
	got, err := revocation.Verify(t.Context(), bundle, jws, digest, revocation.Keys(v.offline.Keys))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*revocation.Verified{got, list()} {
		named := false
		for _, e := range l.Bundle.Revocations {
			named = named || e.Category == revocation.Key && e.ID == kid
		}
		if !named || l.KID == kid || l.KID != heirs.kid {
			t.Errorf("the list is signed by %s; the revoked key %s is on it: %t", l.KID, kid, named)
		}
	}
}
