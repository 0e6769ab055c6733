package s3_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/s3"
)

// fake answers in place of S3.
func fake(t *testing.T, h http.HandlerFunc) *s3.Store {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return store(t, "s3://bucket/p", s3.Options{Endpoint: server.URL, PathStyle: true, Credentials: s3.Static("AKIAKEY", "s3cret", "s3ssion")}.Impatient())
}

// contents is a page of a listing.
func contents(more string, keys ...string) string {
	var b strings.Builder
	if !strings.Contains(more, "IsTruncated") {
		more += "<IsTruncated>false</IsTruncated>"
	}
	b.WriteString(`<ListBucketResult><Name>bucket</Name>` + more)
	for _, key := range keys {
		fmt.Fprintf(&b, `<Contents><Key>%s</Key><Size>%d</Size><ETag>"x"</ETag></Contents>`, key, len(key)%2)
	}
	return b.String() + `</ListBucketResult>`
}

const more = `<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>`

// TestListings: one that is not as S3's is an error; what was given before it
// was in order.
func TestListings(t *testing.T) {
	odd, long := strings.Repeat("k", 5001), strings.Repeat("k/", 500)
	for name, c := range map[string]struct {
		body string
		kind fault.Kind
		want string // keys given
	}{
		"control":         {contents("", "p/a", "p/b"), fault.None, "a b"},
		"escaped":         {contents("<EncodingType>url</EncodingType>", "p/a+b", "p/a%2Bb", "p/%C3%A4"), fault.None, "a b a+b ä"},
		"folders":         {contents("", "p/", "p/aa", "p/d/", "p/d/x"), fault.None, "aa d/x"},
		"empty":           {contents(""), fault.None, ""},
		"out of order":    {contents("", "p/b", "p/a"), fault.Trust, "b"},
		"twice":           {contents("", "p/a", "p/a"), fault.Trust, "a"},
		"outside":         {contents("", "p/a", "q/b"), fault.Trust, "a"},
		"not encoded":     {contents("<EncodingType>url</EncodingType>", "p/%zz"), fault.Trust, ""},
		"same page again": {contents(more, "p/a"), fault.Trust, "a"},
		"empty and more":  {contents(more), fault.Trust, ""},
		"more without":    {contents(`<IsTruncated>true</IsTruncated>`, "p/a"), fault.Trust, "a"},
		"dots":            {contents("", "p/../../etc/passwd"), fault.Trust, ""},
		"double slash":    {contents("", "p/a//b"), fault.Trust, ""},
		"full folder":     {contents("", "p/dd/"), fault.Trust, ""},
		"escape":          {contents("<EncodingType>url</EncodingType>", "p/%1B%5B2J"), fault.Trust, ""},
		"5,001 bytes":     {contents("", "p/"+odd), fault.Trust, ""},
		"deep":            {contents("", "p/"+long+"x"), fault.Trust, ""},
		"no more or end":  {`<ListBucketResult><Name>bucket</Name></ListBucketResult>`, fault.Transient, ""},
		"no XML":          {"hello", fault.Transient, ""},
		"half":            {contents("", "p/a")[:110], fault.Transient, ""},
		"other XML":       {"<html><body>login</body></html>", fault.Transient, ""},
		"nothing":         {"", fault.Transient, ""},
		"too long":        {contents("", "p/a"+strings.Repeat(" ", 20<<20)), fault.Transient, ""},
	} {
		s := fake(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, c.body) })
		var got []string
		err := s.List(t.Context(), "", func(i objstore.Info) error { got = append(got, i.Key); return nil })
		if fault.KindOf(err) != c.kind || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v (%v)", name, got, err, fault.KindOf(err))
		}
		if err != nil && (len(err.Error()) > 900 || strings.ContainsAny(err.Error(), "\x1b\n")) {
			t.Errorf("%s: not printable: %q", name, err)
		}
	}
}

// TestEmptyPages: a few are passed over, but not without end.
func TestEmptyPages(t *testing.T) {
	for name, c := range map[string]struct {
		empty int32
		kind  fault.Kind
	}{"control": {20, fault.None}, "endless": {1 << 30, fault.Trust}} {
		var calls atomic.Int32
		s := fake(t, func(w http.ResponseWriter, r *http.Request) {
			n := calls.Add(1)
			if n > c.empty {
				fmt.Fprint(w, contents("", "p/a"))
				return
			}
			fmt.Fprint(w, contents(fmt.Sprintf(`<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>`, n)))
		})
		keys := 0
		err := s.List(t.Context(), "", func(objstore.Info) error { keys++; return nil })
		if fault.KindOf(err) != c.kind || (keys == 1) != (err == nil) || calls.Load() > 200 {
			t.Errorf("%s: %d keys after %d calls, %v", name, keys, calls.Load(), err)
		}
	}
}

