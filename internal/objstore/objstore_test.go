package objstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

var places = map[string]objstore.Place{
	"s3://bucket":                    {Scheme: objstore.S3, Host: "bucket"},
	"s3://bucket/":                   {Scheme: objstore.S3, Host: "bucket"},
	"s3://my.bucket-1/pre fix/ä%20/": {Scheme: objstore.S3, Host: "my.bucket-1", Path: "pre fix/ä%20"},
	"https://host":                   {Scheme: objstore.HTTPS, Host: "host"},
	"https://host:8443/base/x":       {Scheme: objstore.HTTPS, Host: "host:8443", Path: "base/x"},
	"https://host/a%20b/":            {Scheme: objstore.HTTPS, Host: "host", Path: "a b"},
	"http://127.0.0.1:1/x":           {Scheme: objstore.HTTP, Host: "127.0.0.1:1", Path: "x"},
	"http://[::1]:1":                 {Scheme: objstore.HTTP, Host: "[::1]:1"},
	"http://localhost/x":             {Scheme: objstore.HTTP, Host: "localhost", Path: "x"},
	"file:///":                       {Scheme: objstore.File, Path: "/"},
	"file:///srv/mirror":             {Scheme: objstore.File, Path: "/srv/mirror"},
	"file:///srv/a%20b/":             {Scheme: objstore.File, Path: "/srv/a b"},
}

func TestParse(t *testing.T) {
	for raw, want := range places {
		got, err := objstore.Parse(raw)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
		if text := got.String(); text != raw && text+"/" != raw {
			t.Errorf("%s: written as %s", raw, text)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for raw, says := range map[string]string{
		"": "no scheme", "bucket/prefix": "no scheme", "/srv/mirror": "no scheme", "ftp://host/x": "unknown scheme", "S3://bucket": "unknown scheme",
		"s3://": "no bucket", "s3:///prefix": "no bucket", "s3://Bucket": "no bucket", "s3://b": "no bucket", "s3://a..b": "no bucket", "s3://bucket:80/x": "no bucket",
		"s3://bucket//x": "empty path element", "s3://bucket/../x": "path element ..", "s3://bucket/a\nb": "unprintable",
		"s3://key:s3cret@bucket/x": "user name or password", "https://u:s3cret@host/x": "user name or password", "file://u:s3cret@/x": "user name or password",
		"https://host/x?sig=s3cret": "query or fragment", "https://host/x#s3cret": "query or fragment", "s3://bucket/x?versionId=s3cret": "query or fragment",
		"file:///x?s3cret": "query or fragment", "https://": "no host", "https:///x": "no host", "https://:443/x": "no host", "https://host/a//b": "empty path element",
		"https://host/a/../b": "path element ..", "https://host/%2e%2e/b": "path element ..", "https://host/a%2Fb": "one way", "https://host/%zz": "not a URL",
		"https://host/a%00b": "unprintable", "http://example.com/x": "loopback", "http://127.0.0.1.example.com/": "loopback", "http://10.0.0.1/": "loopback",
		"file://srv/mirror": "absolute", "file://localhost/srv": "absolute", "file:///srv/../etc": "path element ..", "file:///srv//x": "empty path element",
		"file:///a b": "one way", "file://x": "absolute", "https://host/" + strings.Repeat("x", 3000): "longer than",
	} {
		p, err := objstore.Parse(raw)
		if err == nil || fault.KindOf(err) != fault.Input {
			t.Errorf("%q: %+v, %v", raw, p, err)
			continue
		}
		said := err.Error() + strings.Join(fault.HintsOf(err), "\n")
		if !strings.Contains(said, says) || strings.Contains(said, "s3cret") || len(said) > 2000 || strings.Contains(said, "\n") {
			t.Errorf("%q: %s", raw, said)
		}
	}
}

// FuzzParse: what is accepted has one spelling, but for one slash at the end.
func FuzzParse(f *testing.F) {
	for raw := range places {
		f.Add(raw)
	}
	f.Add("https://u:p@h/a?b#c")
	f.Add("s3://bucket/a%2Fb")
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := objstore.Parse(raw)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Errorf("%q: kind %v", raw, fault.KindOf(err))
			}
			return
		}
		text := p.String()
		if text != raw && text+"/" != raw {
			t.Errorf("%q is written as %q", raw, text)
		}
		if again, err := objstore.Parse(text); err != nil || again != p {
			t.Errorf("%q: read again as %+v, %v", text, again, err)
		}
	})
}

// TestErrors: kinds, and texts that can be printed whatever the key is.
func TestErrors(t *testing.T) {
	cause := errors.New("because")
	for why, kind := range map[error]fault.Kind{
		objstore.ErrNotFound: fault.NotFound, objstore.ErrNotModified: fault.Unclassified, objstore.ErrChanged: fault.Transient, objstore.ErrRange: fault.Unclassified,
		objstore.ErrDenied: fault.Denied, objstore.ErrTransient: fault.Transient, objstore.ErrKey: fault.Input, objstore.ErrIrregular: fault.Trust,
		objstore.ErrUnsupported: fault.Input, objstore.ErrOffline: fault.Offline, objstore.ErrRedirect: fault.Trust,
	} {
		err := objstore.Fail(objstore.OpRead, "s3://b/p", "a\x1b"+strings.Repeat("k", 5000), why, cause)
		if !errors.Is(err, why) || !errors.Is(err, cause) || fault.KindOf(err) != kind || len(err.Error()) > 400 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%v: %v (%v)", why, err, fault.KindOf(err))
		}
	}
}

func TestOffline(t *testing.T) {
	p, err := objstore.Parse("https://mirror.example/x")
	if err != nil {
		t.Fatal(err)
	}
	r := objstore.Offline(p)
	_, get := r.Open(context.Background(), "k", objstore.Get{})
	list := r.List(context.Background(), "", func(objstore.Info) error { return nil })
	for _, err := range []error{get, list} {
		if !errors.Is(err, objstore.ErrOffline) || fault.KindOf(err) != fault.Offline || len(fault.HintsOf(err)) == 0 || !strings.Contains(err.Error(), "https://mirror.example/x") {
			t.Errorf("%v (%v)", err, fault.KindOf(err))
		}
	}
	if r.Place() != p.String() {
		t.Error(r.Place())
	}
}
