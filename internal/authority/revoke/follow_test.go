package revoke_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/optok"
	"github.com/stella-ops/stella/internal/revocation"
)

// T32 from end to end: a client gives its token back; a connected verifier
// refuses it after its next look, an offline one after the import, and one
// that was restarted still.
func TestVerifiers(t *testing.T) {
	g := newRig(t)
	path := t.TempDir()
	set := func(state *revocation.State) *revocation.Set {
		s, err := revocation.NewSet(revocation.Options{Issuer: issuer, Now: g.clock, State: state})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var state *revocation.State
	open := func() *revocation.State {
		if state != nil { // the process of before has ended
			if err := state.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if state, err = revocation.OpenState(path); err != nil {
			t.Fatal(err)
		}
		return state
	}
	connected := optok.NewRevocations(optok.RevocationOptions{
		URL: g.srv.URL + revoke.PathList, Client: g.srv.Client(), Set: set(nil), Keys: g.key, Now: g.clock,
	})
	offline := optok.NewRevocations(optok.RevocationOptions{Set: set(open()), Keys: g.key, Now: g.clock})
	token := g.accessToken("j", "c", nil)
	ask := func(f *optok.Revocations) int {
		t.Helper()
		v := &optok.Verifier{Issuer: issuer, Audience: "api://jobs", Keys: g.key, Revoked: f.Check, Now: g.clock}
		r := httptest.NewRequest("GET", "/x", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		_, err := v.Verify(r)
		e, ok := errors.AsType[*optok.Error](err)
		if !ok {
			return http.StatusOK
		}
		return e.Status
	}
	bring := func(f *optok.Revocations, v *revocation.Verified, body []byte) error {
		d, err := revocation.ParseDocument(body)
		if err != nil {
			t.Fatal(err)
		}
		return f.Load(t.Context(), v.Bytes, d.Signature, d.Digest)
	}
	first, err := g.register.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(connected.Look(t.Context()), bring(offline, g.verify(first), first.Body)); err != nil {
		t.Fatal(err)
	}
	if a, b := ask(connected), ask(offline); a != 200 || b != 200 {
		t.Fatalf("control: %d %d", a, b)
	}
	if resp, _ := g.giveBack(token, "c"); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	g.audited()
	if a, b := ask(connected), ask(offline); a != 200 || b != 200 {
		t.Errorf("before they can know: %d %d", a, b)
	}
	if err := connected.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(connected); got != 401 {
		t.Errorf("connected, after a look: %d", got)
	}
	second, err := g.register.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := bring(offline, g.verify(second), second.Body); err != nil {
		t.Fatal(err)
	}
	if got := ask(offline); got != 401 {
		t.Errorf("offline, after the import: %d", got)
	}
	restarted := optok.NewRevocations(optok.RevocationOptions{Set: set(open()), Keys: g.key, Now: g.clock})
	if err := bring(restarted, g.verify(first), first.Body); !errors.Is(err, revocation.ErrOlder) {
		t.Errorf("rolled back after a restart: %v", err)
	}
	if got := ask(restarted); got != 401 {
		t.Errorf("after a restart: %d", got)
	}
}
