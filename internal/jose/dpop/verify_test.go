package dpop_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

// attempt is one set of header values against one check.
type attempt struct {
	values []string
	check  dpop.Check
}

func (a attempt) run() error {
	_, err := dpop.Verify(a.values, a.check)
	return err
}

// row is a negative test: bad must be refused with an error that says the
// text; control differs only in the named thing and must pass.
type row struct {
	name         string
	bad, control attempt
	says         string
}

func runRows(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if err := r.control.run(); err != nil {
				t.Errorf("control refused: %v", err)
			}
			err := r.bad.run()
			if !errors.Is(err, dpop.ErrInvalidProof) || errors.Is(err, dpop.ErrUseNonce) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), r.says) {
				t.Errorf("%q does not say %q", err, r.says)
			}
		})
	}
}

func one(proof string) attempt { return attempt{[]string{proof}, check()} }

func (f fixture) claims(pairs ...any) attempt {
	return one(f.sign(f.header(), set(claims(), pairs...)))
}
func (f fixture) headers(pairs ...any) attempt {
	return one(f.sign(set(f.header(), pairs...), claims()))
}

func TestP03ToP10Form(t *testing.T) {
	f := newFixture(t)
	good := one(f.good())
	many := func(v ...string) attempt { return attempt{v, check()} }
	proof := f.good()
	dot := strings.LastIndexByte(proof, '.')
	sig, err := base64.RawURLEncoding.DecodeString(proof[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	sig[len(sig)-1] ^= 1
	private := strings.Replace(string(f.jwk()), `{`, `{"d":"AAAA",`, 1)
	listed := one(f.hmac(make([]byte, 64), set(f.header(), "alg", "HS256"), claims()))
	listed.check.Algs = []jose.Alg{jose.HS256, jose.ES256}
	listedGood := good
	listedGood.check.Algs = listed.check.Algs
	runRows(t, []row{
		{"P01 none", many(), good, "exactly one"},
		{"P03 two headers", many(f.good(), f.good()), good, "exactly one"},
		{"P03 comma joined", many(f.good() + "," + f.good()), good, "exactly one"},
		{"P03 comma and space", many(f.good() + ", " + f.good()), good, "exactly one"},
		{"P03 trailing comma", many(f.good() + ","), good, "exactly one"},
		{"P04 token68", one("dGhpcyBpcyBub3QgYSBKV1Q="), good, "three parts"},
		{"P04 empty", one(""), good, "three parts"},
		{"P04 payload not claims", one(strings.Join([]string{"e30", "AAAA", "AAAA"}, ".")), good, "alg"},
		{"P05 no typ", f.headers("typ", nil), good, "typ"},
		{"P05 no alg", f.headers("alg", nil), good, "algorithm"},
		{"P05 no jwk", f.headers("jwk", nil), good, "jwk"},
		{"P05 no jti", f.claims("jti", nil), good, "jti"},
		{"P05 no htm", f.claims("htm", nil), good, "htm"},
		{"P05 no htu", f.claims("htu", nil), good, "htu"},
		{"P05 no iat", f.claims("iat", nil), good, "iat"},
		{"P06 typ JWT", f.headers("typ", "JWT"), good, "typ"},
		{"P06 typ dpop+jwt+x", f.headers("typ", "dpop+jwt+x"), good, "typ"},
		{"P06 typ in other case", f.headers("typ", "DPoP+JWT"), good, "typ"},
		{"P06 typ with application/", f.headers("typ", "application/dpop+jwt"), good, "typ"},
		{"P06 typ a number", f.headers("typ", 1), good, "typ"},
		{"P07 none", f.headers("alg", "none"), good, "algorithm"},
		{"P07 HS256", one(f.hmac(make([]byte, 64), set(f.header(), "alg", "HS256"), claims())), good, "algorithm"},
		{"P07 HS256 even if listed", listed, listedGood, "algorithm"},
		{"P09 flipped bit", one(proof[:dot+1] + b64(sig)), one(proof), "signature"},
		{"P09 no signature", one(proof[:dot+1]), one(proof), "signature"},
		{"P10 private key", f.headers("jwk", rawJSON(private)), f.headers("jwk", rawJSON(f.jwk())), "private"},
		{"P10 symmetric key", f.headers("jwk", rawJSON(`{"kty":"oct","k":"AAAA"}`)), good, "private"},
		{"jwk of another key", f.headers("jwk", rawJSON(newFixture(t).jwk())), good, "signature"},
		{"crit", f.headers("crit", []string{"x"}, "x", 1), f.headers("x", 1), "critical"},
		{"P28 jti empty", f.claims("jti", ""), f.claims("jti", "x"), "jti"},
		{"P28 jti of 257 bytes", f.claims("jti", strings.Repeat("j", 257)), f.claims("jti", strings.Repeat("j", 256)), "jti"},
		{"P28 jti of 1 MB", f.claims("jti", strings.Repeat("j", 1<<20)), good, "too large"},
		{"jti a number", f.claims("jti", 7), good, "jti"},
		{"htm a number", f.claims("htm", 7), good, "htm"},
		{"ath a number", f.claims("ath", 7), f.claims("ath", "7"), "ath"},
		{"nonce a number", f.claims("nonce", 7), f.claims("nonce", "7"), "nonce"},
	})
}

// rawJSON is JSON text as a member of the header.
func rawJSON[T ~string | ~[]byte](s T) any { return jsonText(s) }

type jsonText string

func (j jsonText) MarshalJSON() ([]byte, error) { return []byte(j), nil }

func TestP08Algorithms(t *testing.T) {
	f := newFixture(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	payload := fmt.Sprintf(`{"jti":"a","htm":%q,"htu":%q,"iat":%d}`, method, target, now.Unix())
	proof := func(alg jose.Alg) attempt {
		s, err := jose.NewSigner(key, alg, "")
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Sign(map[string]any{"typ": dpop.Type, "jwk": jose.Key{Public: &key.PublicKey}}, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		a := one(p)
		a.check.Algs = []jose.Alg{jose.ES256, jose.PS256}
		return a
	}
	byDefault := proof(jose.PS256)
	byDefault.check.Algs = nil
	good := one(f.good())
	edOnly := good
	edOnly.check.Algs = []jose.Alg{jose.EdDSA}
	runRows(t, []row{
		{"P08 RS256 where PS and ES", proof(jose.RS256), proof(jose.PS256), "algorithm"},
		{"P08 PS256 by default", byDefault, proof(jose.PS256), "algorithm"},
		{"P08 ES256 where EdDSA", edOnly, good, "algorithm"},
	})
}

func TestP11ToP14Target(t *testing.T) {
	f := newFixture(t)
	at := func(htu, url string) attempt {
		a := f.claims("htu", htu)
		a.check.URL = url
		return a
	}
	got := f.claims("htm", "GET")
	got.check.Method = "GET"
	var rows []row
	for _, htm := range []string{"PUT", "post", "Post", "POST "} {
		rows = append(rows, row{"P11 " + htm, f.claims("htm", htm), f.claims("htm", "POST"), "htm"})
	}
	for _, htu := range []string{
		"https://b.example/token", "https://a.example/other", "http://a.example/token", "https://a.example:8443/token",
		"https://a.example/token/", "https://a.example/Token", "https://a.example", "https://a.example.evil/token",
		"https://a.example./token", "https://evil@a.example/token", "https://a.example:443:443/token", "https://a.example:x/token",
		"//a.example/token", "/token", "token", "https:/a.example/token", "https:///token", "ftp://a.example/token",
		"https://a.example/%2Ftoken", "https://a.example%2Ftoken", "https://a.example/token%", "https://a.example/token%2",
		"https://a.example/token%zz", "https://a.example/to ken", "https://a.example/token\\", "https://ä.example/token",
		" https://a.example/token", "https://a.example/token\n", "https://a.example/%74oken%00", "https://a.example//token",
	} {
		rows = append(rows, row{"P12 " + htu, at(htu, target), at(target, target), "htu"})
	}
	rows = append(rows,
		row{"P14 %2F is not /", at("https://a.example/x%2Fy", "https://a.example/x/y"), at("https://a.example/x%2Fy", "https://a.example/x%2fy"), "htu"},
		row{"P14 %2F is not / reversed", at("https://a.example/x/y", "https://a.example/x%2Fy"), at("https://a.example/x/y", "https://a.example/x/y"), "htu"},
		row{"P14 default port of the other scheme", at("https://a.example:80/token", target), at("https://a.example:443/token", target), "htu"},
		row{"other dot segments", at("https://a.example/a/../b", "https://a.example/a/b"), at("https://a.example/a/../b", "https://a.example/b"), "htu"},
		row{"request URL unusable", at(target, "/token"), at(target, target), "request URL"},
		row{"no URL at all", at("", ""), at(target, target), "htu"},
	)
	runRows(t, rows)
}

func TestP13AndP14Accepted(t *testing.T) {
	f := newFixture(t)
	for _, r := range [][2]string{
		{"https://a.example/token?x=1", target},
		{"https://a.example/token#frag", target},
		{"https://a.example/token?x=1#frag/../..", target},
		{target, "https://a.example/token?x=1"},
		{"HTTPS://A.EXAMPLE/token", target},
		{"https://a.example:443/token", target},
		{"https://a.example:/token", target},
		{"http://a.example:80/token", "http://a.example/token"},
		{"https://a.example", "https://a.example/"},
		{"https://a.example?q", "https://a.example/"},
		{"https://a.example/%7Euser/%74oken", "https://a.example/~user/token"},
		{"https://a.example/%e2%82%ac", "https://a.example/%E2%82%AC"},
		{"https://a.example/x/./y/../../token", target},
		{"https://a.example/%2E%2e/token", target},
		{"https://a.example/..", "https://a.example/"},
		{"https://a.example/x/.", "https://a.example/x/"},
		{"https://[::1]:8443/token", "https://[::1]:8443/token"},
		{"https://[2001:DB8::1]/token", "https://[2001:db8::1]:443/token"},
		{"https://%41.example/token", target},
	} {
		a := f.claims("htu", r[0])
		a.check.URL = r[1]
		if err := a.run(); err != nil {
			t.Errorf("%s for %s: %v", r[0], r[1], err)
		}
	}
}

func TestP15P16P25Binding(t *testing.T) {
	f := newFixture(t)
	token := func(a attempt) attempt { a.check.AccessToken = "tok"; return a }
	bound := func(a attempt, jkt string) attempt { a.check.JKT = jkt; return a }
	good := token(f.claims("ath", ath("tok")))
	wrong := bound(f.claims(), newFixture(t).jkt)
	runRows(t, []row{
		{"P15 no ath", token(f.claims()), good, "no ath"},
		{"P16 ath of another token", token(f.claims("ath", ath("other"))), good, "another access token"},
		{"P16 padded ath", token(f.claims("ath", ath("tok")+"=")), good, "another access token"},
		{"P16 empty ath", token(f.claims("ath", "")), good, "another access token"},
		{"P25 other key", wrong, bound(f.claims(), f.jkt), "another key"},
	})
	if err := wrong.run(); !errors.Is(err, dpop.ErrWrongKey) {
		t.Error(err)
	}
}

func TestP17Window(t *testing.T) {
	f := newFixture(t)
	at := func(offset time.Duration, age, ahead time.Duration) attempt {
		a := f.claims("iat", now.Add(offset).Unix())
		a.check.MaxAge, a.check.MaxAhead = age, ahead
		return a
	}
	late := at(-30*time.Second, 0, 0)
	late.check.Now = now.Add(time.Nanosecond)
	early := at(30*time.Second, 0, 0)
	early.check.Now = now.Add(-time.Nanosecond)
	runRows(t, []row{
		{"P17 an hour old", at(-time.Hour, 0, 0), at(-10*time.Second, 0, 0), "ago"},
		{"P17 an hour ahead", at(time.Hour, 0, 0), at(8*time.Second, 0, 0), "ahead"},
		{"just past the default age", late, at(-30*time.Second, 0, 0), "ago"},
		{"just past the default ahead", early, at(30*time.Second, 0, 0), "ahead"},
		{"past a set age", at(-301*time.Second, 300*time.Second, 0), at(-300*time.Second, 300*time.Second, 0), "ago"},
		{"past a set ahead", at(6*time.Second, 0, 5*time.Second), at(5*time.Second, 0, 5*time.Second), "ahead"},
		{"negative age means none", at(-1*time.Second, -1, 0), at(0, -1, 0), "ago"},
		{"negative ahead means none", at(1*time.Second, 0, -1), at(0, 0, -1), "ahead"},
		{"iat a float", f.claims("iat", 1.5), f.claims(), "iat"},
		{"iat in milliseconds", f.claims("iat", now.UnixMilli()), f.claims(), "iat"},
	})
}

func TestP19ReplayKey(t *testing.T) {
	f := newFixture(t)
	verify := func(a attempt) *dpop.Proof {
		t.Helper()
		p, err := dpop.Verify(a.values, a.check)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := verify(f.claims())
	put := f.claims("htm", "PUT")
	put.check.Method = "PUT"
	other := f.claims("htu", "https://a.example/other")
	other.check.URL = "https://a.example/other"
	for name, a := range map[string]attempt{
		"query":         f.claims("htu", target+"?x"),
		"other method":  put,
		"other URL":     other,
		"other iat":     f.claims("iat", now.Unix()-5),
		"with nonce":    f.claims("nonce", "n"),
		"with ath":      f.claims("ath", ath("t")),
		"extra claim":   f.claims("x", 1),
		"fresh signing": f.claims(),
	} {
		if p := verify(a); p.ReplayKey != first.ReplayKey {
			t.Errorf("P19 %s: another replay key", name)
		}
	}
	if p := verify(f.claims("jti", "id-2")); p.ReplayKey == first.ReplayKey {
		t.Error("another jti has the same replay key")
	}
	if p := verify(newFixture(t).claims()); p.ReplayKey == first.ReplayKey {
		t.Error("another key has the same replay key")
	}
	if len(first.ReplayKey) != 43 || first.JKT != f.jkt || first.ID != "id-1" || !first.IssuedAt.Equal(now) {
		t.Errorf("%+v", first)
	}
}

// P20: at no moment is a proof still accepted and no longer remembered.
func TestP20ReplayBy(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ age, ahead time.Duration }{{0, 0}, {time.Minute, 5 * time.Second}, {time.Second, time.Hour}, {-1, time.Minute}} {
		a := f.claims()
		a.check.MaxAge, a.check.MaxAhead = c.age, c.ahead
		accepted := 0
		for s := -70 * time.Second; s <= 70*time.Second; s += time.Second {
			a.check.Now = now.Add(s)
			p, err := dpop.Verify(a.values, a.check)
			if err != nil {
				continue
			}
			accepted++
			if p.ReplayBy.Before(a.check.Now) {
				t.Errorf("%+v: accepted at %s, remembered until %s", c, a.check.Now, p.ReplayBy)
			}
		}
		if accepted == 0 {
			t.Errorf("%+v: never accepted", c)
		}
	}
}

func TestP22P23Nonce(t *testing.T) {
	f := newFixture(t)
	with := func(a attempt) attempt {
		a.check.Nonce = func(n string) error {
			if n != "fresh" {
				return fmt.Errorf("nonce %q is not ours", n)
			}
			return nil
		}
		return a
	}
	if err := with(f.claims("nonce", "fresh")).run(); err != nil {
		t.Errorf("control: %v", err)
	}
	for _, bad := range []attempt{f.claims(), f.claims("nonce", "old"), f.claims("nonce", "")} {
		if err := with(bad).run(); !errors.Is(err, dpop.ErrUseNonce) || errors.Is(err, dpop.ErrInvalidProof) {
			t.Errorf("got %v", err)
		}
	}
	// A proof that is bad anyway is no reason to hand out a nonce.
	if err := with(f.claims("htm", "PUT")).run(); !errors.Is(err, dpop.ErrInvalidProof) {
		t.Errorf("got %v", err)
	}
}

func TestEd25519(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := dpop.NewProver(key)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := p.Proof(method, target, dpop.ProofOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	got, err := dpop.Verify([]string{proof}, check())
	if err != nil || got.JKT != p.Thumbprint() {
		t.Errorf("%+v, %v", got, err)
	}
}
