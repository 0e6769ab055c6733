package detached_test

import (
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

// FuzzOpen accepts what package jose accepts on the whole payload, HS* apart,
// and nothing that has a second spelling.
func FuzzOpen(f *testing.F) {
	for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA, jose.RS256, jose.PS256} {
		s := signerFor(f, alg)
		f.Add(sign(f, s, payload, detached.Unencoded), payload)
		f.Add(sign(f, s, payload, detached.Base64URL), payload)
	}
	f.Add("eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY", "$.02")
	f.Add("eyJhbGciOiJFZERTQSJ9..hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", "Example of Ed25519 signing")
	f.Add("e30..AA", "")
	r := rules()
	r.AllowJWK = true
	f.Fuzz(func(t *testing.T, compact, payload string) {
		for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA, jose.RS256} {
			key := jose.Key{Public: keys()[alg].Public()}
			half := len(payload) / 2
			err, ref := verdict(compact, key, r, payload[:half], payload[half:]), reference(compact, key, r, payload)
			if (err == nil) != (ref == nil) {
				t.Fatalf("%q: %v, package jose says %v", compact, err, ref)
			}
			if err != nil {
				continue
			}
			parts := strings.Split(compact, ".")
			if len(parts) != 3 || parts[1] != "" || b64([]byte(unb64(t, parts[0]))) != parts[0] || b64([]byte(unb64(t, parts[2]))) != parts[2] {
				t.Fatalf("%q has a second spelling", compact)
			}
		}
	})
}
