package httpd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/obs"
)

func TestAnswersCarryWhatTheyMust(t *testing.T) {
	r := start(t, plain(func(w http.ResponseWriter, r *http.Request) {
		Annotate(r.Context(), slog.String("client_id", "c1"))
		WriteJSON(w, http.StatusCreated, map[string]string{"id": RequestID(r.Context())})
	}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL()+"/a/b?token=hunter2", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(RequestIDHeader, "abc.DEF_1-2")
	req.Header.Set("Authorization", "Bearer hunter2")
	resp, body := do(t, insecure(t), req)
	if resp.StatusCode != http.StatusCreated || body != "{\"id\":\"abc.DEF_1-2\"}\n" || resp.Header.Get(RequestIDHeader) != "abc.DEF_1-2" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Strict-Transport-Security": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	log := r.log.String()
	for _, want := range []string{`"request_id":"abc.DEF_1-2"`, `"path":"/a/b"`, `"status":201`, `"client_id":"c1"`, `"remote":"127.0.0.1"`, `"bytes":21`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
	if strings.Contains(log, "hunter2") || strings.Contains(log, "token") {
		t.Errorf("the log tells a secret: %s", log)
	}
}

func TestRequestIDs(t *testing.T) {
	for id, keep := range map[string]bool{
		"a": true, strings.Repeat("a", 64): true, "": false, strings.Repeat("a", 65): false, "a b": false, "a\"b": false, "ä": false, "a/b": false,
	} {
		r := &http.Request{Header: http.Header{RequestIDHeader: {id}}}
		if got := requestID(r); (got == id) != keep || !plainID(got) {
			t.Errorf("%q became %q", id, got)
		}
	}
	two := &http.Request{Header: http.Header{RequestIDHeader: {"a", "b"}}}
	if got := requestID(two); got == "a" || got == "b" {
		t.Error("one of two ids was taken")
	}
	if RequestID(context.Background()) != "" {
		t.Error("an id from nowhere")
	}
}

func TestPanics(t *testing.T) {
	var observed atomic.Int32
	cfg := plain(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, "half")
		}
		panic("the secret reason")
	})
	cfg.Observe = func(_ *http.Request, _ string, status int, _ time.Duration) { observed.Store(int32(status)) }
	r := start(t, cfg)
	resp, body := get(t, insecure(t), r.URL()+"/x")
	var p Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 500 || p.Error.Code != "internal" ||
		p.Error.TraceID != resp.Header.Get(RequestIDHeader) || p.Error.TraceID == "" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if strings.Contains(body, "secret reason") || strings.Contains(body, ".go:") {
		t.Errorf("the client sees %s", body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL()+"/half", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := insecure(t).Do(req); err == nil {
		if _, err := ReadBody(resp, 100); err == nil {
			t.Error("half an answer looks whole")
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); !strings.Contains(log, "the secret reason") || !strings.Contains(log, "server_test.go") || observed.Load() == 0 {
		t.Errorf("the log is %s", log)
	}
}

func TestPatternIsObserved(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /k/{id}", func(http.ResponseWriter, *http.Request) {})
	seen := make(chan string, 1)
	cfg := plain(mux.ServeHTTP)
	cfg.Observe = func(_ *http.Request, pattern string, status int, _ time.Duration) {
		seen <- fmt.Sprint(pattern, " ", status)
	}
	r := start(t, cfg)
	get(t, insecure(t), r.URL()+"/k/1")
	if got := <-seen; got != "GET /k/{id} 200" {
		t.Errorf("observed %q", got)
	}
}

func TestLimits(t *testing.T) {
	cfg := plain(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			WriteProblem(w, r, http.StatusRequestEntityTooLarge, "too_large", "too large")
		}
	})
	cfg.Limits = Limits{Body: 100, Header: 4096, ReadHeader: 50 * time.Millisecond}
	r := start(t, cfg)
	c := insecure(t)
	for size, want := range map[int]int{100: 200, 101: 413} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL(), strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		if resp, _ := do(t, c, req); resp.StatusCode != want {
			t.Errorf("%d bytes get %d", size, resp.StatusCode)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X", strings.Repeat("x", 20_000))
	if resp, _ := do(t, c, req); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a huge header gets %d", resp.StatusCode)
	}
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n") // and never the rest
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a slow header is waited for")
	}
}

