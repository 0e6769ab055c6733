package mirror_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/https"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv"
)

// origin is a server with what the source of a world holds. It answers well,
// but for what spoil does.
type origin struct {
	w      *world
	honest func(*exchange)

	busy  sync.WaitGroup // answers on their way
	mu    sync.Mutex
	spoil func(*exchange) bool // true: it has answered
	asked []asked
	count map[string]int
}

// asked is one request.
type asked struct {
	key, span, ifMatch, ifNoneMatch string
	sent                            int64 // bytes of the body
}

// exchange is one request to an origin and its answer.
type exchange struct {
	http.ResponseWriter
	r    *http.Request
	key  string
	nth  int    // request for this key, from 1
	data []byte // of the object, if it is there

	sent  int64
	limit int64         // the connection breaks after so many bytes, if not negative
	piece int           // so many bytes at once, if not 0
	every time.Duration // between pieces
}

// Write implements io.Writer.
func (e *exchange) Write(p []byte) (total int, err error) {
	for len(p) > 0 {
		n := len(p)
		if e.piece > 0 {
			n = min(n, e.piece)
		}
		if e.limit >= 0 {
			n = min(n, int(e.limit-e.sent))
		}
		m, err := e.ResponseWriter.Write(p[:n])
		e.sent, total, p = e.sent+int64(m), total+m, p[m:]
		if err != nil {
			return total, err
		}
		if e.limit >= 0 && e.sent == e.limit {
			e.flush()
			panic(http.ErrAbortHandler)
		}
		if e.piece > 0 {
			e.flush()
			select {
			case <-time.After(e.every):
			case <-e.r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
	}
	return total, nil
}

// Unwrap is for http.ResponseController.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// ServeHTTP implements http.Handler.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(r.URL.Path, "/concelier/latest/")
	e := &exchange{ResponseWriter: w, r: r, key: key, limit: -1}
	o.busy.Add(1)
	defer o.busy.Done()
	o.mu.Lock()
	o.count[key]++
	e.nth = o.count[key]
	spoil := o.spoil
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.asked = append(o.asked, asked{key, r.Header.Get("Range"), r.Header.Get("If-Match"), r.Header.Get("If-None-Match"), e.sent})
	}()
	if key != "" {
		object, err := o.w.source.Open(r.Context(), key, objstore.Get{})
		if err == nil {
			e.data, _ = io.ReadAll(object.Body)
			object.Body.Close()
		}
	}
	if key == "" || spoil == nil || !spoil(e) {
		o.honest(e)
	}
}

// good answers as a web server does that has the objects.
func good(e *exchange) {
	if e.data == nil {
		http.NotFound(e, e.r)
		return
	}
	serve(e, e.r, e.data)
}

// bad sets what goes wrong from now on, and forgets what was asked.
func (o *origin) bad(spoil func(*exchange) bool) {
	o.busy.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spoil, o.asked, o.count = spoil, nil, map[string]int{}
}

// requests for a key.
func (o *origin) requests(key string) []asked {
	o.busy.Wait() // a reader may have all of an answer before its end
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []asked
	for _, a := range o.asked {
		if a.key == key {
			out = append(out, a)
		}
	}
	return out
}

// newOrigin makes a world that reads from an origin, over TLS or as S3.
func newOrigin(t *testing.T, kind sourceKind) (*world, *origin) {
	t.Helper()
	w := newWorld(t)
	o := &origin{w: w, honest: good, count: map[string]int{}}
	if kind == inBucket {
		server := httptest.NewServer(o)
		t.Cleanup(server.Close)
		w.from(place(t, "s3://bucket/concelier/latest"), func(ctx context.Context, p objstore.Place) (closer, error) {
			return s3.Open(ctx, p, s3.Options{Endpoint: server.URL, PathStyle: true, Credentials: s3.Anonymous()})
		})
		return w, o
	}
	site, err := lab.web()
	if err != nil {
		t.Fatal(err)
	}
	at, err := testenv.Serve(t.Context(), site.ca, rand.Text(), o)
	if err != nil {
		t.Fatal(err)
	}
	w.from(place(t, at+"/concelier/latest"), func(_ context.Context, p objstore.Place) (closer, error) {
		return https.New(p, https.Options{CAFile: site.ca.CertFile})
	})
	return w, o
}

