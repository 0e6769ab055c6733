package s3_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/objstore/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objstore.Store { return fresh(t) })
}

// TestStoreAtRoot: without a prefix, keys are those of the bucket.
func TestStoreAtRoot(t *testing.T) {
	s := fresh(t)
	root := store(t, "s3://"+s.Bucket(), options())
	storetest.Put(t, root, "a", []byte("1"))
	storetest.Put(t, s, "b", []byte("2"))
	var keys []string
	if err := root.List(t.Context(), "", func(i objstore.Info) error { keys = append(keys, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	if strings.Join(keys, " ") != "a pre fix/ä/b" {
		t.Errorf("keys %q", keys)
	}
	if got := storetest.All(t, storetest.Open(t, root, "pre fix/ä/b", objstore.Get{})); string(got) != "2" {
		t.Errorf("got %q", got)
	}
}

// options are those of the root user.
func options() s3.Options {
	return s3.Options{Endpoint: server.Endpoint, PathStyle: true, Region: server.Region, Credentials: s3.Static(server.AccessKey, server.SecretKey, "")}
}

// TestRealServer is TestStore on the server of STELLA_TEST_S3_ENDPOINT, in the
// bucket of STELLA_TEST_S3_BUCKET and with the credentials that the SDK finds.
func TestRealServer(t *testing.T) {
	endpoint, bucket := os.Getenv("STELLA_TEST_S3_ENDPOINT"), os.Getenv("STELLA_TEST_S3_BUCKET")
	if endpoint == "" || bucket == "" {
		t.Skip("STELLA_TEST_S3_ENDPOINT and STELLA_TEST_S3_BUCKET name no server")
	}
	storetest.Run(t, func(t *testing.T) objstore.Store {
		s := store(t, "s3://"+bucket+"/stella-test/"+rand.Text(), s3.Options{Endpoint: endpoint, PathStyle: os.Getenv("STELLA_TEST_S3_HOST_STYLE") == ""})
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			if err := s.List(ctx, "", func(i objstore.Info) error { return s.Delete(ctx, i.Key) }); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

// TestParts: a Put in parts is whole, and one that fails leaves the old object
// and no parts.
func TestParts(t *testing.T) {
	s := fresh(t)
	s.SetParts(6<<20, 5<<20) // S3 wants at least 5 MiB
	data := bytes.Repeat([]byte("0123456789abcdef"), 12<<20/16)
	data = append(data, "tail"...)
	info := storetest.Put(t, s, "k", data)
	if !strings.HasSuffix(info.ETag, `-3"`) {
		t.Errorf("tag %s: not of three parts", info.ETag)
	}
	if got := storetest.All(t, storetest.Open(t, s, "k", objstore.Get{IfMatch: info.ETag})); !bytes.Equal(got, data) {
		t.Errorf("%d bytes, want %d", len(got), len(data))
	}
	for name, size := range map[string]int{"short": len(data) + 1, "long": len(data) - 1} {
		if _, err := s.Put(t.Context(), "k", bytes.NewReader(data), int64(size)); fault.KindOf(err) != fault.Input {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	body := &cancelAt{Reader: *bytes.NewReader(data), at: 7 << 20, cancel: cancel}
	if _, err := s.Put(ctx, "k", body, int64(len(data))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled between parts: %v", err)
	}
	if got := storetest.All(t, storetest.Open(t, s, "k", objstore.Get{})); !bytes.Equal(got, data) {
		t.Error("a Put that failed changed the object")
	}
	if n, err := s.Uploads(t.Context()); n != 0 || err != nil {
		t.Errorf("%d uploads left open, %v", n, err)
	}
}

// cancelAt ends a context when it is read that far.
type cancelAt struct {
	bytes.Reader
	at     int64
	cancel func()
}

func (c *cancelAt) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.Size()-int64(c.Len()) > c.at {
		c.cancel()
	}
	return n, err
}

// TestDenied: wrong credentials, a user without rights and no credentials are
// told apart from a missing object, and no secret is in what is said.
func TestDenied(t *testing.T) {
	s := fresh(t)
	storetest.Put(t, s, "k", []byte("x"))
	other, err := server.AddUser()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		access, secret string
		hint           string
	}{
		"wrong secret": {server.AccessKey, "wrong-secret-1234", "does not accept the credentials"},
		"unknown key":  {"AKIAUNKNOWN", "wrong-secret-1234", "does not accept the credentials"},
		"no right":     {other.AccessKey, other.SecretKey, "allow these credentials"},
	} {
		o := options()
		o.Credentials = s3.Static(c.access, c.secret, "")
		d := store(t, s.Place(), o)
		_, get := d.Open(t.Context(), "k", objstore.Get{})
		list := d.List(t.Context(), "", func(objstore.Info) error { return nil })
		_, put := d.Put(t.Context(), "k", strings.NewReader("y"), 1)
		del := d.Delete(t.Context(), "k")
		for op, err := range map[string]error{"get": get, "list": list, "put": put, "delete": del} {
			said := strings.Join(append(fault.HintsOf(err), errText(err)), "\n")
			if !errors.Is(err, objstore.ErrDenied) || fault.KindOf(err) != fault.Denied || !strings.Contains(said, c.hint) {
				t.Errorf("%s, %s: %v, hints %q", name, op, err, fault.HintsOf(err))
			}
			if strings.Contains(said, c.secret) || strings.Contains(said, c.access) {
				t.Errorf("%s, %s: it holds a credential: %s", name, op, said)
			}
		}
	}
	if got := storetest.All(t, storetest.Open(t, s, "k", objstore.Get{})); string(got) != "x" { // the control
		t.Errorf("it holds %q", got)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestNoBucket(t *testing.T) {
	s := store(t, "s3://no-such-bucket-here/p", options())
	_, get := s.Open(t.Context(), "k", objstore.Get{})
	list := s.List(t.Context(), "", func(objstore.Info) error { return nil })
	_, put := s.Put(t.Context(), "k", strings.NewReader("y"), 1)
	del := s.Delete(t.Context(), "k")
	for op, err := range map[string]error{"get": get, "list": list, "put": put, "delete": del} {
		if !errors.Is(err, objstore.ErrNotFound) || !strings.Contains(strings.Join(fault.HintsOf(err), " "), "no bucket no-such-bucket-here") {
			t.Errorf("%s: %v, hints %q", op, err, fault.HintsOf(err))
		}
	}
}
