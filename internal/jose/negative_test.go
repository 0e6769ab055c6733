package jose_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
)

// attempt is one message against rules and a key.
type attempt struct {
	compact string
	rules   jose.Rules
	key     jose.Key
}

func (a attempt) run() error {
	j, err := jose.Parse(a.compact, a.rules)
	if err != nil {
		return err
	}
	payload, err := j.Verify(a.key)
	if err != nil {
		return err
	}
	_, err = jose.ParseClaims(payload)
	return err
}

// row is a negative test: bad must fail with want, control must pass. Control
// differs from bad in nothing but what name says.
type row struct {
	name         string
	bad, control attempt
	want         error
}

func runRows(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if err := r.control.run(); err != nil {
				t.Errorf("control refused: %v", err)
			}
			if err := r.bad.run(); !errors.Is(err, r.want) {
				t.Errorf("got %v, want %v", err, r.want)
			}
		})
	}
}

const (
	goodHeader = `{"alg":"ES256","typ":"at+jwt","kid":"k1"}`
	goodClaims = `{"iss":"https://a.example","exp":1900000000}`
)

// fixture is one trusted key and what good looks like with it.
type fixture struct {
	t     *testing.T
	key   *ecdsa.PrivateKey
	rules jose.Rules
	pub   jose.Key
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	pub, err := jose.NewKey(&key.PublicKey, "k1", jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{t, key, jose.Rules{Algs: []jose.Alg{jose.ES256, jose.RS256}, Types: []string{"at+jwt"}}, pub}
}

func (b fixture) of(compact string) attempt { return attempt{compact, b.rules, b.pub} }

func (b fixture) good() attempt { return b.header(goodHeader) }

func (b fixture) header(h string) attempt { return b.of(forge(b.t, b.key, h, []byte(goodClaims))) }

func (b fixture) payload(p string) attempt { return b.of(forge(b.t, b.key, goodHeader, []byte(p))) }

func TestT03ToT06Signatures(t *testing.T) {
	b := newFixture(t)
	good := b.good().compact
	dot := strings.LastIndexByte(good, '.')
	sig := unb64(t, good[dot+1:])
	sig[len(sig)-1] ^= 1
	rows := []row{
		{"T03 flipped bit", b.of(good[:dot+1] + b64(sig)), b.of(good), jose.ErrSignature},
		{"T04 empty signature", b.of(good[:dot+1]), b.of(good), jose.ErrSignature},
		{"T02 two parts", b.of(good[:dot]), b.of(good), jose.ErrMalformed},
		{"T02 not a JWS", b.of("abc"), b.of(good), jose.ErrMalformed},
		{"payload part swapped", b.of(swapPayload(good, `{"iss":"https://b.example","exp":1900000000}`)), b.of(good), jose.ErrSignature},
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE"} {
		bad := b.header(strings.Replace(goodHeader, "ES256", none, 1))
		bad.rules.Algs = append(bad.rules.Algs, jose.Alg(none)) // not even when listed
		rows = append(rows, row{"T05 alg " + none, bad, b.good(), jose.ErrAlg})
		bad.compact = bad.compact[:strings.LastIndexByte(bad.compact, '.')+1]
		rows = append(rows, row{"T05 alg " + none + " unsigned", bad, b.good(), jose.ErrAlg})
	}
	runRows(t, rows)
}

func swapPayload(compact, payload string) string {
	p := strings.Split(compact, ".")
	return p[0] + "." + b64([]byte(payload)) + "." + p[2]
}

func TestT06Confusion(t *testing.T) {
	b := newFixture(t)
	rsaPub := public(t, rsaKey().Public())
	der, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	jwkText, err := rsaPub.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 64)
	if _, err := rand.Read(secret); err != nil {
		t.Fatal(err)
	}
	signed, err := newSigner(t, rsaKey(), jose.RS256, "k1").Sign(map[string]any{"typ": "at+jwt"}, []byte(goodClaims))
	if err != nil {
		t.Fatal(err)
	}
	header := strings.Replace(goodHeader, "ES256", "HS256", 1)
	control := attempt{signed, b.rules, rsaPub}
	listed := b.rules
	listed.Algs = []jose.Alg{jose.RS256, jose.HS256}
	var rows []row
	for name, key := range map[string][]byte{
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"DER": der,
		"JWK": jwkText,
	} {
		forged := forgeHS256(key, header, []byte(goodClaims))
		rows = append(rows,
			row{"T06 HS256 with the public key as " + name, attempt{forged, b.rules, rsaPub}, control, jose.ErrAlg},
			row{"T06 same with HS256 listed, " + name, attempt{forged, listed, rsaPub}, control, jose.ErrKey})
	}
	hs := attempt{forgeHS256(secret, header, []byte(goodClaims)), listed, public(t, secret)}
	notListed := hs
	notListed.rules = b.rules
	short := hs
	short.key = jose.Key{Public: secret[:31]}
	short.compact = forgeHS256(secret[:31], header, []byte(goodClaims))
	asymmetric := attempt{signed, b.rules, public(t, secret)}
	rows = append(rows,
		row{"HS256 not listed", notListed, hs, jose.ErrAlg},
		row{"HS256 key below 256 bits", short, hs, jose.ErrKey},
		row{"RS256 with a symmetric key", asymmetric, control, jose.ErrKey})
	runRows(t, rows)
}

