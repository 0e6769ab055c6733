package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/notify"
)

// work is what an answer cannot do without.
type work struct {
	requests     int // HTTP requests, 0 for one
	verify, sign int // ES256 operations
	logins       int // passwords checked: one argon2id each, inside a store in memory
}

// floorBody is about as long as the answer with a token.
var floorBody = []byte(`{"access_token":"` + strings.Repeat("x", 900) + `"}`)

// floor does work and nothing else.
type floor struct {
	key    *ecdsa.PrivateKey
	digest [32]byte
	sig    []byte
	people *users.Directory
}

const floorUser, floorPassword = "ana", "correct horse battery staple"

func newFloor() (*floor, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	f := &floor{key: key, digest: sha256.Sum256([]byte("a proof and a token"))}
	if f.sig, err = ecdsa.SignASN1(rand.Reader, key, f.digest[:]); err != nil {
		return nil, err
	}
	f.people = users.New(users.Options{Store: mem.New(0), Policy: users.DefaultPolicy})
	_, err = f.people.Ensure(context.Background(), &users.Document{Username: floorUser, Password: floorPassword, Tenant: "bench", Scopes: []string{scope}},
		func(string) bool { return true })
	return f, err
}

func (f *floor) do(ctx context.Context, w work) error {
	for range w.verify {
		if !ecdsa.VerifyASN1(&f.key.PublicKey, f.digest[:], f.sig) {
			return errors.New("floor: signature does not verify")
		}
	}
	for range w.sign {
		if _, err := ecdsa.SignASN1(rand.Reader, f.key, f.digest[:]); err != nil {
			return err
		}
	}
	for range w.logins {
		if _, err := f.people.Authenticate(ctx, floorUser, floorPassword, "127.0.0.1"); err != nil {
			return err
		}
	}
	return nil
}

// time returns the CPU time of doing w n times, without any server.
func (f *floor) time(ctx context.Context, w work, n int) (time.Duration, error) {
	began := selfCPU()
	for range n {
		if err := f.do(ctx, w); err != nil {
			return 0, err
		}
	}
	return selfCPU() - began, nil
}

// ServeHTTP implements http.Handler. The work is in the query.
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var todo work
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	_, err := fmt.Sscanf(r.URL.RawQuery, workFormat, &todo.verify, &todo.sign, &todo.logins)
	if err == nil {
		err = f.do(r.Context(), todo)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(floorBody)
}

const workFormat = "%d-%d-%d"

// serveFloor runs the floor behind TLS, with the garbage collector set as the
// Authority sets its own.
func serveFloor() int {
	go tellCPU()
	debug.SetGCPercent(400)
	if err := runFloor(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		return 1
	}
	return 0
}

func runFloor(certFile, keyFile string) error {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	f, err := newFloor()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	srv := &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := notify.Send("READY=1", "X_STELLA_URL=https://"+l.Addr().String()); err != nil {
		return err
	}
	err = srv.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// floorCaller asks the floor for work.
type floorCaller struct {
	client *http.Client
	url    string
}

func (c *floorCaller) do(ctx context.Context, w work) error {
	for range w.requests - 1 {
		if err := c.post(ctx, work{}); err != nil {
			return err
		}
	}
	return c.post(ctx, w)
}

func (c *floorCaller) post(ctx context.Context, w work) error {
	target := c.url + "/?" + fmt.Sprintf(workFormat, w.verify, w.sign, w.logins)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("floor: %s", resp.Status)
	}
	return nil
}
