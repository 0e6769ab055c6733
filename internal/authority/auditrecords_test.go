package authority_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/obs"
)

// syncBuffer is a log that a server writes and a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// audited is a replica with an audit file and a log.
type audited struct {
	*replica
	path string
	log  *syncBuffer
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	s := newSite(t)
	a := &audited{path: filepath.Join(s.dir, "audit.jsonl"), log: &syncBuffer{}}
	yaml := s.config("a", "https://127.0.0.1:0", memory, "", "audit: {log: true, file: "+a.path+"}\n")
	a.replica = s.start("a", yaml, authority.Deps{
		Log:    obs.NewLogger(a.log, "json", new(slog.LevelVar)),
		Reload: func() (*authority.Config, error) { return authority.ParseConfig("a.yaml", []byte(yaml), nil) },
	})
	return a
}

// records reads the file; every line must be a record.
func (a *audited) records() (out []*audit.Record) {
	a.t.Helper()
	data, err := os.ReadFile(a.path)
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		rec, err := audit.Parse(line)
		if err != nil {
			a.t.Fatalf("%v: %s", err, line)
		}
		out = append(out, rec)
	}
	return out
}

// TestAuditIsComplete is negative test J05: of many calls, each that is worth a
// record has exactly one, and it says what the caller was told.
func TestAuditIsComplete(t *testing.T) {
	a := newAudited(t)
	secret := a.client(standard("jobs"))
	before := len(a.records())
	type expected struct {
		typ, reason string
		outcome     audit.Outcome
	}
	want := map[string]expected{} // by request id
	call := func(ans answer, status int, e expected) {
		t.Helper()
		if ans.status != status {
			t.Fatalf("%+v: %d %s", e, ans.status, ans.body)
		}
		want[ans.header.Get(httpd.RequestIDHeader)] = e
	}
	none := func(ans answer) { t.Helper(); call(ans, ans.status, expected{}) }
	prover := newProver(t)
	request := func(id, secret string) *tokenRequest {
		t.Helper()
		q := a.request(id, secret, nil)
		asked := a.do("POST", "/token", nil, nil) // for a nonce; it is a token request too
		call(asked, 400, expected{audit.TypeToken, "invalid_request", audit.Failure})
		proof, err := prover.Proof("POST", a.issuer+"/token", dpop.ProofOptions{Nonce: asked.header.Get("DPoP-Nonce")})
		if err != nil {
			t.Fatal(err)
		}
		q.header.Set("DPoP", proof)
		return q
	}
	for range 3 {
		call(a.send(request("jobs", secret)), 200, expected{audit.TypeClientCredentials, "", audit.Success})
		call(a.send(request("jobs", "wrong-"+secret)), 401, expected{audit.TypeClientCredentials, "invalid_client", audit.Failure})
		call(a.send(request("nobody", secret)), 401, expected{audit.TypeClientCredentials, "invalid_client", audit.Failure})
		scope := request("jobs", secret)
		scope.form.Set("scope", "jobs.delete")
		call(a.send(scope), 400, expected{audit.TypeClientCredentials, "invalid_scope", audit.Failure})
		grant := request("jobs", secret)
		grant.form.Set("grant_type", "password")
		call(a.send(grant), 400, expected{audit.TypeToken, "unsupported_grant_type", audit.Failure})
		none(a.do("GET", "/jwks", nil, nil))
		none(a.do("GET", "/nowhere", nil, nil))
		none(a.do("GET", "/ready", nil, nil))
	}
	got := a.records()[before:]
	for _, rec := range got {
		e, known := want[rec.CorrelationID]
		if !known || e.typ == "" {
			t.Errorf("a record too many: %s %s for %s", rec.Type, rec.Outcome, rec.CorrelationID)
			continue
		}
		delete(want, rec.CorrelationID)
		if rec.Type != e.typ || rec.Outcome != e.outcome || rec.Reason.String() != e.reason {
			t.Errorf("%s %s %q, want %+v", rec.Type, rec.Outcome, rec.Reason, e)
		}
		if rec.Outcome == audit.Success && (rec.Client.ID.String() != "jobs" || rec.Tenant.String() != "acme" || len(rec.Scopes) != 2 ||
			rec.Network.RemoteAddress.String() != "127.0.0.1") {
			t.Errorf("a token for jobs of acme is recorded as %s", rec.AppendJSON(nil))
		}
	}
	for id, e := range want {
		if e.typ != "" {
			t.Errorf("no record of request %s: %+v", id, e)
		}
	}
	if n := strings.Count(a.log.String(), `"logger":"`+audit.LoggerName+`"`); n != before+len(got) {
		t.Errorf("%d records in the log, %d in the file", n, before+len(got))
	}
}

