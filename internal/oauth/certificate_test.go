package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

func newCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// withCertificate makes a Config that presents shown and goes by the one named.
func (f *fakeAuthority) withCertificate(shown, named tls.Certificate) Config {
	cfg := f.config()
	transport := f.srv.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = []tls.Certificate{shown}
	f.t.Cleanup(transport.CloseIdleConnections)
	cfg.HTTP = &http.Client{Transport: transport}
	cfg.Credential, cfg.Bearer = TLSClientAuth(func() (*x509.Certificate, error) { return named.Leaf, nil }), true
	return cfg
}

func TestTLSClientAuth(t *testing.T) {
	f := newFake(t)
	ours, other := newCertificate(t), newCertificate(t)
	c := mustNew(t, f.withCertificate(ours, ours))
	tok, err := c.Token(t.Context())
	if err != nil || tok.X5T != x5t(ours.Leaf) || tok.JKT != "" || f.forms()[0].Get("client_id") != testClient {
		t.Fatalf("got %+v, %v", tok, err)
	}
	if _, err := c.Verify(t.Context(), tok); err != nil {
		t.Errorf("verify: %v", err)
	}
	presented := ""
	f.token = func(_ http.ResponseWriter, r *http.Request) bool { presented = f.presented(r); return false }
	if _, err := c.Mint(t.Context()); err != nil || presented != x5t(ours.Leaf) {
		t.Errorf("presented %q: %v", presented, err)
	}
	req, _ := http.NewRequest(http.MethodGet, f.srv.URL+"/resource", nil)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("X-Certificate") != x5t(ours.Leaf) || resp.Header.Get("X-Scheme") != TypeBearer {
		t.Errorf("the resource server saw certificate %q and scheme %q", resp.Header.Get("X-Certificate"), resp.Header.Get("X-Scheme"))
	}
	// Bound to another certificate than ours, or to none.
	if _, err := mustNew(t, f.withCertificate(other, ours)).Token(t.Context()); fault.KindOf(err) != fault.Trust || !strings.Contains(err.Error(), "x5t#S256") {
		t.Errorf("bound to another certificate: %v", err)
	}
	f.claims = func(m map[string]any) { delete(m, "cnf") }
	if _, err := mustNew(t, f.withCertificate(ours, ours)).Token(t.Context()); fault.KindOf(err) != fault.Trust {
		t.Errorf("bound to nothing: %v", err)
	}
}

// A token is not used with a certificate that it is not bound to.
func TestCertificateIsReplaced(t *testing.T) {
	f := newFake(t)
	ours, next := newCertificate(t), newCertificate(t)
	cfg := f.withCertificate(ours, ours)
	cfg.CacheDir = filepath.Join(t.TempDir(), "cache")
	for i, want := range []struct {
		with  tls.Certificate
		asked int
	}{{ours, 1}, {ours, 1}, {next, 2}, {next, 2}} {
		with := f.withCertificate(want.with, want.with)
		with.CacheDir = cfg.CacheDir
		tok, err := mustNew(t, with).Token(t.Context())
		if err != nil || tok.X5T != x5t(want.with.Leaf) || f.askedNow() != want.asked {
			t.Errorf("%d: asked %d times: %+v, %v", i, f.askedNow(), tok, err)
		}
	}
}

func TestAliases(t *testing.T) {
	f := newFake(t)
	ours := newCertificate(t)
	for _, tc := range []struct {
		name, alias string
		kind        fault.Kind
	}{
		{"another path", f.srv.URL + "/mtls/token", fault.Unclassified}, // taken: the fake answers 404
		{"another port", "https://127.0.0.1:1/token", fault.Transient},  // taken: nobody listens
		{"another host", "https://evil.example/token", fault.Trust},
		{"plain http", "http://127.0.0.1:1/token", fault.Trust},
		{"a name in it", "https://u@127.0.0.1:1/token", fault.Trust},
		{"no URL", "token", fault.Trust},
		{"none", "", fault.None},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.metadata = func(m map[string]any) {
				m["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": tc.alias, "x": 1}
			}
			_, err := mustNew(t, f.withCertificate(ours, ours)).Token(t.Context())
			if kind := fault.KindOf(err); kind != tc.kind && (kind != fault.NotFound || tc.kind != fault.Unclassified) {
				t.Errorf("got %v (%v), want %v", kind, err, tc.kind)
			}
			if _, err := mustNew(t, f.config()).Token(t.Context()); err != nil {
				t.Errorf("a client without a certificate goes there too: %v", err)
			}
		})
	}
}

func TestHome(t *testing.T) {
	f := newFake(t)
	ours := newCertificate(t)
	for alias, want := range map[string]string{
		"":                                    f.srv.URL,
		"https://127.0.0.1:1/connect/token":   "https://127.0.0.1:1",
		"https://127.0.0.1:1/a/connect/token": "https://127.0.0.1:1/a",
		"https://127.0.0.1:1/somewhere/else":  f.srv.URL,
		"https://evil.example/connect/token":  "",
	} {
		f.metadata = func(m map[string]any) { m["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": alias} }
		got, err := mustNew(t, f.withCertificate(ours, ours)).Home(t.Context())
		if want == "" && fault.KindOf(err) != fault.Trust || want != "" && (err != nil || got != want) {
			t.Errorf("%s: %q, %v", alias, got, err)
		}
		if got, err := mustNew(t, f.config()).Home(t.Context()); err != nil || got != f.srv.URL {
			t.Errorf("%s, without a certificate: %q, %v", alias, got, err)
		}
	}
}

func TestLoadCertificate(t *testing.T) {
	cert := newCertificate(t)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	for name, tc := range map[string]struct {
		data []byte
		ok   bool
	}{
		"control":       {block, true},
		"after another": {append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{1}}), block...), true},
		"empty":         {nil, false},
		"no PEM":        {cert.Certificate[0], false},
		"damaged":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0][1:]}), false},
		"large":         {append(make([]byte, maxCertificateBytes), block...), false},
	} {
		path := filepath.Join(t.TempDir(), "c.pem")
		if err := os.WriteFile(path, tc.data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LoadCertificate(path)
		if (err == nil) != tc.ok || err != nil && fault.KindOf(err) != fault.Config || tc.ok && x5t(got) != x5t(cert.Leaf) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadCertificate(filepath.Join(t.TempDir(), "none")); fault.KindOf(err) != fault.Config {
		t.Errorf("missing: %v", err)
	}
}
