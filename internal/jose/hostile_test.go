package jose_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
)

// pair is a hostile JWK and one that differs in the named thing alone.
type pair struct {
	name, bad, control string
	want               error
}

func runPairs(t *testing.T, rows []pair) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if _, err := jose.ParseKey([]byte(r.control)); err != nil {
				t.Errorf("control refused: %v", err)
			}
			if _, err := jose.ParseKey([]byte(r.bad)); !errors.Is(err, r.want) {
				t.Errorf("got %v, want %v", err, r.want)
			}
		})
	}
}

// coordinates of a key on each curve, and what is wrong with others.
func TestHostilePoints(t *testing.T) {
	var rows []pair
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		p := c.Params()
		size := (p.BitSize + 7) / 8
		raw, err := ecKey(t, c).PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		x, y := raw[1:1+size], raw[1+size:]
		jwk := func(crv string, x, y []byte) string {
			return fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q}`, crv, b64(x), b64(y))
		}
		fixed := func(n *big.Int) []byte { return n.FillBytes(make([]byte, size)) }
		add := func(name string, bad string, want error) {
			rows = append(rows, pair{p.Name + " " + name, bad, jwk(p.Name, x, y), want})
		}
		zero := make([]byte, size)
		add("leading zero of x", jwk(p.Name, append([]byte{0}, x...), y), jose.ErrMalformed)
		add("leading zero of y", jwk(p.Name, x, append([]byte{0}, y...)), jose.ErrMalformed)
		add("short x", jwk(p.Name, x[1:], y), jose.ErrMalformed)
		add("long y", jwk(p.Name, x, append(y[:size:size], 0)), jose.ErrMalformed)
		add("empty x", jwk(p.Name, nil, y), jose.ErrMalformed)
		add("the point in x", jwk(p.Name, raw, y), jose.ErrMalformed)
		add("the point at infinity", jwk(p.Name, zero, zero), jose.ErrKey)
		add("x zero", jwk(p.Name, zero, y), jose.ErrKey)
		add("x and y swapped", jwk(p.Name, y, x), jose.ErrKey)
		add("x is the prime", jwk(p.Name, fixed(p.P), y), jose.ErrKey)
		add("y one more", jwk(p.Name, x, fixed(new(big.Int).Add(new(big.Int).SetBytes(y), big.NewInt(1)))), jose.ErrKey)
		add("all bits set", jwk(p.Name, []byte(strings.Repeat("\xff", size)), []byte(strings.Repeat("\xff", size))), jose.ErrKey)
		add("curve in other letters", jwk(strings.ToLower(p.Name), x, y), jose.ErrKey)
		add("curve as an OID", jwk("1.2.840.10045.3.1.7", x, y), jose.ErrKey)
		add("coordinate not text", strings.Replace(jwk(p.Name, x, y), `"x":"`+b64(x)+`"`, `"x":7`, 1), jose.ErrMalformed)
		for _, other := range []string{"P-256", "P-384", "P-521"} {
			if other != p.Name {
				add("key as "+other, jwk(other, x, y), jose.ErrMalformed)
			}
		}
		// The other root is a point too: another key, and a good one.
		other := fixed(new(big.Int).Sub(p.P, new(big.Int).SetBytes(y)))
		add("control: the other root has the wrong size", jwk(p.Name, x, other[1:]), jose.ErrMalformed)
		if _, err := jose.ParseKey([]byte(jwk(p.Name, x, other))); err != nil {
			t.Errorf("%s: the other root: %v", p.Name, err)
		}
	}
	ed := edKey(t).Public().(ed25519.PublicKey)
	okp := func(x []byte) string { return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q}`, b64(x)) }
	for name, x := range map[string][]byte{"short": ed[1:], "long": append(ed[:32:32], 0), "empty": nil} {
		want := jose.ErrKey
		if x == nil {
			want = jose.ErrMalformed
		}
		rows = append(rows, pair{"Ed25519 " + name, okp(x), okp(ed), want})
	}
	runPairs(t, rows)
}

