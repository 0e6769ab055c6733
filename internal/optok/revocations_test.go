package optok_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/optok"
	"github.com/stella-ops/stella/internal/revocation"
)

// authority is an issuer that hands a list out.
type authority struct {
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request)
	looks  int
	kept   int // answers that the list had not changed
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.looks++
	answer := a.answer
	a.mu.Unlock()
	answer(w, r)
}

func (a *authority) set(answer func(w http.ResponseWriter, r *http.Request)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// serve hands out a document as an Authority does.
func (a *authority) serve(body []byte) {
	etag := `"` + revocation.Digest(body) + `"`
	a.set(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			a.mu.Lock()
			a.kept++
			a.mu.Unlock()
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(body)
	})
}

func (a *authority) counts() (looks, kept int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.looks, a.kept
}

// handlerTransport answers without a network, so that time can be a bubble's.
type handlerTransport struct{ h http.Handler }

func (t handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	t.h.ServeHTTP(w, r)
	return w.Result(), nil
}

func unreachable(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// list makes a signed list that revokes tokens.
func list(t *testing.T, s *jose.Signer, sequence int64, jtis ...string) (data []byte, jws string, document []byte) {
	t.Helper()
	b := &revocation.Bundle{
		SchemaVersion: revocation.SchemaVersion, Issuer: issuer, IssuedAt: time.Unix(1_800_000_000+sequence, 0), Sequence: sequence,
	}
	for _, jti := range jtis {
		b.Revocations = append(b.Revocations, revocation.Entry{
			Category: revocation.Token, ID: jti, RevokedAt: time.Unix(1_800_000_000, 0), TokenType: "access_token", ClientID: "c", Reason: "test",
		})
	}
	data, err := revocation.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	if jws, err = revocation.Sign(data, s, ""); err != nil {
		t.Fatal(err)
	}
	if document, err = (&revocation.Document{Sequence: sequence, Bundle: data, Signature: jws}).Encode(); err != nil {
		t.Fatal(err)
	}
	return data, jws, document
}

func newSet(t *testing.T) *revocation.Set {
	t.Helper()
	s, err := revocation.NewSet(revocation.Options{Issuer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// status is what a request with a token gets: 200, or the status of the
// refusal.
func (f *fixture) status(token string) int {
	f.t.Helper()
	_, err := f.verify(token)
	if err == nil {
		return http.StatusOK
	}
	e, ok := errors.AsType[*optok.Error](err)
	if !ok {
		f.t.Fatal(err)
	}
	if e.Status == http.StatusUnauthorized && e.Code != optok.CodeToken {
		f.t.Errorf("refused with %q", e.Code)
	}
	return e.Status
}

// T32: a connected verifier refuses a revoked token after one interval.
func TestRevokedWithinInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := &authority{}
		_, _, first := list(t, f.signer, 1)
		a.serve(first)
		follower := optok.NewRevocations(optok.RevocationOptions{
			URL: issuer + "/revocations", Set: newSet(t), Keys: f.v.Keys, Interval: 30 * time.Second,
			Client: &http.Client{Transport: handlerTransport{a}},
		})
		f.v.Revoked = follower.Check
		token := f.token("at+jwt", f.claims())
		if got := f.status(token); got != http.StatusServiceUnavailable {
			t.Errorf("before the first list: %d", got)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			follower.Run(ctx)
		}()
		synctest.Wait()
		if got := f.status(token); got != http.StatusOK {
			t.Errorf("control: %d", got)
		}
		_, _, second := list(t, f.signer, 2, "j")
		a.serve(second)
		time.Sleep(30 * time.Second) // of the bubble
		synctest.Wait()
		if got := f.status(token); got != http.StatusUnauthorized {
			t.Errorf("one interval after the revocation: %d", got)
		}
		other := f.claims()
		other["jti"] = "j2"
		if got := f.status(f.token("at+jwt", other)); got != http.StatusOK {
			t.Errorf("another token: %d", got)
		}
		// An older list does not bring the token back, nor does any other
		// answer. Unchanged lists are not sent again.
		a.serve(first)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := f.status(token); got != http.StatusUnauthorized {
			t.Errorf("after an older list: %d", got)
		}
		a.serve(second)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if looks, kept := a.counts(); looks != 7 || kept != 4 {
			t.Errorf("%d looks, %d of them without a body", looks, kept)
		}
		stop()
		<-done
	})
}

// Each answer is refused and leaves the list from before.
func TestLookRefuses(t *testing.T) {
	f := newFixture(t)
	stranger := newFixture(t)
	_, _, good := list(t, f.signer, 5, "j")
	_, _, older := list(t, f.signer, 4)
	_, _, fork := list(t, f.signer, 5)
	_, _, forged := list(t, stranger.signer, 6)
	changed := func(doc []byte, old, new string) []byte {
		d, err := revocation.ParseDocument(doc)
		if err != nil {
			t.Fatal(err)
		}
		d.Bundle = []byte(strings.Replace(string(d.Bundle), old, new, 1))
		out, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	_, _, next := list(t, f.signer, 6, "j")
	body := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
	}
	status := func(s int) http.HandlerFunc { return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(s) } }
	for name, row := range map[string]struct {
		answer http.HandlerFunc
		kind   fault.Kind
	}{
		"control":          {body(next), fault.None},
		"older":            {body(older), fault.Trust},
		"fork":             {body(fork), fault.Trust},
		"forged":           {body(forged), fault.Trust},
		"one byte changed": {body(changed(next, `"id": "j"`, `"id": "k"`)), fault.Trust},
		"no JSON":          {body([]byte("<html>")), fault.Trust},
		"too large":        {body(make([]byte, revocation.MaxDocument+1)), fault.Trust},
		"500":              {status(500), fault.Transient},
		"404":              {status(404), fault.Transient},
		"304 out of place": {status(304), fault.Transient},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				_, _ = w.Write(next)
				return
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, fault.Transient},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("{"))
		}, fault.Transient},
		"away": {unreachable, fault.Transient},
	} {
		a := &authority{}
		a.set(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) }) // without ETag
		srv := httptest.NewServer(a)
		set := newSet(t)
		follower := optok.NewRevocations(optok.RevocationOptions{URL: srv.URL + "/revocations", Set: set, Keys: f.v.Keys, Client: srv.Client()})
		if err := follower.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.set(row.answer)
		err := follower.Look(t.Context())
		if fault.KindOf(err) != row.kind {
			t.Errorf("%s: %v", name, err)
		}
		if _, revoked := set.Revoked(revocation.Claims{TokenID: "j"}); !revoked {
			t.Errorf("%s brought the token back", name)
		}
		if got, want := set.Current().Bundle.Sequence, int64(5); row.kind != fault.None && got != want {
			t.Errorf("%s: sequence %d", name, got)
		}
		srv.Close()
	}
}

