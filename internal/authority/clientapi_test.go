package authority_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stella-ops/stella/internal/authority/clients"
)

func TestClientAPI(t *testing.T) {
	r := single(t, nil)
	doc := standard("app")
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	wrong := boot()
	wrong.Set("X-Stellaops-Bootstrap-Key", "wrong")
	for name, h := range map[string]http.Header{"none": {"Content-Type": {"application/json"}}, "wrong": wrong} {
		if a := r.do("POST", "/internal/clients", h, body); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s key: %d %s", name, a.status, a.body)
		}
	}
	first := r.client(doc)
	if len(first) != 43 {
		t.Fatalf("secret of %d characters", len(first))
	}
	if again := r.client(doc); again != "" {
		t.Error("a replaced client got a new secret unasked")
	}
	r.token("app", first, newProver(t))
	doc.RotateSecret = true
	second := r.client(doc)
	refused(t, r.send(r.request("app", first, newProver(t))), 401, "invalid_client")
	r.token("app", second, newProver(t))
	if a := r.do("GET", "/internal/clients/app", boot(), nil); a.status != 200 || a.field("client_id") != "app" || a.field("client_secret") != "" {
		t.Errorf("GET: %d %s", a.status, a.body)
	}
	if a := r.do("DELETE", "/internal/clients/app", boot(), nil); a.status != 204 {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	refused(t, r.send(r.request("app", second, newProver(t))), 401, "invalid_client")
	if a := r.do("GET", "/internal/clients/app", boot(), nil); a.status != 404 {
		t.Errorf("GET after DELETE: %d %s", a.status, a.body)
	}
	for name, bend := range map[string]func(*clients.Document){
		"wildcard scope":      func(d *clients.Document) { d.Scopes = []string{"*"} },
		"no audience":         func(d *clients.Document) { d.Audiences = nil },
		"wildcard audience":   func(d *clients.Document) { d.Audiences = []string{"api://*"} },
		"no tenant":           func(d *clients.Document) { d.Tenant = "" },
		"tenant in capital":   func(d *clients.Document) { d.Tenant = "ACME" },
		"own secret":          func(d *clients.Document) { d.ClientSecret = "mine" },
		"id":                  func(d *clients.Document) { d.ClientID = "a b" },
		"method":              func(d *clients.Document) { d.Method = "none" },
		"method without keys": func(d *clients.Document) { d.Method = clients.PrivateKeyJWT },
	} {
		bad := standard("bad")
		bend(&bad)
		body, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if a := r.do("POST", "/internal/clients", boot(), body); a.status != 400 || a.field("error") != "invalid" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}
