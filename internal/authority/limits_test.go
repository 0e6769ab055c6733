package authority_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/testenv"
)

const fewTokens = `security: {rateLimiting: {token: {permitLimit: 3, window: "00:01:00"}}}` + "\n"

// L01 to L04 at the token endpoint.
func TestTokenLimit(t *testing.T) {
	s := newSite(t)
	s.limited = true
	// In the middle of a window, so that none ends while the test runs.
	clock := &testClock{now: time.Now().Truncate(time.Minute).Add(20 * time.Second)}
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, `, signLease: "00:05:00"`, fewTokens), authority.Deps{Store: mem.New(0), Now: clock.Now})
	secret, other := r.client(standard("svc")), r.client(standard("other"))
	call := func(id, secret string, header http.Header) answer {
		q := &tokenRequest{method: "POST", path: "/token", header: header.Clone()}
		q.header.Set("Content-Type", "application/x-www-form-urlencoded")
		q.basic(id, secret)
		q.body = "grant_type=client_credentials"
		return r.send(q)
	}
	none := http.Header{}
	for i := range 3 {
		refusedAs(t, fmt.Sprint("within ", i), call("svc", secret, none), 400, "invalid_dpop_proof") // used up by what is refused, too
	}
	a := call("svc", secret, none)
	refusedAs(t, "L01", a, 429, "rate_limit_exceeded")
	if a.header.Get("Retry-After") != "40" || a.header.Get("Cache-Control") != "no-store" || strings.Contains(string(a.body), "3") {
		t.Errorf("L01, L06: %v %s", a.header, a.body)
	}
	for name, header := range map[string]http.Header{
		"X-Forwarded-For": {"X-Forwarded-For": {"203.0.113.7"}}, "Forwarded": {"Forwarded": {"for=203.0.113.7"}},
		"X-Real-Ip": {"X-Real-Ip": {"203.0.113.7"}}, "User-Agent": {"User-Agent": {"another"}},
	} {
		refusedAs(t, "L03 "+name, call("svc", secret, header), 429, "rate_limit_exceeded")
	}
	// L04: who names a client at another address, or names nobody, does not
	// use up its budget; and it is not opened by naming clients that are not.
	refusedAs(t, "another client", call("other", other, none), 400, "invalid_dpop_proof")
	for i := range 3 {
		refusedAs(t, "unknown client", call(fmt.Sprint("nobody-", i), "x", none), 401, "invalid_client")
	}
	refusedAs(t, "unknown clients share one budget", call("nobody-9", "x", none), 429, "rate_limit_exceeded")
	refusedAs(t, "and leave others alone", call("other", other, none), 400, "invalid_dpop_proof")

	// L02: a second before the time it says, and at it.
	clock.Add(39 * time.Second)
	refusedAs(t, "L02 one second early", call("svc", secret, none), 429, "rate_limit_exceeded")
	clock.Add(time.Second)
	refusedAs(t, "L02 as told", call("svc", secret, none), 400, "invalid_dpop_proof")
}

// What replicas hand out together is no more than one budget, where they share
// a Redis.
func TestLimitIsShared(t *testing.T) {
	s := newSite(t)
	s.limited = true
	redis := testenv.Redis(t)
	clock := &testClock{now: time.Now().Truncate(time.Minute).Add(20 * time.Second)}
	st := mem.New(0)
	extra := fmt.Sprintf("redis: {url: %q, timeout: 10s}\nsecurity: {rateLimiting: {token: {permitLimit: 10, window: \"00:01:00\"}}}\n", redis.URL())
	var all []*replica
	issuer := "https://127.0.0.1:0"
	for _, name := range []string{"a", "b", "c"} {
		r := s.start(name, s.config(name, issuer, memory, `, signLease: "00:05:00"`, extra), authority.Deps{Store: unclosed{st}, Now: clock.Now})
		issuer = r.issuer
		all = append(all, r)
	}
	doc := standard("svc")
	bearer := false
	doc.DPoPBound = &bearer
	secret := all[0].client(doc)
	got := race(t, all, 50, func(r *replica) func() answer {
		q := &tokenRequest{method: "POST", path: "/token", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, body: "grant_type=client_credentials"}
		q.basic("svc", secret)
		return func() answer { return r.send(q) }
	})
	if n := len(won(got)); n != 10 {
		t.Errorf("%d requests passed, not 10", n)
	}
	for _, a := range got {
		if a.status != 200 && (a.status != 429 || a.header.Get("Retry-After") != "40") {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
	}
}

// The operators' API and the device page have limits of their own.
func TestOtherLimits(t *testing.T) {
	s := newSite(t)
	s.limited = true
	clock := &testClock{now: time.Now().Truncate(time.Minute).Add(20 * time.Second)}
	extra := `security: {rateLimiting: {internal: {enabled: true, permitLimit: 2}, authorize: {permitLimit: 4, queueLimit: 0}}}` + "\n"
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, `, signLease: "00:05:00"`, extra), authority.Deps{Store: mem.New(0), Now: clock.Now})
	r.client(public("cli"))
	r.user("ana")
	refusedAs(t, "internal", r.do("GET", "/internal/clients/cli", boot(), nil), 429, "rate_limit_exceeded")
	b := r.device("cli") // one of the client's own budget
	person := r.person("ana")
	statuses := map[int]int{}
	for range 6 {
		page, err := person.Open(t.Context(), b.Complete)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := person.Submit(t.Context(), page, map[string][]string{"user_code": {"BCDF-GHJK"}})
		if err != nil {
			t.Fatal(err)
		}
		statuses[answer.Status]++
		if wait, _ := strconv.Atoi(answer.Header.Get("Retry-After")); answer.Status == 429 && wait != 40 {
			t.Errorf("Retry-After %q", answer.Header.Get("Retry-After"))
		}
	}
	if statuses[429] != 2 {
		t.Errorf("guesses of codes: %v", statuses)
	}
}

