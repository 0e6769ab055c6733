package optok_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/optok"
)

// clientCerts makes certificates of one CA.
func clientCerts(t *testing.T, names ...string) []tls.Certificate {
	t.Helper()
	caKey := key(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	out := make([]tls.Certificate, 0, len(names))
	for i, name := range names {
		k := key(t)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		}, ca, k.Public(), caKey)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k})
	}
	return out
}

// The rows run over real TLS: which certificate counts is the connection's.
func TestCertificateBinding(t *testing.T) {
	f := newFixture(t)
	certs := clientCerts(t, "mine", "other")
	// A thumbprint that base64 and base64url write differently.
	for !strings.ContainsAny(optok.CertificateThumbprint(certs[0].Certificate[0]), "-_") {
		certs = clientCerts(t, "mine", "other")
	}
	var principal *optok.Principal
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := f.v.Verify(r)
		principal = p
		if e, ok := errors.AsType[*optok.Error](err); ok {
			e.SetHeaders(w.Header())
			w.WriteHeader(e.Status)
		}
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()
	f.v.BaseURL = srv.URL

	der := certs[0].Certificate[0]
	mine := optok.CertificateThumbprint(der)
	sum := sha256.Sum256(der)
	pemSum := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	spki, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keySum := sha256.Sum256(spki.RawSubjectPublicKeyInfo)
	url64 := base64.RawURLEncoding.EncodeToString
	x5t := func(v any) map[string]any { return map[string]any{"x5t#S256": v} }
	both := map[string]any{"x5t#S256": mine, "jkt": f.prover.Thumbprint()}

	const none = -1
	for name, row := range map[string]struct {
		cnf    map[string]any
		cert   int
		scheme string
		proof  bool
		header string // sent as a proxy might
		status int
		code   string
	}{
		"control":                     {cnf: x5t(mine), scheme: "Bearer", status: 200},
		"control, both bindings":      {cnf: both, scheme: "DPoP", proof: true, status: 200},
		"control, no binding":         {cert: none, scheme: "Bearer", status: 200},
		"unbound, with certificate":   {scheme: "Bearer", status: 200},
		"M01 no certificate":          {cnf: x5t(mine), cert: none, scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M01 certificate in a header": {cnf: x5t(mine), cert: none, scheme: "Bearer", header: url64(der), status: 401, code: optok.CodeToken},
		"M02 other certificate":       {cnf: x5t(mine), cert: 1, scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 hex":                     {cnf: x5t(hex.EncodeToString(sum[:])), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 padded":                  {cnf: x5t(mine + "="), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 of the PEM text":         {cnf: x5t(url64(pemSum[:])), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 of the public key":       {cnf: x5t(url64(keySum[:])), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 base64, not base64url":   {cnf: x5t(strings.Map(plusSlash, mine)), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 bits after the end":      {cnf: x5t(mine[:42] + nextLetter(mine[42])), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 empty":                   {cnf: x5t(""), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 null":                    {cnf: x5t(nil), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 list":                    {cnf: x5t([]string{mine}), scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M07 SHA-1 member":            {cnf: map[string]any{"x5t": mine}, scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M09 certificate only":        {cnf: both, scheme: "DPoP", status: 401, code: optok.CodeProof},
		"M09 certificate, as Bearer":  {cnf: both, scheme: "Bearer", status: 401, code: optok.CodeToken},
		"M09 proof only":              {cnf: both, cert: none, scheme: "DPoP", proof: true, status: 401, code: optok.CodeToken},
		"M09 proof, other cert":       {cnf: both, cert: 1, scheme: "DPoP", proof: true, status: 401, code: optok.CodeToken},
		"M09 a third member":          {cnf: map[string]any{"x5t#S256": mine, "kid": "x"}, scheme: "Bearer", status: 401, code: optok.CodeToken},
		"P01 no proof":                {cnf: map[string]any{"jkt": f.prover.Thumbprint()}, scheme: "DPoP", status: 401, code: optok.CodeProof},
		"P02 Bearer":                  {cnf: map[string]any{"jkt": f.prover.Thumbprint()}, scheme: "Bearer", proof: true, status: 401, code: optok.CodeToken},
		"certificate, scheme DPoP":    {cnf: x5t(mine), scheme: "DPoP", proof: true, status: 401, code: optok.CodeToken},
	} {
		claims := f.claims()
		delete(claims, "cnf")
		if row.cnf != nil {
			claims["cnf"] = row.cnf
		}
		token := f.token("at+jwt", claims)
		conf := &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
		if row.cert != none {
			conf.Certificates = certs[row.cert : row.cert+1]
		}
		tr := &http.Transport{TLSClientConfig: conf}
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", row.scheme+" "+token)
		if row.proof {
			proof, err := f.prover.Proof("GET", srv.URL+"/x", dpop.ProofOptions{AccessToken: token, Now: f.now})
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("DPoP", proof)
		}
		if row.header != "" {
			req.Header.Set("Client-Cert", ":"+row.header+":")
			req.Header.Set("X-SSL-Cert", row.header)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		tr.CloseIdleConnections()
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != row.status || row.code != "" && !strings.Contains(challenge, `error="`+row.code+`"`) {
			t.Errorf("%s: %d %q", name, resp.StatusCode, challenge)
		}
		if row.status == 200 {
			want, _ := row.cnf["x5t#S256"].(string)
			if principal == nil || principal.X5T != want {
				t.Errorf("%s: %+v", name, principal)
			}
		}
	}
}

// plusSlash writes letters of base64url as base64 has them.
func plusSlash(r rune) rune {
	switch r {
	case '-':
		return '+'
	case '_':
		return '/'
	}
	return r
}

// nextLetter differs from a last letter in bits that no octet has.
func nextLetter(c byte) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := bytes.IndexByte([]byte(letters), c)
	return string(letters[i^1])
}
