package authority_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/jose"
)

// proofParts is a proof that a test may bend before it is signed.
type proofParts struct {
	head, claims map[string]any
	key          *ecdsa.PrivateKey
	after        func(compact string) string
}

func (r *replica) proofParts(t *testing.T) *proofParts {
	t.Helper()
	key := newECKey(t)
	jwk, err := jose.NewKey(key.Public(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(jwk)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return &proofParts{
		head: map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": m},
		claims: map[string]any{
			"jti": jti(t), "htm": "POST", "htu": r.issuer + "/token", "iat": time.Now().Unix(), "nonce": r.nonce(),
		},
		key: key,
	}
}

func jti(*testing.T) string { return rand.Text() }

func (p *proofParts) sign(t *testing.T) string {
	t.Helper()
	compact := rawJWS(t, p.head, p.claims, p.key)
	if p.after != nil {
		compact = p.after(compact)
	}
	return compact
}

func TestProofRefusals(t *testing.T) {
	r := single(t, nil)
	secret := r.client(standard("svc"))
	send := func(proof string) answer {
		q := r.request("svc", secret, nil)
		q.header.Set("DPoP", proof)
		return r.send(q)
	}
	const invalid = "invalid_dpop_proof"
	rows := map[string]func(p *proofParts){
		"P05 typ":             func(p *proofParts) { delete(p.head, "typ") },
		"P05 alg":             func(p *proofParts) { delete(p.head, "alg") },
		"P05 jwk":             func(p *proofParts) { delete(p.head, "jwk") },
		"P05 jti":             func(p *proofParts) { delete(p.claims, "jti") },
		"P05 htm":             func(p *proofParts) { delete(p.claims, "htm") },
		"P05 htu":             func(p *proofParts) { delete(p.claims, "htu") },
		"P05 iat":             func(p *proofParts) { delete(p.claims, "iat") },
		"P06 JWT":             func(p *proofParts) { p.head["typ"] = "JWT" },
		"P06 longer":          func(p *proofParts) { p.head["typ"] = "dpop+jwt+x" },
		"P06 not a string":    func(p *proofParts) { p.head["typ"] = 7 },
		"P07 none":            func(p *proofParts) { p.head["alg"] = "none" },
		"P07 HS256":           func(p *proofParts) { p.head["alg"] = "HS256" },
		"P08 RS256":           func(p *proofParts) { p.head["alg"] = "RS256" },
		"P09 signature":       func(p *proofParts) { p.after = func(c string) string { return c[:len(c)-6] + "AAAAAA" } },
		"P10 private":         func(p *proofParts) { p.head["jwk"].(map[string]any)["d"] = "AAAA" },
		"P11 method":          func(p *proofParts) { p.claims["htm"] = "PUT" },
		"P12 host":            func(p *proofParts) { p.claims["htu"] = "https://127.0.0.2/token" },
		"P12 path":            func(p *proofParts) { p.claims["htu"] = r.issuer + "/tokens" },
		"P12 scheme":          func(p *proofParts) { p.claims["htu"] = strings.Replace(r.issuer, "https", "http", 1) + "/token" },
		"P12 port":            func(p *proofParts) { p.claims["htu"] = "https://127.0.0.1/token" },
		"P17 stale":           func(p *proofParts) { p.claims["iat"] = time.Now().Add(-time.Hour).Unix() },
		"P17 future":          func(p *proofParts) { p.claims["iat"] = time.Now().Add(time.Hour).Unix() },
		"P28 empty jti":       func(p *proofParts) { p.claims["jti"] = "" },
		"P28 long jti":        func(p *proofParts) { p.claims["jti"] = strings.Repeat("a", 4000) },
		"P17 control plus 8":  func(p *proofParts) { p.claims["iat"] = time.Now().Unix() + 8 },
		"P17 control less 10": func(p *proofParts) { p.claims["iat"] = time.Now().Unix() - 10 },
		"P13 query ignored":   func(p *proofParts) { p.claims["htu"] = r.issuer + "/token?x=1#y" },
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		t.Run(id, func(t *testing.T) {
			p := r.proofParts(t)
			if a := send(p.sign(t)); a.status != 200 {
				t.Fatalf("control: %d %s", a.status, a.body)
			}
			p = r.proofParts(t)
			rows[id](p)
			a := send(p.sign(t))
			if strings.Contains(id, "control") || strings.Contains(id, "ignored") {
				if a.status != 200 {
					t.Fatalf("%d %s", a.status, a.body)
				}
				return
			}
			refused(t, a, 400, invalid)
		})
	}
	t.Run("P18 P19 replay", func(t *testing.T) {
		p := r.proofParts(t)
		first := p.sign(t)
		if a := send(first); a.status != 200 {
			t.Fatalf("control: %d %s", a.status, a.body)
		}
		refused(t, send(first), 400, invalid)
		p.claims["htu"] = r.issuer + "/token?other"
		refused(t, send(p.sign(t)), 400, invalid)
	})
	t.Run("P22 P23 P24 nonce", func(t *testing.T) {
		for name, nonce := range map[string]any{
			"absent": nil, "junk": "junk", "another server's": token.NewNonces(make([]byte, 32), r.issuer, time.Minute).New(time.Now()), "number": 7,
		} {
			p := r.proofParts(t)
			p.claims["nonce"] = nonce
			if nonce == nil {
				delete(p.claims, "nonce")
			}
			a := send(p.sign(t))
			if name == "number" {
				refused(t, a, 400, invalid)
				continue
			}
			refused(t, a, 400, "use_dpop_nonce")
			p.claims["nonce"] = a.header.Get("DPoP-Nonce")
			if a := send(p.sign(t)); a.status != 200 {
				t.Errorf("%s: with the nonce of the answer: %d %s", name, a.status, a.body)
			}
		}
	})
}

// P30: who proves gets DPoP, who may go without and does gets Bearer.
func TestBearerOnlyWhereAllowed(t *testing.T) {
	r := single(t, nil)
	doc := standard("legacy")
	no := false
	doc.DPoPBound = &no
	secret := r.client(doc)
	a := r.send(r.request("legacy", secret, nil))
	if a.field("token_type") != "Bearer" || part(t, a.field("access_token"), 1)["cnf"] != nil {
		t.Errorf("%s", a.body)
	}
	a = r.send(r.request("legacy", secret, newProver(t)))
	if a.field("token_type") != "DPoP" || part(t, a.field("access_token"), 1)["cnf"] == nil {
		t.Errorf("%s", a.body)
	}
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