func TestDrain(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	r := start(t, plain(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-finish
		if r.Context().Err() != nil {
			t.Error("the request was cancelled by the signal")
		}
	}))
	answer := make(chan int, 1)
	c := insecure(t)
	go func() {
		resp, err := c.Get(r.URL())
		if err != nil {
			answer <- 0
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	}()
	<-began
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	for !r.draining.Load() { // the admin listener tells it, and still answers
		get(t, c, r.AdminURL()+"/healthz")
	}
	if resp, body := get(t, c, r.AdminURL()+"/readyz"); resp.StatusCode != 503 || !strings.Contains(body, "draining") {
		t.Errorf("while draining readyz says %d %s", resp.StatusCode, body)
	}
	close(finish)
	if code := <-answer; code != 200 {
		t.Errorf("the request under way got %d", code)
	}
	if err := <-ended; err != nil {
		t.Errorf("a clean end is %v", err)
	}
}

func TestDrainIsBounded(t *testing.T) {
	began := make(chan struct{})
	cfg := plain(func(_ http.ResponseWriter, r *http.Request) { close(began); <-r.Context().Done() })
	cfg.Limits.Drain = 20 * time.Millisecond
	r := start(t, cfg)
	c := insecure(t)
	go func() {
		if resp, err := c.Get(r.URL()); err == nil {
			resp.Body.Close()
		}
	}()
	<-began
	if err := r.stop(); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("cutting requests off is %v", err)
	}
}

