package token

import (
	"testing"
	"time"
)

func TestNonces(t *testing.T) {
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	n := NewNonces([]byte("secret"), "https://a", time.Minute)
	nonce := n.New(now)
	if nonce == n.New(now) {
		t.Error("the same nonce twice")
	}
	for age, good := range map[time.Duration]bool{0: true, 29 * time.Second: true, -29 * time.Second: true, time.Minute: false, -time.Minute: false} {
		if err := n.Check(nonce, now.Add(age)); (err == nil) != good {
			t.Errorf("after %s: %v", age, err)
		}
	}
	for name, other := range map[string]*Nonces{
		"other secret": NewNonces([]byte("secreT"), "https://a", time.Minute),
		"other issuer": NewNonces([]byte("secret"), "https://b", time.Minute),
	} {
		if other.Check(nonce, now) == nil {
			t.Errorf("%s accepts it", name)
		}
	}
	for i := range len(nonce) {
		changed := []byte(nonce)
		changed[i] ^= 1
		if n.Check(string(changed), now) == nil {
			t.Errorf("accepted with character %d changed", i)
		}
	}
}
