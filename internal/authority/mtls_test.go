package authority_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv"
)

// certSite is an Authority with a listener for clients with certificates, and
// the CA of a tenant.
type certSite struct {
	*replica
	t     *testing.T
	site  *site
	roots *testenv.CA
	crl   string
}

func newCertSite(t *testing.T) *certSite {
	t.Helper()
	s := newSite(t)
	dir := filepath.Join(s.dir, "acme")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	roots, err := testenv.NewCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	crl := filepath.Join(dir, "acme.crl")
	if err := roots.Revoke(crl); err != nil {
		t.Fatal(err)
	}
	extra := fmt.Sprintf("mtls: {listen: 127.0.0.1:0, tenants: [{tenant: acme, roots: %q, crl: %q}]}\n", roots.CertFile, crl)
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", extra), authority.Deps{Store: mem.New(0)})
	return &certSite{r, t, s, roots, crl}
}

// with is an HTTP client with a certificate of ca for a client id.
func (s *certSite) with(ca *testenv.CA, name, uri string, change func(*x509.Certificate)) (*http.Client, string) {
	s.t.Helper()
	cert, key, err := ca.IssueClient(name, uri, change)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := s.site.ca.ClientWith(cert, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return c, cert
}

// postForm sends a form to a URL.
func postForm(t *testing.T, c *http.Client, address string, form url.Values, header http.Header) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return roundTrip(t, c, req)
}

func roundTrip(t *testing.T, c *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		return answer{header: http.Header{}, body: []byte(err.Error())}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, body}
}

func credentials(id string) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {id}}
}

func certDoc(id string) clients.Document {
	return clients.Document{
		ClientID: id, Scopes: []string{keyring.ScopeRead}, Audiences: []string{guard.Audience}, Tenant: "acme", Method: clients.TLSClientAuth,
	}
}

// M03 to M06, M10: who is believed at the token endpoint.
func TestTLSClientAuth(t *testing.T) {
	s := newCertSite(t)
	s.client(certDoc("svc"))
	s.client(certDoc("other"))
	good := clients.CertificateURI("svc")
	at := s.srv.MTLSURL() + "/token"
	control, cert := s.with(s.roots, "svc", good, nil)
	a := postForm(t, control, at, credentials("svc"), nil)
	if a.status != 200 || a.field("token_type") != "Bearer" {
		t.Fatalf("control: %d %s", a.status, a.body)
	}
	cnf, _ := part(t, a.field("access_token"), 1)["cnf"].(map[string]any)
	if cnf["x5t#S256"] != thumbprintOf(t, cert) {
		t.Fatalf("cnf %v", cnf)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"M03 expired":       func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) },
		"M03 not yet valid": func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) },
		"M05 other SAN":     func(c *x509.Certificate) { c.URIs[0], _ = url.Parse(clients.CertificateURI("other")) },
		"M05 CN only":       func(c *x509.Certificate) { c.URIs, c.Subject.CommonName = nil, good },
		"M05 escaped":       func(c *x509.Certificate) { c.URIs[0], _ = url.Parse("urn:stellaops:client:%73vc") },
		"M05 longer": func(c *x509.Certificate) {
			c.URIs[0], _ = url.Parse(good + "2")
		},
		"two names": func(c *x509.Certificate) {
			u, _ := url.Parse(clients.CertificateURI("other"))
			c.URIs = append(c.URIs, u)
		},
		"server certificate": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
	} {
		c, _ := s.with(s.roots, "bent", good, change)
		refusedAs(t, name, postForm(t, c, at, credentials("svc"), nil), 401, "invalid_client")
	}
	mine, err := testenv.NewCA(s.t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	forged, _ := s.with(mine, "svc", good, nil)
	refusedAs(t, "M04 own CA", postForm(t, forged, at, credentials("svc"), nil), 401, "invalid_client")
	refusedAs(t, "M10 plain listener", postForm(t, control, s.url+"/token", credentials("svc"), nil), 401, "invalid_client")
	refusedAs(t, "no certificate", postForm(t, s.http, at, credentials("svc"), nil), 401, "invalid_client")

	// M06: a certificate in a header is nobody's.
	data, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	for _, name := range []string{"X-Client-Cert", "X-Ssl-Client-Cert", "Client-Cert", "X-Forwarded-Client-Cert", "X-Ssl-Cert"} {
		header.Set(name, url.QueryEscape(string(data)))
	}
	refusedAs(t, "M06", postForm(t, s.http, at, credentials("svc"), header), 401, "invalid_client")

	// A certificate that its CA has taken back, without a restart.
	if err := s.roots.Revoke(s.crl, cert); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revoked certificate is refused", func() bool {
		return postForm(t, control, at, credentials("svc"), nil).status == 401
	})
	other, _ := s.with(s.roots, "second", good, nil)
	if a := postForm(t, other, at, credentials("svc"), nil); a.status != 200 {
		t.Errorf("control: another certificate of the client: %d %s", a.status, a.body)
	}
}

