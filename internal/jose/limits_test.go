package jose_test

import (
	"crypto/elliptic"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

// allocated tells how many bytes f allocates, dead or alive.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// reader is one way for bytes from outside into the package.
type reader struct {
	name  string
	limit int                        // bytes
	read  func(string, []byte) error // parses, or verifies; gets the same bytes twice, so as to copy none
	sized func(size int) string      // a good input of that size
	wrap  func(doc string) string
}

func readers(t *testing.T) []reader {
	key := ecKey(t, elliptic.P256())
	prover, err := dpop.NewProver(key)
	if err != nil {
		t.Fatal(err)
	}
	private := privateText(t)
	jws := func(payload string) string { return forge(t, key, `{"alg":"ES256"}`, []byte(payload)) }
	rules := jose.Rules{Algs: []jose.Alg{jose.ES256}, AllowJWK: true}
	parse := func(s string, _ []byte) error { _, err := jose.Parse(s, rules); return err }
	header := func(h string) string { return b64([]byte(h)) + "." + b64([]byte("x")) + "." + b64(make([]byte, 64)) }
	same := func(s string) string { return s }
	return []reader{
		{"Parse", 16 << 10, parse, func(n int) string { return grow(n, jws) }, header},
		{"ParseDetached", 16 << 10, func(s string, _ []byte) error { _, err := jose.ParseDetached(s, nil, rules); return err },
			func(n int) string {
				return grow(n, func(pad string) string {
					return strings.Replace(header(`{"alg":"ES256","x":"`+pad+`"}`), "."+b64([]byte("x"))+".", "..", 1)
				})
			}, func(h string) string { return b64([]byte(h)) + ".." + b64(make([]byte, 64)) }},
		{"ParseClaims", jose.MaxClaimsBytes, func(_ string, b []byte) error { _, err := jose.ParseClaims(b); return err },
			func(n int) string { return grow(n, func(pad string) string { return `{"x":"` + pad + `"}` }) }, same},
		{"ParseKey", jose.MaxKeyBytes, func(_ string, b []byte) error { _, err := jose.ParseKey(b); return err },
			func(n int) string {
				return grow(n, func(pad string) string { return `{` + goodEC + `,"z":"` + pad + `"}` })
			}, same},
		{"ParsePrivateKey", jose.MaxKeyBytes, func(_ string, b []byte) error { _, _, err := jose.ParsePrivateKey(b); return err },
			func(n int) string {
				return grow(n, func(pad string) string { return strings.TrimSuffix(private, "}") + `,"z":"` + pad + `"}` })
			}, same},
		{"ParseSet", jose.MaxSetBytes, func(_ string, b []byte) error { _, err := jose.ParseSet(b); return err },
			func(n int) string {
				return grow(n, func(pad string) string { return `{"keys":[],"z":"` + pad + `"}` })
			},
			same},
		{"dpop.Verify", dpop.MaxProofBytes, func(s string, _ []byte) error {
			_, err := dpop.Verify([]string{s}, dpop.Check{Method: "POST", URL: "https://a.example/token", Now: time.Now()})
			return err
		}, func(n int) string {
			return grow(n, func(pad string) string {
				proof, err := prover.Proof("POST", "https://a.example/token", dpop.ProofOptions{Nonce: pad})
				if err != nil {
					t.Fatal(err)
				}
				return proof
			})
		}, header},
	}
}

// grow makes an input of size bytes, or the largest below it: what is signed
// grows in steps of base64.
func grow(size int, build func(pad string) string) string {
	out := build("")
	for pad := size - len(out); pad > 0; pad -= 1 + (len(out)-size)/2 {
		if out = build(strings.Repeat("a", pad)); len(out) <= size {
			return out
		}
	}
	return out
}

func privateText(t *testing.T) string {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	text, err := public(t, &key.PublicKey).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "}") + `,"d":"` + b64(raw) + `"}`
}

