package rotate

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// failing answers the first n changes badly, then leaves them to the fake.
func failing(n int, answer func(http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || n == 0 {
			return false
		}
		n--
		answer(w)
		return true
	}
}

// TestRunGoesOn: a run that waits gets over what passes, asks for the state
// before each new try, and asks for each change against the version it saw.
func TestRunGoesOn(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(http.ResponseWriter)
		fails  int
		wait   bool
		kind   fault.Kind // None: it succeeds
	}{
		{"503, waiting", problem(503, "unavailable"), 9, true, fault.None},
		{"503, not waiting", problem(503, "unavailable"), 1, false, fault.Transient},
		{"cut, waiting", cut, 3, true, fault.None},
		{"a conflict", problem(412, "conflict"), 1, false, fault.None},
		{"conflicts without end", problem(412, "conflict"), 1000, false, fault.Order},
		{"conflicts without end, waiting", problem(412, "conflict"), 1000, true, fault.Order},
		{"too early by another clock, waiting", problem(409, "order"), 1, true, fault.None},
		{"too early by another clock", problem(409, "order"), 1, false, fault.Order},
		{"too early for ever, waiting", problem(409, "order"), 1000, true, fault.Order},
		{"HTML, waiting", body(200, "<html>"), 1, true, fault.Trust},
		{"denied, waiting", problem(403, "denied"), 1, true, fault.Denied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.bad = failing(tc.fails, tc.answer)
			s, err := f.driver(nil).Advance(t.Context(), Options{Wait: tc.wait})
			if fault.KindOf(err) != tc.kind {
				t.Fatalf("it is %v: %v", fault.KindOf(err), err)
			}
			if s == nil || s.Report == nil || s.From != "old" || s.Changes == nil || s.Steps == nil {
				t.Fatalf("the summary is %+v", s)
			}
			if s.Switched != (tc.kind == fault.None) || s.Switched && s.To != "new" {
				t.Errorf("switched %v to %q", s.Switched, s.To)
			}
			if len(f.changes) > maxRefused && tc.kind != fault.None {
				t.Errorf("%d changes were asked for", len(f.changes))
			}
			if f.looks < len(f.changes) {
				t.Errorf("%d looks before %d changes", f.looks, len(f.changes))
			}
			for _, c := range f.changes {
				if c.ExpectVersion != 7 {
					t.Errorf("asked for against version %d", c.ExpectVersion)
				}
			}
		})
	}
}

// TestLostAnswer: the change was made, its answer was lost. The next look
// tells, it is not asked for again, and the summary has it.
func TestLostAnswer(t *testing.T) {
	f := newFake(t)
	f.bad = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			f.report.Keys[0].State, f.report.Keys[1].State = keyring.Retiring, keyring.Active
			f.report.Steps, f.report.Version = nil, 8
			cut(w)
		}
		return false
	}
	var warned []string
	s, err := f.driver(func(text string) { warned = append(warned, text) }).Advance(t.Context(), Options{Wait: true})
	if err != nil || !s.Switched || len(f.changes) != 1 || len(s.Changes) != 1 || s.Changes[0].To != keyring.Active {
		t.Errorf("%v, %d requests, %+v", err, len(f.changes), s)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "looking again") {
		t.Errorf("warned: %q", warned)
	}
}

// TestSlow: an end of the context is told as that end, whatever it broke, and
// a change that was under way may have been done.
func TestSlow(t *testing.T) {
	for _, stage := range []string{"head", "body"} {
		f := newFake(t)
		arrived := make(chan struct{})
		f.bad = func(w http.ResponseWriter, r *http.Request) bool {
			if stage == "body" {
				w.WriteHeader(200)
				_ = http.NewResponseController(w).Flush()
			}
			close(arrived)
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // or it would end the body properly, just in time
		}
		for _, cause := range []*fault.Error{fault.Errorf(fault.Partial, "late"), fault.Errorf(fault.Interrupted, "SIGINT")} {
			arrived = make(chan struct{})
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() { <-arrived; cancel(cause) }()
			_, err := f.driver(nil).API.Change(ctx, keyring.Request{Action: keyring.Stage})
			if fault.KindOf(err) != cause.Kind || !errors.Is(err, cause) || !strings.Contains(strings.Join(fault.HintsOf(err), " "), "may have been done") {
				t.Errorf("slow %s: %v: %v", stage, fault.KindOf(err), err)
			}
		}
		arrived = make(chan struct{})
		client := *f.Client()
		client.Timeout = 50 * time.Millisecond
		if _, err := (&API{Base: f.URL, Doer: &client}).Report(t.Context()); fault.KindOf(err) != fault.Transient {
			t.Errorf("slow %s, bounded by the client: %v", stage, err)
		}
	}
}

