package oauth

import (
	"net/http"
	"sync"
)

// nonces keeps the latest DPoP nonce of each origin (RFC 9449 section 8.2).
type nonces struct {
	mu sync.Mutex
	m  map[string]string
}

func newNonces() *nonces { return &nonces{m: map[string]string{}} }

func (n *nonces) get(url string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.m[originOf(url)]
}

// learn takes the nonce of an answer, if it has one that RFC 9449 section 8.1
// allows, and reports whether it did.
func (n *nonces) learn(url string, h http.Header) bool {
	v := h.Get("DPoP-Nonce")
	if v == "" || len(v) > 512 {
		return false
	}
	for _, c := range []byte(v) {
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.m[originOf(url)] = v
	return true
}
