package clients

import (
	"testing"
)

// An accepted document leads to a client that the token endpoint can use.
func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"client_id":"c","scopes":["a"],"audiences":["api://x"],"tenant":"t"}`))
	f.Add([]byte(`{"client_id":"c","jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]},"audiences":["urn:x:y"],"tenants":["t","u"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDocument(data)
		if err != nil {
			return
		}
		stored, err := d.toStore(func(string) bool { return true })
		if err != nil {
			return
		}
		if stored.Method == SecretBasic {
			_, stored.SecretHash = newSecret()
		}
		c, err := parse(stored)
		if err != nil || len(c.Audiences) == 0 || len(c.Tenants) == 0 {
			t.Fatalf("%s: %+v %v", data, c, err)
		}
	})
}
