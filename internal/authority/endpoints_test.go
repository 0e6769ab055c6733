package authority_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/users"
)

// basicHeader is client_secret_basic.
func basicHeader(id, secret string) http.Header {
	q := &tokenRequest{header: http.Header{}}
	q.basic(id, secret)
	return q.header
}

// O15, O16: who learns what about a token.
func TestIntrospection(t *testing.T) {
	r := single(t, nil)
	secret := r.client(standard("svc"))
	server := standard("jobs")
	server.Introspects = []string{"api://jobs"}
	jobs := r.client(server)
	foreign := server
	foreign.ClientID, foreign.Tenant = "foreign", "beta"
	beta := r.client(foreign)
	bystander := r.client(standard("bystander"))
	r.client(public("cli"))
	r.user("ana")
	p := newProver(t)
	at := r.token("svc", secret, p)
	rt := r.logIn("cli", "ana", p).field("refresh_token")
	ask := func(id, secret, token string) answer {
		return r.form("/introspect", url.Values{"token": {token}}, basicHeader(id, secret))
	}
	a := ask("jobs", jobs, at)
	if a.status != 200 || a.field("active") != "true" || a.field("client_id") != "svc" || a.field("token_type") != "DPoP" ||
		a.field("stellaops:tenant") != "acme" || !strings.Contains(string(a.body), p.Thumbprint()) || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("control: %d %s", a.status, a.body)
	}
	if a := ask("svc", secret, at); a.field("active") != "true" {
		t.Errorf("control: one's own: %s", a.body)
	}
	for name, a := range map[string]answer{
		"O16 other tenant":        ask("foreign", beta, at),
		"O16 not its resource":    ask("bystander", bystander, at),
		"O16 junk":                ask("jobs", jobs, "abc"),
		"O16 forged":              ask("jobs", jobs, at[:len(at)-4]+"AAAA"),
		"O16 another's refresh":   ask("jobs", jobs, rt),
		"O16 unknown refresh":     ask("jobs", jobs, "srt_"+strings.Repeat("A", 70)),
		"O16 a proof is no token": ask("jobs", jobs, r.proofParts(t).sign(t)),
	} {
		if a.status != 200 || string(a.body) != `{"active":false}`+"\n" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	refusedAs(t, "O15", r.form("/introspect", url.Values{"token": {at}}, nil), 401, "invalid_client")
	refusedAs(t, "O15 wrong secret", ask("jobs", jobs+"x", at), 401, "invalid_client")
	refusedAs(t, "O15 public client", r.form("/introspect", url.Values{"token": {at}, "client_id": {"cli"}}, nil), 401, "invalid_client")
	refusedAs(t, "no token", r.form("/introspect", url.Values{}, basicHeader("jobs", jobs)), 400, "invalid_request")
	if a := r.do("GET", "/introspect?token="+at, basicHeader("jobs", jobs), nil); a.status != 405 {
		t.Errorf("GET: %d", a.status)
	}
}

