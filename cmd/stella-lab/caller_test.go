package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/testenv"
)

const (
	grantDevice = "urn:ietf:params:oauth:grant-type:device_code"

	personalID = "stella-cli" // a client for people
	password   = "correct horse battery staple"
)

// recorder counts what became of the requests of one worker.
type recorder struct {
	base http.RoundTripper

	mu    sync.Mutex
	lost  int      // taken by a replica that died then
	wrong []string // what must not happen
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.base.RoundTrip(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.wrong = append(r.wrong, fmt.Sprintf("%s %s: %v", req.Method, req.URL.Path, err))
	case resp.Header.Get(testenv.LostHeader) != "":
		r.lost++
	case resp.StatusCode >= 500:
		r.wrong = append(r.wrong, fmt.Sprintf("%s %s: %s", req.Method, req.URL.Path, resp.Status))
	}
	return resp, err
}

func (r *recorder) losses() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// caller is an OAuth client that sends each request once, and is told what
// came of it. It is not safe for concurrent use.
type caller struct {
	*recorder
	issuer, at string // at: where to send requests, mostly the issuer
	id, secret string // no secret: a client for people, or one with a certificate
	http       *http.Client
	prover     *dpop.Prover // nil: no proofs
	nonce      string
}

func newProver(t *testing.T) *dpop.Prover {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := dpop.NewProver(key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// caller is a client of the lab; secretFile may be empty.
func (l *lab) caller(t *testing.T, id, secretFile string, p *dpop.Prover) *caller {
	t.Helper()
	c := &caller{recorder: &recorder{base: l.CA.Client().Transport}, issuer: l.Issuer, at: l.Issuer, id: id, prover: p}
	c.http = &http.Client{Transport: c.recorder}
	if secretFile != "" {
		s, err := secret.Ref("file:" + secretFile).Load()
		if err != nil {
			t.Fatal(err)
		}
		c.secret = string(s.Reveal())
	}
	return c
}

// reply is an answer of an OAuth endpoint.
type reply struct {
	Status  int    `json:"-"`
	Lost    bool   `json:"-"` // a replica had taken the request and died
	Code    string `json:"error"`
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Active  bool   `json:"active"`

	DeviceCode string `json:"device_code"`
	Complete   string `json:"verification_uri_complete"`
}

func (r reply) String() string {
	if r.Lost {
		return "lost"
	}
	return strings.TrimSpace(fmt.Sprint(r.Status, " ", r.Code))
}

// token asks for a token, with a proof if the client makes any. That a nonce
// is demanded is no answer: the request is made with it.
func (c *caller) token(ctx context.Context, form url.Values) (reply, error) {
	const path = "/token"
	for range 2 {
		header := http.Header{}
		if c.prover != nil {
			proof, err := c.prover.Proof(http.MethodPost, c.issuer+path, dpop.ProofOptions{Nonce: c.nonce})
			if err != nil {
				return reply{}, err
			}
			header.Set("DPoP", proof)
		}
		r, answer, err := c.form(ctx, path, form, header)
		if n := answer.Get("DPoP-Nonce"); n != "" {
			c.nonce = n
		}
		if err != nil || r.Code != "use_dpop_nonce" {
			return r, err
		}
	}
	return reply{}, fmt.Errorf("%s: a nonce is demanded again", c.id)
}

// form posts a form as the client.
func (c *caller) form(ctx context.Context, path string, form url.Values, header http.Header) (reply, http.Header, error) {
	body := url.Values{}
	for name, values := range form {
		body[name] = values
	}
	if c.secret == "" {
		body.Set("client_id", c.id)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.at+path, strings.NewReader(body.Encode()))
	if err != nil {
		return reply{}, nil, err
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.secret != "" {
		req.SetBasicAuth(url.QueryEscape(c.id), url.QueryEscape(c.secret))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return reply{}, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, nil, err
	}
	r := reply{}
	if r.Lost = resp.Header.Get(testenv.LostHeader) != ""; !r.Lost {
		if err := json.Unmarshal(data, &r); err != nil {
			return r, nil, fmt.Errorf("%s: %s: %w", path, resp.Status, err)
		}
	}
	r.Status = resp.StatusCode
	return r, resp.Header, nil
}

// login gets a device code and lets a person approve it.
func (c *caller) login(ctx context.Context, name string) (deviceCode string, err error) {
	begun, _, err := c.form(ctx, "/device_authorization", nil, nil)
	if err != nil || begun.DeviceCode == "" {
		return "", errors.Join(fmt.Errorf("device authorization: %s", begun), err)
	}
	person, err := testenv.NewPerson(c.http, name, password)
	if err != nil {
		return "", err
	}
	_, err = person.Decide(ctx, begun.Complete, true)
	return begun.DeviceCode, err
}

func deviceForm(code string) url.Values {
	return url.Values{"grant_type": {grantDevice}, "device_code": {code}}
}

func refreshForm(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

func clientForm() url.Values { return url.Values{"grant_type": {"client_credentials"}} }
