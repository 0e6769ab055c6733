package httpd

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

func TestClientSchemes(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.UserAgent())
	}))
	defer srv.Close()
	strict, err := Client(ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strict.Get(srv.URL + "/?secret=1"); fault.KindOf(err) != fault.Config {
		t.Errorf("plain http is %v", err)
	}
	loop, err := Client(ClientOptions{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.CloseIdleConnections()
	if _, body := get(t, loop, srv.URL); !strings.HasPrefix(body, "stella/") {
		t.Errorf("user agent is %q", body)
	}
	for _, u := range []string{"http://authority.example/", "http://10.0.0.1/", "http://127.0.0.1.evil.example/", "file:///etc/passwd", "ftp://127.0.0.1/"} {
		if _, err := loop.Get(u); fault.KindOf(err) != fault.Config {
			t.Errorf("%s is %v", u, err)
		}
	}
}

func TestClientRedirects(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other host was asked") }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "there") })
	mux.HandleFunc("/once", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c := insecure(t)
	if _, body := get(t, c, srv.URL+"/once"); body != "there" {
		t.Errorf("got %q", body)
	}
	for path, want := range map[string]string{"/loop": "more than 3 redirects", "/away": "another origin"} {
		if _, err := c.Get(srv.URL + path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestClientTimeout(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-release // the body never comes
	}))
	defer srv.Close()
	defer close(release)
	c, err := Client(ClientOptions{AllowHTTP: true, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Get(srv.URL)
	if err == nil {
		_, err = ReadBody(resp, 100)
	}
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a body that never comes is %v", err)
	}
	if u, ok := errors.AsType[*url.Error](err); ok && u.Op == "" {
		t.Errorf("%v", u)
	}
}

func TestReadBody(t *testing.T) {
	for length, ok := range map[int]bool{0: true, 10: true, 11: false} {
		for _, declared := range []int64{-1, int64(length)} {
			resp := &http.Response{Body: io.NopCloser(strings.NewReader(strings.Repeat("x", length))), ContentLength: declared}
			data, err := ReadBody(resp, 10)
			if (err == nil) != ok || ok && len(data) != length {
				t.Errorf("%d bytes, declared %d: %d, %v", length, declared, len(data), err)
			}
		}
	}
	broken := &http.Response{Body: io.NopCloser(io.MultiReader(strings.NewReader("x"), failing{})), ContentLength: -1}
	if _, err := ReadBody(broken, 10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut body is %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestWriteProblem(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("ETag", `"x"`)
	w.Header().Set("Content-Type", "application/jwk-set+json")
	WriteProblem(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), 404, "not_found", "no <such> key")
	if w.Code != 404 || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("ETag") != "" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if want := `{"error":{"code":"not_found","message":"no \u003csuch\u003e key","trace_id":""}}` + "\n"; w.Body.String() != want {
		t.Errorf("body is %s", w.Body)
	}
	defer func() {
		if recover() == nil {
			t.Error("an answer that cannot be encoded is written")
		}
	}()
	WriteJSON(httptest.NewRecorder(), 200, map[string]any{"f": func() {}})
}
