package users

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/problem"
)

// server is the API before a real HTTP server.
type server struct {
	*site
	url    string
	closed error // what the guard answers
	down   error // what the database answers
	log    bytes.Buffer

	audited []audit.Record
}

// Write implements audit.Sink.
func (s *server) Write(_ context.Context, r *audit.Record) { s.audited = append(s.audited, *r) }

func newServer(t *testing.T) *server {
	s := &server{site: newSite(t, nil)}
	api := &API{
		Users: s.Directory, Guard: func(*http.Request) error { return s.closed }, Ready: func() error { return s.down },
		KnownTenant: func(id string) bool { return id == "t" }, Log: slog.New(slog.NewJSONHandler(&s.log, nil)),
	}
	mux := http.NewServeMux()
	api.Register(mux)
	h := httptest.NewServer(audit.Middleware(s, audit.Options{})(mux))
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

func (s *server) do(method, path, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		s.t.Errorf("%s %s may be cached", method, path)
	}
	return resp.StatusCode, string(data)
}

func (s *server) want(status int, method, path, body string) string {
	s.t.Helper()
	got, answer := s.do(method, path, body)
	if got != status {
		s.t.Fatalf("%s %s: %d %s", method, path, got, answer)
	}
	if strings.Contains(answer, "horse") || strings.Contains(answer, "argon2") {
		s.t.Errorf("%s %s: the answer holds a password or hash: %s", method, path, answer)
	}
	return answer
}

const ann = `{"username":"Ann","password":"` + right + `","display_name":"Ann A.","scopes":["b","a"],"roles":["ops"],"tenant":"t"}`

