package detached_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

// TestRFCVectors takes the examples of RFC 7515 A.3 and RFC 8037 A.4 apart as
// RFC 7515 appendix F does.
func TestRFCVectors(t *testing.T) {
	type vector struct {
		Alg string
		JWK json.RawMessage
		JWS string
	}
	var a struct{ Cases []vector }
	readJSON(t, "../testdata/rfc/rfc7515-appendix-a.json", &a)
	var ed vector
	readJSON(t, "../testdata/rfc/rfc8037-appendix-a.json", &ed)
	ran := 0
	for _, c := range append(a.Cases, ed) {
		parts := strings.Split(c.JWS, ".")
		compact := parts[0] + ".." + parts[2]
		if c.Alg == "HS256" {
			if err := verdict(compact, jose.Key{Public: []byte(strings.Repeat("k", 32))}, jose.Rules{Algs: []jose.Alg{jose.HS256}}); !errors.Is(err, jose.ErrAlg) {
				t.Errorf("HS256: %v", err)
			}
			continue
		}
		key, err := jose.ParseKey(c.JWK)
		if err != nil {
			t.Fatal(err)
		}
		payload := unb64(t, parts[1])
		if err := verdict(compact, key, rules(), strings.Split(payload, "")...); err != nil {
			t.Errorf("%s: %v", compact, err)
		}
		if err := verdict(compact, key, rules(), payload+" "); !errors.Is(err, jose.ErrSignature) {
			t.Errorf("%s with a longer payload: %v", compact, err)
		}
		ran++
	}
	if ran != 2 {
		t.Errorf("%d vectors ran", ran)
	}
}

func unb64(t testing.TB, s string) string {
	t.Helper()
	j, err := jose.Parse("eyJhbGciOiJFUzI1NiJ9."+s+".AA", rules())
	if err != nil {
		t.Fatal(err)
	}
	return string(j.UnverifiedPayload())
}

// TestAgrees signs and verifies random payloads in random pieces with this
// package, package jose and go-jose: one verdict, whoever signed.
func TestAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alg := rapid.SampledFrom(streamed()).Draw(t, "alg")
		enc := rapid.SampledFrom([]detached.Encoding{detached.Unencoded, detached.Base64URL}).Draw(t, "encoding")
		payload := strings.Repeat(string(rapid.SliceOfN(rapid.Byte(), 1, 99).Draw(t, "payload")), rapid.SampledFrom([]int{0, 1, 7, 9000}).Draw(t, "times"))
		s, err := jose.NewSigner(keys()[alg], alg, "k1")
		if err != nil {
			t.Fatal(err)
		}
		var made string
		switch who := rapid.SampledFrom([]string{"detached", "jose", "go-jose"}).Draw(t, "signer"); {
		case who == "go-jose":
			made = gojoseSign(t, alg, payload, enc)
		case who == "jose" && enc == detached.Unencoded:
			made, err = s.SignDetached(nil, []byte(payload))
		case who == "jose":
			made, err = s.Sign(nil, []byte(payload))
			parts := strings.Split(made, ".")
			made = parts[0] + ".." + parts[2]
		default:
			made = sign(t, s, payload, enc)
		}
		if err != nil {
			t.Fatal(err)
		}
		judge := func(payload string) (us, them, others error) {
			parsed, err := gojose.ParseDetached(made, []byte(payload), []gojose.SignatureAlgorithm{gojose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			_, others = parsed.Verify(keys()[alg].Public())
			if enc == detached.Unencoded {
				others = parsed.DetachedVerify([]byte(payload), keys()[alg].Public())
			}
			return verdict(made, s.Key(), rules(), pieces(t, payload)...), reference(made, s.Key(), rules(), payload), others
		}
		if us, them, others := judge(payload); us != nil || them != nil || others != nil {
			t.Fatalf("refused: %v, %v, %v", us, them, others)
		}
		changed := payload + "x"
		if len(payload) > 0 && rapid.Bool().Draw(t, "flip") {
			b := []byte(payload)
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			changed = string(b)
		}
		us, them, others := judge(changed)
		if !errors.Is(us, jose.ErrSignature) || !errors.Is(them, jose.ErrSignature) || others == nil {
			t.Fatalf("changed payload: %v, %v, %v", us, them, others)
		}
	})
}

