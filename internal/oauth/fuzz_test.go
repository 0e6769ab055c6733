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
	for _, bound := range []bool{true, false} {
		t := &Token{AccessToken: secret.New([]byte("a.b.c")), Scopes: []string{"x"}, IssuedAt: now, ExpiresAt: now.Add(time.Minute)}
		if bound {
			t.key = key
		}
		data, err := encodeRecord(identity{"https://a.example", "c", "aud", "t", []string{"x"}, bound}, t)
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
		if err != nil || id2.name() != id.name() || tok2.JKT != tok.JKT || !tok2.ExpiresAt.Equal(tok.ExpiresAt) {
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