// TestUnreachable: a server that is gone is passing, one with a certificate of
// somebody else is a matter of trust.
func TestUnreachable(t *testing.T) {
	f := newFake(t)
	if _, err := (&API{Base: f.URL, Doer: http.DefaultClient}).Report(t.Context()); fault.KindOf(err) != fault.Trust || !strings.Contains(strings.Join(fault.HintsOf(err), ""), "ca_file") {
		t.Errorf("another CA: %v", err)
	}
	d := f.driver(nil)
	f.CloseClientConnections()
	f.Close()
	if _, err := d.Advance(t.Context(), Options{Wait: true}); fault.KindOf(err) != fault.Transient {
		t.Errorf("gone: %v", err)
	}
	if _, err := (&API{Base: "https://[::1", Doer: http.DefaultClient}).Report(t.Context()); fault.KindOf(err) != fault.Config {
		t.Errorf("no URL: %v", err)
	}
}

// TestForceBesideTheClock: the Authority activates a scheduled key by itself a
// moment before the forced activation arrives. That is no failure.
func TestForceBesideTheClock(t *testing.T) {
	f := newFake(t)
	f.bad = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			f.report.Keys[0].State, f.report.Keys[1].State = keyring.Retiring, keyring.Active
			f.report.Steps = nil
			problem(409, "order")(w)
			return true
		}
		return false
	}
	s, err := f.driver(nil).Rotate(t.Context(), Options{Force: true, Reason: "test"})
	if err != nil || !s.Switched || s.To != "new" {
		t.Errorf("%v, %+v", err, s)
	}
	f = newFake(t)
	f.bad = failing(1, problem(409, "order"))
	if s, err := f.driver(nil).Rotate(t.Context(), Options{Force: true, Reason: "test"}); fault.KindOf(err) != fault.Order || s.Switched {
		t.Errorf("%v, %+v", err, s)
	}
}

// TestUpstreamBadly: the one call of an upstream Authority, answered badly.
func TestUpstreamBadly(t *testing.T) {
	for _, tc := range []struct {
		name, call, set string
		status          int
		kind            fault.Kind
	}{
		{"good", `{"activeKeyId":"a"}`, `{"keys":[{"kty":"EC","crv":"P-256","kid":"a","alg":"ES256","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`, 200, fault.None},
		{"not in the set", `{"activeKeyId":"a"}`, `{"keys":[]}`, 200, fault.Trust},
		{"no set", `{"activeKeyId":"a"}`, `<html>`, 200, fault.Trust},
		{"HTML", `<html>`, `{"keys":[]}`, 200, fault.Trust},
		{"gone", ``, ``, 404, fault.NotFound},
		{"down", ``, ``, 503, fault.Transient},
		{"denied", ``, ``, 401, fault.Denied},
		{"a redirect", ``, ``, 307, fault.Trust},
	} {
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if r.Method == http.MethodGet {
				body(200, tc.set)(w)
				return
			}
			body(tc.status, tc.call)(w)
		}))
		u := &Upstream{API: &API{Base: srv.URL, Doer: srv.Client()}, Client: srv.Client(), Header: "x-key"}
		r, err := u.Rotate(t.Context(), UpstreamRequest{KeyID: "a", Location: "a.pem"}, false)
		if fault.KindOf(err) != tc.kind {
			t.Errorf("%s: %v: %v", tc.name, fault.KindOf(err), err)
		}
		if err == nil && (r.Answer.ActiveKeyID != "a" || r.Answer.RetiredKeyIDs == nil || len(r.NotGuaranteed) == 0) {
			t.Errorf("%s: %+v", tc.name, r)
		}
		srv.Close()
	}
}
