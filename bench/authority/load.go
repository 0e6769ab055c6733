package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/testenv"
)

const connections = 4

// load asks for tokens over kept-alive TLS connections.
type load struct {
	client *http.Client
	url    string
	secret string
	prover *dpop.Prover
	nonce  atomic.Pointer[string]
}

func newLoad(ctx context.Context, ca *testenv.CA, srv *server) (*load, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	l := &load{client: ca.Client(), url: srv.proc.URL() + "/token"}
	l.nonce.Store(new(string))
	if l.prover, err = dpop.NewProver(key); err != nil {
		return nil, err
	}
	body := `{"client_id":"bench","scopes":["bench.run"],"audiences":["api://bench"],"tenant":"bench"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.proc.URL()+"/internal/clients", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-stellaops-bootstrap-key", srv.bootstrap)
	answer, err := l.do(req, http.StatusCreated, http.StatusOK)
	if err != nil {
		return nil, err
	}
	var made struct {
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return nil, err
	}
	l.secret = made.Secret
	// The first request learns the nonce.
	_, _ = l.token(ctx)
	return l, nil
}

func (l *load) do(req *http.Request, want ...int) ([]byte, error) {
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if n := resp.Header.Get("DPoP-Nonce"); n != "" && n != *l.nonce.Load() {
		l.nonce.Store(&n)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	for _, status := range want {
		if resp.StatusCode == status {
			return data, nil
		}
	}
	return nil, fmt.Errorf("%s %s: %s: %.200s", req.Method, req.URL.Path, resp.Status, data)
}

func (l *load) token(ctx context.Context) ([]byte, error) {
	proof, err := l.prover.Proof(http.MethodPost, l.url, dpop.ProofOptions{Now: time.Now(), Nonce: *l.nonce.Load()})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, strings.NewReader("grant_type=client_credentials&scope=bench.run"))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("bench", l.secret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("DPoP", proof)
	return l.do(req, http.StatusOK)
}

// run gets n tokens and returns the wall time that took.
func (l *load) run(ctx context.Context, n int) (time.Duration, error) {
	began := time.Now()
	var left atomic.Int64
	left.Store(int64(n))
	errs := make(chan error, connections)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				data, err := l.token(ctx)
				if err == nil && !bytes.Contains(data, []byte(`"access_token"`)) {
					err = fmt.Errorf("no token in %.200s", data)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return time.Since(began), nil
	}
}
