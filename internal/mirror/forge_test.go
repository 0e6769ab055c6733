package mirror_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/release"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func unb64(s string) string {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// hmacLine signs with a public key as if it were a secret (RFC 8725 2.1).
func hmacLine(public string, payload []byte) []byte {
	head := b64(`{"alg":"HS256","kid":"k1","typ":"` + release.Type + `","b64":false,"crit":["b64"]}`)
	mac := hmac.New(sha256.New, []byte(public))
	mac.Write([]byte(head + "."))
	mac.Write(payload)
	return []byte(head + ".." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) + "\n")
}

// jwsAs signs a statement with a key under the kid of another.
func jwsAs(s *jose.Signer, kid string, statement []byte) (string, error) {
	jws, err := s.SignDetached(map[string]any{"typ": release.Type, "provider": "default"}, statement)
	if err != nil {
		return "", err
	}
	head, _, _ := strings.Cut(jws, ".")
	// The kid is inside the signature, so the forger has to sign again: this is
	// the form that a forger can make, with a signature of the wrong key.
	forged := strings.Replace(unb64(head), `"kid":"stranger"`, `"kid":"`+kid+`"`, 1)
	return strings.Replace(jws, head, b64(forged), 1), nil
}
