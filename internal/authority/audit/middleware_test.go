package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/obs"
)

type sinkFunc func(*Record)

func (f sinkFunc) Write(_ context.Context, r *Record) { f(r) }

// lines is a Sink that keeps what is written.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(_ context.Context, r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(r.AppendJSON(nil)))
}

func (l *lines) take(t *testing.T, want int) []*Record {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) != want {
		t.Fatalf("%d records, want %d: %s", len(l.all), want, strings.Join(l.all, "\n"))
	}
	var out []*Record
	for _, line := range l.all {
		rec, err := Parse([]byte(line))
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, rec)
	}
	l.all = nil
	return out
}

// ask sends one request through Middleware and returns what a panic carried.
func ask(sink Sink, r *http.Request, h http.HandlerFunc) (recovered any) {
	defer func() { recovered = recover() }()
	Middleware(sink, Options{Now: when})(h).ServeHTTP(httptest.NewRecorder(), r)
	return nil
}

func get() *http.Request { return httptest.NewRequest("GET", "/x", nil) }

func TestOneRecordForEachRequestThatSetsOne(t *testing.T) {
	var got lines
	ask(&got, get(), func(http.ResponseWriter, *http.Request) {})
	got.take(t, 0)
	ask(&got, get(), func(_ http.ResponseWriter, r *http.Request) { Of(r.Context()).Outcome(Success, "") })
	got.take(t, 0)
	var kept *Event
	ask(&got, get(), func(_ http.ResponseWriter, r *http.Request) {
		kept = Of(r.Context())
		kept.Set(TypeIntrospect)
		kept.Outcome(Failure, "one")
		kept.Set(TypeRevoke)
		kept.Outcome(Success, "")
	})
	rec := got.take(t, 1)[0]
	if rec.Type != TypeRevoke || rec.Outcome != Success || rec.Reason.String() != "" || rec.Network.RemoteAddress.String() != "192.0.2.1" {
		t.Errorf("%+v", rec)
	}
	kept.Outcome(Error, "too late")
	if kept.rec.Outcome != Success {
		t.Error("a record changed after it was written")
	}
}

func TestNestedMiddlewareWritesOnce(t *testing.T) {
	var outer, inner lines
	ask(&outer, get(), func(w http.ResponseWriter, r *http.Request) {
		Middleware(&inner, Options{})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			Of(r.Context()).Set("x")
			Of(r.Context()).Outcome(Success, "")
		})).ServeHTTP(w, r)
	})
	outer.take(t, 1)
	inner.take(t, 0)
}

func TestUnfinishedHandlers(t *testing.T) {
	var got lines
	for name, c := range map[string]struct {
		h       http.HandlerFunc
		panics  any
		outcome Outcome
		reason  string
		records int
	}{
		"panic": {func(_ http.ResponseWriter, r *http.Request) {
			Of(r.Context()).Set("x")
			Of(r.Context()).Outcome(Success, "")
			panic("boom")
		}, "boom", Error, reasonUnfinished, 1},
		"abort": {func(_ http.ResponseWriter, r *http.Request) {
			Of(r.Context()).Set("x")
			panic(http.ErrAbortHandler)
		}, http.ErrAbortHandler, Error, reasonUnfinished, 1},
		"panic without Set": {func(http.ResponseWriter, *http.Request) { panic("boom") }, "boom", "", "", 0},
		"no outcome":        {func(_ http.ResponseWriter, r *http.Request) { Of(r.Context()).Set("x") }, nil, Error, reasonNoOutcome, 1},
		"finished": {func(_ http.ResponseWriter, r *http.Request) {
			Of(r.Context()).Set("x")
			Of(r.Context()).Outcome(Success, "")
		}, nil, Success, "", 1},
	} {
		if p := ask(&got, get(), c.h); p != c.panics {
			t.Errorf("%s: the panic is %v", name, p)
		}
		for _, rec := range got.take(t, c.records) {
			if rec.Outcome != c.outcome || rec.Reason.String() != c.reason {
				t.Errorf("%s: %s %q", name, rec.Outcome, rec.Reason)
			}
		}
	}
}

func TestOutsideMiddleware(t *testing.T) {
	e := Of(t.Context())
	if e != nil {
		t.Fatal("an event from nowhere")
	}
	e.Set("x")
	e.Outcome(Success, "")
	e.Subject("a", "b", "c", "d")
	e.Client("a", "b")
	e.Provider("a")
	e.Tenant("a")
	e.Scopes([]string{"a"})
	e.Prop("a", "b", None)
}

