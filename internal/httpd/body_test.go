package httpd

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

func TestClientBounds(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/plain/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, strings.Repeat("a", n))
	})
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, strings.Repeat("a", 1<<20))
		_ = z.Close()
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/plain/1", http.StatusFound) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c, err := Client(ClientOptions{Loopback: true, MaxBody: 1000, NoRedirect: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	read := func(path string) (*http.Response, int, error) {
		resp, err := c.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return resp, len(data), err
	}
	if _, n, err := read("/plain/1000"); n != 1000 || err != nil {
		t.Errorf("control: %d bytes, %v", n, err)
	}
	for _, path := range []string{"/plain/1001", "/plain/1000000", "/bomb"} {
		if _, n, err := read(path); n > 1000 || !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %d bytes, %v", path, n, err)
		}
	}
	if _, _, err := read("/cut"); !errors.As(err, new(*CutError)) {
		t.Errorf("a body that was cut: %v", err)
	}
	if resp, _, _ := read("/away"); resp.StatusCode != http.StatusFound {
		t.Errorf("a redirect was followed: %s", resp.Status)
	}
}

func TestClientProxy(t *testing.T) {
	for _, no := range []bool{false, true} {
		c, err := Client(ClientOptions{NoProxy: no})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Transport.(*guard).next.Proxy == nil; got != no {
			t.Errorf("NoProxy %v: no proxy %v", no, got)
		}
	}
}
