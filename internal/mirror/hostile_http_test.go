package mirror_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore/https"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv"
)

// misdeed is what a server may do instead of answering well. The control is
// the same server without it, which comes before and after.
type misdeed struct {
	name string
	kind fault.Kind     // None: the release is taken all the same
	why  release.Reason // of a refusal
	do   func(*exchange) bool
	more func(t *testing.T, o *origin) // what else must hold
}

// on spoils the answers for one key alone.
func on(key string, do func(*exchange) bool) func(*exchange) bool {
	return func(e *exchange) bool { return e.key == key && do(e) }
}

// once spoils the first answer for a key.
func once(do func(*exchange) bool) func(*exchange) bool {
	return func(e *exchange) bool { return e.nth == 1 && do(e) }
}

// announce writes an answer whose Content-Length is wrong by more.
func announce(more int) func(*exchange) bool {
	return func(e *exchange) bool {
		return e.raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(e.data)+more, e.data))
	}
}

// header adds one to the honest answer.
func header(name string, value func(e *exchange) string) func(*exchange) bool {
	return func(e *exchange) bool {
		e.Header().Set(name, value(e))
		_, _ = e.Write(e.data)
		return true
	}
}

func misdeeds() []misdeed {
	bounded := func(key string, limit int64) func(*testing.T, *origin) {
		limit += 16 << 20 // what the sockets between may hold, and more
		return func(t *testing.T, o *origin) {
			for _, a := range o.requests(key) {
				if a.sent > limit {
					t.Errorf("%s: %d bytes were read", key, a.sent)
				}
			}
		}
	}
	times := func(key string, n int) func(*testing.T, *origin) {
		return func(t *testing.T, o *origin) {
			if got := len(o.requests(key)); got != n {
				t.Errorf("%s was asked for %d times, want %d", key, got, n)
			}
		}
	}
	status := func(code int) func(*exchange) bool { return func(e *exchange) bool { return e.status(code) } }
	st := release.FileStatement
	return []misdeed{
		{name: "control", do: func(*exchange) bool { return false }},
		{name: "endless statement", kind: fault.Trust, why: release.TooLarge, do: on(st, (*exchange).endless), more: bounded(st, release.MaxStatement)},
		{name: "endless signature", kind: fault.Trust, why: release.TooLarge, do: on(release.FileSignature, (*exchange).endless), more: bounded(release.FileSignature, 0)},
		{name: "endless member", kind: fault.Trust, why: release.SizeMismatch, do: on(bundlePath, (*exchange).endless), more: bounded(bundlePath, 0)},
		{name: "statement announced too long", kind: fault.Transient, do: on(st, announce(10)), more: times(st, 5)},
		{name: "statement announced too short", kind: fault.Trust, why: release.SignatureInvalid, do: on(st, announce(-10))},
		{name: "member announced too long", kind: fault.Trust, why: release.SizeMismatch, do: on(bundlePath, announce(10))},
		{name: "member announced too short", kind: fault.Trust, why: release.SizeMismatch, do: on(bundlePath, announce(-10))},
		{name: "503 for a while", do: func(e *exchange) bool {
			e.Header().Set("Retry-After", "1")
			return e.nth <= 3 && e.status(503)
		}, more: times(bundlePath, 4)},
		{name: "503 for ever", kind: fault.Transient, do: status(503), more: times(st, 5)},
		{name: "503 for a member for ever", kind: fault.Transient, do: on(bundlePath, status(503)), more: times(bundlePath, 5)},
		{name: "429 for ever", kind: fault.Transient, do: status(429)},
		{name: "401", kind: fault.Denied, do: status(401), more: times(st, 1)},
		{name: "403", kind: fault.Denied, do: status(403), more: times(st, 1)},
		{name: "403 for a member", kind: fault.Denied, do: on(bundlePath, status(403)), more: times(bundlePath, 1)},
		{name: "204 for all", kind: fault.Unclassified, do: status(204)},
		{name: "206 for a plain GET", kind: fault.Transient, do: on(bundlePath, func(e *exchange) bool {
			e.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(e.data)-1, len(e.data)))
			e.WriteHeader(http.StatusPartialContent)
			_, _ = e.Write(e.data)
			return true
		})},
		{name: "gzip", kind: fault.Trust, do: on(bundlePath, header("Content-Encoding", func(*exchange) string { return "gzip" }))},
		{name: "304 to a plain GET", kind: fault.Unclassified, do: on(bundlePath, status(304))},
		{name: "header flood", kind: fault.Transient, do: on(st, func(e *exchange) bool {
			return e.raw("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Flood: "+strings.Repeat("x", 1000)+"\r\n", 10_000))
		}), more: bounded(st, 0)},
		{name: "no HTTP", kind: fault.Transient, do: on(st, func(e *exchange) bool { return e.raw("220 mail.example ESMTP\r\n") })},
		{name: "HTTP/1.0", do: func(e *exchange) bool {
			return e.data != nil && e.raw("HTTP/1.0 200 OK\r\n\r\n"+string(e.data))
		}},
		{name: "HTTP/1.0, cut once", do: on(bundlePath, once(func(e *exchange) bool {
			return e.raw("HTTP/1.0 200 OK\r\n\r\n" + string(e.data[:20]))
		})), more: times(bundlePath, 2)},
		{name: "HTTP/1.0, a statement cut for ever", kind: fault.Trust, why: release.SignatureInvalid, do: on(st, func(e *exchange) bool {
			return e.raw("HTTP/1.0 200 OK\r\n\r\n" + string(e.data[:200]))
		})},
		{name: "another ETag each time", do: func(e *exchange) bool {
			return e.data != nil && header("ETag", func(e *exchange) string { return fmt.Sprintf(`"%d"`, time.Now().UnixNano()) })(e)
		}},
		{name: "ETags that are none", do: func(e *exchange) bool {
			return e.data != nil && header("ETag", func(*exchange) string { return `"a` + strings.Repeat("x", 2000) })(e)
		}},
		{name: "a header that is none", kind: fault.Transient, do: on(st, header("ETag", func(*exchange) string { return "\"a\x01b\"" }))},
		{name: "no ranges, cut once", do: on(bigPath, func(e *exchange) bool {
			if e.nth == 1 {
				return e.cut(len(e.data) / 2)
			}
			_, _ = e.Write(e.data)
			return true
		}), more: times(bigPath, 2)},
	}
}