// newRelay makes a world that reads from a real S3 gateway, through an origin.
// It passes Host on, since that is signed.
func newRelay(t *testing.T) (*world, *origin) {
	t.Helper()
	w := worldOn(t, inBucket)
	gateway, err := lab.gateway()
	if err != nil {
		t.Fatal(err)
	}
	behind, err := url.Parse(gateway.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = behind.Scheme, behind.Host, r.In.Host
	}}
	o := &origin{w: w, count: map[string]int{}, honest: func(e *exchange) { proxy.ServeHTTP(e, e.r) }}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	w.from(w.feed.Source, func(ctx context.Context, p objstore.Place) (closer, error) {
		return s3.Open(ctx, p, s3.Options{Region: gateway.Region, Endpoint: server.URL, PathStyle: true, Credentials: s3.Static(gateway.AccessKey, gateway.SecretKey, "")})
	})
	return w, o
}

// status answers with a status alone.
func (e *exchange) status(code int) bool {
	e.WriteHeader(code)
	return true
}

// cut lets the honest answer break off after n bytes.
func (e *exchange) cut(n int) bool {
	e.limit = int64(n)
	return false
}

// drip lets the honest answer come piece by piece.
func (e *exchange) drip(piece int, every time.Duration) bool {
	e.piece, e.every = piece, every
	return false
}

// endless sends without end or length.
func (e *exchange) endless() bool {
	e.WriteHeader(http.StatusOK)
	junk := make([]byte, 64<<10)
	for e.r.Context().Err() == nil {
		if _, err := e.Write(junk); err != nil {
			break
		}
	}
	return true
}

// raw writes an answer as it is and closes the connection.
func (e *exchange) raw(text string) bool {
	conn, buf, err := http.NewResponseController(e.ResponseWriter).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	if _, err := buf.WriteString(text); err == nil {
		_ = buf.Flush()
	}
	e.sent += int64(len(text))
	return true
}

// rawly writes an answer as it is, its header byte by byte.
func (e *exchange) rawly(head, body string, every time.Duration) bool {
	conn, _, err := http.NewResponseController(e.ResponseWriter).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range head {
		if _, err := io.WriteString(conn, head[i:i+1]); err != nil {
			return true
		}
		<-tick.C
	}
	_, _ = io.WriteString(conn, body)
	return true
}

func (e *exchange) flush() { _ = http.NewResponseController(e).Flush() }

// hang answers nothing until the reader is gone.
func (e *exchange) hang() bool {
	<-e.r.Context().Done()
	return true
}

// more publishes a release with further files.
func (w *world) more(seq int, extra map[string][]byte) map[string][]byte {
	w.t.Helper()
	files := w.files(seq, "primary", "community")
	for path, data := range extra {
		files[path] = data
	}
	statement := w.state(seq, files, nil)
	files[release.FileStatement], files[release.FileSignature] = statement, w.sign(statement, "k1")
	w.put(files)
	return files
}

const bigPath = "mirror/primary/big.bin"

// big is a member of n bytes that cannot be guessed.
func big(n int) map[string][]byte {
	data := make([]byte, n)
	_, _ = rand.Read(data)
	return map[string][]byte{bigPath: data}
}

// partOf is what is in staging of a member, in bytes; -1 for nothing.
func (w *world) partOf(data []byte) int64 {
	w.t.Helper()
	info, err := os.Stat(w.m.Folder("concelier") + "/staging/" + release.Digest(data)[7:] + ".part")
	if errors.Is(err, os.ErrNotExist) {
		return -1
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return info.Size()
}
