package authority_test

import (
	"encoding/base64"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/obs"
)

func decode64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// BenchmarkToken is one DPoP-bound token over a kept-alive TLS connection,
// client and server in one process; for profiles. bench/authority compares
// with the floor.
func BenchmarkToken(b *testing.B) {
	s := newSite(b)
	f, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	log := obs.NewLogger(f, "json", new(slog.LevelVar))
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", ""), authority.Deps{Log: log})
	secret := r.client(standard("bench"))
	p := newProver(b)
	nonce := r.nonce()
	body := []byte("grant_type=client_credentials&scope=jobs.read")
	req := r.request("bench", secret, nil)
	b.ReportAllocs()
	for b.Loop() {
		proof, err := p.Proof("POST", r.issuer+"/token", dpop.ProofOptions{Nonce: nonce})
		if err != nil {
			b.Fatal(err)
		}
		h := http.Header{"Dpop": {proof}, "Content-Type": req.header["Content-Type"], "Authorization": req.header["Authorization"]}
		if a := r.do("POST", "/token", h, body); a.status != 200 {
			b.Fatalf("%d %s", a.status, a.body)
		}
	}
}