// While the issuer is away the last list holds, but not for ever; what is
// revoked stays so.
func TestTolerance(t *testing.T) {
	f := newFixture(t)
	_, _, doc := list(t, f.signer, 1, "gone")
	a := &authority{}
	a.serve(doc)
	now := f.now
	for name, o := range map[string]optok.RevocationOptions{
		"bounded": {Interval: 30 * time.Second, Tolerance: time.Minute},
		"default": {Interval: 30 * time.Second},
		"none":    {Interval: 30 * time.Second, Tolerance: -1},
		"kept":    {Interval: 30 * time.Second, Tolerance: -1, KeepStale: true},
	} {
		now = f.now
		o.URL, o.Set, o.Keys, o.Now = issuer+"/revocations", newSet(t), f.v.Keys, func() time.Time { return now }
		o.Client = &http.Client{Transport: handlerTransport{a}}
		follower := optok.NewRevocations(o)
		if err := follower.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		life := map[string]time.Duration{"bounded": 90 * time.Second, "default": 630 * time.Second, "none": 30 * time.Second, "kept": 1e6 * time.Hour}[name]
		for _, step := range []struct {
			after time.Duration
			ok    bool
		}{{0, true}, {life, true}, {life + time.Second, name == "kept"}} {
			now = f.now.Add(step.after)
			if _, revoked, err := follower.Check(t.Context(), &optok.Principal{TokenID: "j"}); revoked || (err == nil) != step.ok {
				t.Errorf("%s after %s: %v %v", name, step.after, revoked, err)
			}
			if reason, revoked, err := follower.Check(t.Context(), &optok.Principal{TokenID: "gone"}); !revoked || reason != "test" || err != nil {
				t.Errorf("%s after %s, revoked: %v %v", name, step.after, revoked, err)
			}
		}
		if err := follower.Look(t.Context()); err != nil { // 304
			t.Fatal(err)
		}
		if _, _, err := follower.Check(t.Context(), &optok.Principal{TokenID: "j"}); err != nil {
			t.Errorf("%s: not after a look that found nothing new: %v", name, err)
		}
	}
}

