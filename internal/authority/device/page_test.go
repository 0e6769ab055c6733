package device_test

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/store"
)

func TestWholeFlow(t *testing.T) {
	s := newSite(t)
	d := s.begin("dpop_jkt", thumbprint)
	v := s.visitor()
	if a := v.get("/device?user_code=" + d.UserCode); a.status != 200 || !strings.Contains(a.body, d.UserCode) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	steps := []struct {
		do    func() answer
		to    string
		audit string
	}{
		{func() answer { return v.enter(d) }, at("/sign-in", d), "authority.device.verify Success"},
		{func() answer { return v.signIn(d, "alice", alicePassword) }, at("/consent", d), "authority.device.login Success"},
		{func() answer { return v.decide(d, "approve", "globex") }, at("/consent", d), "authority.device.approve Success"},
	}
	for n, step := range steps {
		a := step.do()
		if a.status != http.StatusSeeOther || a.header.Get("Location") != step.to { // O19: 303, never 307
			t.Fatalf("step %d: %d %s %s", n, a.status, a.header.Get("Location"), a.body)
		}
		if got, count := s.audit.last(); got != step.audit || count != n+2 {
			t.Errorf("step %d: %s, %d audit records", n, got, count)
		}
		if n < 2 {
			s.clock.add(10 * time.Second)
			if _, err := s.check(d); !errors.Is(err, device.ErrPending) {
				t.Errorf("step %d: %v", n, err)
			}
		}
	}
	if a := v.get(at("/consent", d)); a.status != 200 || !strings.Contains(a.body, "<h1>Approved</h1>") {
		t.Errorf("%d %s", a.status, a.body)
	}
	got, err := s.check(d)
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != "usr_1" || got.Username != "alice" || got.DisplayName != "Alice Example" || got.Tenant != "globex" ||
		!slices.Equal(got.Scopes, []string{"authority:keys.read", "findings:read"}) || !slices.Equal(got.Roles, []string{"operator"}) ||
		got.Audience != "api://authority" || got.ClientID != "stella-cli" || got.JKT != thumbprint ||
		!got.AuthTime.Equal(newClock().now().Add(10*time.Second)) {
		t.Errorf("%+v", got)
	}
	if s.remote != "10.1.2.3" {
		t.Errorf("login was told %q", s.remote)
	}
	if strings.Contains(s.log.String(), alicePassword) {
		t.Error("the password is in the log")
	}
}

func TestDeny(t *testing.T) {
	s := newSite(t)
	d := s.begin()
	v := s.signedIn(d)
	if a := v.decide(d, "deny", ""); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got, _ := s.audit.last(); got != "authority.device.deny Success" {
		t.Error(got)
	}
	if _, err := s.check(d); !errors.Is(err, device.ErrDenied) {
		t.Error(err)
	}
	if a := v.get(at("/consent", d)); !strings.Contains(a.body, "<h1>Denied</h1>") {
		t.Errorf("%d %s", a.status, a.body)
	}
	// Who thinks better of it is too late, and is told so.
	token := tokenOf(t, v)
	if a := v.post("/device/consent", url.Values{"token": {token}, "user_code": {d.UserCode}, "decision": {"approve"}, "tenant": {"acme"}}); a.status != 303 {
		t.Errorf("%d", a.status)
	}
	if got, _ := s.audit.last(); got != "authority.device.approve Failure" {
		t.Error(got)
	}
	if _, err := s.check(d); !errors.Is(err, device.ErrDenied) {
		t.Error(err)
	}
}

// tokenOf is the form token of v's cookie, from a page that always has one.
func tokenOf(t *testing.T, v *visitor) string { t.Helper(); return v.token("/device") }

// A form that is sent twice, at once or later, decides once.
func TestSentTwice(t *testing.T) {
	s := newSite(t)
	d := s.begin()
	v := s.signedIn(d)
	form := url.Values{"token": {tokenOf(t, v)}, "user_code": {d.UserCode}, "decision": {"approve"}, "tenant": {"acme"}}
	got := parallel(8, func(int) string {
		a := v.post("/device/consent", form)
		return a.header.Get("Location")
	})
	if got[at("/consent", d)] != 8 {
		t.Errorf("%v", got)
	}
	decided := 0
	for _, r := range s.audit.all {
		if r.Type == "authority.device.approve" && r.Outcome == audit.Success {
			decided++
		}
	}
	if decided != 1 {
		t.Errorf("%d times", decided)
	}
	if _, err := s.check(d); err != nil {
		t.Error(err)
	}
}