func TestHostileRSA(t *testing.T) {
	n := rsaKey().N
	jwk := func(n, e []byte) string {
		return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`, b64(n), b64(e))
	}
	f4 := []byte{1, 0, 1}
	good := jwk(n.Bytes(), f4)
	bits := func(size int) []byte { // odd, and with neither a small factor's look nor a fingerprint
		b := make([]byte, (size+7)/8)
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		v := new(big.Int).SetBytes(b)
		v.SetBit(v.SetBit(v.Rsh(v, uint(len(b)*8-size)), size-1, 1), 0, 1)
		return v.Bytes()
	}
	letters := jwk(append([]byte{0xff, 0xef, 0xbf}, n.Bytes()[3:]...), f4) // has both "_" and "-"
	even := new(big.Int).Sub(n, big.NewInt(1))
	rows := []pair{
		{"modulus empty", jwk(nil, f4), good, jose.ErrMalformed},
		{"modulus zero", jwk([]byte{0}, f4), good, jose.ErrMalformed},
		{"modulus one", jwk([]byte{1}, f4), good, jose.ErrKey},
		{"modulus even", jwk(even.Bytes(), f4), good, jose.ErrKey},
		{"modulus of 1 Mbit", jwk(bits(1<<20), f4), good, jose.ErrTooLarge},
		{"exponent empty", jwk(n.Bytes(), nil), good, jose.ErrMalformed},
		{"exponent zero", jwk(n.Bytes(), []byte{0}), good, jose.ErrMalformed},
		{"exponent with a leading zero", jwk(n.Bytes(), []byte{0, 1, 0, 1}), good, jose.ErrMalformed},
		{"exponent 65536", jwk(n.Bytes(), []byte{1, 0, 0}), good, jose.ErrKey},
		{"exponent 2^31+1", jwk(n.Bytes(), []byte{0x80, 0, 0, 1}), jwk(n.Bytes(), []byte{0x7f, 0xff, 0xff, 0xff}), jose.ErrKey},
		{"exponent 2^32+1", jwk(n.Bytes(), []byte{1, 0, 0, 0, 1}), good, jose.ErrKey},
		{"exponent 2^64+3", jwk(n.Bytes(), []byte{1, 0, 0, 0, 0, 0, 0, 0, 3}), good, jose.ErrKey},
		{"exponent as large as the modulus", jwk(n.Bytes(), n.Bytes()), good, jose.ErrKey},
		{"exponent of 1 Mbit", jwk(n.Bytes(), bits(1<<20)), good, jose.ErrTooLarge},
		{"padding", strings.Replace(good, `"AQAB"`, `"AQAB="`, 1), good, jose.ErrMalformed},
		{"standard alphabet", strings.NewReplacer("_", "/", "-", "+").Replace(letters), letters, jose.ErrMalformed},
		{"curve of another type", strings.Replace(good, "{", `{"crv":"P-256",`, 1), good, jose.ErrMalformed},
	}
	for _, size := range []int{2, 8, 512, 1024, 2040, 2047, 8193, 16384, 150000} {
		rows = append(rows, pair{fmt.Sprintf("modulus of %d bits", size), jwk(bits(size), f4), jwk(bits(min(max(size, 2048), 8192)), f4), jose.ErrKey})
	}
	runPairs(t, rows)
	for _, r := range rows {
		if n := allocated(func() { _, _ = jose.ParseKey([]byte(r.bad)) }); n > 1<<20 {
			t.Errorf("%s: %d bytes allocated", r.name, n)
		}
	}
}

// rocaModulus has the fingerprint of the flaw; nobody needs its factors.
func rocaModulus() []byte {
	primorial := big.NewInt(1)
	for _, p := range []int64{3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
		101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167} {
		primorial.Mul(primorial, big.NewInt(p))
	}
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	n.Sub(n, new(big.Int).Mod(n, primorial))
	n.Add(n, primorial) // a multiple of all primes, and above 2^2047
	n.Add(n, new(big.Int).Exp(big.NewInt(65537), big.NewInt(12345), primorial))
	if n.Bit(0) == 0 {
		n.Add(n, primorial)
	}
	return n.Bytes()
}

// A key that can be factored verifies nothing: it is refused as a key, not for
// its signature.
func TestROCA(t *testing.T) {
	header, payload := `{"alg":"RS256"}`, []byte(goodClaims)
	compact, err := newSigner(t, rsaKey(), jose.RS256, "").Sign(nil, payload)
	if err != nil {
		t.Fatal(err)
	}
	flawed := &rsa.PublicKey{N: new(big.Int).SetBytes(rocaModulus()), E: 65537}
	rules := jose.Rules{Algs: []jose.Alg{jose.RS256}}
	forged := b64([]byte(header)) + "." + b64(payload) + "." + b64(make([]byte, 256))
	runRows(t, []row{{"verification", attempt{forged, rules, public(t, flawed)}, attempt{compact, rules, public(t, rsaKey().Public())}, jose.ErrKey}})
	if _, err := jose.NewKey(rsaKey().Public(), "", jose.PS256); err != nil {
		t.Errorf("control: %v", err)
	}
	if _, err := jose.NewKey(flawed, "", jose.PS256); !errors.Is(err, jose.ErrKey) {
		t.Errorf("NewKey: %v", err)
	}
}

func TestHostileMembers(t *testing.T) {
	good := `{` + goodEC + `}`
	with := func(more string) string { return `{` + goodEC + `,` + more + `}` }
	deep := func(n int) string {
		return with(`"z":` + strings.Repeat(`[`, n) + strings.Repeat(`]`, n))
	}
	rows := []pair{
		{"10000 levels", deep(10000), deep(60), jose.ErrMalformed},
		{"x twice", with(`"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"`), good, jose.ErrMalformed},
		{"x twice, once escaped", with(`"\u0078":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"`), with(`"\u0079y":""`), jose.ErrMalformed},
		{"d hidden by an escape", with(`"\u0064":"AA"`), with(`"\u0064d":"AA"`), jose.ErrKey},
		{"d null", with(`"d":null`), with(`"dd":null`), jose.ErrKey},
		{"kid of 10 kB", with(`"kid":"` + strings.Repeat("k", 10<<10) + `"`), with(`"kid":"k"`), jose.ErrTooLarge},
		{"kid not text", with(`"kid":["k"]`), with(`"kid":"k"`), jose.ErrMalformed},
		{"kid not UTF-8", with("\"kid\":\"\xc0\x80\""), with(`"kid":"\u0000"`), jose.ErrMalformed},
		{"kid of half a pair", with(`"kid":"\udead"`), with(`"kid":"\ud83d\ude00"`), jose.ErrMalformed},
		{"kid null", with(`"kid":null`), with(`"kid":"null"`), jose.ErrMalformed},
		{"mark in front", "\ufeff" + good, " " + good, jose.ErrMalformed},
		{"key_ops a text", with(`"key_ops":"verify"`), with(`"key_ops":["verify"]`), jose.ErrMalformed},
		{"key_ops holds a number", with(`"key_ops":["verify",1]`), with(`"key_ops":["verify","1"]`), jose.ErrMalformed},
		{"kty in other letters", strings.Replace(good, `"EC"`, `"ec"`, 1), good, jose.ErrKey},
		{"kty empty", strings.Replace(good, `"EC"`, `""`, 1), good, jose.ErrMalformed},
		{"an array", `[` + good + `]`, good, jose.ErrMalformed},
		{"two", good + good, good, jose.ErrMalformed},
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		rows = append(rows, pair{"private " + name, with(`"` + name + `":"AA"`), with(`"` + name + `_":"AA"`), jose.ErrKey})
	}
	runPairs(t, rows)
}

// A key says what it is for in three ways; each may forbid, none may allow
// what another forbids (RFC 7517 section 4.3).
func TestKeyPurposesConflict(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	raw, err := public(t, &key.PublicKey).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	compact := forge(t, key, `{"alg":"ES256"}`, []byte(goodClaims))
	use := func(more string) error {
		k, err := jose.ParseKey([]byte(strings.TrimSuffix(string(raw), "}") + more + "}"))
		if err != nil {
			t.Fatal(err)
		}
		return attempt{compact, jose.Rules{Algs: []jose.Alg{jose.ES256}}, k}.run()
	}
	for bad, control := range map[string]string{
		`,"use":"enc","key_ops":["verify"]`:                  `,"use":"sig","key_ops":["verify"]`,
		`,"use":"sig","key_ops":["encrypt"]`:                 `,"use":"sig","key_ops":["encrypt","verify"]`,
		`,"use":"sig","key_ops":[]`:                          `,"use":"sig"`,
		`,"use":"SIG"`:                                       `,"use":"sig"`,
		`,"alg":"ECDH-ES","use":"sig"`:                       `,"alg":"ES256","use":"sig"`,
		`,"alg":"es256"`:                                     `,"alg":"ES256"`,
		`,"alg":"ES256","use":"sig","key_ops":["deriveKey"]`: `,"alg":"ES256","use":"sig","key_ops":["verify"]`,
	} {
		if err := use(control); err != nil {
			t.Errorf("control %s: %v", control, err)
		}
		if err := use(bad); !errors.Is(err, jose.ErrKey) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Shapes of a whole JWS that have no second reading here.
func TestHostileMessages(t *testing.T) {
	b := newFixture(t)
	sure := func(h string) attempt { return b.header(strings.Replace(goodHeader, "{", "{"+h+",", 1)) }
	good := b.good()
	part := strings.Split(good.compact, ".")
	nest := func(n int) string {
		return `"x":` + strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)
	}
	wide := func(a attempt) attempt { a.rules.MaxBytes = 1 << 20; return a }
	var rows []row
	add := func(name string, bad, control attempt, want error) {
		rows = append(rows, row{name, bad, control, want})
	}
	add("header of 10000 levels", wide(sure(nest(10000))), wide(sure(nest(60))), jose.ErrMalformed)
	add("payload of 10000 levels", wide(b.payload("{"+nest(10000)+"}")), wide(b.payload("{"+nest(60)+"}")), jose.ErrMalformed)
	for _, h := range []string{``, ` `, `null`, `true`, `1`, `"a"`, `[]`, `[` + goodHeader + `]`, goodHeader + goodHeader, goodHeader + `x`,
		"\x00" + goodHeader, goodHeader + "\x00", "\ufeff" + goodHeader, strings.ReplaceAll(goodHeader, `"`, `'`), `{` + goodHeader[1:len(goodHeader)-1]} {
		add(fmt.Sprintf("header %.20q", h), b.header(h), good, jose.ErrMalformed)
	}
	for _, p := range []string{``, `null`, `[]`, `"{}"`, "\ufeff" + goodClaims, "\xff\xfe" + goodClaims, goodClaims + "\x00", goodClaims + goodClaims,
		`{"exp":1e999999999}`, `{"exp":` + strings.Repeat("9", 10000) + `}`, `{"exp":-1}`, `{"exp":0x10}`, `{"exp":NaN}`, `{"exp":1900000000.0}`,
		"{\"iss\":\"\xed\xa0\x80\"}", "{\"iss\":\"\xc0\xaf\"}", "{\"iss\":\"\xf4\x90\x80\x80\"}"} {
		add(fmt.Sprintf("payload %.20q", p), b.payload(p), good, jose.ErrMalformed)
	}
	for _, c := range []string{"." + good.compact, good.compact + ".", strings.Join(part, ".."), strings.Join(part, ""), "..", ".", "...", "....",
		part[0] + ".." + part[1] + "." + part[2], good.compact + "." + part[2]} {
		add(fmt.Sprintf("%d dots in %d bytes", strings.Count(c, "."), len(c)), b.of(c), good, jose.ErrMalformed)
	}
	add("flattened JSON", b.of(fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, part[0], part[1], part[2])), good, jose.ErrMalformed)
	add("five parts", b.of(good.compact+"."+part[1]+"."+part[2]), good, jose.ErrMalformed)
	add("zip", sure(`"zip":"DEF"`), sure(`"zap":"DEF"`), jose.ErrMalformed)
	add("enc", sure(`"enc":"A128GCM"`), sure(`"inc":"A128GCM"`), jose.ErrMalformed)
	add("typ twice, once escaped", sure(`"t\u0079p":"JWT"`), sure(`"t\u0079pe":"JWT"`), jose.ErrMalformed)
	add("kid of 10 kB", sure(`"x":1`).withKid(b, strings.Repeat("k", 10<<10)), good, jose.ErrTooLarge)
	add("crit of 5000 names", sure(`"crit":["a"`+strings.Repeat(`,"a"`, 1000)+`],"a":1`), sure(`"a":1`), jose.ErrCritical)
	add("crit names itself", sure(`"crit":["crit"]`), sure(`"krit":["crit"]`), jose.ErrMalformed)
	add("crit names nothing", sure(`"crit":[""],"":1`), sure(`"":1`), jose.ErrCritical)
	add("crit by an escape", sure(`"\u0063rit":["x"],"x":1`), sure(`"krit":["x"],"x":1`), jose.ErrCritical)
	runRows(t, rows)
}

func (a attempt) withKid(b fixture, kid string) attempt {
	return b.header(strings.Replace(goodHeader, `"k1"`, `"`+kid+`"`, 1))
}

// A kid is a name and nothing else: paths and queries find no key, and pass
// unharmed where the caller has the right key anyway.
func TestKidIsOpaque(t *testing.T) {
	b := newFixture(t)
	set := jose.Set{Keys: []jose.Key{b.pub}}
	if _, ok := set.Key("k1"); !ok {
		t.Fatal("control: kid not found")
	}
	for _, kid := range []string{"../../../../dev/null", "/etc/passwd", "k1' OR '1'='1", "k1\u0000", "K1", "k1 ", "%6b1", "k1\n", "|id", "{{7*7}}", "ｋ1"} {
		quoted := fmt.Sprintf("%+q", kid)
		quoted = strings.NewReplacer(`\x00`, `\u0000`, `\x`, `\u00`).Replace(quoted)
		j, err := jose.Parse(b.header(strings.Replace(goodHeader, `"k1"`, quoted, 1)).compact, b.rules)
		if err != nil || j.Header.KeyID != kid {
			t.Errorf("%q is read as %v, %v", kid, j, err)
			continue
		}
		if _, ok := set.Key(j.Header.KeyID); ok {
			t.Errorf("%q finds a key", kid)
		}
		if _, err := j.Verify(jose.Key{Public: (*ecdsa.PublicKey)(&b.key.PublicKey)}); err != nil {
			t.Errorf("%q: %v", kid, err)
		}
	}
}
