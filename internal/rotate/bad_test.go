package rotate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/signals"
)

// fakeAuthority answers the lifecycle API over TLS as a test wants, and
// remembers every change that it was asked for.
type fakeAuthority struct {
	*httptest.Server
	mu      sync.Mutex
	report  keyring.Report
	changes []keyring.Request
	looks   int
	// bad answers a request instead; false leaves it to the fake.
	bad func(w http.ResponseWriter, r *http.Request) bool
}

func newFake(t *testing.T) *fakeAuthority {
	t.Helper()
	now := time.Now().UTC()
	f := &fakeAuthority{report: keyring.Report{Schema: keyring.SchemaReport, Now: now, Version: 7, Keys: []keyring.Key{
		{KID: "old", State: keyring.Active, JWK: publicKey(t)},
		{KID: "new", State: keyring.Published, JWK: publicKey(t), PublishedAt: now.Add(-time.Hour), ActivateAt: now.Add(-time.Minute)},
	}}}
	f.due(keyring.Activate, "new")
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail on purpose
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

func publicKey(t *testing.T) jose.Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jose.NewKey(private.Public(), "", jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// due makes one automatic step the only one that is left.
func (f *fakeAuthority) due(action keyring.Action, kid string) {
	f.report.Steps = []keyring.Step{{Action: action, KID: kid, Due: true, Auto: true, NotBefore: f.report.Now}}
}

func (f *fakeAuthority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var req keyring.Request
	if r.Method == http.MethodPost {
		_ = json.NewDecoder(r.Body).Decode(&req)
		f.changes = append(f.changes, req)
	} else {
		f.looks++
	}
	if f.bad != nil && f.bad(w, r) {
		return
	}
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(f.report)
		return
	}
	f.report.Version++
	f.report.Keys[0].State, f.report.Keys[1].State, f.report.Keys[1].ActivateAt = keyring.Retiring, keyring.Active, time.Time{}
	f.report.Steps = nil
	_ = json.NewEncoder(w).Encode(keyring.Result{
		Schema: keyring.SchemaResult, Action: req.Action, KID: "new", From: keyring.Published, To: keyring.Active, Report: f.report,
	})
}

// driver talks to f; no wait is longer than a millisecond.
func (f *fakeAuthority) driver(warn func(string)) *Driver {
	return &Driver{
		API: &API{Base: f.URL, Doer: f.Client()}, Looker: &Looker{Client: f.Client()},
		Delays: []time.Duration{time.Microsecond, time.Microsecond, time.Microsecond},
		Sleep:  func(ctx context.Context, _ time.Duration) error { return signals.Sleep(ctx, time.Millisecond) },
		Events: func(e Event) {
			if e.Type == Warning && warn != nil {
				warn(e.Text)
			}
		},
	}
}

func problem(status int, code string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(keyring.Problem{Error: keyring.ProblemDetail{
			Code: code, Message: "what the server says", TraceID: "T", Earliest: time.Unix(1e9, 0), Next: "stella next", Lagging: []string{"edge"},
			Hints: []string{"the server's\nhint: it is one line", "h2", "h3", "h4", "h5", "h6"},
		}})
	}
}

func body(status int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(status); _, _ = io.WriteString(w, text) }
}

// cut ends the connection in the middle of a body.
func cut(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"schema":"stella.key`)
	panic(http.ErrAbortHandler)
}

// answers are what a server, or something in front of it, may say instead of
// what the lifecycle API says, and what it means for the caller.
var answers = []struct {
	name   string
	answer func(http.ResponseWriter)
	kind   fault.Kind
	hint   string
}{
	{"500 without body", body(500, ""), fault.Transient, ""},
	{"502 HTML", body(502, "<html>Bad Gateway"), fault.Transient, ""},
	{"503 of the API", problem(503, "unavailable"), fault.Transient, "rotate status"},
	{"429", body(429, "slow down"), fault.Transient, ""},
	{"200 HTML", body(200, "<html>Welcome"), fault.Trust, "authority.url"},
	{"200 nothing", body(200, ""), fault.Trust, "authority.url"},
	{"200 a list", body(200, "[]"), fault.Trust, "authority.url"},
	{"200 no schema", body(200, "{}"), fault.Trust, "authority.url"},
	{"200 another schema", body(200, `{"schema":"stella.keyring.report/v9"}`), fault.Trust, "stella version"},
	{"200 a value of another type", body(200, `{"schema":7}`), fault.Trust, "authority.url"},
	{"a huge body", body(200, `{"schema":"`+strings.Repeat("x", maxAnswer)+`"}`), fault.Trust, "authority.url"},
	{"a huge error", body(500, strings.Repeat("x", maxAnswer+1)), fault.Trust, ""},
	{"a cut connection", cut, fault.Transient, ""},
	{"404 without body", body(404, ""), fault.NotFound, "--key-id"},
	{"404 of the API", problem(404, "not_found"), fault.NotFound, "rotate status"},
	{"401 without body", body(401, ""), fault.Denied, ""},
	{"401 of the API", problem(401, "unauthenticated"), fault.Denied, "auth login"},
	{"403 of the API", problem(403, "denied"), fault.Denied, keyring.ScopeManage},
	{"400 of the API", problem(400, "invalid"), fault.Input, ""},
	{"409 of the API", problem(409, "order"), fault.Order, "next: stella next"},
	{"412 of the API", problem(412, "conflict"), fault.Order, "rotate status"},
	{"502 of the API, a provider", problem(502, "provider"), fault.Config, "the Authority's log has what to do under this trace id\nthe server's hint: it is one line\nh2"},
	{"502 of the API, nothing to believe", problem(502, "untrusted"), fault.Trust, "the server's hint: it is one line\nh2\nh3\nh4\nh5"},
	{"a code that is not known", problem(418, "teapot"), fault.Unclassified, ""},
	{"418 without a word", body(418, ""), fault.Unclassified, ""},
}

// TestBadAnswers: each gives its kind, as an answer to a question and to a
// change, and no change is ever sent twice by itself.
func TestBadAnswers(t *testing.T) {
	for _, tc := range answers {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(method+" "+tc.name, func(t *testing.T) {
				f := newFake(t)
				f.bad = func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == method {
						tc.answer(w)
					}
					return r.Method == method
				}
				d := f.driver(nil)
				var err error
				if method == http.MethodGet {
					_, err = d.Status(t.Context())
				} else {
					_, err = d.Change(t.Context(), keyring.Request{Action: keyring.Stage})
				}
				if err == nil || fault.KindOf(err) != tc.kind {
					t.Fatalf("it is %v: %v", fault.KindOf(err), err)
				}
				if hints := strings.Join(fault.HintsOf(err), "\n"); !strings.Contains(hints, tc.hint) {
					t.Errorf("the hints are %q", hints)
				}
				if hints := fault.HintsOf(err); slices.Contains(hints, "h6") {
					t.Errorf("too many hints: %q", hints)
				}
				if method == http.MethodPost && len(f.changes) != 1 {
					t.Errorf("the change was sent %d times", len(f.changes))
				}
				if want := map[bool]int{true: 4, false: 1}[tc.kind == fault.Transient]; method == http.MethodGet && f.looks != want {
					t.Errorf("it was asked %d times, want %d", f.looks, want)
				}
				if len(err.Error()) > 400 {
					t.Errorf("the message has %d bytes", len(err.Error()))
				}
			})
		}
	}
}
