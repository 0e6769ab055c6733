package mirror_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

// shared is what tests of this package start when it is first wanted, once:
// an S3 gateway in a process of its own, and a web server.
type shared struct {
	dir     string
	gateway func() (*s3server.Server, error)
	web     func() (*website, error)
}

var lab shared

func TestMain(m *testing.M) {
	if code, was := s3server.Child(); was {
		os.Exit(code)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "stella-mirror")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	var gateway *s3server.Server
	lab = shared{
		dir: dir,
		gateway: sync.OnceValues(func() (_ *s3server.Server, err error) {
			at := filepath.Join(dir, "s3")
			if err = os.Mkdir(at, 0o700); err == nil {
				gateway, err = s3server.StartProcess(ctx, s3server.Options{Dir: at})
			}
			return gateway, err
		}),
		web: sync.OnceValues(func() (*website, error) { return newWebsite(ctx, filepath.Join(dir, "web")) }),
	}
	code := m.Run()
	if gateway != nil {
		if err := gateway.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// newWebsite serves the files below dir over TLS, each with an ETag that says
// what is in it.
func newWebsite(ctx context.Context, dir string) (*website, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	ca, err := testenv.NewCA(dir)
	if err != nil {
		return nil, err
	}
	s := &website{dir: filepath.Join(dir, "files"), ca: ca}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	s.url, err = testenv.Serve(ctx, ca, "web", s)
	return s, err
}