// TestMisdeeds: a bad server harms nobody. What is shown stays, what cannot be
// believed is refused with its reason, the rest passes or is tried again.
func TestMisdeeds(t *testing.T) {
	for _, m := range append(misdeeds(), rangeMisdeeds()...) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			w, o := newOrigin(t, onWeb)
			m.run(t, w, o)
		})
	}
}

func (m misdeed) run(t *testing.T, w *world, o *origin) {
	t.Helper()
	one := w.publish(1)
	w.good(one)
	two := w.more(2, big(300<<10))
	o.bad(m.do)
	_, err := w.sync()
	if fault.KindOf(err) != m.kind || release.ReasonOf(err) != m.why {
		t.Fatalf("kind %v, reason %q, want %v, %q: %v", fault.KindOf(err), release.ReasonOf(err), m.kind, m.why, err)
	}
	if m.more != nil {
		m.more(t, o)
	}
	st, serr := w.m.Status("concelier")
	refusals := 0
	for _, n := range st.Refusals {
		refusals += int(n)
	}
	if wanted := m.why != ""; serr != nil || wanted != (refusals == 1) || st.Refusals[m.why] != int64(refusals) {
		t.Errorf("recorded: %v %v", serr, st.Refusals)
	}
	if m.kind == fault.None {
		w.shows(two)
		return
	}
	if st.Shown.Sequence != 1 {
		t.Errorf("shows %+v", st.Shown)
	}
	w.shows(one)
	o.bad(nil)
	w.good(two)
}