func pieces(t *rapid.T, s string) (out []string) {
	for len(s) > 0 {
		n := min(len(s), rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 1000, 16384, 200000, 1 << 20}).Draw(t, "piece"))
		out, s = append(out, s[:n]), s[n:]
	}
	return out
}

func gojoseSign(t *rapid.T, alg jose.Alg, payload string, enc detached.Encoding) string {
	opts := new(gojose.SignerOptions)
	if enc == detached.Unencoded {
		opts = opts.WithBase64(false)
	}
	s, err := gojose.NewSigner(gojose.SigningKey{Algorithm: gojose.SignatureAlgorithm(alg), Key: keys()[alg]}, opts)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := j.DetachedCompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// TestPayloads changes payloads of telling lengths at telling places.
func TestPayloads(t *testing.T) {
	for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA} {
		for _, enc := range []detached.Encoding{detached.Unencoded, detached.Base64URL} {
			for _, size := range []int{0, 1, 2, 3, 4, 5, 6, 7, 12287, 12288, 12289, 16384, 196608, 196609, 262143, 262144, 262145, 1500001} {
				payload := strings.Repeat("0123456789abcdefghijklmnopq\n", size/28+1)[:size]
				s := signerFor(t, alg)
				compact := sign(t, s, payload, enc)
				if err := verdict(compact, s.Key(), rules(), payload); err != nil {
					t.Fatalf("%s %d, %d bytes: %v", alg, enc, size, err)
				}
				flawed := map[string]string{"extended": payload + "0", "by a line break": payload + "\n", "by a zero": payload + "\x00", "by padding": payload + "="}
				if size > 0 {
					flawed["truncated"], flawed["beheaded"] = payload[:size-1], payload[1:]
					flawed["emptied"] = ""
				}
				for _, at := range []int{0, 1, 2, 3, size / 2, 12287, 12288, 196608, 262143, 262144, size - 2, size - 1} {
					if at >= 0 && at < size {
						b := []byte(payload)
						b[at] ^= 0x10
						flawed["flipped at "+string(rune('A'+len(flawed)))] = string(b)
					}
				}
				for name, p := range flawed {
					if err := verdict(compact, s.Key(), rules(), p); !errors.Is(err, jose.ErrSignature) {
						t.Errorf("%s %d, %d bytes, %s: %v", alg, enc, size, name, err)
					}
				}
			}
		}
	}
}

// TestVerifier holds the rest of its interface.
func TestVerifier(t *testing.T) {
	s := signerFor(t, jose.ES256)
	compact := sign(t, s, "payload", detached.Base64URL)
	asked := ""
	v, err := detached.Open(compact, func(h jose.Header) (jose.Key, error) { asked = h.KeyID; return s.Key(), nil }, rules())
	if err != nil {
		t.Fatal(err)
	}
	if asked != "k1" || v.Header().Alg != jose.ES256 || v.Key().KeyID != "k1" {
		t.Errorf("asked for %q, header %+v, key %+v", asked, v.Header(), v.Key())
	}
	if n, err := v.ReadFrom(strings.NewReader("payload")); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := v.Verify(); err != nil {
		t.Error(err)
	}
	used := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, detached.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	used("a second Verify", v.Verify())
	_, err = v.Write([]byte("x"))
	used("Write after Verify", err)
	_, err = v.ReadFrom(strings.NewReader("x"))
	used("ReadFrom after Verify", err)
	for _, enc := range []detached.Encoding{detached.Unencoded, detached.Base64URL} {
		if v, err = detached.Open(sign(t, s, "", enc), with(s.Key()), rules()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(v.Close(), v.Close()); err != nil {
			t.Error(err)
		}
		used("Verify after Close", v.Verify())
		_, err = io.WriteString(v, "x")
		used("Write after Close", err)
	}
}