func TestT07EmbeddedKey(t *testing.T) {
	b := newFixture(t)
	attacker := ecKey(t, elliptic.P256())
	jwk, err := public(t, &attacker.PublicKey).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":"k1","jwk":%s}`, jwk)
	forged := b.of(forge(t, attacker, own, []byte(goodClaims)))
	allowed := forged
	allowed.rules.AllowJWK = true // read, and still not trusted
	private := b.header(strings.Replace(own, `"jwk":{`, `"jwk":{"d":"AAAA",`, 1))
	private.rules.AllowJWK = true
	privateControl := b.header(own)
	privateControl.rules.AllowJWK = true
	runRows(t, []row{
		{"T07 embedded jwk", forged, b.good(), jose.ErrKey},
		{"T07 embedded jwk where allowed", allowed, b.good(), jose.ErrSignature},
		{"T07 embedded jwk beside a good signature", b.header(own), b.good(), jose.ErrKey},
		{"P10 private embedded jwk", private, privateControl, jose.ErrKey},
	})
}

func TestT08NothingIsFetched(t *testing.T) {
	var hits atomic.Int32
	attacker := ecKey(t, elliptic.P256())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		raw, _ := json.Marshal(jose.Set{Keys: []jose.Key{{KeyID: "k1", Public: &attacker.PublicKey}}})
		_, _ = w.Write(raw)
	}))
	defer srv.Close()
	b := newFixture(t)
	var rows []row
	for _, name := range []string{"jku", "x5u"} {
		h := fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":"k1",%q:%q}`, name, srv.URL)
		rows = append(rows, row{"T08 " + name, b.of(forge(t, attacker, h, []byte(goodClaims))), b.header(h), jose.ErrSignature})
	}
	h := fmt.Sprintf(`{"alg":"ES256","typ":"at+jwt","kid":"k1","x5c":[%q]}`, "AAAA")
	rows = append(rows, row{"T08 x5c", b.of(forge(t, attacker, h, []byte(goodClaims))), b.header(h), jose.ErrSignature})
	runRows(t, rows)
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
	resp, err := http.Get(srv.URL) // the listener does listen
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if hits.Load() != 1 {
		t.Error("control request not seen")
	}
}

