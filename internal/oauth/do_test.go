package oauth

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

func certPEM(f *fakeAuthority) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.srv.Certificate().Raw})
}

func do(t *testing.T, c *Client, f *fakeAuthority, body io.Reader) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", f.srv.URL+"/resource?q=1", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if req.Header.Get("Authorization") != "" {
		t.Error("the caller's request was changed")
	}
	return resp, string(data), nil
}

func TestDo(t *testing.T) {
	f := newFake(t)
	c := mustNew(t, f.config())
	resp, body, err := do(t, c, f, strings.NewReader("hello"))
	if err != nil || resp.StatusCode != 200 || body != "hello" || resp.Header.Get("X-Scheme") != "DPoP" {
		t.Fatalf("%v, %q, %v", resp, body, err)
	}
}

func TestDoNonceReplaysBody(t *testing.T) {
	f := newFake(t)
	c := mustNew(t, f.config())
	if _, err := c.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.nonce = "n-9"
	// A reader that net/http cannot rewind by itself.
	resp, body, err := do(t, c, f, io.MultiReader(strings.NewReader("a body "), strings.NewReader("in two parts")))
	if err != nil || resp.StatusCode != 200 || body != "a body in two parts" || f.count("/resource") != 2 {
		t.Fatalf("%v, %q, %v, %d requests", resp, body, err, f.count("/resource"))
	}
	if _, _, err := do(t, c, f, nil); err != nil || f.count("/resource") != 3 {
		t.Errorf("the nonce was not kept: %d requests, %v", f.count("/resource"), err)
	}
}

func TestDoNonceOnce(t *testing.T) {
	f := newFake(t)
	var asked atomic.Int32
	rs := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("DPoP-Nonce", strings.Repeat("n", int(asked.Add(1))))
		w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce", error_description="again"`)
		w.WriteHeader(401)
	}))
	defer rs.Close()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", rs.URL, nil)
	resp, err := mustNew(t, f.config()).Do(req)
	if err != nil || resp.StatusCode != 401 || asked.Load() != 2 {
		t.Errorf("%v, %v, asked %d", resp, err, asked.Load())
	}
	if resp != nil {
		resp.Body.Close()
	}
}

func TestDoReplacesRefusedToken(t *testing.T) {
	f := newFake(t)
	cfg, tok := cached(t, f)
	f.revoked = []string{string(tok.AccessToken.Reveal())}
	resp, _, err := do(t, mustNew(t, cfg), f, strings.NewReader("x"))
	if err != nil || resp.StatusCode != 200 || f.askedNow() != 2 {
		t.Errorf("%v, %v, asked %d", resp, err, f.askedNow())
	}
}

func TestDoRedirectIsReturned(t *testing.T) {
	f := newFake(t)
	var leaked atomic.Bool
	evil := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Store(true) }))
	defer evil.Close()
	rs := httptest.NewTLSServer(http.RedirectHandler(evil.URL, http.StatusTemporaryRedirect))
	defer rs.Close()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", rs.URL, nil)
	resp, err := mustNew(t, f.config()).Do(req)
	if err != nil || resp.StatusCode != 307 || leaked.Load() {
		t.Errorf("%v, %v, leaked %v", resp, err, leaked.Load())
	}
	if resp != nil {
		resp.Body.Close()
	}
}

func TestDoRefusesPlainHTTP(t *testing.T) {
	f := newFake(t)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://service.example/x", nil)
	if _, err := mustNew(t, f.config()).Do(req); fault.KindOf(err) != fault.Config || f.askedNow() != 0 {
		t.Errorf("got %v", err)
	}
}

func TestDoDown(t *testing.T) {
	f := newFake(t)
	c := mustNew(t, f.config())
	if _, err := c.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.srv.Close()
	_, _, err := do(t, c, f, nil)
	if fault.KindOf(err) != fault.Transient || len(fault.HintsOf(err)) == 0 {
		t.Errorf("got %v", err)
	}
}

func TestDoStaticBearer(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.StaticToken = secret.New([]byte("ready"))
	resp, _, err := do(t, mustNew(t, cfg), f, nil)
	if err != nil || resp.Header.Get("X-Scheme") != "Bearer" || f.askedNow() != 0 {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestRoundTrip(t *testing.T) {
	f := newFake(t)
	hc := &http.Client{Transport: mustNew(t, f.config()), Timeout: 10 * time.Second}
	resp, err := hc.Post(f.srv.URL+"/resource", "text/plain", strings.NewReader("hi"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if data, _ := io.ReadAll(resp.Body); string(data) != "hi" {
		t.Errorf("got %q", data)
	}
}

func TestVerifyRefuses(t *testing.T) {
	f := newFake(t)
	now := time.Now()
	cfg := f.config()
	cfg.Now = func() time.Time { return now }
	c := mustNew(t, cfg)
	tok, err := c.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := *tok
	other.Audience = "another"
	if _, err := c.Verify(t.Context(), &other); fault.KindOf(err) != fault.Trust {
		t.Errorf("audience: %v", err)
	}
	forged := *tok
	text := string(tok.AccessToken.Reveal())
	last := text[len(text)-10]
	swap := byte('A')
	if last == 'A' {
		swap = 'B'
	}
	forged.AccessToken = secret.New([]byte(text[:len(text)-10] + string(swap) + text[len(text)-9:]))
	if _, err := c.Verify(t.Context(), &forged); fault.KindOf(err) != fault.Trust {
		t.Errorf("signature: %v", err)
	}
	now = now.Add(time.Hour)
	if _, err := c.Verify(t.Context(), tok); fault.KindOf(err) != fault.Trust {
		t.Errorf("expiry: %v", err)
	}
	if _, err := c.Verify(t.Context(), &Token{AccessToken: secret.New([]byte("opaque"))}); fault.KindOf(err) != fault.Trust {
		t.Errorf("opaque: %v", err)
	}
}