// TestTries: Open asks once, the others three times, and what they say then.
func TestTries(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		why    error
		calls  int32 // of List, Put and Delete
	}{
		"503":      {503, "SlowDown", objstore.ErrTransient, 3},
		"500":      {500, "InternalError", objstore.ErrTransient, 3},
		"500 bare": {500, "", objstore.ErrTransient, 3},
		"403":      {403, "AccessDenied", objstore.ErrDenied, 1},
		"403 bare": {403, "", objstore.ErrDenied, 1},
		"skew":     {403, "RequestTimeTooSkewed", objstore.ErrDenied, 1},
		"expired":  {400, "ExpiredToken", objstore.ErrDenied, 1},
		"no code":  {403, "s3cret and more", objstore.ErrDenied, 1},
		"redirect": {307, "TemporaryRedirect", objstore.ErrRedirect, 1},
	} {
		var calls atomic.Int32
		s := fake(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(c.status)
			if c.code != "" {
				fmt.Fprintf(w, "<Error><Code>%s</Code><Message>AKIAKEY s3cret s3ssion %s</Message></Error>", c.code, r.Header.Get("Authorization"))
			}
		})
		check := func(op string, err error, want int32) {
			t.Helper()
			said := strings.Join(append(fault.HintsOf(err), errText(err)), "\n")
			if !errors.Is(err, c.why) || calls.Load() != want || !strings.Contains(said, "s3://bucket/p") {
				t.Errorf("%s: %s: %v after %d calls, want %d", name, op, err, calls.Load(), want)
			}
			if strings.Contains(said, "s3cret") || strings.Contains(said, "s3ssion") || strings.Contains(said, "AKIAKEY") {
				t.Errorf("%s: %s holds a credential: %s", name, op, said)
			}
			calls.Store(0)
		}
		_, err := s.Open(t.Context(), "k", objstore.Get{})
		check("Open", err, 1)
		_, err = s.Put(t.Context(), "k", strings.NewReader("x"), 1)
		check("Put", err, c.calls)
		check("Delete", s.Delete(t.Context(), "k"), c.calls)
		check("List", s.List(t.Context(), "", func(objstore.Info) error { return nil }), c.calls)
	}
}

// TestPutAgain: a Put that is tried again sends the same bytes, with their sum.
func TestPutAgain(t *testing.T) {
	var calls atomic.Int32
	s := fake(t, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		sum := sha256.Sum256([]byte("wanted"))
		if err != nil || string(data) != "wanted" || r.Header.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Errorf("call %d: %q, %v, %v", calls.Load(), data, r.Header, err)
		}
		if calls.Add(1) < 3 {
			w.WriteHeader(503)
		}
	})
	body := strings.NewReader("skipped wanted")
	if _, err := body.Seek(8, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "k", body, 6); err != nil || calls.Load() != 3 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
}

// TestRegion: a bucket elsewhere is a matter of configuration, and said so.
func TestRegion(t *testing.T) {
	s := fake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", "eu-west-9")
		w.WriteHeader(301)
		fmt.Fprint(w, "<Error><Code>PermanentRedirect</Code><Endpoint>evil.example</Endpoint></Error>")
	})
	_, get := s.Open(t.Context(), "k", objstore.Get{})
	list := s.List(t.Context(), "", func(objstore.Info) error { return nil })
	for _, err := range []error{get, list} {
		if fault.KindOf(err) != fault.Config || !strings.Contains(err.Error(), "eu-west-9") {
			t.Errorf("%v (%v)", err, fault.KindOf(err))
		}
	}
}

// TestGone: the error of a server that is not there, by either path.
func TestGone(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	url := server.URL
	server.Close()
	s := store(t, "s3://bucket/p", s3.Options{Endpoint: url, PathStyle: true, Credentials: s3.Anonymous()}.Impatient())
	_, get := s.Open(t.Context(), "k", objstore.Get{})
	_, put := s.Put(t.Context(), "k", strings.NewReader("x"), 1)
	for _, err := range []error{get, put} {
		if !errors.Is(err, objstore.ErrTransient) || fault.KindOf(err) != fault.Transient {
			t.Errorf("%v (%v)", err, fault.KindOf(err))
		}
	}
}

// TestOptions: what cannot work is refused before any request.
func TestOptions(t *testing.T) {
	p := objstore.Place{Scheme: objstore.S3, Host: "bucket"}
	keys := s3.Static("a", "b", "")
	for name, c := range map[string]struct {
		place objstore.Place
		o     s3.Options
		kind  fault.Kind
	}{
		"control":     {p, s3.Options{Region: "eu-west-1", Credentials: keys}, fault.None},
		"loopback":    {p, s3.Options{Endpoint: "http://127.0.0.1:1", Credentials: keys}, fault.None},
		"not S3":      {objstore.Place{Scheme: objstore.File, Path: "/x"}, s3.Options{}, fault.Input},
		"plain http":  {p, s3.Options{Endpoint: "http://s3.example", Credentials: keys}, fault.Config},
		"password":    {p, s3.Options{Endpoint: "https://u:s3cret@s3.example", Credentials: keys}, fault.Config},
		"path":        {p, s3.Options{Endpoint: "https://s3.example/x", Credentials: keys}, fault.Config},
		"query":       {p, s3.Options{Endpoint: "https://s3.example/?s3cret", Credentials: keys}, fault.Config},
		"odd region":  {p, s3.Options{Region: "eu/../x", Credentials: keys}, fault.Config},
		"missing CAs": {p, s3.Options{Region: "eu-west-1", CAFile: "missing", Credentials: keys}, fault.Config},
	} {
		_, err := s3.Open(t.Context(), c.place, c.o)
		if fault.KindOf(err) != c.kind || strings.Contains(errText(err), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoCredentials: the SDK's sources are asked, and what is missing is said.
func TestNoCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	o := options()
	o.Credentials = nil
	s := store(t, "s3://bucket/p", o)
	_, get := s.Open(t.Context(), "k", objstore.Get{})
	list := s.List(t.Context(), "", func(objstore.Info) error { return nil })
	for _, err := range []error{get, list} {
		if !errors.Is(err, objstore.ErrDenied) || !strings.Contains(err.Error(), "no AWS credentials") || !strings.Contains(strings.Join(fault.HintsOf(err), " "), "AWS_ACCESS_KEY_ID") {
			t.Errorf("%v (%v)", err, fault.KindOf(err))
		}
	}
	// The control: the same sources with something in them.
	t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	if _, err := store(t, "s3://no-such-bucket-here/p", o).Open(t.Context(), "k", objstore.Get{}); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("with credentials: %v", err)
	}
}
