package oauth

import (
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/secret"
)

func FuzzMetadata(f *testing.F) {
	const issuer = "https://a.example"
	f.Add([]byte(`{"issuer":"https://a.example","token_endpoint":"https://a.example/t","jwks_uri":"https://a.example/jwks","x":[1]}`))
	f.Add([]byte(`{"issuer":"https://a.example/"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		md, err := parseMetadata(data, issuer, map[string]bool{originOf(issuer): true})
		if err != nil {
			return
		}
		if md.Issuer != issuer {
			t.Fatalf("took issuer %q", md.Issuer)
		}
		for _, u := range []string{md.TokenEndpoint, md.JWKSURI} {
			if originOf(u) != originOf(issuer) {
				t.Fatalf("took endpoint %q", u)
			}
		}
	})
}

func FuzzTokenResponse(f *testing.F) {
	f.Add([]byte(`{"access_token":"a.b.c","token_type":"DPoP","expires_in":120,"scope":"x y"}`))
	f.Add([]byte(`{"access_token":"a","token_type":"DPoP","expires_in":1e300}`))
	f.Add([]byte(`{"error":"invalid_client"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseTokenResponse(data); err == nil {
			if r.life < time.Second || r.life > maxTokenLife || checkTokenText(r.accessToken) != nil || r.tokenType == "" {
				t.Fatalf("took %+v", r)
			}
		}
		_, _ = parseOAuthError(data)
	})
}

func FuzzCacheRecord(f *testing.F) {
	key, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, bound := range []bool{true, false} { // with a refresh token, with a certificate
		t := &Token{AccessToken: secret.New([]byte("a.b.c")), Scopes: []string{"x"}, IssuedAt: now, ExpiresAt: now.Add(time.Minute)}
		id := identity{Issuer: "https://a.example", ClientID: "c", Audience: "aud", Tenant: "t", Requested: []string{"x"}, Bound: bound, Device: bound, Cert: !bound}
		if bound {
			t.key, t.RefreshToken, t.RefreshUntil = key, secret.New([]byte("r-1")), now.Add(time.Hour)
		} else {
			t.X5T = "x"
		}
		data, err := encodeRecord(id, t)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		id, tok, err := parseRecord(data)
		if err != nil {
			return
		}
		again, err := encodeRecord(id, tok)
		if err != nil {
			t.Fatal(err)
		}
		id2, tok2, err := parseRecord(again)
		if err != nil || id2.name() != id.name() || tok2.JKT != tok.JKT || tok2.X5T != tok.X5T || string(tok2.RefreshToken.Reveal()) != string(tok.RefreshToken.Reveal()) || !tok2.ExpiresAt.Equal(tok.ExpiresAt) {
			t.Fatalf("does not survive writing: %v", err)
		}
	})
}

func FuzzMetadataRecord(f *testing.F) {
	const issuer = "https://a.example"
	f.Add([]byte(`{"schema":"stella.cache.metadata/v1","issuer":"https://a.example","fetched_at":"2026-01-01T00:00:00Z","life_s":300,"metadata":{"issuer":"https://a.example","token_endpoint":"https://a.example/t","jwks_uri":"https://a.example/jwks"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if md, err := parseMetadataRecord(data, issuer, map[string]bool{originOf(issuer): true}); err == nil && md.Issuer != issuer {
			t.Fatalf("took issuer %q", md.Issuer)
		}
	})
}

func FuzzDeviceResponse(f *testing.F) {
	const issuer = "https://a.example"
	f.Add([]byte(`{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"https://a.example/device","verification_uri_complete":"https://a.example/device?user_code=WDJB-MJHT","expires_in":900,"interval":5}`))
	f.Add([]byte(`{"device_code":"d","user_code":"A","verification_uri":"https://a.example:443/","expires_in":1e300,"interval":-1}`))
	f.Add([]byte(`{"error":"invalid_client"}`))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseDeviceResponse(data, now, map[string]bool{originOf(issuer): true})
		if err != nil {
			return
		}
		life := r.ExpiresAt.Sub(now)
		if life < time.Second || life > maxDeviceLife || r.interval < time.Second || r.interval > maxPollPause {
			t.Fatalf("took a life of %s and an interval of %s", life, r.interval)
		}
		for _, shown := range []string{r.UserCode, r.VerificationURI, r.VerificationURIComplete} {
			for _, c := range []byte(shown) {
				if c <= ' ' || c > '~' {
					t.Fatalf("would show %q", shown)
				}
			}
		}
		if originOf(r.VerificationURI) != originOf(issuer+":443") || r.VerificationURIComplete != "" && originOf(r.VerificationURIComplete) != originOf(issuer) {
			t.Fatalf("would send people to %q, %q", r.VerificationURI, r.VerificationURIComplete)
		}
	})
}

func FuzzCertificate(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if cert, err := firstCertificate(data); err == nil && len(x5t(cert)) != 43 {
			t.Fatalf("took a certificate of %d bytes", len(cert.Raw))
		}
	})
}