// TestRedirect: it is not followed, to wherever it leads.
func TestRedirect(t *testing.T) {
	t.Parallel()
	for _, code := range []int{301, 302, 303, 307, 308} {
		visited := false
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited = true }))
		w, o := newOrigin(t, onWeb)
		misdeed{kind: fault.Trust, why: release.HostileSource, do: on(release.FileStatement, func(e *exchange) bool {
			e.Header().Set("Location", elsewhere.URL+"/secret?token=s3cret")
			return e.status(code)
		})}.run(t, w, o)
		elsewhere.Close()
		if visited {
			t.Errorf("%d was followed", code)
		}
	}
}

// TestStranger: a server with the certificate of another CA is told nothing.
func TestStranger(t *testing.T) {
	t.Parallel()
	w, o := newOrigin(t, onWeb)
	one := w.publish(1)
	w.good(one)
	w.publish(2)
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := https.New(w.feed.Source, https.Options{CAFile: ca.CertFile})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	known := w.opened[w.feed.Source]
	w.opened[w.feed.Source] = stranger
	o.bad(nil)
	if _, err := w.sync(); fault.KindOf(err) != fault.Trust || w.slept != 0 || len(o.requests(release.FileStatement)) != 0 {
		t.Errorf("slept %s: %v", w.slept, err)
	}
	w.shows(one)
	w.opened[w.feed.Source] = known // the control
	if _, err := w.sync(); err != nil {
		t.Error(err)
	}
}

// TestFreeze: a server that says for ever that nothing is new. That is no news
// until the release expires; then it is one, recorded once, while the release
// stays.
func TestFreeze(t *testing.T) {
	t.Parallel()
	w, o := newOrigin(t, onWeb)
	one := w.publish(1)
	w.good(one)
	two := w.publish(2)
	o.bad(func(e *exchange) bool { return e.r.Header.Get("If-None-Match") != "" && e.status(304) })
	for range 2 {
		if res := w.good(one); res.Outcome != "unchanged" {
			t.Errorf("%+v", res)
		}
	}
	w.at = w.at.Add(26 * time.Hour)
	for range 3 {
		if _, err := w.sync(); release.ReasonOf(err) != release.Stale || fault.KindOf(err) != fault.Trust {
			t.Errorf("after its expiry: %v", err)
		}
		w.shows(one)
	}
	st, err := w.m.Status("concelier")
	if err != nil || st.Refusals[release.Stale] != 1 || st.Stale == "" || st.Shown.Sequence != 1 {
		t.Errorf("%v %+v", err, st)
	}
	// The control: a server that tells the truth, before that release ends too.
	w.at = w.at.Add(-3 * time.Hour)
	o.bad(nil)
	w.good(two)
}

// TestConditions: what goes over the line when nothing is new.
func TestConditions(t *testing.T) {
	t.Parallel()
	for _, kind := range []sourceKind{inBucket, onWeb} {
		w, o := newOrigin(t, kind)
		one := w.publish(1)
		w.good(one)
		o.bad(nil)
		w.good(one)
		if o.busy.Wait(); len(o.asked) != 1 || o.asked[0].key != release.FileStatement || o.asked[0].ifNoneMatch == "" || o.asked[0].sent != 0 {
			t.Errorf("%s: %+v", kind, o.asked)
		}
		// Without what the release before was accepted under, all is asked anew.
		w.m.Policy = w.policy("threshold: 1")
		o.bad(nil)
		w.good(one)
		if i := slices.IndexFunc(o.asked, func(a asked) bool { return a.ifNoneMatch != "" }); i >= 0 || len(o.asked) < 2 {
			t.Errorf("%s: %+v", kind, o.asked)
		}
	}
}
