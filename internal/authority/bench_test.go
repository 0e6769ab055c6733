package authority_test

import (
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/url"
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

// The benchmarks are one request each over a kept-alive TLS connection, client
// and server in one process, with limits, audit records and a log file: for
// profiles. bench/authority compares with the floor.

// benchReplica is a replica as it runs in production, but for its store.
func benchReplica(b *testing.B) *replica {
	b.Helper()
	s := newSite(b)
	s.limited = true
	f, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	limits := `security: {rateLimiting: {token: {permitLimit: 1000000, window: "00:00:01"}}}` + "\n"
	log := obs.NewLogger(f, "json", new(slog.LevelVar))
	return s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", limits), authority.Deps{Log: log})
}

// benchHeader is that of a form with a fresh proof.
func (r *replica) benchHeader(p *dpop.Prover, nonce, authorization string) http.Header {
	proof, err := p.Proof("POST", r.issuer+"/token", dpop.ProofOptions{Nonce: nonce})
	if err != nil {
		r.t.Fatal(err)
	}
	h := http.Header{"Dpop": {proof}, "Content-Type": {"application/x-www-form-urlencoded"}}
	if authorization != "" {
		h.Set("Authorization", authorization)
	}
	return h
}

// BenchmarkToken is one DPoP-bound token.
func BenchmarkToken(b *testing.B) {
	r := benchReplica(b)
	authorization := basicHeader("bench", r.client(standard("bench"))).Get("Authorization")
	p := newProver(b)
	nonce := r.nonce()
	body := []byte("grant_type=client_credentials&scope=jobs.read")
	b.ReportAllocs()
	for b.Loop() {
		if a := r.do("POST", "/token", r.benchHeader(p, nonce, authorization), body); a.status != 200 {
			b.Fatalf("%d %s", a.status, a.body)
		}
	}
}

// BenchmarkRefresh is one use of a refresh token, each of the one before it.
func BenchmarkRefresh(b *testing.B) {
	r := benchReplica(b)
	r.client(public("cli"))
	r.user("ana")
	p := newProver(b)
	login := r.device("cli")
	r.approve("ana", login)
	first := r.grant("cli", p, deviceForm(login))
	token, nonce := first.field("refresh_token"), first.header.Get("DPoP-Nonce")
	b.ReportAllocs()
	for b.Loop() {
		form := refreshForm(token)
		form.Set("client_id", "cli")
		a := r.do("POST", "/token", r.benchHeader(p, nonce, ""), []byte(form.Encode()))
		if token = a.field("refresh_token"); token == "" {
			b.Fatalf("%d %s", a.status, a.body)
		}
	}
}

// BenchmarkIntrospection is a resource server's question about one token.
func BenchmarkIntrospection(b *testing.B) {
	r := benchReplica(b)
	doc := standard("jobs")
	doc.Introspects = []string{"api://jobs"}
	secret := r.client(doc)
	form := url.Values{"token": {r.token("jobs", secret, newProver(b))}}
	header := basicHeader("jobs", secret)
	b.ReportAllocs()
	for b.Loop() {
		if a := r.form("/introspect", form, header); a.field("active") != "true" {
			b.Fatalf("%d %s", a.status, a.body)
		}
	}
}
