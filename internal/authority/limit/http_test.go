package limit

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/httpd"
)

// server answers 200 to whom the limiter lets in.
func server(t *testing.T, o Options) *httptest.Server {
	t.Helper()
	l := New(o)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		if l.Allow(w, r, Token, httpd.RemoteAddr(r, trusted), r.Header.Get("Registered")) {
			w.WriteHeader(http.StatusOK)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func call(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// TestAnswer: what a refused caller, a cache and the log get to see.
func TestAnswer(t *testing.T) {
	var log bytes.Buffer
	s := server(t, Options{Rules: fixed(three()), Now: newClock(noon()).Now, Log: slog.New(slog.NewJSONHandler(&log, nil))})
	for range 3 {
		if resp, _ := call(t, "POST", s.URL+"/token", "Registered", "ci"); resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	if log.Len() != 0 {
		t.Fatal(log.String())
	}
	resp, body := call(t, "POST", s.URL+"/token?client_secret=hunter2", "Registered", "ci")
	if resp.StatusCode != http.StatusTooManyRequests {
		t.Fatal(resp.Status)
	}
	for name, want := range map[string]string{"Retry-After": "60", "Cache-Control": "no-store", "Content-Type": "application/json"} {
		if got := resp.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	want := `{"error":"rate_limit_exceeded","error_description":"too many requests; come back after the time in Retry-After"}` + "\n"
	if body != want {
		t.Error(body)
	}
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatal(err, log.String())
	}
	for name, want := range map[string]string{
		"msg": "Rate limit exceeded for path {Path} from {RemoteIp}", "level": "WARN", "Path": "/token", "RemoteIp": "127.0.0.1",
		"authority.endpoint": "token", "authority.client_id": "ci", "authority.remote_ip": "127.0.0.1",
	} {
		if line[name] != want {
			t.Errorf("%s: %v", name, line[name])
		}
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Error(log.String())
	}
}

// TestDodge: no way of writing the request gets a new budget, while another
// registered client does.
func TestDodge(t *testing.T) {
	s := server(t, Options{Rules: fixed(three()), Now: newClock(noon()).Now})
	for range 3 {
		call(t, "POST", s.URL+"/token")
	}
	for name, c := range map[string]struct {
		method, path string
		header       []string
	}{
		"again":         {"POST", "/token", nil},
		"HEAD":          {"HEAD", "/token", nil},
		"case":          {"POST", "/TOKEN", nil},
		"slash":         {"POST", "/token/", nil},
		"two slashes":   {"POST", "//token", nil},
		"query":         {"POST", "/token?x=1", nil},
		"XFF":           {"POST", "/token", []string{"X-Forwarded-For", "8.8.8.8"}},
		"XFF twice":     {"POST", "/token", []string{"X-Forwarded-For", "8.8.8.8", "X-Forwarded-For", "10.0.0.1"}},
		"Forwarded":     {"POST", "/token", []string{"Forwarded", "for=8.8.8.8"}},
		"X-Real-IP":     {"POST", "/token", []string{"X-Real-IP", "8.8.8.8"}},
		"authorization": {"POST", "/token", []string{"Authorization", "Basic eDp5"}},
	} {
		if resp, _ := call(t, c.method, s.URL+c.path, c.header...); resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if resp, _ := call(t, "POST", s.URL+"/token", "Registered", "ci"); resp.StatusCode != http.StatusOK {
		t.Errorf("a registered client: %s", resp.Status)
	}
}

// TestAnswerOfEnded: a request that ends before it is decided is not let in.
func TestAnswerOfEnded(t *testing.T) {
	l := New(Options{Rules: fixed(three()), Now: newClock(noon()).Now})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, want := range []bool{true, false} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, "POST", "/token", nil)
		if got := l.Allow(w, r, Token, home, ""); got != want || !want && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%v, %d", got, w.Code)
		}
		cancel()
	}
}

// TestLongPath: a path of the caller's choice does not fill the log.
func TestLongPath(t *testing.T) {
	var log bytes.Buffer
	l := New(Options{Rules: fixed(Rules{Token: {Enabled: true, PermitLimit: 1, Window: maxWindow}}), Now: newClock(noon()).Now, Log: slog.New(slog.NewJSONHandler(&log, nil))})
	for range 2 {
		l.Allow(httptest.NewRecorder(), httptest.NewRequest("POST", "/"+strings.Repeat("x", 10_000), nil), Token, home, "")
	}
	if log.Len() == 0 || log.Len() > 1000 {
		t.Errorf("%d bytes of log", log.Len())
	}
}
