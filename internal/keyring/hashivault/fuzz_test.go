package hashivault

import (
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/fault"
)

// FuzzReference: what is accepted is canonical and stays under its mount, what
// is not is an Input error of bounded size.
func FuzzReference(f *testing.F) {
	sum := strings.Repeat("0a", 32)
	for _, seed := range []string{
		"hashivault://k?version=1", "hashivault://k.a-b_c?version=12&sha256=" + sum, "hashivault://k", "hashivault://../k?version=1",
		"hashivault://k?version=01", "hashivault://k?version=1&sha256=" + sum[2:], "pkcs11:object=k", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := parseReference(text)
		if err != nil {
			if fault.KindOf(err) != fault.Input || len(err.Error()) > 2000 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if ref.String() != text || len(text) > maxReference || ref.version < 1 || strings.ContainsAny(ref.name, "/?#%") || strings.Contains(ref.name, "..") {
			t.Fatalf("%q accepted as %+v", text, ref)
		}
	})
}

// FuzzSignature: what is accepted encodes back to the same text.
func FuzzSignature(f *testing.F) {
	for _, seed := range []string{"vault:v1:MEUCIQ==", "vault:v2:MEUCIQ==", "vault:v1:MEUCIR==", "vault:v1:ME\nUC", "vault:v1:", "vault:v01:AAAA", ""} {
		f.Add(seed, 1)
	}
	f.Fuzz(func(t *testing.T, text string, version int) {
		sig, err := parseSignature(text, version)
		if err != nil {
			if len(err.Error()) > 200 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if again := fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(sig)); again != text || len(sig) == 0 || len(sig) > maxSignature {
			t.Fatalf("%q accepted, it encodes to %q", text, again)
		}
	})
}

// FuzzKeyInfo: what is accepted is a key on the curve, of the hash asked for.
func FuzzKeyInfo(f *testing.F) {
	const pem = `-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----\n`
	const good = `{"type":"ecdsa-p256","latest_version":1,"min_decryption_version":1,"keys":{"1":{"name":"P-256","public_key":"` + pem + `"}}}`
	f.Add([]byte(good), "")
	f.Add([]byte(good), strings.Repeat("0a", 32))
	f.Add([]byte(`{"type":"aes256-gcm96","keys":{"1":1442851412}}`), "")
	f.Add([]byte(`{"type":"ecdsa-p256","latest_version":1e99}`), "")
	if info, err := parseKeyInfo([]byte(good)); err != nil {
		f.Fatal(err)
	} else if _, err := info.public(reference{name: "k", version: 1}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, sum string) {
		info, err := parseKeyInfo(data)
		if err != nil {
			return
		}
		ref := reference{"k", 1, sum}
		pub, err := info.public(ref)
		_, _, _ = info.maySign("transit", ref), info.left(), info.alone("transit", ref)
		if err != nil {
			return
		}
		if got, err := sumOf(pub); err != nil || pub.Curve != elliptic.P256() || sum != "" && sum != got {
			t.Fatalf("%q accepted: %v", data, err)
		}
	})
}

// FuzzClip: what is left of a server's words is short, printable and without
// the token.
func FuzzClip(f *testing.F) {
	f.Add("1 error occurred:\n\t* permission denied\n\n", "hvs.x")
	f.Add(strings.Repeat("hvs.x", 1000), "hvs.x")
	f.Add("\x1b[31m\u202ered\xff", "")
	f.Fuzz(func(t *testing.T, text, token string) {
		got := clip(text, token)
		if n := utf8.RuneCountInString(got); n > maxText+2 || strings.ContainsAny(got, "\x1b\n\r\t\x00\u202e") || !utf8.ValidString(got) {
			t.Fatalf("%q became %q", text, got)
		}
		if plain := strings.IndexFunc(token, func(c rune) bool { return c > 'z' || c != '.' && !word(byte(c)) }) < 0; plain && len(token) > len("token") && strings.Contains(got, token) {
			t.Fatalf("%q became %q, which holds %q", text, got, token)
		}
	})
}
