package authority_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/serviceaccount"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/keyring"
)

// operator registers a client with scopes at the operators' API and returns
// the headers of a call by it.
func (r *replica) operator(id string, scopes ...string) http.Header {
	r.t.Helper()
	doc := standard(id)
	no := false
	doc.Scopes, doc.Audiences, doc.DPoPBound = scopes, []string{guard.Audience}, &no
	secret := r.client(doc)
	return http.Header{"Authorization": {"Bearer " + r.token(id, secret, nil)}, "Content-Type": {"application/json"}}
}

const mintPath = "/internal/service-accounts/tokens"

// Tokens in the name of service accounts: by operators only, with a reason.
func TestServiceAccountTokens(t *testing.T) {
	r, trail := withTrail(t, memory, authority.Deps{Store: mem.New(0)})
	robot := standard("robot")
	robot.ServiceAccount, robot.Tenants = true, []string{"acme", "beta"}
	r.client(robot)
	r.client(standard("svc"))
	may, mayNot := r.operator("op", serviceaccount.Scope), r.operator("reader", keyring.ScopeRead)
	body := map[string]any{"service_account": "robot", "tenant": "beta", "reason": "drill 7", "scopes": []string{"jobs.read"}, "expires_in": 60}
	send := func(h http.Header, change func(map[string]any)) answer {
		b := map[string]any{}
		for k, v := range body {
			b[k] = v
		}
		change(b)
		data, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return r.do("POST", mintPath, h, data)
	}
	as := func(name string, value any) func(map[string]any) { return func(b map[string]any) { b[name] = value } }
	same := func(map[string]any) {}
	trail.next()
	a := send(may, same)
	if a.status != 200 || a.field("expires_in") != "60" || a.field("token_type") != "Bearer" {
		t.Fatalf("control: %d %s", a.status, a.body)
	}
	c := part(t, a.field("access_token"), 1)
	if c["sub"] != "robot" || c["service_identity"] != "robot" || c["stellaops:tenant"] != "beta" || c["stellaops:reason"] != "drill 7" ||
		fmt.Sprint(c["act"]) != "map[sub:client:op]" || c["scope"] != "jobs.read" {
		t.Errorf("claims %v", c)
	}
	rec := trail.one("mint")
	if rec.Type != audit.TypeServiceAccount || rec.Outcome != audit.Success || rec.Client.ID.String() != "robot" || rec.Tenant.String() != "beta" ||
		!strings.Contains(string(rec.AppendJSON(nil)), "drill 7") || !strings.Contains(string(rec.AppendJSON(nil)), "client:op") {
		t.Errorf("%s", rec.AppendJSON(nil))
	}
	if a := send(may, as("jkt", newProver(t).Thumbprint())); a.status != 200 || a.field("token_type") != "DPoP" {
		t.Errorf("bound: %d %s", a.status, a.body)
	}
	if a := send(boot(), same); a.status != 200 {
		t.Errorf("bootstrap key: %d %s", a.status, a.body)
	}
	if a := send(may, as("expires_in", 3600)); a.field("expires_in") != "120" {
		t.Errorf("longer than any token: %s", a.body)
	}
	for name, row := range map[string]struct {
		header http.Header
		change func(map[string]any)
		status int
	}{
		"nobody":         {http.Header{"Content-Type": {"application/json"}}, same, 401},
		"other scope":    {mayNot, same, 403},
		"no reason":      {may, as("reason", " "), 400},
		"newline":        {may, as("reason", "a\nb"), 400},
		"no tenant":      {may, as("tenant", ""), 400},
		"foreign tenant": {may, as("tenant", "gamma"), 400},
		"more scope":     {may, as("scopes", []string{"jobs.admin"}), 400},
		"other audience": {may, as("audience", "api://other"), 400},
		"not an account": {may, as("service_account", "svc"), 404},
		"unknown":        {may, as("service_account", "nobody"), 404},
		"long":           {may, as("expires_in", 3601), 400},
		"negative":       {may, as("expires_in", -1), 400},
		"bad thumbprint": {may, as("jkt", "x"), 400},
		"unknown member": {may, as("x", 1), 400},
	} {
		if a := send(row.header, row.change); a.status != row.status || a.field("access_token") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// A revoked subject, client and token are refused by the Authority's own API
// and by introspection at once; others are not.
func TestRevocationByOperators(t *testing.T) {
	r := single(t, nil)
	manage := r.operator("manager", revoke.ScopeManage)
	add := func(category, id string) answer {
		return r.do("POST", revoke.PathAdd, manage, fmt.Appendf(nil, `{"category":%q,"id":%q,"reason":"drill"%s}`, category, id,
			map[string]string{"token": `,"client_id":"other"`}[category]))
	}
	read := func(h http.Header) int { return r.do("GET", keyring.PathKeyring, h, nil).status }
	victim, other := r.operator("victim", keyring.ScopeRead), r.operator("other", keyring.ScopeRead)
	if read(victim) != 200 || read(other) != 200 {
		t.Fatal("control: the tokens do not work")
	}
	if a := add("client", "victim"); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if read(victim) != 401 || read(other) != 200 {
		t.Errorf("client: victim %d, other %d", read(victim), read(other))
	}
	jti := fmt.Sprint(part(t, strings.TrimPrefix(other.Get("Authorization"), "Bearer "), 1)["jti"])
	third := r.operator("third", keyring.ScopeRead)
	if a := add("token", jti); a.status != 201 || read(other) != 401 || read(third) != 200 {
		t.Errorf("token: %d %s, %d, %d", a.status, a.body, read(other), read(third))
	}
	if a := add("subject", "third"); a.status != 201 || read(third) != 401 {
		t.Errorf("subject: %d %s, %d", a.status, a.body, read(third))
	}
	for category, id := range map[string]string{"client": "victm", "subject": "ana"} { // a typing mistake, a name
		if a := add(category, id); a.status != 404 {
			t.Errorf("%s %s: %d %s", category, id, a.status, a.body)
		}
	}
	if a := add("subject", "usr_X"); a.status != 201 {
		t.Errorf("control: %d %s", a.status, a.body)
	}
	if a := r.do("POST", revoke.PathAdd, r.operator("fourth", keyring.ScopeRead), []byte(`{}`)); a.status != 403 {
		t.Errorf("without the scope: %d", a.status)
	}
	// The list says it all, and whoever was deleted too.
	r.mustDo("DELETE", "/internal/clients/fourth", "")
	a := r.do("GET", revoke.PathList, nil, nil)
	var list struct {
		Bundle []byte `json:"-"`
		Text   string `json:"bundle"`
	}
	if err := json.Unmarshal(a.body, &list); err != nil {
		t.Fatal(err)
	}
	text := string(decode64(t, list.Text))
	for _, want := range []string{`"victim"`, jti, `"third"`, `"fourth"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the list lacks %s: %s", want, text)
		}
	}
}

// Callers from a bypass network may read the keyring without a token, and no
// more; it is told each time. A bad token is never made good (B08).
func TestBypassNetworks(t *testing.T) {
	s := newSite(t)
	for network, want := range map[string]int{"127.0.0.0/8": 200, "10.0.0.0/8": 401} {
		log := &syncBuffer{}
		r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", "bypassNetworks: ["+network+"]\n"),
			authority.Deps{Store: mem.New(0), Log: slog.New(slog.NewTextHandler(log, nil))})
		if got := r.do("GET", keyring.PathKeyring, nil, nil).status; got != want {
			t.Errorf("%s: %d", network, got)
		}
		told := strings.Contains(log.String(), "Granting StellaOps bypass for remote {RemoteIp}; required scopes {RequiredScopes}.") &&
			strings.Contains(log.String(), "authority.network.bypass")
		if told != (want == 200) {
			t.Errorf("%s: told %v", network, told)
		}
		if got := r.do("GET", keyring.PathKeyring, http.Header{"Authorization": {"Bearer x.y.z"}}, nil).status; got != 401 {
			t.Errorf("%s: a bad token: %d", network, got)
		}
		if got := r.do("POST", keyring.PathTransitions, http.Header{"Content-Type": {"application/json"}}, []byte(`{}`)).status; got != 401 {
			t.Errorf("%s: a change: %d", network, got)
		}
		if got := r.do("GET", keyring.PathKeyring, http.Header{"X-Forwarded-For": {"127.0.0.1"}}, nil).status; got != want {
			t.Errorf("%s: B01: %d", network, got)
		}
		r.stop()
	}
	for _, bad := range []string{"0.0.0.0/0", "::/0", "10.0.0.1/8", "127.1", "::ffff:10.0.0.0/104", "x"} {
		if _, err := authority.ParseConfig("a.yaml", []byte(s.config("a", "https://127.0.0.1:0", memory, "", "bypassNetworks: [\""+bad+"\"]\n")), nil); err == nil {
			t.Errorf("B09: %s is accepted", bad)
		}
	}
}

// The manifest of the standard plug-in: a first user, the lockout, and a
// change of it on reload; a mistake refuses the start.
func TestStandardPlugin(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(s.dir, "plugins")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("first-password", password+"\n")
	manifest := func(attempts int) {
		s.write("plugins/standard.yaml", fmt.Sprintf(`bootstrapUser: {username: ana, password: "file:%s", tenant: acme, scopes: [jobs.read]}
lockout: {maxAttempts: %d}
`, filepath.Join(s.dir, "first-password"), attempts))
	}
	manifest(2)
	yaml := s.config("a", "https://127.0.0.1:0", memory, "", "plugins: {configurationDirectory: "+dir+"}\n")
	r := s.start("a", yaml, authority.Deps{Store: mem.New(0), Reload: func() (*authority.Config, error) {
		return authority.ParseConfig("a.yaml", []byte(yaml), s.environ())
	}})
	r.client(public("cli"))
	if a := r.logIn("cli", "ana", newProver(t)); a.field("scope") != "jobs.read" {
		t.Errorf("the first user: %s", a.body)
	}
	locked := func(name string) (failures int) {
		for range 10 {
			if r.signIn(r, name, "wrong password")().Status == 429 {
				return failures
			}
			failures++
		}
		return failures
	}
	if n := locked("bo"); n != 1 { // the second is told that it was the last
		t.Errorf("locked after %d failures", n)
	}
	manifest(4)
	r.srv.Reload(t.Context())
	if n := locked("cy"); n != 3 {
		t.Errorf("after a reload: locked after %d failures", n)
	}
	s.write("first-password", "short\n")
	cfg, err := authority.ParseConfig("a.yaml", []byte(yaml), nil)
	if err == nil {
		_, err = authority.New(cfg, authority.Deps{Store: mem.New(0)})
	}
	if err == nil || !strings.Contains(err.Error(), "bootstrapUser") {
		t.Errorf("a bad first password: %v", err)
	}
	s.write("plugins/ldap.yaml", "x: 1\n")
	if _, err := authority.ParseConfig("a.yaml", []byte(yaml), nil); err == nil || !strings.Contains(err.Error(), "ldap") {
		t.Errorf("an unknown plug-in: %v", err)
	}
}
