package authority_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/serviceaccount"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv"
)

// What was taken from a person or a client between the approval of a login and
// its redemption is not in the token, and neither is the token.
func TestTakenBeforeRedemption(t *testing.T) {
	for name, change := range map[string]func(r *replica){
		"control":          func(*replica) {},
		"password changed": func(r *replica) { r.mustDo("POST", users.Path+"/ana/password", `{"password":"another long password"}`) },
		"person disabled": func(r *replica) {
			r.mustDo("POST", users.Path, `{"username":"ana","disabled":true,"scopes":["jobs.read","jobs.trigger"],"tenant":"acme"}`)
		},
		"client made again":   func(r *replica) { r.mustDo("DELETE", "/internal/clients/cli", ""); r.client(public("cli")) },
		"scope taken away":    func(r *replica) { d := public("cli"); d.Scopes = []string{"jobs.read"}; r.client(d) },
		"audience taken away": func(r *replica) { d := public("cli"); d.Audiences = []string{"api://other"}; r.client(d) },
		"tenant taken away":   func(r *replica) { d := public("cli"); d.Tenant = "beta"; r.client(d) },
		"grant taken away":    func(r *replica) { d := standard("cli"); no := false; d.DPoPBound = &no; r.client(d) },
		"revoked by operators": func(r *replica) {
			r.mustDo("POST", revoke.PathAdd, `{"category":"client","id":"cli","reason":"drill"}`)
		},
	} {
		r := single(t, nil)
		r.client(public("cli"))
		r.user("ana")
		b := r.device("cli")
		r.approve("ana", b)
		change(r)
		a := r.grant("cli", newProver(t), deviceForm(b))
		if (a.status == 200) != (name == "control") || a.status >= 500 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// flaky fails the inserts of a kind while it is told to.
type flaky struct {
	store.Store
	kind atomic.Value
}

func (f *flaky) Insert(ctx context.Context, r store.Record) error {
	if k, _ := f.kind.Load().(store.Kind); k != "" && k == r.Kind {
		return errors.New("connection lost")
	}
	return f.Store.Insert(ctx, r)
}

// A deletion of a client that was cut short between its two writes is finished
// by the next one: no grant of before comes back.
func TestDeletionCutShort(t *testing.T) {
	st := &flaky{Store: mem.New(0)}
	r := single(t, st)
	r.client(public("cli"))
	r.user("ana")
	p := newProver(t)
	rt := r.logIn("cli", "ana", p).field("refresh_token")
	st.kind.Store(store.Revocations)
	if a := r.do("DELETE", "/internal/clients/cli", boot(), nil); a.status != 503 {
		t.Fatalf("cut short: %d %s", a.status, a.body)
	}
	st.kind.Store(store.Kind(""))
	if a := r.do("DELETE", "/internal/clients/cli", boot(), nil); a.status != 404 {
		t.Fatalf("again: %d %s", a.status, a.body)
	}
	r.client(public("cli"))
	refused(t, r.grant("cli", p, refreshForm(rt)), 400, "invalid_grant")
}

// Records and tokens name the person who did it, not only their program; and a
// token that was minted cannot mint.
func TestOperatorsAreNamed(t *testing.T) {
	r, trail := withTrail(t, memory, authority.Deps{Store: mem.New(0)})
	cli := public("stella-cli")
	cli.Scopes, cli.Audiences = []string{revoke.ScopeManage, serviceaccount.Scope, keyring.ScopeManage}, []string{guard.Audience}
	no := false
	cli.DPoPBound = &no
	r.client(cli)
	robot := standard("robot")
	robot.ServiceAccount, robot.Audiences, robot.Scopes = true, cli.Audiences, cli.Scopes
	r.client(robot)
	doc, err := json.Marshal(users.Document{Username: "ana", Password: password, Scopes: cli.Scopes, Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	made := r.do("POST", users.Path, boot(), doc)
	b := r.device("stella-cli")
	r.approve("ana", b)
	token := r.form("/token", with(deviceForm(b), "client_id", "stella-cli"), nil).field("access_token")
	h := http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}}
	trail.next()
	if a := r.do("POST", revoke.PathAdd, h, []byte(`{"category":"subject","id":"usr_x","reason":"drill"}`)); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	who := "person:" + made.field("subject") + ",client:stella-cli"
	if rec := string(trail.one("revocation").AppendJSON(nil)); made.field("subject") == "" || !strings.Contains(rec, who) {
		t.Errorf("the record lacks %s: %s", who, rec)
	}
	const ask = `{"service_account":"robot","tenant":"acme","reason":"drill"}`
	minted := r.do("POST", mintPath, h, []byte(ask))
	if act := fmt.Sprint(part(t, minted.field("access_token"), 1)["act"]); act != "map[sub:"+who+"]" {
		t.Errorf("act %s", act)
	}
	robotHeader := http.Header{"Authorization": {"Bearer " + minted.field("access_token")}, "Content-Type": {"application/json"}}
	trail.next()
	if a := r.do("POST", mintPath, robotHeader, []byte(ask)); a.status != 403 {
		t.Errorf("a minted token mints: %d %s", a.status, a.body)
	}
	trail.next()
	if a := r.do("POST", revoke.PathAdd, robotHeader, []byte(`{"category":"subject","id":"usr_y","reason":"drill"}`)); a.status != 201 {
		t.Errorf("control: %d %s", a.status, a.body)
	}
	if rec := string(trail.one("revocation").AppendJSON(nil)); !strings.Contains(rec, "client:robot,for:"+who) {
		t.Errorf("a minted token hides its operator: %s", rec)
	}
	// Guesses of the bootstrap key leave a record, whatever they ask for.
	for _, path := range []string{"/internal/clients/robot", keyring.PathKeyring, users.Path + "/ana"} {
		r.do("GET", path, http.Header{"X-Stellaops-Bootstrap-Key": {"guess"}}, nil)
		trail.one("a guess at " + path)
	}
}

// A token says nothing of tenants whose roots do not vouch for the certificate.
func TestAllowedTenantsAreVouched(t *testing.T) {
	s := newSite(t)
	var tenants []string
	roots := map[string]*testenv.CA{}
	for _, name := range []string{"acme", "beta"} {
		dir := filepath.Join(s.dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		ca, err := testenv.NewCA(dir)
		if err != nil {
			t.Fatal(err)
		}
		roots[name] = ca
		tenants = append(tenants, fmt.Sprintf("{tenant: %s, roots: %q}", name, ca.CertFile))
	}
	extra := "mtls: {listen: 127.0.0.1:0, tenants: [" + strings.Join(tenants, ", ") + "]}\n"
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", extra), authority.Deps{Store: mem.New(0)})
	site := &certSite{r, t, s, roots["acme"], ""}
	doc := certDoc("svc")
	doc.Tenants = []string{"acme", "beta"}
	r.client(doc)
	c, _ := site.with(roots["acme"], "svc", clients.CertificateURI("svc"), nil)
	at := r.srv.MTLSURL() + "/token"
	refusedAs(t, "the other tenant", postForm(t, c, at, with(credentials("svc"), "tenant", "beta"), nil), 400, "unauthorized_client")
	a := postForm(t, c, at, credentials("svc"), nil)
	if claims := part(t, a.field("access_token"), 1); claims["stellaops:tenant"] != "acme" || claims["stellaops:allowed_tenants"] != nil {
		t.Errorf("claims %v", claims)
	}
}

// A trusted proxy that does not say for whom it asks is nobody's bypass.
func TestBypassThroughProxy(t *testing.T) {
	s := newSite(t)
	extra := "bypassNetworks: [127.0.0.0/8, 203.0.113.0/24]\nsecurity: {trustedProxies: [127.0.0.1]}\n"
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", extra), authority.Deps{Store: mem.New(0)})
	for forwarded, want := range map[string]int{
		"203.0.113.7": 200, "198.51.100.7": 401, "203.0.113.7:4711": 401, "unknown": 401, "[2001:db8::1]": 401, "": 401,
	} {
		h := http.Header{"X-Forwarded-For": {forwarded}}
		if forwarded == "" {
			h = nil
		}
		if a := r.do("GET", keyring.PathKeyring, h, nil); a.status != want {
			t.Errorf("%q: %d", forwarded, a.status)
		}
	}
}
