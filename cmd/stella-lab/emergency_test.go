package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/signals"
	"github.com/stella-ops/stella/internal/testenv"
)

// bootReport reads the keyring with the bootstrap key, so that the operator
// has no token of their own that would be counted.
func (l *lab) bootReport(t *testing.T) *keyring.Report {
	t.Helper()
	out, err := l.quiet(t.Context(), "auth", "rotate", "status", "--bootstrap", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var r keyring.Report
	if err := jose.DecodeStrict(out, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func (l *lab) await(t *testing.T, what string, ok func(*keyring.Report) bool) *keyring.Report {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		r := l.bootReport(t)
		if ok(r) {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s never came: %+v", what, r)
		}
		if err := signals.Sleep(t.Context(), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func standbyMature(r *keyring.Report) bool {
	ring := &keyring.Ring{Policy: r.Policy, Keys: r.Keys}
	k := ring.Standby()
	return k != nil && !ring.Matures(k).After(r.Now)
}

type issued struct {
	raw, kid string
	at, exp  time.Time
}

func (l *lab) issue(t *testing.T) issued {
	t.Helper()
	raw, _, err := l.mint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	jws, err := jose.Parse(raw, jose.Rules{Algs: []jose.Alg{jose.ES256}})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jose.ParseClaims(jws.UnverifiedPayload())
	if err != nil {
		t.Fatal(err)
	}
	return issued{raw, jws.Header.KeyID, time.Now(), claims.Expiry}
}

// TestTaintAndRevoke: the switch to the standby is at once and to a key that
// was published for a full cache lifetime, live tokens under the tainted key
// are counted exactly, and after the revocation connected verifiers refuse a
// live token within one cache lifetime.
func TestTaintAndRevoke(t *testing.T) {
	lives := testenv.Compressed()
	lives.Token = 30 * time.Second // so that the victim's token outlives the test, also on a slow machine
	l := startLab(t, testenv.FleetOptions{Lifetimes: lives})
	l.await(t, "a mature standby", standbyMature)
	var tokens []issued
	for range 40 { // over both replicas
		tokens = append(tokens, l.issue(t))
	}
	last := tokens[len(tokens)-1]
	r := l.await(t, "a count of all tokens", func(r *keyring.Report) bool { return r.LiveAsOf.After(last.at) })
	want := int64(0)
	for _, tok := range tokens {
		if tok.exp.After(r.Now) {
			want++
		}
	}
	if got := live(r, last.kid); got != want || want == 0 {
		t.Errorf("%d live tokens are counted, there are %d of %d minted", got, want, len(tokens))
	}

	victim := l.issue(t)
	verifiers, err := l.verifiers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verifiers {
		if err := v.Verify(t.Context(), victim.raw); err != nil {
			t.Fatalf("control: %s: %v", v.Name(), err)
		}
	}
	l.exits(t, 0, "auth", "rotate", "taint", "--bootstrap", "--reason", "test")
	switched := time.Now()
	r = l.bootReport(t)
	heir := find(r, activeKID(r))
	if heir.KID == last.kid || find(r, last.kid).State != keyring.Tainted {
		t.Fatalf("after the taint: %+v", r.Keys)
	}
	ring := &keyring.Ring{Policy: r.Policy}
	if ring.Matures(heir).After(heir.ActivatedAt) {
		t.Errorf("key %s signs since %v, but is known to all only from %v", heir.KID, heir.ActivatedAt, ring.Matures(heir))
	}
	for range 40 {
		if tok := l.issue(t); tok.kid == last.kid && time.Since(switched) > l.Lifetimes.Lease {
			t.Errorf("the tainted key signed %s after the taint", time.Since(switched))
		}
	}
	l.exits(t, 0, "auth", "rotate", "revoke", last.kid, "--bootstrap", "--reason", "test")
	within, err := refused(t.Context(), victim.raw, victim.exp, verifiers[:2])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("live tokens counted: %d; refused by connected verifiers %s after the revocation, cache lifetime %s", want, within.Round(time.Millisecond), l.Lifetimes.Cache)
	if slack := 2 * time.Second; within > l.Lifetimes.Cache+slack {
		t.Errorf("refused only after %s, cache lifetime %s", within, l.Lifetimes.Cache)
	}
}

func live(r *keyring.Report, kid string) int64 {
	for _, lv := range r.Live {
		if lv.KID == kid {
			return lv.Tokens
		}
	}
	return 0
}

// TestTaintWithYoungStandby: the operator must choose. An outage issues
// nothing, says so, and ends by itself when the standby is mature.
func TestTaintWithYoungStandby(t *testing.T) {
	l := startLab(t, testenv.FleetOptions{})
	out := l.exits(t, 22, "auth", "rotate", "taint", "--bootstrap", "--reason", "test")
	if !strings.Contains(out, "--outage") || !strings.Contains(out, "--force") {
		t.Errorf("the choice is not offered:\n%s", out)
	}
	l.issue(t) // control: refused means that nothing changed
	l.exits(t, 0, "auth", "rotate", "taint", "--bootstrap", "--outage", "--reason", "test")
	if err := signals.Sleep(t.Context(), l.Lifetimes.Lease); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.mint(t.Context()); fault.KindOf(err) != fault.Transient {
		t.Errorf("during the outage a token was issued, or the error is wrong: %v", err)
	}
	resp, err := l.CA.Client().Get(l.Issuer + "/jwks")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the key set must be served during the outage: %v", errors.Join(err))
	}
	resp.Body.Close()
	// No operator is needed, but the places that serve the set must be looked at.
	l.await(t, "the end of the outage", func(r *keyring.Report) bool {
		if activeKID(r) == "" {
			l.exits(t, 0, "auth", "rotate", "advance", "--bootstrap")
		}
		return activeKID(r) != ""
	})
	if err := signals.Sleep(t.Context(), l.Lifetimes.Poll*2); err != nil {
		t.Fatal(err)
	}
	l.issue(t)
}