// TestEveryRequestOnce is negative test J05: through a real server, under
// load, each answer has one record with its request id and outcome.
func TestEveryRequestOnce(t *testing.T) {
	var got lines
	mux := http.NewServeMux()
	mux.HandleFunc("GET /do/{status}", func(w http.ResponseWriter, r *http.Request) {
		e := Of(r.Context())
		e.Set("test." + r.PathValue("status"))
		switch r.PathValue("status") {
		case "200":
			e.Outcome(Success, "")
		case "429":
			e.Outcome(RateLimited, "rate_limit_exceeded")
			w.WriteHeader(http.StatusTooManyRequests)
		case "500":
			panic("boom")
		}
	})
	var patterns sync.Map
	srv, err := httpd.New(httpd.Config{
		Listeners: []httpd.Listener{{Address: "127.0.0.1:0", Handler: Middleware(&got, Options{})(mux)}},
		Observe:   func(r *http.Request, pattern string, status int, _ time.Duration) { patterns.Store(status, pattern) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	if err := srv.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	want := map[int]Outcome{200: Success, 429: RateLimited, 500: Error, 404: ""}
	var mu sync.Mutex
	answers := map[string]int{} // request id: status
	// A connection for each: one that was opened and not used holds up the end.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var wg sync.WaitGroup
	for i := range 80 {
		wg.Go(func() {
			status := []int{200, 429, 500, 404}[i%4]
			path := fmt.Sprintf("/do/%d", status)
			if status == 404 {
				path = "/nowhere"
			}
			resp, err := client.Get(srv.URL() + path)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("%s answers %d", path, resp.StatusCode)
			}
			mu.Lock()
			answers[resp.Header.Get(httpd.RequestIDHeader)] = resp.StatusCode
			mu.Unlock()
		})
	}
	wg.Wait()
	odd, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL()+"/do/200", nil)
	if err != nil {
		t.Fatal(err)
	}
	odd.Header.Set(httpd.RequestIDHeader, "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln") // a token as the request id
	if resp, err := client.Do(odd); err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
	}
	answers["[redacted]"] = 200
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, rec := range got.take(t, 61) {
		status, ok := answers[rec.CorrelationID]
		if !ok {
			t.Errorf("a second record for %s, or one for nobody", rec.CorrelationID)
		}
		delete(answers, rec.CorrelationID)
		if rec.Type != fmt.Sprintf("test.%d", status) || rec.Outcome != want[status] {
			t.Errorf("%d is recorded as %s %s", status, rec.Type, rec.Outcome)
		}
	}
	for id, status := range answers {
		if status != 404 {
			t.Errorf("no record for %s, which got %d", id, status)
		}
	}
	for _, status := range []int{200, 429, 500} {
		if p, _ := patterns.Load(status); p != "GET /do/{status}" {
			t.Errorf("the pattern of a %d is lost on the way out: %v", status, p)
		}
	}
}

// TestInjection is negative tests J06 and J07: what a caller sends stays in
// its field, and tokens stay out of every sink.
func TestInjection(t *testing.T) {
	forged := `","outcome":"Success"}` + "\r\n" + `{"schema":"stella.audit/v1","eventType":"forged"}`
	var got lines
	var text, doc bytes.Buffer
	level := new(slog.LevelVar)
	sinks := Sinks{&got, NewLog(obs.NewLogger(&text, "text", level)), NewLog(obs.NewLogger(&doc, "json", level))}
	r := get()
	r.URL.Path = "/x" + forged
	r.Header["User-Agent"] = []string{forged + jwt}
	r.Header["X-Forwarded-For"] = []string{forged, "::1"}
	ask(sinks, r, func(_ http.ResponseWriter, r *http.Request) {
		e := Of(r.Context())
		e.Set(TypeDeviceLogin)
		e.Outcome(Failure, forged)
		e.Subject(forged, forged, "\x1b[2J\u202e", "")
		e.Prop(PropInvite, jwt, Sensitive)
		e.Prop(PropUnexpected, r.URL.Path, None)
	})
	rec := got.take(t, 1)[0]
	if rec.Subject.Username.String() != forged || rec.Network.ForwardedFor.String() != forged+", ::1" || rec.Outcome != Failure {
		t.Errorf("%+v", rec)
	}
	if v := rec.Properties[0].Value; v != Classify(jwt, Sensitive) || !strings.HasPrefix(v.String(), "sha256:") {
		t.Errorf("the token is %v", v)
	}
	for name, out := range map[string]string{"text": text.String(), "json": doc.String()} {
		if strings.Count(out, "\n") != 1 || strings.ContainsAny(out, "\r\x1b\u202e") {
			t.Errorf("%s: not one line: %q", name, out)
		}
		for part := range strings.SplitSeq(jwt, ".") {
			if strings.Contains(out, part) {
				t.Errorf("%s: a part of the token is in %s", name, out)
			}
		}
	}
	var line struct {
		Logger string
		Msg    string
		Audit  json.RawMessage
	}
	if err := json.Unmarshal(doc.Bytes(), &line); err != nil || line.Logger != LoggerName || line.Msg != "audit" {
		t.Fatalf("%v %s", err, doc.String())
	}
	if again, err := Parse(line.Audit); err != nil || again.Subject != rec.Subject {
		t.Errorf("the record in the log: %v %s", err, line.Audit)
	}
	level.Set(slog.LevelError)
	text.Reset()
	NewLog(obs.NewLogger(&text, "text", level)).Write(t.Context(), rec)
	if text.Len() > 0 {
		t.Error("a disabled level is written")
	}
}

func TestRemoteBehindProxies(t *testing.T) {
	var got lines
	r := get()
	r.Header.Set("Forwarded", "for=10.0.0.9")
	o := Options{Remote: func(*http.Request) string { return "10.0.0.9" }}
	Middleware(&got, o)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { grant(r) })).ServeHTTP(httptest.NewRecorder(), r)
	n := got.take(t, 1)[0].Network
	if n.RemoteAddress != Classify("10.0.0.9", Personal) || n.ForwardedFor != Classify("for=10.0.0.9", Personal) {
		t.Errorf("%+v", n)
	}
}