// Each row sends the last form, which differs from the control in one thing.
func TestDecideRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		after  time.Duration
		who    func(s *site, d started) *visitor // nil: who signed in
		header http.Header
		form   url.Values
		person func(*device.Person)
		status int
		audit  string
		ok     bool
	}{
		"control":          {status: 303, audit: "approve Success", ok: true},
		"control: Origin":  {header: http.Header{"Sec-Fetch-Site": nil, "Origin": {"self"}}, status: 303, audit: "approve Success", ok: true},
		"control: null":    {header: http.Header{"Origin": {"null"}}, status: 303, audit: "approve Success", ok: true},
		"control: default": {person: func(p *device.Person) { p.Tenants, p.Tenant = []string{"acme"}, "acme" }, form: url.Values{"tenant": {""}}, status: 303, audit: "approve Success", ok: true},
		"no token":         {form: url.Values{"token": {""}}, status: 403, audit: "approve Failure"},
		"another token":    {form: url.Values{"token": {strings.Repeat("A", 43)}}, status: 403, audit: "approve Failure"},
		"cross-site":       {header: http.Header{"Sec-Fetch-Site": {"cross-site"}}, status: 403, audit: "approve Failure"},
		"same-site":        {header: http.Header{"Sec-Fetch-Site": {"same-site"}}, status: 403, audit: "approve Failure"},
		"typed":            {header: http.Header{"Sec-Fetch-Site": {"none"}}, status: 403, audit: "approve Failure"},
		"twice":            {header: http.Header{"Sec-Fetch-Site": {"same-origin", "same-origin"}}, status: 403, audit: "approve Failure"},
		"another origin":   {header: http.Header{"Sec-Fetch-Site": nil, "Origin": {"https://evil.example"}}, status: 403, audit: "approve Failure"},
		"http origin":      {header: http.Header{"Origin": {"http://self"}}, status: 403, audit: "approve Failure"},
		"session ended":    {after: 10 * time.Minute, status: 303, audit: "approve Failure"},
		"control: session": {after: 10*time.Minute - 1, status: 303, audit: "approve Success", ok: true},
		"code ended":       {after: 15 * time.Minute, status: 404, audit: "approve Failure"},
		"not signed in": {who: func(s *site, d started) *visitor {
			v := s.visitor()
			v.enter(s.begin())
			return v
		}, status: 409, audit: "approve Failure"},
		"no cookie":                  {who: func(s *site, _ started) *visitor { return s.visitor() }, status: 403, audit: "approve Failure"},
		"signed in for another code": {who: func(s *site, _ started) *visitor { return s.signedIn(s.begin()) }, status: 409, audit: "approve Failure"},
		"no cookie, its token":       {form: url.Values{"token": {device.FormToken("")}}, status: 403, audit: "approve Failure"},
		"no decision":                {form: url.Values{"decision": {""}}, status: 422, audit: "deny Failure"},
		"another decision":           {form: url.Values{"decision": {"maybe"}}, status: 422, audit: "deny Failure"},
		"no tenant":                  {form: url.Values{"tenant": {""}}, status: 422, audit: "approve Failure"},
		"person's tenant":            {form: url.Values{"tenant": {"other"}}, status: 422, audit: "approve Failure"},
		"unknown tenant":             {form: url.Values{"tenant": {"x"}}, status: 422, audit: "approve Failure"},
		"no tenant in common":        {person: func(p *device.Person) { p.Tenants = []string{"other"} }, status: 403, audit: "approve Failure"},
		"no scope in common":         {person: func(p *device.Person) { p.Scopes = []string{"x"} }, status: 403, audit: "approve Failure"},
		"no such code":               {form: url.Values{"user_code": {"BBBB-BBBB"}}, status: 404, audit: "approve Failure"},
		"decision twice":             {form: url.Values{"decision": {"approve", "deny"}}, status: 400, audit: "approve Failure"},
	} {
		s := newSite(t)
		if row.person != nil {
			row.person(&s.person)
		}
		d := s.begin()
		v := s.signedIn(d)
		if row.who != nil {
			v = row.who(s, d)
		}
		form := url.Values{"token": {tokenOf(t, v)}, "user_code": {d.UserCode}, "decision": {"approve"}, "tenant": {"acme"}}
		for k, values := range row.form {
			form[k] = values
		}
		if strings.HasPrefix(name, "no cookie") {
			v.client.Jar = nil
		}
		for k, values := range row.header {
			v.header[k] = slices.Clone(values)
			for i := range v.header[k] {
				v.header[k][i] = strings.Replace(values[i], "self", s.url, 1)
			}
		}
		s.clock.add(row.after)
		a := v.post("/device/consent", form)
		if a.status != row.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if got, _ := s.audit.last(); got != "authority.device."+row.audit {
			t.Errorf("%s: audit %q", name, got)
		}
		if got, err := s.check(d); (err == nil) != row.ok || got != nil && got.Tenant != "acme" {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

// Unknown name and wrong password look the same; a lockout says how long.
func TestLoginAnswers(t *testing.T) {
	s := newSite(t)
	d := s.begin()
	v := s.visitor()
	v.enter(d)
	field := regexp.MustCompile(`value="[^"]*"`)
	plain := func(a answer) string { return field.ReplaceAllString(a.body, "") }
	wrong, unknown := v.signIn(d, "alice", "wrong"), v.signIn(d, "nobody", "wrong")
	if wrong.status != 403 || unknown.status != 403 || plain(wrong) != plain(unknown) || !strings.Contains(plain(wrong), "do not match") {
		t.Errorf("%d %d\n%s\n%s", wrong.status, unknown.status, plain(wrong), plain(unknown))
	}
	if got, _ := s.audit.last(); got != "authority.device.login Failure" {
		t.Error(got)
	}
	for wait, words := range map[time.Duration]string{
		15 * time.Minute: "Try again in 15 minutes.", 14*time.Minute + time.Second: "Try again in 15 minutes.",
		time.Minute: "Try again in 1 minute.", 59 * time.Second: "Try again in 59 seconds.", time.Second: "Try again in 1 second.",
	} {
		s.lock(wait)
		wrong, unknown = v.signIn(d, "alice", "wrong"), v.signIn(d, "nobody", "wrong")
		if wrong.status != 429 || wrong.header.Get("Retry-After") != strings.TrimSuffix((wait/time.Second*1).String(), "ns") ||
			!strings.Contains(wrong.body, words) || plain(wrong) != plain(unknown) {
			t.Errorf("%v: %d %q %s", wait, wrong.status, wrong.header.Get("Retry-After"), wrong.body)
		}
		if got, _ := s.audit.last(); got != "authority.device.login LockedOut" {
			t.Error(got)
		}
	}
	if a := v.signIn(d, "broken", "x"); a.status != 503 || strings.Contains(a.body, "away") || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	before := s.logins
	for _, row := range [][2]string{{"", "x"}, {"alice", ""}, {strings.Repeat("a", 257), "x"}, {"alice", strings.Repeat("a", 1025)}} {
		if a := v.signIn(d, row[0], row[1]); a.status != 422 {
			t.Errorf("%.10q: %d", row, a.status)
		}
	}
	if s.logins != before {
		t.Error("a login was tried")
	}
	if strings.Contains(v.get(at("/sign-in", d)).body, "wrong") {
		t.Error("a password is shown")
	}
}

// With no budget left nothing is looked at.
func TestBudget(t *testing.T) {
	s := newSite(t)
	d := s.begin()
	v := s.visitor()
	v.enter(d)
	token := tokenOf(t, v)
	form := url.Values{"token": {token}, "user_code": {d.UserCode}, "username": {"alice"}, "password": {alicePassword}}
	for _, path := range []string{"/device", "/device/sign-in", "/device/consent"} {
		s.wait = 90 * time.Second
		a := v.post(path, form)
		if a.status != 429 || a.header.Get("Retry-After") != "90" || !strings.Contains(a.body, "Wait 2 minutes") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		if got, _ := s.audit.last(); !strings.HasSuffix(got, " RateLimited") {
			t.Errorf("%s: %s", path, got)
		}
		s.wait = 0
		if a := v.post(path, form); a.status != 303 && path != "/device/consent" { // control
			t.Errorf("%s: %d", path, a.status)
		}
		token = tokenOf(t, v)
		form.Set("token", token)
	}
	if s.logins != 1 {
		t.Errorf("%d logins", s.logins)
	}
	for path, status := range map[string]int{at("/sign-in", d): 303, at("/consent", d): 200} {
		if a := v.get(path); a.status != status { // control
			t.Errorf("%s: %d", path, a.status)
		}
		s.wait = time.Second
		for _, path := range []string{path, strings.Replace(path, d.UserCode, "BBBB-BBBB", 1)} {
			if a := v.get(path); a.status != 429 {
				t.Errorf("%s: %d", path, a.status)
			}
		}
		s.wait = 0
	}
}

// Wherever the store fails, the page says so and nothing is decided.
func TestPageStoreAway(t *testing.T) {
	for _, place := range []string{"read sessions", "read device_codes", "read device_events", "insert device_events", "insert sessions", "remove sessions"} {
		s := newSite(t)
		d, e := s.begin(), s.begin()
		v := s.signedIn(d)
		v.enter(e)
		token := tokenOf(t, v)
		hit := false
		s.store.set(false, func(op string, kind store.Kind, _ string) bool {
			now := op+" "+string(kind) == place
			hit = hit || now
			return now
		})
		form := url.Values{
			"token": {token}, "user_code": {d.UserCode}, "username": {"alice"}, "password": {alicePassword}, "decision": {"approve"}, "tenant": {"acme"},
		}
		path := "/device/consent"
		if strings.HasSuffix(place, "t sessions") || strings.HasPrefix(place, "remove") {
			path = "/device/sign-in"
		}
		a := v.post(path, form)
		if !hit || a.status != 503 || a.header.Get("Retry-After") == "" || strings.Contains(a.body, "away") || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: reached %t, %d %s", place, hit, a.status, a.body)
		}
		s.store.set(false, nil)
		if _, err := s.check(d); !errors.Is(err, device.ErrPending) {
			t.Errorf("%s: %v", place, err)
		}
		if !strings.Contains(s.log.String(), "away") {
			t.Errorf("%s: the cause is not in the log", place)
		}
		if a := v.post(path, form); a.status != 303 { // control
			t.Errorf("%s, then: %d", place, a.status)
		}
	}
}