// O17 and RFC 7009: a client's own token is over at once, everywhere at the
// Authority; another's is left alone.
func TestRevocationEndpoint(t *testing.T) {
	r := single(t, nil)
	doc := standard("svc")
	doc.Introspects = []string{"api://jobs"}
	secret := r.client(doc)
	other := r.client(standard("other"))
	r.client(public("cli"))
	r.client(public("cli2"))
	r.user("ana")
	p := newProver(t)
	active := func(token string) string {
		return r.form("/introspect", url.Values{"token": {token}}, basicHeader("svc", secret)).field("active")
	}
	at := r.token("svc", secret, p)
	revoke := func(token string, header http.Header, client string) answer {
		form := url.Values{"token": {token}}
		if client != "" {
			form.Set("client_id", client)
		}
		return r.form("/revoke", form, header)
	}
	for name, a := range map[string]answer{
		"O17 another's": revoke(at, basicHeader("other", other), ""), "junk": revoke("junk", basicHeader("svc", secret), ""),
	} {
		if a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if active(at) != "true" {
		t.Fatal("O17: a foreign revocation took effect")
	}
	refusedAs(t, "no client", revoke(at, nil, ""), 401, "invalid_client")
	if a := revoke(at, basicHeader("svc", secret), ""); a.status != 200 || active(at) != "false" {
		t.Errorf("control: %d %s, active %s", a.status, a.body, active(at))
	}

	login := r.logIn("cli", "ana", p)
	rt := login.field("refresh_token")
	if a := revoke(rt, nil, "cli2"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	next := r.grant("cli", p, refreshForm(rt))
	if next.status != 200 {
		t.Fatalf("O17: a foreign revocation ended a family: %s", next.body)
	}
	if a := revoke(next.field("refresh_token"), nil, "cli"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	refused(t, r.grant("cli", p, refreshForm(next.field("refresh_token"))), 400, "invalid_grant")
	for name, a := range map[string]answer{"first": login, "second": next} {
		if active(a.field("access_token")) != "false" {
			t.Errorf("the %s access token of a revoked family is active", name)
		}
	}
}

// P27 and what else a refresh cannot change.
func TestRefreshRefusals(t *testing.T) {
	r := single(t, nil)
	r.client(public("cli"))
	r.client(public("cli2"))
	confidential := standard("svc")
	confidential.Grants = []string{clients.GrantDevice, clients.GrantRefresh, clients.GrantCredentials}
	r.client(confidential)
	r.user("ana")
	p := newProver(t)
	rt := r.logIn("cli", "ana", p).field("refresh_token")
	for name, row := range map[string]struct {
		send func() answer
		code string
	}{
		"P27 another key":  {func() answer { return r.grant("cli", newProver(t), refreshForm(rt)) }, "invalid_grant"},
		"no proof":         {func() answer { q := r.grantRequest("cli", p, refreshForm(rt)); q.header.Del("DPoP"); return r.send(q) }, "invalid_dpop_proof"},
		"another client":   {func() answer { return r.grant("cli2", p, refreshForm(rt)) }, "invalid_grant"},
		"more scope":       {func() answer { return r.grant("cli", p, with(refreshForm(rt), "scope", "jobs.read jobs.admin")) }, "invalid_scope"},
		"another audience": {func() answer { return r.grant("cli", p, with(refreshForm(rt), "audience", "api://other")) }, "invalid_target"},
		"another tenant":   {func() answer { return r.grant("cli", p, with(refreshForm(rt), "tenant", "beta")) }, "invalid_request"},
		"missing":          {func() answer { return r.grant("cli", p, refreshForm("")) }, "invalid_request"},
		"junk":             {func() answer { return r.grant("cli", p, refreshForm("junk")) }, "invalid_grant"},
		"grant not allowed": {func() answer {
			return r.grant("cli", p, url.Values{"grant_type": {clients.GrantCredentials}})
		}, "unauthorized_client"},
		"unknown code": {func() answer {
			return r.grant("cli", p, url.Values{"grant_type": {clients.GrantDevice}, "device_code": {"x"}})
		}, "invalid_grant"},
		"no code":       {func() answer { return r.grant("cli", p, url.Values{"grant_type": {clients.GrantDevice}}) }, "invalid_request"},
		"O05 implicit":  {func() answer { return r.grant("cli", p, url.Values{"grant_type": {"implicit"}}) }, "unsupported_grant_type"},
		"O05 auth code": {func() answer { return r.grant("cli", p, url.Values{"grant_type": {"authorization_code"}}) }, "unsupported_grant_type"},
		"O05 JWT bearer": {func() answer {
			return r.grant("cli", p, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}})
		}, "unsupported_grant_type"},
		"another's code": {func() answer {
			b := r.device("cli2")
			r.approve("ana", b)
			return r.grant("cli", p, deviceForm(b))
		}, "invalid_grant"},
	} {
		refusedAs(t, name, row.send(), 400, row.code)
	}
	// None of them has used the token up.
	a := r.grant("cli", p, with(refreshForm(rt), "scope", "jobs.read"))
	if a.status != 200 || a.field("scope") != "jobs.read" {
		t.Fatalf("control: %d %s", a.status, a.body)
	}
	if a := r.grant("cli", p, refreshForm(a.field("refresh_token"))); a.field("scope") != "jobs.read jobs.trigger" {
		t.Errorf("a narrower token narrowed the grant: %s", a.body)
	}
}

func with(form url.Values, name, value string) url.Values {
	form.Set(name, value)
	return form
}

// What a person was given ends when they are changed: disabled, another
// password, fewer rights, deleted.
func TestPersonChanges(t *testing.T) {
	r := single(t, nil)
	r.client(public("cli"))
	p := newProver(t)
	for name, change := range map[string]func(){
		"disabled": func() {
			r.mustDo("POST", users.Path, `{"username":"bo","disabled":true,"scopes":["jobs.read","jobs.trigger"],"tenant":"acme"}`)
		},
		"password":     func() { r.mustDo("POST", users.Path+"/bo/password", `{"password":"another long password"}`) },
		"fewer rights": func() { r.mustDo("POST", users.Path, `{"username":"bo","scopes":["jobs.read"],"tenant":"acme"}`) },
		"deleted":      func() { r.mustDo("DELETE", users.Path+"/bo", "") },
	} {
		r.user("bo")
		rt := r.logIn("cli", "bo", p).field("refresh_token")
		a := r.grant("cli", p, refreshForm(rt))
		if a.status != 200 {
			t.Fatalf("%s: control: %s", name, a.body)
		}
		change()
		refusedAs(t, name, r.grant("cli", p, refreshForm(a.field("refresh_token"))), 400, "invalid_grant")
		r.do("DELETE", users.Path+"/bo", boot(), nil)
	}
}

func (r *replica) mustDo(method, path, body string) {
	r.t.Helper()
	if a := r.do(method, path, boot(), []byte(body)); a.status/100 != 2 {
		r.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
}

// The paths of before say where to go.
func TestLegacyPaths(t *testing.T) {
	r := single(t, nil)
	for _, path := range []string{"token", "revoke", "introspect"} {
		for _, method := range []string{"GET", "POST"} {
			a := r.do(method, "/oauth/"+path, nil, nil)
			links := strings.Join(a.header.Values("Link"), ", ")
			if a.status != 410 || !strings.Contains(links, "<"+r.issuer+"/"+path+`>; rel="sunset"`) || a.header.Get("Sunset") == "" || a.header.Get("Deprecation") == "" {
				t.Errorf("%s %s: %d %v", method, path, a.status, a.header)
			}
		}
	}
	if a := r.do("POST", "/oauth/other", nil, nil); a.status != 404 {
		t.Errorf("control: %d", a.status)
	}
}
