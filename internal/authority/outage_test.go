package authority_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv"
)

// Without its database a replica is up but not ready, publishes its keys,
// issues nothing, can be told to taint a key, and recovers by itself.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	db, err := testenv.StartMongo("127.0.0.1:0", dir)
	if err != nil {
		t.Fatal(err)
	}
	storage := fmt.Sprintf(`connectionString: %q, commandTimeout: "00:00:02"`, db.URI())
	r := s.start("a", s.config("a", "https://127.0.0.1:0", storage, "", ""), authority.Deps{})
	secret := r.client(standard("svc"))
	r.token("svc", secret, newProver(t))
	q := r.request("svc", secret, newProver(t))

	addr := db.Addr()
	db.Stop()
	a := r.send(q)
	if a.status != 503 || a.header.Get("Retry-After") == "" || a.field("access_token") != "" {
		t.Fatalf("database down: %d %s", a.status, a.body)
	}
	eventually(t, "not ready", func() bool { return r.do("GET", "/ready", nil, nil).status == 503 })
	refused(t, r.send(q), 503, "temporarily_unavailable")
	if a := r.do("GET", "/health", nil, nil); a.status != 200 {
		t.Errorf("health: %d %s", a.status, a.body)
	}
	if len(r.kids()) != 2 {
		t.Error("the key set needs the database")
	}
	if a := r.change(keyring.Request{Action: keyring.Activate}); a.status != 503 {
		t.Errorf("activate: %d %s", a.status, a.body)
	}
	active := state(r.report(), keyring.Active)
	if a := r.change(keyring.Request{Action: keyring.Taint, KID: active, Reason: "drill", Force: true}); a.status != 200 || !strings.Contains(string(a.body), "out of reach") {
		t.Errorf("taint: %d %s", a.status, a.body)
	}
	if a := r.do("POST", "/internal/clients", boot(), []byte(`{"client_id":"x"}`)); a.status != 503 {
		t.Errorf("clients: %d %s", a.status, a.body)
	}

	back, err := testenv.StartMongo(addr, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.Stop)
	r.ready()
	r.token("svc", secret, newProver(t))
}

// A replica that starts before its database says so and waits.
func TestDatabaseDownAtStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	db, err := testenv.StartMongo("127.0.0.1:0", dir)
	if err != nil {
		t.Fatal(err)
	}
	addr := db.Addr()
	db.Stop()
	r := s.begin("a", s.config("a", "https://127.0.0.1:0",
		fmt.Sprintf(`connectionString: "mongodb://%s/", commandTimeout: "00:00:01"`, addr), "", ""), authority.Deps{})
	eventually(t, "up", func() bool { return r.do("GET", "/health", nil, nil).status == 200 })
	if a := r.do("GET", "/ready", nil, nil); a.status != 503 {
		t.Errorf("ready without a database: %d", a.status)
	}
	q := &tokenRequest{method: "POST", path: "/token", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, body: "grant_type=client_credentials"}
	refused(t, r.send(q), 503, "temporarily_unavailable")
	again, err := testenv.StartMongo(addr, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	r.ready()
}