// Of 50 logins with wrong passwords at three replicas, five are looked at; the
// right password is refused then, with the time to wait, and so it is for a
// name that nobody has.
func TestLockoutRace(t *testing.T) {
	t.Parallel()
	for _, f := range fleets(t) {
		t.Run(f.name, func(t *testing.T) {
			all := f.begin(t, newSite(t), 3)
			all[0].client(public("cli"))
			all[0].user("ana")
			for _, name := range []string{"ana", "nobody"} {
				counts := guess(t, all, name)
				if counts == nil { // a window ended in the middle, as one does every 15 minutes
					name += "2"
					if name == "ana2" {
						all[0].user(name)
					}
					counts = guess(t, all, name)
				}
				// 503: too many hashes were waiting; that is no attempt.
				if counts[403] > 5 || counts[429] == 0 || counts[403]+counts[429]+counts[503] != 50 {
					t.Errorf("%s: %v", name, counts)
				}
				page := all[1].signIn(all[0], name, password)()
				if page.Status != 429 || page.Header.Get("Retry-After") == "" || !strings.Contains(page.HTML, "Too many failed attempts for this user name. Try again in ") {
					t.Errorf("%s, after it: %d %s", name, page.Status, page.HTML)
				}
			}
			all[0].user("bob")
			if page := all[2].signIn(all[0], "bob", password)(); page.Status != 200 || !strings.Contains(page.HTML, "act for you") {
				t.Errorf("control: %d %s", page.Status, page.HTML)
			}
			all[0].mustDo("POST", "/internal/users/ana/unlock", "")
			if page := all[2].signIn(all[0], "ana", password)(); page.Status != 200 {
				t.Errorf("control: unlocked: %d", page.Status)
			}
		})
	}
}

// guess tries 50 wrong passwords at once and counts the answers; nil when a
// window ended meanwhile.
func guess(t *testing.T, all []*replica, name string) map[int]int {
	t.Helper()
	begun, counts := lockoutWindow(), map[int]int{}
	for _, a := range race(t, all, 50, func(r *replica) func() answer {
		send := r.signIn(all[0], name, "wrong password")
		return func() answer { return answer{status: send().Status, header: http.Header{}} }
	}) {
		counts[a.status]++
	}
	if begun != lockoutWindow() {
		return nil
	}
	return counts
}

// lockoutWindow numbers the windows in which attempts are counted.
func lockoutWindow() int64 { return time.Now().Unix() / 900 }

// signIn prepares a login at a replica, for a code of its own, up to the
// password.
func (r *replica) signIn(issuer *replica, name, password string) func() *testenv.Page {
	r.t.Helper()
	b := issuer.device("cli")
	person := r.person(name)
	at := strings.Replace(b.Complete, issuer.issuer, r.url, 1)
	page, err := person.Open(r.t.Context(), at)
	if err == nil {
		page, err = person.Submit(r.t.Context(), page, map[string][]string{"user_code": {b.UserCode}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return func() *testenv.Page {
		got, err := person.Submit(r.t.Context(), page, map[string][]string{"username": {name}, "password": {password}})
		if err != nil {
			r.t.Error(err)
			return &testenv.Page{}
		}
		return got
	}
}