func TestT10ToT12ECDSA(t *testing.T) {
	b := newFixture(t)
	good := b.good().compact
	dot := strings.LastIndexByte(good, '.')
	input, raw := good[:dot], unb64(t, good[dot+1:])
	with := func(sig []byte) attempt { return b.of(input + "." + b64(sig)) }
	sum := sha256.Sum256([]byte(input))
	der, err := ecdsa.SignASN1(rand.Reader, b.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N.Bytes()
	cat := func(a, b []byte) []byte { return append(append([]byte(nil), a...), b...) }
	zero := make([]byte, 32)
	p384 := ecKey(t, elliptic.P384())
	es384 := b.of(forge(t, b.key, strings.Replace(goodHeader, "ES256", "ES384", 1), []byte(goodClaims)))
	es384.rules.Algs = []jose.Alg{jose.ES384, jose.ES256}
	wrongCurve := b.good()
	wrongCurve.key = public(t, &p384.PublicKey)
	c := b.of(good)
	runRows(t, []row{
		{"T10 r and s zero", with(make([]byte, 64)), c, jose.ErrSignature},
		{"T10 r zero", with(cat(zero, raw[32:])), c, jose.ErrSignature},
		{"T10 s zero", with(cat(raw[:32], zero)), c, jose.ErrSignature},
		{"T10 r is n", with(cat(n, raw[32:])), c, jose.ErrSignature},
		{"T10 s is n", with(cat(raw[:32], n)), c, jose.ErrSignature},
		{"T11 63 bytes", with(raw[:63]), c, jose.ErrSignature},
		{"T11 65 bytes", with(append(raw[:64:64], 0)), c, jose.ErrSignature},
		{"T11 leading zero each", with(cat(append([]byte{0}, raw[:32]...), append([]byte{0}, raw[32:]...))), c, jose.ErrSignature},
		{"T11 DER", with(der), c, jose.ErrSignature},
		{"T12 P-384 key under ES256", wrongCurve, c, jose.ErrKey},
		{"T12 P-256 key under ES384", es384, c, jose.ErrKey},
	})
}

func TestT13Critical(t *testing.T) {
	b := newFixture(t)
	crit := func(list, more string) attempt {
		return b.header(`{"alg":"ES256","typ":"at+jwt","kid":"k1"` + more + `,"crit":` + list + `}`)
	}
	understood := func(a attempt) attempt {
		a.rules.Critical = []string{"x", "b64", "kid", "alg"}
		return a
	}
	good := understood(crit(`["x"]`, `,"x":1`))
	runRows(t, []row{
		{"T13 unknown", crit(`["x"]`, `,"x":1`), good, jose.ErrCritical},
		{"crit empty", understood(crit(`[]`, `,"x":1`)), good, jose.ErrMalformed},
		{"crit twice the same", understood(crit(`["x","x"]`, `,"x":1`)), good, jose.ErrMalformed},
		{"crit names a registered header", understood(crit(`["kid"]`, `,"x":1`)), good, jose.ErrMalformed},
		{"crit names what is absent", understood(crit(`["x"]`, ``)), good, jose.ErrMalformed},
		{"crit is a string", understood(crit(`"x"`, `,"x":1`)), good, jose.ErrMalformed},
		{"crit holds a number", understood(crit(`["x",1]`, `,"x":1`)), good, jose.ErrMalformed},
		{"crit null", understood(crit(`null`, `,"x":1`)), good, jose.ErrMalformed},
		{"b64 false outside crit", understood(crit(`["x"]`, `,"x":1,"b64":false`)), good, jose.ErrCritical},
		{"b64 not a boolean", understood(crit(`["b64"]`, `,"b64":"false"`)), understood(crit(`["b64"]`, `,"b64":true`)), jose.ErrMalformed},
		{"b64 false attached", understood(crit(`["b64"]`, `,"b64":false`)), understood(crit(`["b64"]`, `,"b64":true`)), jose.ErrMalformed},
	})
}

func TestT14T15T25Content(t *testing.T) {
	b := newFixture(t)
	utf16 := func(s string) string {
		var out strings.Builder
		for _, c := range []byte(s) {
			out.WriteByte(c)
			out.WriteByte(0)
		}
		return out.String()
	}
	runRows(t, []row{
		{"T14 alg twice", b.header(`{"alg":"ES256","alg":"ES256","typ":"at+jwt"}`), b.header(`{"alg":"ES256","typ":"at+jwt"}`), jose.ErrMalformed},
		{"T14 alg twice, once escaped", b.header(`{"alg":"ES256","\u0061lg":"ES256","typ":"at+jwt"}`), b.header(`{"\u0061lg":"ES256","typ":"at+jwt"}`), jose.ErrMalformed},
		{"T14 deep duplicate in the header", b.header(`{"alg":"ES256","typ":"at+jwt","x":{"a":1,"a":2}}`), b.header(`{"alg":"ES256","typ":"at+jwt","x":{"a":1,"b":2}}`), jose.ErrMalformed},
		{"T14 aud twice", b.payload(`{"aud":"a","aud":"b"}`), b.payload(`{"aud":["a","b"]}`), jose.ErrMalformed},
		{"T14 deep duplicate in the claims", b.payload(`{"cnf":[{"jkt":"a","jkt":"b"}]}`), b.payload(`{"cnf":[{"jkt":"a"},{"jkt":"b"}]}`), jose.ErrMalformed},
		{"T15 invalid UTF-8", b.payload("{\"iss\":\"\xff\"}"), b.payload(`{"iss":"ÿ"}`), jose.ErrMalformed},
		{"T15 UTF-16", b.payload(utf16(goodClaims)), b.payload(goodClaims), jose.ErrMalformed},
		{"T15 byte order mark", b.payload("\ufeff" + goodClaims), b.payload(goodClaims), jose.ErrMalformed},
		{"T15 lone surrogate", b.payload(`{"iss":"\ud83d"}`), b.payload(`{"iss":"\ud83d\ude00"}`), jose.ErrMalformed},
		{"data after the claims", b.payload(goodClaims + `{}`), b.payload(goodClaims + ` `), jose.ErrMalformed},
		{"claims not an object", b.payload(`[1]`), b.payload(`{}`), jose.ErrMalformed},
		{"T25 zip", b.header(`{"alg":"ES256","typ":"at+jwt","zip":"DEF"}`), b.header(`{"alg":"ES256","typ":"at+jwt"}`), jose.ErrMalformed},
		{"T25 JWE", b.of(b.good().compact + ".AAAA.AAAA"), b.good(), jose.ErrMalformed},
		{"T25 too large", b.payload(`{"x":"` + strings.Repeat("a", 13<<10) + `"}`), b.payload(`{"x":"` + strings.Repeat("a", 9<<10) + `"}`), jose.ErrTooLarge},
		{"nested too deep", b.payload(`{"x":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`), b.payload(`{"x":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`), jose.ErrMalformed},
		{"kid too long", b.header(`{"alg":"ES256","typ":"at+jwt","kid":"` + strings.Repeat("a", 513) + `"}`), b.header(`{"alg":"ES256","typ":"at+jwt","kid":"` + strings.Repeat("a", 512) + `"}`), jose.ErrTooLarge},
		{"kid not a string", b.header(`{"alg":"ES256","typ":"at+jwt","kid":1}`), b.header(`{"alg":"ES256","typ":"at+jwt","kid":"1"}`), jose.ErrMalformed},
		{"alg absent", b.header(`{"typ":"at+jwt"}`), b.header(`{"alg":"ES256","typ":"at+jwt"}`), jose.ErrAlg},
		{"T22 other typ", b.header(`{"alg":"ES256","typ":"JWT"}`), b.header(`{"alg":"ES256","typ":"application/AT+JWT"}`), jose.ErrType},
		{"T23 typ absent", b.header(`{"alg":"ES256"}`), b.header(`{"alg":"ES256","typ":"at+jwt"}`), jose.ErrType},
		{"typ by Unicode case folding", b.header(`{"alg":"ES256","typ":"at+jwſ"}`), b.header(`{"alg":"ES256","typ":"AT+JWT"}`), jose.ErrType},
	})
}

func TestT33Base64(t *testing.T) {
	b := newFixture(t)
	// 0xfb 0xff makes "-" and "_"; the header's length makes padding possible.
	header, payload := b64([]byte(`{"alg":"ES256","typ":"at+jwt"}  `)), b64([]byte("{\"iss\":\"\u07ff\u07ff?>\"}"))
	raw := func(h, p string) attempt { return b.of(forgeRaw(t, b.key, h, p)) }
	good := raw(header, payload)
	if !strings.ContainsAny(payload, "-_") {
		t.Fatalf("payload %q says nothing about the alphabet", payload)
	}
	var rows []row
	add := func(name string, bad attempt) { rows = append(rows, row{"T33 " + name, bad, good, jose.ErrMalformed}) }
	for _, c := range []string{"\n", "\r\n", " ", "\t", "=", "=="} {
		add(fmt.Sprintf("header then %q", c), raw(header+c, payload))
		add(fmt.Sprintf("payload then %q", c), raw(header, payload+c))
		add(fmt.Sprintf("signature then %q", c), b.of(good.compact+c))
		add(fmt.Sprintf("%q in the payload", c), raw(header, payload[:4]+c+payload[4:]))
	}
	add("standard alphabet", raw(header, strings.NewReplacer("-", "+", "_", "/").Replace(payload)))
	last := header[len(header)-1]
	add("set bits after the last octet", raw(header[:len(header)-1]+string(last+1), payload))
	runRows(t, rows)
}

func TestZeroRulesAcceptNothing(t *testing.T) {
	b := newFixture(t)
	a := b.good()
	a.rules = jose.Rules{}
	if err := a.run(); !errors.Is(err, jose.ErrAlg) {
		t.Error(err)
	}
}

func TestKeyRestrictions(t *testing.T) {
	b := newFixture(t)
	with := func(alg jose.Alg, use, ops string) attempt {
		a := b.good()
		a.key.Alg, a.key.Use = alg, use
		if ops != "" {
			a.key.Extra = map[string]json.RawMessage{"key_ops": json.RawMessage(ops)}
		}
		return a
	}
	good := with(jose.ES256, "sig", `["verify"]`)
	small, err := smallRSA()
	if err != nil {
		t.Fatal(err)
	}
	weak := b.good()
	weak.compact = forge(t, b.key, strings.Replace(goodHeader, "ES256", "RS256", 1), []byte(goodClaims))
	weak.key = jose.Key{Public: small}
	runRows(t, []row{
		{"key for another alg", with(jose.ES384, "sig", ""), good, jose.ErrKey},
		{"key for encryption", with(jose.ES256, "enc", ""), good, jose.ErrKey},
		{"key_ops without verify", with(jose.ES256, "", `["sign"]`), with(jose.ES256, "", `["sign","verify"]`), jose.ErrKey},
		{"K06 RSA of 1024 bits", weak, good, jose.ErrKey},
		{"no key", attempt{b.good().compact, b.rules, jose.Key{}}, good, jose.ErrKey},
	})
}
