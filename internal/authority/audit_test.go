package authority_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/testenv"
)

// trail reads an audit file.
type trail struct {
	t    *testing.T
	path string
	seen int
}

// withTrail is one replica that writes an audit file.
func withTrail(t *testing.T, storage string, deps authority.Deps) (*replica, *trail) {
	t.Helper()
	s := newSite(t)
	path := filepath.Join(s.dir, "audit.jsonl")
	return s.start("a", s.config("a", "https://127.0.0.1:0", storage, "", fmt.Sprintf("audit: {log: false, file: %q}\n", path)), deps), &trail{t: t, path: path}
}

// next returns the records since the last call.
func (tr *trail) next() []*audit.Record {
	tr.t.Helper()
	data, err := os.ReadFile(tr.path)
	if err != nil {
		tr.t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	if len(data) == 0 {
		lines = nil
	}
	var all []*audit.Record
	for _, line := range lines[tr.seen:] {
		rec, err := audit.Parse(line)
		if err != nil {
			tr.t.Fatalf("%s: %v", line, err)
		}
		all = append(all, rec)
	}
	tr.seen = len(lines)
	return all
}

// one returns the only record since the last call.
func (tr *trail) one(name string) *audit.Record {
	tr.t.Helper()
	all := tr.next()
	if len(all) != 1 {
		tr.t.Fatalf("%s: %d audit records, not one", name, len(all))
	}
	return all[0]
}

// Whatever is wrong with a request: the standard error, one record, nothing
// issued.
func TestBadInputIsAudited(t *testing.T) {
	r, trail := withTrail(t, memory, authority.Deps{Store: mem.New(0)})
	secret := r.client(standard("svc"))
	r.client(public("cli"))
	r.user("ana")
	p := newProver(t)
	login := r.logIn("cli", "ana", p)
	b := r.device("cli")
	trail.next()
	form := func(s string) func() answer {
		return func() answer {
			h := basicHeader("svc", secret)
			h.Set("Content-Type", "application/x-www-form-urlencoded")
			return r.do("POST", "/token", h, []byte(s))
		}
	}
	for name, row := range map[string]struct {
		send   func() answer
		status int
		code   string
		typ    string
	}{
		"duplicate parameter": {form("grant_type=client_credentials&scope=a&scope=b"), 400, "invalid_request", audit.TypeToken},
		"two methods":         {form("grant_type=client_credentials&client_assertion=x&client_assertion_type=y"), 400, "invalid_request", audit.TypeClientCredentials},
		"oversized":           {form("grant_type=client_credentials&x=" + strings.Repeat("a", 70_000)), 413, "invalid_request", audit.TypeToken},
		"content type": {func() answer {
			return r.do("POST", "/token", http.Header{"Content-Type": {"application/json"}}, []byte(`{}`))
		}, 400, "invalid_request", audit.TypeToken},
		"unknown grant": {form("grant_type=password&username=a&password=b"), 400, "unsupported_grant_type", audit.TypeToken},
		"clock skew": {func() answer {
			q := r.request("svc", secret, nil)
			parts := r.proofParts(t)
			parts.claims["iat"] = parts.claims["iat"].(int64) - 3600
			q.header.Set("DPoP", parts.sign(t))
			return r.send(q)
		}, 400, "invalid_dpop_proof", audit.TypeClientCredentials},
		"wrong secret":                 {func() answer { return r.send(r.request("svc", "wrong", p)) }, 401, "invalid_client", audit.TypeClientCredentials},
		"bad refresh token":            {func() answer { return r.grant("cli", p, refreshForm("srt_"+strings.Repeat("A", 70))) }, 400, "invalid_grant", audit.TypeRefreshToken},
		"unknown device":               {func() answer { return r.grant("cli", p, deviceForm(begun{DeviceCode: "x"})) }, 400, "invalid_grant", audit.TypeDeviceCode},
		"introspection without client": {func() answer { return r.form("/introspect", url.Values{"token": {"x"}}, nil) }, 401, "invalid_client", audit.TypeIntrospect},
		"revocation without client":    {func() answer { return r.form("/revoke", url.Values{"token": {"x"}}, nil) }, 401, "invalid_client", audit.TypeRevoke},
		"device without client":        {func() answer { return r.form("/device_authorization", url.Values{}, nil) }, 401, "invalid_client", audit.TypeDeviceStart},
		"operator without key":         {func() answer { return r.do("POST", "/internal/clients", nil, nil) }, 401, "unauthenticated", audit.TypeBootstrapClient},
		"legacy path":                  {func() answer { return r.do("POST", "/oauth/token", nil, nil) }, 410, "invalid_request", audit.TypeLegacyEndpoint},
	} {
		a := row.send()
		refusedAs(t, name, a, row.status, row.code)
		all := trail.next()
		if len(all) > 0 && all[0].Type == audit.TypeToken && row.typ != audit.TypeToken {
			all = all[1:] // the test's own request for a nonce
		}
		if len(all) != 1 {
			t.Errorf("%s: %d records", name, len(all))
			continue
		}
		if rec := all[0]; rec.Type != row.typ || rec.Outcome != audit.Failure || rec.CorrelationID == "" || rec.Network.RemoteAddress.String() != "127.0.0.1" {
			t.Errorf("%s: %+v", name, rec)
		}
	}
	// Waiting is no event, deciding and getting are.
	refused(t, r.grant("cli", p, deviceForm(b)), 400, "authorization_pending")
	trail.next()
	r.approve("ana", b)
	var types []string
	for _, rec := range trail.next() {
		if rec.Outcome != audit.Success {
			t.Errorf("%+v", rec)
		}
		types = append(types, rec.Type)
	}
	if len(types) != 3 {
		t.Errorf("approval: %v", types)
	}
	a := r.grant("cli", p, refreshForm(login.field("refresh_token")))
	all := trail.next()
	rec := all[len(all)-1]
	if a.status != 200 || rec.Type != audit.TypeRefreshToken || rec.Outcome != audit.Success || rec.Subject.Username.String() != "ana" ||
		rec.Client.ID.String() != "cli" || rec.Tenant.String() != "acme" || len(rec.Scopes) != 2 {
		t.Errorf("%d %+v", a.status, rec)
	}
	// J07: no credential, in whole or in part, is in the file.
	data, err := os.ReadFile(trail.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"secret": secret, "password": password, "access token": login.field("access_token"), "signature": strings.Split(login.field("access_token"), ".")[2],
		"refresh token": a.field("refresh_token"), "device code": b.DeviceCode, "bootstrap key": bootstrapKey,
	} {
		if text == "" || bytes.Contains(data, []byte(text)) {
			t.Errorf("the audit file holds the %s", name)
		}
	}
}

// J06: what callers say about themselves stays inside its member.
func TestAuditInjection(t *testing.T) {
	r, trail := withTrail(t, memory, authority.Deps{Store: mem.New(0)})
	trail.next()
	h := http.Header{"User-Agent": {"x\" ,\"outcome\":\"Success\"}\u2028\u202e"}, "X-Forwarded-For": {"127.0.0.1\", \"x\":\"y"}}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	r.do("POST", "/token", h, []byte("grant_type=client_credentials&client_id=a%22%2C%0d%0a%22b"))
	rec := trail.one("injection")
	if rec.Outcome != audit.Failure || rec.Network.RemoteAddress.String() != "127.0.0.1" {
		t.Errorf("%+v", rec)
	}
	data, _ := os.ReadFile(trail.path)
	var doc map[string]any
	if err := json.Unmarshal(data[bytes.LastIndexByte(bytes.TrimSpace(data), '\n')+1:], &doc); err != nil {
		t.Error(err)
	}
}

// The database goes away in the middle of a refresh: 503, one record, nothing
// half-issued; the token that was held still works when it is back.
func TestDatabaseLostInRefresh(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := testenv.StartMongo("127.0.0.1:0", dir)
	if err != nil {
		t.Fatal(err)
	}
	r, trail := withTrail(t, fmt.Sprintf(`connectionString: %q, commandTimeout: "00:00:02"`, db.URI()), authority.Deps{})
	r.client(public("cli"))
	r.user("ana")
	p := newProver(t)
	rt := r.logIn("cli", "ana", p).field("refresh_token")
	q := r.grantRequest("cli", p, refreshForm(rt))
	trail.next()
	addr := db.Addr()
	db.Stop()
	a := r.send(q)
	refusedAs(t, "database lost", a, 503, "temporarily_unavailable")
	if rec := trail.one("database lost"); rec.Type != audit.TypeRefreshToken || rec.Outcome != audit.Error {
		t.Errorf("%+v", rec)
	}
	if strings.Contains(string(a.body), "token\":") || a.header.Get("Retry-After") == "" {
		t.Errorf("half-issued: %s", a.body)
	}
	back, err := testenv.StartMongo(addr, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.Stop)
	// Until the replica has noticed the outage and its end, and no connection
	// of before is left.
	good := 0
	eventually(t, "the database is back", func() bool {
		if r.do("GET", "/internal/clients/cli", boot(), nil).status == 200 {
			good++
		} else {
			good = 0
		}
		return good == 100
	})
	next := r.grant("cli", p, refreshForm(rt))
	if next.status != 200 {
		t.Fatalf("after the outage: %d %s", next.status, next.body)
	}
	refused(t, r.grant("cli", p, refreshForm(rt)), 400, "invalid_grant")
}