// A verifier that is started while the issuer is away goes by when its list was
// issued.
func TestStartedWithList(t *testing.T) {
	f := newFixture(t)
	data, jws, doc := list(t, f.signer, 1)
	a := &authority{}
	a.serve(doc)
	set := newSet(t)
	issued := time.Unix(1_800_000_001, 0)
	now := issued
	follower := optok.NewRevocations(optok.RevocationOptions{
		URL: issuer + "/revocations", Set: set, Keys: f.v.Keys, Now: func() time.Time { return now }, Interval: time.Second, Tolerance: time.Minute,
		Client: &http.Client{Transport: handlerTransport{a}},
	})
	if err := follower.Load(t.Context(), data, jws, ""); err != nil {
		t.Fatal(err)
	}
	for after, ok := range map[time.Duration]bool{0: true, 61 * time.Second: true, 62 * time.Second: false, -time.Second: false} {
		now = issued.Add(after)
		if _, _, err := follower.Check(t.Context(), &optok.Principal{TokenID: "j"}); (err == nil) != ok {
			t.Errorf("after %s: %v", after, err)
		}
	}
	now = issued.Add(time.Hour)
	if err := follower.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := follower.Check(t.Context(), &optok.Principal{TokenID: "j"}); err != nil {
		t.Errorf("after a look: %v", err)
	}
}

// Offline: in effect when Load returns, and never an older one.
func TestLoad(t *testing.T) {
	f := newFixture(t)
	follower := optok.NewRevocations(optok.RevocationOptions{Set: newSet(t), Keys: f.v.Keys})
	f.v.Revoked = follower.Check
	token := f.token("at+jwt", f.claims())
	data1, jws1, _ := list(t, f.signer, 1)
	data2, jws2, _ := list(t, f.signer, 2, "j")
	if err := follower.Load(t.Context(), data1, jws1, revocation.Digest(data1)); err != nil {
		t.Fatal(err)
	}
	if got := f.status(token); got != http.StatusOK {
		t.Fatalf("control: %d", got)
	}
	f.now = f.now.Add(time.Second) // for a proof of its own
	changed := []byte(strings.Replace(string(data2), `"id": "j"`, `"id": "k"`, 1))
	if err := follower.Load(t.Context(), changed, jws2, ""); !errors.Is(err, revocation.ErrSignature) || fault.KindOf(err) != fault.Trust {
		t.Errorf("changed: %v", err)
	}
	if err := follower.Load(t.Context(), data2, jws2, revocation.Digest(data1)); !errors.Is(err, revocation.ErrDigest) {
		t.Errorf("other digest: %v", err)
	}
	if got := f.status(token); got != http.StatusOK {
		t.Errorf("after refused lists: %d", got)
	}
	if err := follower.Load(t.Context(), data2, jws2, ""); err != nil {
		t.Fatal(err)
	}
	if got := f.status(token); got != http.StatusUnauthorized {
		t.Errorf("after the list: %d", got)
	}
	if err := follower.Load(t.Context(), data1, jws1, ""); !errors.Is(err, revocation.ErrOlder) {
		t.Errorf("older: %v", err)
	}
	if got := f.status(token); got != http.StatusUnauthorized {
		t.Errorf("after an older list: %d", got)
	}
}

// The hook sees the principal and its answer is final.
func TestRevokedHook(t *testing.T) {
	f := newFixture(t)
	token := f.token("at+jwt", f.claims())
	var seen *optok.Principal
	for name, row := range map[string]struct {
		revoked bool
		err     error
		want    int
	}{"not revoked": {false, nil, 200}, "revoked": {true, nil, 401}, "unknown": {false, errors.New("down"), 503}, "both": {true, errors.New("down"), 503}} {
		f.v.Revoked = func(_ context.Context, p *optok.Principal) (string, bool, error) {
			seen = p
			return "why", row.revoked, row.err
		}
		if got := f.status(token); got != row.want {
			t.Errorf("%s: %d", name, got)
		}
		if seen == nil || seen.TokenID != "j" || seen.KID != "k1" {
			t.Errorf("%s: asked about %+v", name, seen)
		}
	}
}
