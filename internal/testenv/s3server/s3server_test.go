package s3server_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

func TestMain(m *testing.M) {
	if code, was := s3server.Child(); was {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// use writes, lists and reads.
func use(t *testing.T, s *s3server.Server) *s3.Store {
	t.Helper()
	for range 2 { // the second time it is there
		if err := s.CreateBucket(t.Context(), "bucket"); err != nil {
			t.Fatal(err)
		}
	}
	store, err := s.Client(t.Context(), "s3://bucket/p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := store.Put(t.Context(), "k", strings.NewReader("text"), 4); err != nil {
		t.Fatal(err)
	}
	keys := ""
	if err := store.List(t.Context(), "", func(i objstore.Info) error { keys += i.Key; return nil }); err != nil || keys != "k" {
		t.Errorf("listed %q, %v", keys, err)
	}
	return store
}

// TestStart: in this process, with TLS, once at a time, and the working
// directory comes back.
func TestStart(t *testing.T) {
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := s3server.Options{Dir: t.TempDir(), CAFile: ca.CertFile}
	if o.CertFile, o.KeyFile, err = ca.Issue("s3"); err != nil {
		t.Fatal(err)
	}
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for range 2 { // after Stop it starts again, over the same objects
		s, err := s3server.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(s.Endpoint, "https://127.0.0.1:") || keys[s.SecretKey] {
			t.Errorf("at %s, secret known: %v", s.Endpoint, keys[s.SecretKey])
		}
		keys[s.SecretKey] = true
		store := use(t, s)
		if _, err := s3server.Start(t.Context(), s3server.Options{Dir: t.TempDir()}); err == nil {
			t.Error("a second one started")
		}
		use(t, s) // it goes on
		if err := errors.Join(s.Stop(), s.Stop()); err != nil {
			t.Error(err)
		}
		if _, err := store.Open(t.Context(), "k", objstore.Get{}); !errors.Is(err, objstore.ErrTransient) {
			t.Errorf("after Stop: %v", err)
		}
		if now, err := os.Getwd(); err != nil || now != before {
			t.Errorf("left in %s, %v", now, err)
		}
	}
}

// TestStartProcess: two at a time, a user without rights, and a kill.
func TestStartProcess(t *testing.T) {
	var stores []*s3.Store
	for i := range 2 {
		s, err := s3server.StartProcess(t.Context(), s3server.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Stop() })
		store := use(t, s)
		other, err := s.AddUser()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := s.ClientAs(t.Context(), other, "s3://bucket/p")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.Open(t.Context(), "k", objstore.Get{}); !errors.Is(err, objstore.ErrDenied) {
			t.Errorf("a user without rights: %v", err)
		}
		if i == 0 {
			s.Process.Kill()
		}
		stores = append(stores, store)
	}
	for i, dead := range []bool{true, false} {
		o, err := stores[i].Open(t.Context(), "k", objstore.Get{})
		if dead != errors.Is(err, objstore.ErrTransient) || dead == (err == nil) {
			t.Error(fmt.Sprint(i), err)
		}
		if err == nil {
			o.Body.Close()
		}
	}
}
