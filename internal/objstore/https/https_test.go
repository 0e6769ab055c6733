package https_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/https"
	"github.com/stella-ops/stella/internal/objstore/storetest"
)

// serve starts a TLS server and opens BASE of it.
func serve(t *testing.T, base string, o https.Options, h http.HandlerFunc) *https.Store {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	o.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(o.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, server.URL+base, o)
}

func open(t *testing.T, place string, o https.Options) *https.Store {
	t.Helper()
	p, err := objstore.Parse(place)
	if err != nil {
		t.Fatal(err)
	}
	s, err := https.New(p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// files serves objects as a good web server does.
func files(base string, objects map[string][]byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, ok := objects[strings.TrimPrefix(r.URL.Path, base+"/")]
		if !ok || !strings.HasPrefix(r.URL.Path, base+"/") {
			http.NotFound(w, r)
			return
		}
		sum := sha256.Sum256(data)
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sum[:8]))
		http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), bytes.NewReader(data))
	}
}

func TestStore(t *testing.T) {
	storetest.RunReader(t, func(t *testing.T, objects map[string][]byte) objstore.Reader {
		const base = "/a base/ä"
		return serve(t, "/a%20base/%C3%A4", https.Options{}, files(base, objects))
	})
}

func TestList(t *testing.T) {
	s := serve(t, "", https.Options{}, http.NotFound)
	err := s.List(t.Context(), "", func(objstore.Info) error { return nil })
	if !errors.Is(err, objstore.ErrUnsupported) || fault.KindOf(err) != fault.Input {
		t.Error(err)
	}
}

// TestPlainServer: one that knows neither ranges nor conditions.
func TestPlainServer(t *testing.T) {
	tag := `"one"`
	s := serve(t, "", https.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", tag)
		fmt.Fprint(w, "0123456789")
	})
	o := storetest.Open(t, s, "k", objstore.Get{Offset: 5, Length: 2, IfMatch: tag})
	if got := string(storetest.All(t, o)); got != "0123456789" || o.Offset != 0 {
		t.Errorf("%q at %d: want the whole from 0", got, o.Offset)
	}
	if got := string(storetest.All(t, storetest.Open(t, s, "k", objstore.Get{Length: 2}))); got != "01" {
		t.Errorf("the first two bytes are %q", got)
	}
	if _, err := s.Open(t.Context(), "k", objstore.Get{IfMatch: `"other"`}); !errors.Is(err, objstore.ErrChanged) {
		t.Errorf("If-Match: %v", err)
	}
	if _, err := s.Open(t.Context(), "k", objstore.Get{IfNoneMatch: tag}); !errors.Is(err, objstore.ErrNotModified) {
		t.Errorf("If-None-Match: %v", err)
	}
}

