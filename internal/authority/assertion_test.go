package authority_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

func TestAssertions(t *testing.T) {
	r := single(t, nil)
	key := newECKey(t)
	jwk, err := jose.NewKey(key.Public(), "k1", jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	doc := standard("jwt")
	doc.JWKS = &jose.Set{Keys: []jose.Key{jwk}}
	if secret := r.client(doc); secret != "" {
		t.Fatal("a secret was made")
	}
	type parts struct{ head, claims map[string]any }
	fresh := func() *parts {
		return &parts{map[string]any{"alg": "ES256", "kid": "k1", "typ": "JWT"}, map[string]any{
			"iss": "jwt", "sub": "jwt", "aud": r.issuer, "exp": time.Now().Add(time.Minute).Unix(), "jti": jti(t),
		}}
	}
	send := func(assertion string, prover *dpop.Prover) answer {
		q := r.request("jwt", "x", prover)
		q.header.Del("Authorization")
		q.form.Set("client_assertion", assertion)
		q.form.Set("client_assertion_type", assertionType)
		return r.send(q)
	}
	rows := map[string]func(p *parts){
		"control":           func(*parts) {},
		"control endpoint":  func(p *parts) { p.claims["aud"] = r.issuer + "/token" },
		"control no typ":    func(p *parts) { delete(p.head, "typ") },
		"control no kid":    func(p *parts) { delete(p.head, "kid") },
		"O13 audience":      func(p *parts) { p.claims["aud"] = "https://other" },
		"O13 array":         func(p *parts) { p.claims["aud"] = []string{r.issuer} },
		"O13 far exp":       func(p *parts) { p.claims["exp"] = time.Now().Add(time.Hour).Unix() },
		"O13 expired":       func(p *parts) { p.claims["exp"] = time.Now().Add(-time.Hour).Unix() },
		"O13 no exp":        func(p *parts) { delete(p.claims, "exp") },
		"no jti":            func(p *parts) { delete(p.claims, "jti") },
		"long jti":          func(p *parts) { p.claims["jti"] = strings.Repeat("a", 300) },
		"other iss":         func(p *parts) { p.claims["iss"] = "other" },
		"unknown client":    func(p *parts) { p.claims["iss"], p.claims["sub"] = "nobody", "nobody" },
		"not yet":           func(p *parts) { p.claims["nbf"] = time.Now().Add(time.Hour).Unix() },
		"access token type": func(p *parts) { p.head["typ"] = "at+jwt" },
		"P29 proof type":    func(p *parts) { p.head["typ"] = "dpop+jwt" },
		"unknown kid":       func(p *parts) { p.head["kid"] = "k2" },
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		t.Run(id, func(t *testing.T) {
			p := fresh()
			rows[id](p)
			a := send(rawJWS(t, p.head, p.claims, key), newProver(t))
			if strings.HasPrefix(id, "control") {
				if a.status != 200 {
					t.Fatalf("%d %s", a.status, a.body)
				}
				return
			}
			refused(t, a, 401, "invalid_client")
		})
	}
	t.Run("other key", func(t *testing.T) {
		p := fresh()
		refused(t, send(rawJWS(t, p.head, p.claims, newECKey(t)), newProver(t)), 401, "invalid_client")
	})
	t.Run("O13 replay", func(t *testing.T) {
		p := fresh()
		assertion := rawJWS(t, p.head, p.claims, key)
		// A request that is told to bring a nonce has used nothing up.
		q := r.proofParts(t)
		delete(q.claims, "nonce")
		bad := r.request("jwt", "x", nil)
		bad.header.Del("Authorization")
		bad.header.Set("DPoP", q.sign(t))
		bad.form.Set("client_assertion", assertion)
		bad.form.Set("client_assertion_type", assertionType)
		refused(t, r.send(bad), 400, "use_dpop_nonce")
		if a := send(assertion, newProver(t)); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		refused(t, send(assertion, newProver(t)), 401, "invalid_client")
	})
}