func TestAPI(t *testing.T) {
	s := newServer(t)
	var first, second Document
	if err := json.Unmarshal([]byte(s.want(201, "POST", Path, ann)), &first); err != nil {
		t.Fatal(err)
	}
	if first.Schema != Schema || first.Username != "ann" || !strings.HasPrefix(first.Subject, "usr_") || !*first.HasPassword || len(first.Subject) < 26 {
		t.Errorf("%+v", first)
	}
	if err := json.Unmarshal([]byte(s.want(200, "POST", Path, ann)), &second); err != nil || second.Subject != first.Subject {
		t.Errorf("replaced: %+v %v", second, err)
	}
	if err := s.try("ann", right); err != nil {
		t.Error(err)
	}
	s.want(200, "POST", Path, `{"username":"ann","scopes":["c"],"tenant":"t"}`)
	if err := s.try("ann", right); err != nil {
		t.Errorf("a replacement without password took it away: %v", err)
	}
	if answer := s.want(200, "GET", Path+"/ANN", ""); !strings.Contains(answer, `"scopes":["c"]`) || strings.Contains(answer, "locked_until") {
		t.Error(answer)
	}
	s.spend("ann", 4)
	_ = s.try("ann", wrong)
	if answer := s.want(200, "GET", Path+"/ann", ""); !strings.Contains(answer, `"locked_until":"2026-11-22T04:18:20.005Z"`) {
		t.Error(answer)
	}
	s.want(204, "POST", Path+"/ann/unlock", "")
	if err := s.try("ann", right); err != nil {
		t.Error(err)
	}
	s.want(204, "POST", Path+"/ann/password", `{"password":"new horse battery"}`)
	if err := s.try("ann", right); !errors.Is(err, ErrCredentials) {
		t.Errorf("the old password: %v", err)
	}
	if err := s.try("ann", "new horse battery"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	s.want(204, "DELETE", Path+"/ann", "")
	for _, call := range [][2]string{{"GET", ""}, {"DELETE", ""}, {"POST", "/unlock"}, {"POST", "/password"}} {
		s.want(404, call[0], Path+"/ann"+call[1], `{"password":"`+right+`"}`)
	}
	if out := s.log.String() + s.logged.String(); strings.Contains(out, "horse") || strings.Contains(out, "argon2") {
		t.Errorf("the log holds a password or hash: %s", out)
	}
}

// Each differs from the control in one thing.
func TestAPIRefuses(t *testing.T) {
	s := newServer(t)
	s.want(201, "POST", Path, ann)
	many := strings.Repeat(`"s",`, 129)
	for name, change := range map[string][2]string{
		"unknown member":    {`"roles"`, `"role"`},
		"member twice":      {`"roles":["ops"]`, `"tenant":"t"`},
		"member's case":     {`"username"`, `"Username"`},
		"trailing":          {`"t"}`, `"t"}{}`},
		"wrong type":        {`["ops"]`, `"ops"`},
		"no username":       {`"Ann"`, `""`},
		"odd username":      {`"Ann"`, `"a/n"`},
		"username begins":   {`"Ann"`, `".ann"`},
		"long username":     {`"Ann"`, `"` + strings.Repeat("a", 129) + `"`},
		"look-alike":        {`"Ann"`, `"\u0430nn"`},
		"weak password":     {right, "horse"},
		"control character": {`"Ann A."`, `"Ann\u0007"`},
		"long display name": {`"Ann A."`, `"` + strings.Repeat("a", 201) + `"`},
		"wildcard scope":    {`"b"`, `"*"`},
		"scope with space":  {`"b"`, `"b c"`},
		"many scopes":       {`"b",`, many},
		"no tenant":         {`"tenant":"t"`, `"tenant":""`},
		"unknown tenant":    {`"tenant":"t"`, `"tenant":"u"`},
		"own subject":       {`"tenant":"t"`, `"tenant":"t","subject":"usr_mine"`},
		"own time":          {`"tenant":"t"`, `"tenant":"t","created_at":"2026-11-22T04:00:00Z"`},
		"huge":              {`{"user`, strings.Repeat(" ", MaxDocument) + `{"user`},
	} {
		body := strings.Replace(ann, change[0], change[1], 1)
		if body == ann {
			t.Fatalf("%s changes nothing", name)
		}
		if answer := s.want(400, "POST", Path, body); !strings.Contains(answer, `"code":"invalid"`) && !strings.Contains(answer, `"invalid"`) {
			t.Errorf("%s: %s", name, answer)
		}
	}
	for _, body := range []string{``, `{}`, `{"password":"horse"}`, `{"password":"` + right + `","x":1}`, `["` + right + `"]`} {
		s.want(400, "POST", Path+"/ann/password", body)
	}
	s.want(204, "POST", Path+"/ann/password", `{"password":"`+right+`"}`)
}

// Nobody gets in without the guard, nor while the database cannot answer.
func TestAPIGuard(t *testing.T) {
	s := newServer(t)
	s.want(201, "POST", Path, ann)
	calls := [][2]string{{"POST", ""}, {"GET", "/ann"}, {"POST", "/ann/unlock"}, {"POST", "/ann/password"}, {"DELETE", "/ann"}}
	for _, call := range calls {
		s.store.reset(0, false)
		s.closed = problem.New(problem.Unauthenticated, "no key")
		s.want(401, call[0], Path+call[1], ann)
		s.closed, s.down = nil, errStore
		s.want(503, call[0], Path+call[1], ann)
		s.down = nil
		if work := s.store.reset(0, false); len(work) != 0 {
			t.Errorf("%v reaches the store: %v", call, work)
		}
	}
	for _, call := range calls[1:3] {
		s.store.reset(1, false)
		s.want(503, call[0], Path+call[1], "")
		s.store.reset(0, false)
	}
}

// Each call leaves one record that says who, what and how it ended, and no
// password.
func TestAPIAudit(t *testing.T) {
	s := newServer(t)
	subject := ""
	one := func(action string, outcome audit.Outcome) {
		t.Helper()
		if len(s.audited) != 1 {
			t.Fatalf("%s: %d records", action, len(s.audited))
		}
		r := s.audited[0]
		line := r.AppendJSON(nil)
		if r.Type != audit.TypeBootstrapUser || r.Outcome != outcome || strings.Contains(string(line), "horse") ||
			len(r.Properties) != 1 || r.Properties[0].Value.String() != action {
			t.Errorf("%s: %s", action, line)
		}
		if outcome == audit.Success && (r.Subject.Username.String() != "ann" || r.Subject.ID.String() != subject) {
			t.Errorf("%s: %+v", action, r.Subject)
		}
		s.audited = nil
	}
	_, answer := s.do("POST", Path, ann)
	var doc Document
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		t.Fatal(err)
	}
	subject = doc.Subject
	one("put", audit.Success)
	s.want(400, "POST", Path, strings.Replace(ann, right, "horse", 1))
	one("put", audit.Failure)
	s.want(200, "GET", Path+"/ann", "")
	one("read", audit.Success)
	s.closed = problem.New(problem.Unauthenticated, "no key")
	s.want(401, "POST", Path+"/ann/unlock", "")
	one("unlock", audit.Failure)
	s.closed = nil
	s.want(204, "POST", Path+"/ann/unlock", "")
	one("unlock", audit.Success)
	s.store.reset(1, false)
	s.want(503, "POST", Path+"/ann/password", `{"password":"`+right+`"}`)
	one("password", audit.Error)
	s.store.reset(0, false)
	s.want(204, "POST", Path+"/ann/password", `{"password":"`+right+`"}`)
	one("password", audit.Success)
	s.want(204, "DELETE", Path+"/ann", "")
	one("delete", audit.Success)
}

// FuzzParseDocument: what is accepted is stored and read back the same, and
// what is refused is never repeated.
func FuzzParseDocument(f *testing.F) {
	f.Add([]byte(ann))
	f.Add([]byte(`{"username":"a","tenants":["t","u"],"disabled":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDocument(data)
		if err != nil {
			return
		}
		u, err := d.toStore(any1)
		if err != nil {
			return
		}
		again, err := fromStore(u).toStore(any1)
		if err == nil {
			t.Fatalf("an answer is accepted as a request: %+v", again)
		}
		if !ValidName(u.Name) || len(u.Tenants) == 0 || u.PasswordHash != "" || u.Subject != "" {
			t.Fatalf("%q becomes %+v", data, u)
		}
	})
}