// TestWeakTags: they serve If-None-Match, but not If-Match or If-Range.
func TestWeakTags(t *testing.T) {
	var got http.Header
	s := serve(t, "", https.Options{}, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Header().Set("ETag", `W/"one"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	})
	o := storetest.Open(t, s, "k", objstore.Get{Offset: 5, IfMatch: `W/"one"`})
	if text := string(storetest.All(t, o)); text != "56789" || o.ETag != `W/"one"` || got.Get("If-Match") != "" || got.Get("If-Range") != "" {
		t.Errorf("%q, %+v, sent %v", text, o.Info, got)
	}
	if _, err := s.Open(t.Context(), "k", objstore.Get{IfMatch: `W/"two"`}); !errors.Is(err, objstore.ErrChanged) {
		t.Errorf("another weak tag: %v", err)
	}
	if _, err := s.Open(t.Context(), "k", objstore.Get{IfNoneMatch: `W/"one"`}); !errors.Is(err, objstore.ErrNotModified) || got.Get("If-None-Match") != `W/"one"` {
		t.Errorf("If-None-Match: %v", err)
	}
	o = storetest.Open(t, s, "k", objstore.Get{Offset: 5, IfNoneMatch: `"strong"`})
	storetest.All(t, o)
	if got.Get("If-None-Match") != `"strong"` {
		t.Errorf("sent %v", got)
	}
}

// TestAnswers: each answer has its sentinel and kind, and no body of an error
// is read without end.
func TestAnswers(t *testing.T) {
	header := func(status int, pairs ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				w.Header().Set(pairs[i], pairs[i+1])
			}
			w.WriteHeader(status)
			if status != http.StatusNotModified {
				_, _ = w.Write(bytes.Repeat([]byte("x"), 5))
			}
		}
	}
	part := func(value string) http.HandlerFunc { return header(206, "Content-Range", value) }
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		why  error
		kind fault.Kind
		says string
	}{
		"control":          {part("bytes 5-9/10"), nil, fault.None, ""},
		"401":              {header(401), objstore.ErrDenied, fault.Denied, "HTTP 401"},
		"403":              {header(403), objstore.ErrDenied, fault.Denied, "HTTP 403"},
		"404":              {header(404), objstore.ErrNotFound, fault.NotFound, "HTTP 404"},
		"410":              {header(410), objstore.ErrNotFound, fault.NotFound, "HTTP 410"},
		"408":              {header(408), objstore.ErrTransient, fault.Transient, "HTTP 408"},
		"429":              {header(429), objstore.ErrTransient, fault.Transient, "HTTP 429"},
		"500":              {header(500), objstore.ErrTransient, fault.Transient, "HTTP 500"},
		"503":              {header(503), objstore.ErrTransient, fault.Transient, "HTTP 503"},
		"400":              {header(400), nil, fault.Unclassified, "unexpected answer: HTTP 400"},
		"501":              {header(501), nil, fault.Unclassified, "HTTP 501"},
		"304 unasked":      {header(304), nil, fault.Unclassified, "HTTP 304"},
		"redirect":         {header(302, "Location", "https://evil.example/x?token=s3cret"), objstore.ErrRedirect, fault.Trust, "https://evil.example/x"},
		"redirect to pass": {header(301, "Location", "https://u:s3cret@evil.example/x"), objstore.ErrRedirect, fault.Trust, "https://evil.example/x"},
		"redirect nowhere": {header(307), objstore.ErrRedirect, fault.Trust, "nowhere"},
		"other start":      {part("bytes 4-8/10"), objstore.ErrTransient, fault.Transient, "other bytes"},
		"other length":     {part("bytes 5-8/10"), objstore.ErrTransient, fault.Transient, "other bytes"},
		"no range":         {part(""), objstore.ErrTransient, fault.Transient, "Content-Range"},
		"range beyond":     {part("bytes 5-9/9"), objstore.ErrTransient, fault.Transient, "Content-Range"},
		"range not a unit": {part("lines 5-9/10"), objstore.ErrTransient, fault.Transient, "Content-Range"},
		"multipart":        {header(206, "Content-Type", "multipart/byteranges; boundary=x"), objstore.ErrTransient, fault.Transient, "Content-Range"},
		"gzip":             {header(200, "Content-Encoding", "gzip"), nil, fault.Trust, "Content-Encoding"},
		"long error": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			for sent := 0; r.Context().Err() == nil; sent += 8 << 10 {
				if _, err := w.Write(make([]byte, 8<<10)); err != nil {
					return
				}
				if sent > 64<<20 { // more than all buffers between
					t.Error("an error body is read without end")
					return
				}
			}
		}, objstore.ErrTransient, fault.Transient, "HTTP 503"},
		"hang up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, objstore.ErrTransient, fault.Transient, "EOF"},
	} {
		s := serve(t, "", https.Options{}, c.h)
		o, err := s.Open(t.Context(), "k", objstore.Get{Offset: 5})
		if err == nil {
			o.Body.Close()
		}
		said := strings.Join(append(fault.HintsOf(err), fmt.Sprint(err)), "\n")
		if c.why != nil && !errors.Is(err, c.why) || fault.KindOf(err) != c.kind || !strings.Contains(said, c.says) || strings.Contains(said, "s3cret") {
			t.Errorf("%s: %v (%v)", name, err, fault.KindOf(err))
		}
	}
}

// TestCutBodies: a body that ends too soon, or goes on, is no whole object.
func TestCutBodies(t *testing.T) {
	part := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-9/10")
			w.WriteHeader(206)
			_ = http.NewResponseController(w).Flush() // so it comes in chunks
			fmt.Fprint(w, text)
		}
	}
	for name, c := range map[string]struct {
		write func(w http.ResponseWriter)
		cut   bool
	}{
		"part too short": {part("01234"), true},
		"part too long":  {part("0123456789more"), false}, // what is more is not read
		"control part":   {part("0123456789"), false},
		"with a length": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "01234")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, true},
		"in chunks": {func(w http.ResponseWriter) {
			fmt.Fprint(w, "01234")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, true},
		"control": {func(w http.ResponseWriter) {
			fmt.Fprint(w, "01234")
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, "56789")
		}, false},
	} {
		s := serve(t, "", https.Options{}, func(w http.ResponseWriter, _ *http.Request) { c.write(w) })
		o := storetest.Open(t, s, "k", objstore.Get{Length: 10})
		var got bytes.Buffer
		_, err := got.ReadFrom(o.Body)
		o.Body.Close()
		if errors.Is(err, objstore.ErrTransient) != c.cut || !c.cut && got.String() != "0123456789" || fault.KindOf(err) == fault.Unclassified {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
	}
}

// TestAuthorize: credentials are those of the caller, asked for each request.
func TestAuthorize(t *testing.T) {
	boom := errors.New("no token")
	var fail error
	s := serve(t, "", https.Options{Authorize: func(r *http.Request) error {
		r.SetBasicAuth("user", "s3cret")
		return fail
	}}, func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "user" || pass != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, r.UserAgent())
	})
	if got := string(storetest.All(t, storetest.Open(t, s, "k", objstore.Get{}))); !strings.HasPrefix(got, "stella/") {
		t.Errorf("served to %q", got)
	}
	fail = boom
	if _, err := s.Open(t.Context(), "k", objstore.Get{}); !errors.Is(err, boom) {
		t.Errorf("without a token: %v", err)
	}
}

// TestStrangers: a server that nobody vouches for, and none at all.
func TestStrangers(t *testing.T) {
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	defer stranger.Close()
	_, err := open(t, stranger.URL, https.Options{}).Open(t.Context(), "k", objstore.Get{})
	if fault.KindOf(err) != fault.Trust || errors.Is(err, objstore.ErrTransient) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown CA: %v (%v)", err, fault.KindOf(err))
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	url := gone.URL
	gone.Close()
	if _, err := open(t, url, https.Options{}).Open(t.Context(), "k", objstore.Get{}); !errors.Is(err, objstore.ErrTransient) || fault.KindOf(err) != fault.Transient {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := open(t, "https://name.invalid", https.Options{}).Open(t.Context(), "k", objstore.Get{}); !errors.Is(err, objstore.ErrTransient) {
		t.Errorf("no such name: %v", err)
	}
	for _, p := range []objstore.Place{{Scheme: objstore.S3, Host: "bucket"}, {Scheme: objstore.HTTP, Host: "example.com"}, {}} {
		if _, err := https.New(p, https.Options{}); fault.KindOf(err) != fault.Input {
			t.Errorf("%+v: %v", p, err)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{bad, bad + ".missing"} {
		if _, err := https.New(objstore.Place{Scheme: objstore.HTTPS, Host: "h"}, https.Options{CAFile: file}); fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", file, err)
		}
	}
}