func refusedAs(t *testing.T, name string, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.field("error") != code {
		t.Errorf("%s: %d %s, want %d %s", name, a.status, a.body, status, code)
	}
}

func certOf(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func thumbprintOf(t *testing.T, file string) string {
	t.Helper()
	sum := sha256.Sum256(certOf(t, file).Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// M01, M02, M07, M09: who may use a token that is bound to a certificate, at
// the Authority's own API.
func TestCertificateBoundToken(t *testing.T) {
	s := newCertSite(t)
	doc := certDoc("svc")
	s.client(doc)
	mine, cert := s.with(s.roots, "svc", clients.CertificateURI("svc"), nil)
	a := postForm(t, mine, s.srv.MTLSURL()+"/token", credentials("svc"), nil)
	token := a.field("access_token")
	use := func(c *http.Client, base, authorization string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+keyring.PathKeyring, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		return roundTrip(t, c, req)
	}
	if a := use(mine, s.srv.MTLSURL(), "Bearer "+token); a.status != 200 {
		t.Fatalf("control: %d %s", a.status, a.body)
	}
	denied := func(name string, a answer) {
		t.Helper()
		if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
	}
	denied("M01 no certificate", use(s.http, s.srv.MTLSURL(), "Bearer "+token))
	denied("M01 plain listener", use(mine, s.url, "Bearer "+token))
	second, _ := s.with(s.roots, "svc2", clients.CertificateURI("svc"), nil)
	denied("M02 other certificate", use(second, s.srv.MTLSURL(), "Bearer "+token))

	key := s.site.takeIn(s.replica, "mine", true)
	forge := func(cnf map[string]any) string {
		now := time.Now().Unix()
		return rawJWS(t, map[string]any{"typ": "at+jwt", "alg": "ES256", "kid": "mine"}, map[string]any{
			"iss": s.issuer, "aud": guard.Audience, "sub": "x", "client_id": "x", "jti": jti(t), "iat": now, "exp": now + 60,
			"scope": keyring.ScopeRead, "cnf": cnf,
		}, key)
	}
	c := certOf(t, cert)
	sum := sha256.Sum256(c.Raw)
	text := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	b64 := base64.RawURLEncoding.EncodeToString
	if a := use(mine, s.srv.MTLSURL(), "Bearer "+forge(map[string]any{"x5t#S256": b64(sum[:])})); a.status != 200 {
		t.Fatalf("control: %d %s", a.status, a.body)
	}
	for name, x5t := range map[string]string{
		"M07 hex": hex.EncodeToString(sum[:]), "M07 padded": base64.URLEncoding.EncodeToString(sum[:]), "M07 PEM": b64(text[:]),
		"M07 upper": strings.ToUpper(b64(sum[:])), "empty": "",
	} {
		denied(name, use(mine, s.srv.MTLSURL(), "Bearer "+forge(map[string]any{"x5t#S256": x5t})))
	}
	both := forge(map[string]any{"x5t#S256": b64(sum[:]), "jkt": newProver(t).Thumbprint()})
	denied("M09 certificate only", use(mine, s.srv.MTLSURL(), "Bearer "+both))
}

// M08: old versions and weak suites are not spoken, on either listener.
func TestOldTLS(t *testing.T) {
	s := newCertSite(t)
	for _, base := range []string{s.url, s.srv.MTLSURL()} {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(certOf(t, s.site.ca.CertFile))
		dial := func(change func(*tls.Config)) error {
			conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12}
			change(conf)
			conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", u.Host)
			if err == nil {
				conn.Close()
			}
			return err
		}
		if err := dial(func(*tls.Config) {}); err != nil {
			t.Fatalf("control: %v", err)
		}
		for name, change := range map[string]func(*tls.Config){
			"TLS 1.0": func(c *tls.Config) { c.MaxVersion = tls.VersionTLS10 },
			"TLS 1.1": func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 },
			"CBC": func(c *tls.Config) {
				c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
			},
			"3DES": func(c *tls.Config) {
				c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_RC4_128_SHA}
			},
		} {
			if err := dial(change); err == nil {
				t.Errorf("%s: %s is spoken", base, name)
			}
		}
	}
}
