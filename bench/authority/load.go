package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/testenv"
)

// Names of what the load generator registers.
const (
	scope    = "bench.run"
	audience = "api://bench"
	service  = "bench"     // client_secret_basic, introspects
	public   = "bench-cli" // for people
	certed   = "bench-mtls"
	people   = 16 // as many log in
)

// load asks for what clients ask for, over kept-alive TLS connections.
type load struct {
	client, withCert *http.Client
	base, mtls       string
	bootstrap        string
	secret           string
	prover           *dpop.Prover
	nonce            atomic.Pointer[string]
	chains           chan string // refresh tokens, each the last of its family
	people           atomic.Int64
}

func newLoad(ctx context.Context, ca *testenv.CA, srv *process) (*load, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	l := &load{
		client: ca.Client(), base: srv.proc.URL(), mtls: srv.proc.Facts["X_STELLA_MTLS_URL"], bootstrap: srv.bootstrap,
		chains: make(chan string, inFlight),
	}
	l.nonce.Store(new(string))
	if l.prover, err = dpop.NewProver(key); err != nil {
		return nil, err
	}
	cert, certKey, err := srv.roots.IssueClient("client", clients.CertificateURI(certed), nil)
	if err != nil {
		return nil, err
	}
	if l.withCert, err = ca.ClientWith(cert, certKey); err != nil {
		return nil, err
	}
	if err := l.register(ctx); err != nil {
		return nil, err
	}
	// The first request learns the nonce.
	_, _ = l.token(ctx)
	return l, nil
}

func (l *load) register(ctx context.Context) error {
	doc := clients.Document{ClientID: service, Scopes: []string{scope}, Audiences: []string{audience}, Tenant: "bench", Introspects: []string{audience}}
	var made struct {
		Secret string `json:"client_secret"`
	}
	if err := l.admin(ctx, "/internal/clients", doc, &made); err != nil {
		return err
	}
	l.secret = made.Secret
	doc.Introspects = nil
	doc.ClientID, doc.Method, doc.Grants = public, clients.Public, []string{clients.GrantDevice, clients.GrantRefresh}
	if err := l.admin(ctx, "/internal/clients", doc, &made); err != nil {
		return err
	}
	doc.ClientID, doc.Method, doc.Grants = certed, clients.TLSClientAuth, nil
	if err := l.admin(ctx, "/internal/clients", doc, &made); err != nil {
		return err
	}
	for i := range people {
		person := users.Document{Username: username(i), Password: floorPassword, Scopes: []string{scope}, Tenant: "bench"}
		if err := l.admin(ctx, users.Path, person, &made); err != nil {
			return err
		}
	}
	return nil
}

func username(i int) string { return fmt.Sprintf("ana-%d", i) }

// admin registers doc.
func (l *load) admin(ctx context.Context, path string, doc, answer any) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base+path, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-stellaops-bootstrap-key", l.bootstrap)
	return l.do(l.client, req, http.StatusCreated, answer)
}

// do sends req and decodes the answer, which must have the status.
func (l *load) do(c *http.Client, req *http.Request, want int, answer any) error {
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n := resp.Header.Get("DPoP-Nonce"); n != "" && n != *l.nonce.Load() {
		l.nonce.Store(&n)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: %s: %.200s", req.Method, req.URL.Path, resp.Status, data)
	}
	return json.Unmarshal(data, answer)
}

// How a request is authenticated.
const (
	bare   = 0
	basic  = 1 << iota // client_secret_basic
	proven             // a DPoP proof
)

// post sends a form to an endpoint of the public listener.
func (l *load) post(ctx context.Context, path string, form url.Values, how, want int, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if how&basic != 0 {
		req.SetBasicAuth(service, l.secret)
	}
	if how&proven != 0 {
		proof, err := l.prover.Proof(http.MethodPost, l.base+path, dpop.ProofOptions{Now: time.Now(), Nonce: *l.nonce.Load()})
		if err != nil {
			return err
		}
		req.Header.Set("DPoP", proof)
	}
	return l.do(l.client, req, want, answer)
}

// answer is what a token request gets.
type answer struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
	Active  bool   `json:"active"`
}

// token is client_credentials with client_secret_basic and a proof.
func (l *load) token(ctx context.Context) (string, error) {
	var a answer
	err := l.post(ctx, "/token", url.Values{"grant_type": {clients.GrantCredentials}, "scope": {scope}}, basic|proven, http.StatusOK, &a)
	return a.Access, present(err, a.Access, "access token")
}

// present is err, or an error when the answer lacks what was asked for.
func present(err error, got, what string) error {
	if err == nil && got == "" {
		return fmt.Errorf("no %s in the answer", what)
	}
	return err
}

// certToken is client_credentials with tls_client_auth.
func (l *load) certToken(ctx context.Context) error {
	form := url.Values{"grant_type": {clients.GrantCredentials}, "client_id": {certed}, "scope": {scope}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.mtls+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var a answer
	err = l.do(l.withCert, req, http.StatusOK, &a)
	return present(err, a.Access, "access token")
}

func (l *load) introspect(ctx context.Context, token string) error {
	var a answer
	err := l.post(ctx, "/introspect", url.Values{"token": {token}}, basic, http.StatusOK, &a)
	if err == nil && !a.Active {
		return fmt.Errorf("the token is not active")
	}
	return err
}

func (l *load) revoke(ctx context.Context, token string) error {
	return l.post(ctx, "/revoke", url.Values{"token": {token}}, basic, http.StatusOK, &answer{})
}

// refresh uses up the last token of one family and keeps its successor.
func (l *load) refresh(ctx context.Context) error {
	var a answer
	form := url.Values{"grant_type": {clients.GrantRefresh}, "client_id": {public}, "refresh_token": {<-l.chains}}
	err := l.post(ctx, "/token", form, proven, http.StatusOK, &a)
	if err = present(err, a.Refresh, "refresh token"); err != nil {
		return err
	}
	l.chains <- a.Refresh
	return nil
}

// begun is a login that a device has begun.
type begun struct {
	Code     string `json:"device_code"`
	Complete string `json:"verification_uri_complete"`
}

func (l *load) begin(ctx context.Context) (b begun, err error) {
	err = l.post(ctx, device.PathAuthorization, url.Values{"client_id": {public}, "scope": {scope}}, bare, http.StatusOK, &b)
	return b, present(err, b.Code, "device code")
}

func deviceForm(b begun) url.Values {
	return url.Values{"grant_type": {clients.GrantDevice}, "client_id": {public}, "device_code": {b.Code}}
}

// poll asks for the token of a login that nobody has approved.
func (l *load) poll(ctx context.Context, b begun) error {
	var a answer
	err := l.post(ctx, "/token", deviceForm(b), proven, http.StatusBadRequest, &a)
	if err == nil && a.Error != "authorization_pending" {
		return fmt.Errorf("polling: %s", a.Error)
	}
	return err
}

// approve is one of the people, with a browser that knows nothing yet.
func (l *load) approve(ctx context.Context, b begun) error {
	p, err := testenv.NewPerson(l.client, username(int(l.people.Add(1)%people)), floorPassword)
	if err != nil {
		return err
	}
	_, err = p.Decide(ctx, b.Complete, true)
	return err
}

// redeem gets the tokens of an approved login and returns the refresh token.
func (l *load) redeem(ctx context.Context, b begun) (string, error) {
	var a answer
	err := l.post(ctx, "/token", deviceForm(b), proven, http.StatusOK, &a)
	return a.Refresh, present(err, a.Refresh, "refresh token")
}