func TestListenErrors(t *testing.T) {
	h := http.NotFoundHandler()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ok := Listener{Address: "127.0.0.1:0", Handler: h}
	for name, cfg := range map[string]Config{
		"taken":            {Listeners: []Listener{{Address: taken.Addr().String(), Handler: h}}},
		"second taken":     {Listeners: []Listener{ok, {Name: "MTLS", Address: taken.Addr().String(), Handler: h}}},
		"not an address":   {Listeners: []Listener{{Address: "nonsense", Handler: h}}},
		"admin everywhere": {Listeners: []Listener{ok}, Admin: Admin{Address: "0.0.0.0:0"}},
		"no certificate":   {Listeners: []Listener{{Address: "127.0.0.1:0", Handler: h, TLS: &TLS{CertFile: "/nonexistent", KeyFile: "/nonexistent"}}}},
	} {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		want := fault.Config
		if strings.Contains(name, "taken") {
			want = fault.Transient // it may be free in a moment
		}
		if err := s.Run(t.Context()); fault.KindOf(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, cfg := range map[string]Config{
		"none": {}, "no handler": {Listeners: []Listener{{Address: ":0"}}},
		"no name": {Listeners: []Listener{ok, ok}}, "bad name": {Listeners: []Listener{ok, {Name: "m tls", Address: ":0", Handler: h}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	anywhere := start(t, Config{Listeners: []Listener{ok}, Admin: Admin{Address: "0.0.0.0:0", AllowAnywhere: true}})
	if !strings.HasPrefix(anywhere.AdminURL(), "http://localhost:") {
		t.Errorf("the URL is %s", anywhere.AdminURL())
	}
}

func TestFailedListenerEndsRun(t *testing.T) {
	s, err := New(plain(func(http.ResponseWriter, *http.Request) {}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.open[0].ln.Close()
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "serving http://") {
		t.Errorf("a broken listener is %v", err)
	}
}

func TestReadiness(t *testing.T) {
	told := manager(t)
	var broken atomic.Bool
	broken.Store(true)
	cfg := plain(func(http.ResponseWriter, *http.Request) {})
	cfg.Listeners = append(cfg.Listeners, Listener{Name: "MTLS", Address: "127.0.0.1:0", Handler: cfg.Listeners[0].Handler})
	cfg.Checks = []Check{{Name: "db", Func: func(context.Context) error {
		if broken.Load() {
			return errors.New("down\nREADY=1")
		}
		return nil
	}}}
	r := start(t, cfg)
	if got := told("STATUS=not ready"); strings.Contains(got, "\n") {
		t.Errorf("an error forges %q", got)
	}
	broken.Store(false)
	got := told("READY=1")
	for _, want := range []string{"X_STELLA_URL=" + r.URL(), "X_STELLA_ADMIN_URL=" + r.AdminURL(), "X_STELLA_MTLS_URL=" + r.URLOf("MTLS")} {
		if !strings.Contains(got, want+"\n") && !strings.HasSuffix(got, want) {
			t.Errorf("%q lacks %s", got, want)
		}
	}
	if r.URLOf("X") != "" {
		t.Error("an unknown listener has a URL")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	told("STOPPING=1")
}

func TestReadyWhenListening(t *testing.T) {
	told := manager(t)
	cfg := plain(func(http.ResponseWriter, *http.Request) {})
	cfg.ReadyWhenListening = true
	cfg.Checks = []Check{{Name: "db", Func: func(context.Context) error { return errors.New("the database is down") }}}
	r := start(t, cfg)
	told("READY=1")
	resp, body := get(t, insecure(t), r.AdminURL()+"/readyz")
	if resp.StatusCode != 503 || !strings.Contains(body, "the database is down") {
		t.Errorf("readyz says %d %s", resp.StatusCode, body)
	}
}

func TestSignals(t *testing.T) {
	told := manager(t)
	fail := errors.New("bad file")
	var result atomic.Pointer[error]
	level := new(slog.LevelVar)
	cfg := plain(func(http.ResponseWriter, *http.Request) {})
	cfg.Level = level
	cfg.Reload = func(context.Context) error {
		if p := result.Load(); p != nil {
			return *p
		}
		return nil
	}
	r := start(t, cfg)
	told("READY=1")
	kill := func(sig syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	kill(syscall.SIGHUP)
	told("STATUS=reloaded")
	result.Store(&fail)
	kill(syscall.SIGHUP)
	told("STATUS=reload failed")
	if !strings.Contains(r.log.String(), "keeping the old state") {
		t.Errorf("the log is %s", r.log.String())
	}
	kill(syscall.SIGUSR1)
	told("STATUS=log level DEBUG")
	if level.Level() != slog.LevelDebug {
		t.Errorf("level is %v", level.Level())
	}
	r.toggle(t.Context())
	if level.Level() != slog.LevelInfo {
		t.Errorf("level is %v", level.Level())
	}
}

func TestMetricsAndProfiles(t *testing.T) {
	cfg := plain(func(http.ResponseWriter, *http.Request) {})
	cfg.Gauge = obs.NewRegistry("test")
	cfg.Admin.Handlers = map[string]http.Handler{"GET /extra": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "more") })}
	r := start(t, cfg)
	c := insecure(t)
	for path, want := range map[string]string{
		"/metrics": "stella_build_info{", "/debug/pprof/": "goroutine", "/debug/pprof/cmdline": "test", "/extra": "more",
		"/healthz": `{"schema":"stella.health/v1","status":"ok","checks":[]}`, "/readyz": `"status":"ok"`,
	} {
		if resp, body := get(t, c, r.AdminURL()+path); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, resp.StatusCode, body)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/healthz"} {
		if _, body := get(t, c, r.URL()+path); body != "" {
			t.Errorf("%s is public", path)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.AdminURL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	if resp, _ := do(t, c, req); resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a rebound name gets %d", resp.StatusCode)
	}
}