// TestAuditCannotBeForged is negative tests J06 and J07: what a caller sends
// stays inside its field, and no secret and no part of a token is written.
func TestAuditCannotBeForged(t *testing.T) {
	a := newAudited(t)
	secret := a.client(standard("jobs"))
	token := a.token("jobs", secret, newProver(t))
	before := len(a.records())
	forged := "jobs\",\"outcome\":\"Success\"}\r\n{\"schema\":\"stella.audit/v1\",\"eventType\":\"forged\"}"
	odd := a.request(forged, secret, newProver(t))
	odd.header.Set("User-Agent", `x","outcome":"Success" `+token)
	odd.header.Set("X-Forwarded-For", `"],"outcome":"Success"`)
	odd.form.Set("scope", "jobs.read")
	if ans := a.send(odd); ans.status == 200 {
		t.Fatal("a forged client got a token")
	}
	a.form("/revoke", url.Values{"token": {token}}, http.Header{"Authorization": {"Bearer " + token}})
	a.do("GET", "/jwks?access_token="+token, http.Header{"User-Agent": {token}}, nil)
	got := a.records() // every line parses
	if len(got) < before+1 {
		t.Fatalf("%d records, there were %d", len(got), before)
	}
	found := false
	for _, rec := range got[before:] {
		if rec.Outcome == audit.Success || rec.Type == "forged" {
			t.Errorf("%s %s", rec.Type, rec.Outcome)
		}
		found = found || rec.Network.UserAgent.String() == `x","outcome":"Success" [redacted]` &&
			rec.Network.ForwardedFor.String() == `"],"outcome":"Success"`
	}
	if !found {
		t.Error("no record shows the user agent as it was sent, without the token")
	}
	file, err := os.ReadFile(a.path)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"file": string(file), "log": a.log.String()} {
		for _, bad := range append(strings.Split(token, "."), secret) {
			if strings.Contains(text, bad) {
				t.Errorf("the %s holds a secret or a part of a token: %.12s…", where, bad)
			}
		}
		if !strings.Contains(text, "jobs") {
			t.Errorf("the %s holds nothing", where)
		}
	}
}

// TestAuditFileIsReopened: SIGHUP is for log rotation.
func TestAuditFileIsReopened(t *testing.T) {
	a := newAudited(t)
	secret := a.client(standard("jobs"))
	a.token("jobs", secret, newProver(t))
	if err := os.Rename(a.path, a.path+".1"); err != nil {
		t.Fatal(err)
	}
	a.srv.Reload(t.Context())
	a.token("jobs", secret, newProver(t))
	if got := a.records(); len(got) != 2 || got[0].Type != audit.TypeToken || got[1].Type != audit.TypeClientCredentials {
		t.Errorf("the new file has %d records", len(got))
	}
}

// TestRequestsAreMeasured: the route of a request survives the layers around
// the handler and is a label of its duration.
func TestRequestsAreMeasured(t *testing.T) {
	a := newAudited(t)
	scrape := func() string {
		t.Helper()
		resp, err := http.Get(a.srv.AdminURL() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	series := []string{
		`http_server_duration_seconds_count{http_route="/token",http_status_code="400",service_name="stellaops-authority"} 3` + "\n",
		`token_requests_total{grant_type="other",status="400"} 3` + "\n",
		"stella_authority_token_failure_ratio 1\n",
	}
	for _, s := range series {
		if strings.Contains(scrape(), s) {
			t.Errorf("before anything happened there is %s", s)
		}
	}
	for range 3 {
		a.do("POST", "/token", nil, nil)
	}
	// An observation follows its answer.
	for _, s := range series {
		eventually(t, s, func() bool { return strings.Contains(scrape(), s) })
	}
}
