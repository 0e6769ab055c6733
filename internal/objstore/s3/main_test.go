package s3_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

// server is the one gateway of these tests, a process of its own.
var server *s3server.Server

func TestMain(m *testing.M) {
	if code, was := s3server.Child(); was {
		os.Exit(code)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "stella-s3")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if server, err = s3server.StartProcess(context.Background(), s3server.Options{Dir: dir}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// fresh gives an empty store in a bucket of its own.
func fresh(t testing.TB) *s3.Store {
	t.Helper()
	name := "t-" + strings.ToLower(rand.Text()[:20])
	if err := server.CreateBucket(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return store(t, "s3://"+name+"/pre fix/ä", options())
}

func store(t testing.TB, place string, o s3.Options) *s3.Store {
	t.Helper()
	p, err := objstore.Parse(place)
	if err != nil {
		t.Fatal(err)
	}
	s, err := s3.Open(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