// What is over its limit is refused by its length alone: for a megabyte no
// more is allocated than for the error.
func TestOversize(t *testing.T) {
	const megabyte = 1 << 20
	for _, r := range readers(t) {
		t.Run(r.name, func(t *testing.T) {
			if good := r.sized(r.limit); len(good) < r.limit-8 || r.read(good, []byte(good)) != nil {
				t.Fatalf("control of %d bytes, limit %d: %v", len(good), r.limit, r.read(good, []byte(good)))
			}
			for name, bad := range map[string]string{
				"just over":      r.sized(r.limit + 8),
				"otherwise good": r.sized(megabyte),
				"one letter":     strings.Repeat("A", megabyte),
				"dots":           strings.Repeat(".", megabyte),
				"brackets":       strings.Repeat("[", megabyte),
				"objects":        strings.Repeat(`{"a":`, megabyte/5),
				"NUL":            strings.Repeat("\x00", megabyte),
				"not UTF-8":      strings.Repeat("\xff", megabyte),
			} {
				if len(bad) <= r.limit {
					t.Fatalf("%s: %d bytes are not over the limit", name, len(bad))
				}
				var err error
				raw := []byte(bad)
				if n := allocated(func() { err = r.read(bad, raw) }); !errors.Is(err, jose.ErrTooLarge) || n > 4<<10 {
					t.Errorf("%s: %v, %d bytes allocated", name, err, n)
				}
			}
		})
	}
}

// maxGain is how many bytes may be allocated for each byte within a limit:
// members of two bytes take a place in a map each.
const maxGain = 64

// What is within its limit costs memory in proportion, whatever its shape.
func TestWorstWithinLimit(t *testing.T) {
	const names = `"%x":0,`
	var many strings.Builder
	many.WriteByte('{')
	for i := 0; many.Len() < jose.MaxSetBytes; i++ {
		fmt.Fprintf(&many, names, i)
	}
	fill := func(size int, opening, piece, closing string) string {
		return opening + strings.Repeat(piece, (size-len(opening)-len(closing))/len(piece)) + closing
	}
	shapes := map[string]func(size int) string{
		"deep arrays":   func(n int) string { return `{"x":` + fill(n-6, "", "[", "") + "}" },
		"deep objects":  func(n int) string { return fill(n, "", `{"a":`, "") },
		"many elements": func(n int) string { return fill(n, `{"x":[0`, ",0", "]}") },
		"many objects":  func(n int) string { return fill(n, `{"x":[{}`, ",{}", "]}") },
		"many texts":    func(n int) string { return fill(n, `{"crit":[""`, `,""`, `],"aud":[]}`) },
		"audiences":     func(n int) string { return fill(n, `{"aud":[""`, `,""`, `]}`) },
		"operations":    func(n int) string { return fill(n, `{`+goodEC+`,"key_ops":["a"`, `,"b"`, `]}`) },
		"escapes":       func(n int) string { return fill(n, `{"z":"`, `\u0000`, `"}`) },
		"escaped kid":   func(n int) string { return fill(n, `{"kty":"EC","kid":"`, `\u0000`, `"}`) },
		"digits":        func(n int) string { return fill(n, `{"exp":1`, "0", "}") },
		"exponent":      func(n int) string { return fill(n, `{"x":1e9`, "9", "}") },
		"spaces":        func(n int) string { return fill(n, `{`, " ", "}") },
		"modulus":       func(n int) string { return fill(n, `{"kty":"RSA","e":"AQAB","n":"`, "_", `"}`) },
		"exponent of a key": func(n int) string {
			return fill(n, `{"kty":"RSA","n":"`+b64(rsaKey().N.Bytes())+`","e":"`, "_", `"}`)
		},
		"keys": func(n int) string { return fill(n, `{"keys":[{}`, `,{}`, "]}") },
		"many names": func(n int) string {
			s := many.String()[:n-1]
			return s[:strings.LastIndexByte(s, ',')] + "}"
		},
	}
	for _, r := range readers(t) {
		t.Run(r.name, func(t *testing.T) {
			for name, shape := range shapes {
				size := r.limit
				for size > 0 && len(r.wrap(shape(size))) > r.limit {
					size -= 1 + (len(r.wrap(shape(size)))-r.limit)/2
				}
				in := r.wrap(shape(size))
				if len(in) < r.limit*9/10 {
					t.Fatalf("%s: %d bytes say little about a limit of %d", name, len(in), r.limit)
				}
				var err error
				raw := []byte(in)
				if n := allocated(func() { err = r.read(in, raw) }); n > uint64(maxGain*r.limit) {
					t.Errorf("%s: %d bytes allocated for %d: %v", name, n, len(in), err)
				}
				if errors.Is(err, jose.ErrTooLarge) && name != "escaped kid" && name != "keys" {
					t.Errorf("%s was not read: %v", name, err)
				}
			}
		})
	}
}
