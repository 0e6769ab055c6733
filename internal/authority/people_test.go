package authority_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/testenv"
)

const password = "correct horse battery staple"

// user registers a person.
func (r *replica) user(name string) {
	r.t.Helper()
	body, err := json.Marshal(users.Document{
		Username: name, Password: password, Scopes: []string{"jobs.read", "jobs.trigger"}, Tenant: "acme", Roles: []string{"operator"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if a := r.do("POST", users.Path, boot(), body); a.status != 201 {
		r.t.Fatalf("registering user %s: %d %s", name, a.status, a.body)
	}
}

// public is a client for people.
func public(id string) clients.Document {
	doc := standard(id)
	doc.Method, doc.Grants = clients.Public, []string{clients.GrantDevice, clients.GrantRefresh}
	return doc
}

// begun is the answer of the device authorization endpoint.
type begun struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	Complete   string `json:"verification_uri_complete"`
}

// begin starts a login of a public client.
func (r *replica) device(clientID string) begun {
	r.t.Helper()
	a := r.form("/device_authorization", url.Values{"client_id": {clientID}}, nil)
	var b begun
	if err := json.Unmarshal(a.body, &b); err != nil || a.status != 200 {
		r.t.Fatalf("device authorization: %d %s", a.status, a.body)
	}
	return b
}

// form posts a form.
func (r *replica) form(path string, form url.Values, header http.Header) answer {
	r.t.Helper()
	h := header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	return r.do("POST", path, h, []byte(form.Encode()))
}

// person is somebody with a browser.
func (r *replica) person(name string) *testenv.Person {
	r.t.Helper()
	p, err := testenv.NewPerson(r.http, name, password)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// approve lets a person approve a login.
func (r *replica) approve(name string, b begun) {
	r.t.Helper()
	if _, err := r.person(name).Decide(r.t.Context(), b.Complete, true); err != nil {
		r.t.Fatal(err)
	}
}

// grant sends a token request of a public client with a proof.
func (r *replica) grant(clientID string, p *dpop.Prover, form url.Values) answer {
	r.t.Helper()
	return r.send(r.grantRequest(clientID, p, form))
}

func (r *replica) grantRequest(clientID string, p *dpop.Prover, form url.Values) *tokenRequest {
	r.t.Helper()
	q := r.request(clientID, "x", p)
	q.header.Del("Authorization")
	q.form = url.Values{"client_id": {clientID}}
	for k, v := range form {
		q.form[k] = v
	}
	return q
}

func deviceForm(b begun) url.Values {
	return url.Values{"grant_type": {clients.GrantDevice}, "device_code": {b.DeviceCode}}
}

func refreshForm(token string) url.Values {
	return url.Values{"grant_type": {clients.GrantRefresh}, "refresh_token": {token}}
}

// logIn is the whole way of a person to a token.
func (r *replica) logIn(clientID, name string, p *dpop.Prover) answer {
	r.t.Helper()
	b := r.device(clientID)
	r.approve(name, b)
	a := r.grant(clientID, p, deviceForm(b))
	if a.status != 200 {
		r.t.Fatalf("login of %s: %d %s", name, a.status, a.body)
	}
	return a
}

func TestDeviceLogin(t *testing.T) {
	r := single(t, nil)
	r.client(public("cli"))
	r.user("ana")
	p := newProver(t)
	b := r.device("cli")
	refused(t, r.grant("cli", p, deviceForm(b)), 400, "authorization_pending")
	refused(t, r.grant("cli", p, deviceForm(b)), 400, "slow_down")
	r.approve("ana", b)
	a := r.grant("cli", p, deviceForm(b))
	if a.status != 200 || a.field("token_type") != "DPoP" || a.field("refresh_token") == "" || a.field("refresh_token_expires_in") != "2.592e+06" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	claims := part(t, a.field("access_token"), 1)
	if claims["preferred_username"] != "ana" || claims["client_id"] != "cli" || claims["sub"] == "cli" || claims["auth_time"] == nil ||
		claims["stellaops:tenant"] != "acme" || fmt.Sprint(claims["roles"]) != "[operator]" || claims["scope"] != "jobs.read jobs.trigger" {
		t.Errorf("claims %v", claims)
	}
	refused(t, r.grant("cli", p, deviceForm(b)), 400, "invalid_grant") // once

	denied := r.device("cli")
	if _, err := r.person("ana").Decide(t.Context(), denied.Complete, false); err != nil {
		t.Fatal(err)
	}
	refused(t, r.grant("cli", p, deviceForm(denied)), 400, "access_denied")

	// A second browser cannot decide what a first one has begun.
	taken := r.device("cli")
	if _, err := r.person("ana").SignIn(t.Context(), taken.Complete); err != nil {
		t.Fatal(err)
	}
	if page, err := r.person("ana").Decide(t.Context(), taken.Complete, true); err == nil {
		t.Fatalf("a second browser approved: %s", page.HTML)
	}
	refused(t, r.grant("cli", p, deviceForm(taken)), 400, "authorization_pending")
}
