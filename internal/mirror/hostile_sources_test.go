package mirror_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/objstore/https"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv"
)

// sourceKind is where the source of a world is.
type sourceKind string

const (
	inBucket sourceKind = "s3"    // a bucket of its own, over a socket
	onWeb    sourceKind = "https" // a folder, read over TLS
)

// worldOn is newWorld with a source behind a real socket.
func worldOn(t *testing.T, kind sourceKind) *world {
	t.Helper()
	w := newWorld(t)
	switch kind {
	case inBucket:
		server, err := lab.gateway()
		if err != nil {
			t.Fatal(err)
		}
		bucket := "t-" + strings.ToLower(rand.Text()[:20])
		if err := server.CreateBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
		w.from(place(t, "s3://"+bucket+"/concelier/latest"), func(ctx context.Context, p objstore.Place) (closer, error) {
			return server.Client(ctx, p.String())
		})
		w.source = w.opened[w.feed.Source].(*s3.Store)
	case onWeb:
		site, err := lab.web()
		if err != nil {
			t.Fatal(err)
		}
		name := rand.Text()
		dir := filepath.Join(site.dir, name, "concelier", "latest")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if w.source, err = fs.Open(dir); err != nil {
			t.Fatal(err)
		}
		w.from(place(t, site.url+"/"+name+"/concelier/latest"), func(_ context.Context, p objstore.Place) (closer, error) {
			return https.New(p, https.Options{CAFile: site.ca.CertFile})
		})
	}
	return w
}

type closer interface {
	objstore.Reader
	io.Closer
}

// from makes a world read from a place; each place is opened once.
func (w *world) from(at objstore.Place, open func(context.Context, objstore.Place) (closer, error)) {
	w.t.Helper()
	w.opened = map[objstore.Place]objstore.Reader{}
	w.feed.Source = at
	w.m.Open = func(_ context.Context, p objstore.Place) (objstore.Reader, error) {
		if r, ok := w.opened[p]; ok {
			return r, nil
		}
		r, err := open(w.t.Context(), p)
		if err != nil {
			return nil, err
		}
		w.t.Cleanup(func() { r.Close() })
		w.opened[p] = r
		return r, nil
	}
	if _, err := w.m.Open(w.t.Context(), at); err != nil {
		w.t.Fatal(err)
	}
}

func place(t *testing.T, s string) objstore.Place {
	t.Helper()
	p, err := objstore.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// website is a web server over a directory.
type website struct {
	dir string
	url string
	ca  *testenv.CA
}

// ServeHTTP implements http.Handler.
func (s *website) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(r.URL.Path)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	serve(w, r, data)
}

// serve answers as a good web server does.
func serve(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("ETag", `"`+release.Digest(data)[7:39]+`"`)
	http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), bytes.NewReader(data))
}

// TestAttacksOverSockets: the whole table of attacks, at a bucket and at a web
// server.
func TestAttacksOverSockets(t *testing.T) {
	for _, kind := range []sourceKind{inBucket, onWeb} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			eachAttack(t, func(t *testing.T) *world { return worldOn(t, kind) })
		})
	}
}

// TestSyncOverSockets is the control of all that goes wrong elsewhere: what a
// sync asks for, and how often.
func TestSyncOverSockets(t *testing.T) {
	for _, kind := range []sourceKind{inBucket, onWeb} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := worldOn(t, kind)
			one := w.publish(1)
			if res := w.good(one); res.Outcome != mirror.Updated || res.Fetched != 8 {
				t.Errorf("%+v", res)
			}
			if res := w.good(one); res.Outcome != mirror.Unchanged || res.Fetched != 0 {
				t.Errorf("%+v", res)
			}
			if res := w.good(w.publish(2)); res.Outcome != mirror.Updated || res.Kept != 1 {
				t.Errorf("%+v", res)
			}
		})
	}
}
