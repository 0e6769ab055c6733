// Package fakevault is a server that speaks the transit part of the HTTP API
// of HashiCorp Vault and OpenBao, for tests of what uses it.
//
// It guarantees requests, answers, statuses and error bodies of the shape of
// the real ones for the paths it knows (keys, config, rotate, trim, sign) with
// real ECDSA keys over a real TLS socket, refuses every other path, and can be
// told to fail. It stores nothing and leaves nothing behind when its context
// ends.
package fakevault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/stella-ops/stella/internal/testenv"
)

// Server is a transit engine mounted at "transit". Its methods may be called
// at any time.
type Server struct {
	URL    string
	CAFile string

	done <-chan struct{}

	mu        sync.Mutex
	keys      map[string]*key
	token     string
	namespace string
	denied    string // prefix of paths that the token may not use
	status    int    // of an outage, 0 for none
	hang      bool
	forge     bool
	take      http.HandlerFunc
	calls     map[string]int
}

// Start serves until ctx ends. Clients need Token and trust in CAFile.
func Start(ctx context.Context, ca *testenv.CA) (*Server, error) {
	s := &Server{
		CAFile: ca.CertFile, done: ctx.Done(),
		keys: map[string]*key{}, token: "hvs." + rand.Text(), calls: map[string]int{},
	}
	var err error
	s.URL, err = testenv.Serve(ctx, ca, "vault", http.HandlerFunc(s.serve))
	return s, err
}

// Calls is how often a method and path under the mount were asked for, like
// "POST sign/NAME/sha2-256", whatever came of it.
func (s *Server) Calls(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

// Admin does as an administrator would, past token and faults: a method, a
// path under the mount such as "keys/NAME/rotate", and a body or nil. It
// returns the "data" of the answer.
func (s *Server) Admin(method, path string, in map[string]any) (map[string]any, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	s.mu.Lock()
	s.engine(w, httptest.NewRequest(method, "/v1/transit/"+path, bytes.NewReader(body)), path, body)
	s.mu.Unlock()
	if w.Code >= 300 {
		return nil, fmt.Errorf("%s %s: status %d: %s", method, path, w.Code, w.Body)
	}
	var out struct {
		Data map[string]any `json:"data"`
	}
	if w.Body.Len() > 0 {
		err = json.Unmarshal(w.Body.Bytes(), &out)
	}
	return out.Data, err
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "http: request body too large")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	inside, mounted := strings.CutPrefix(path, "transit/")
	s.mu.Lock()
	s.calls[r.Method+" "+inside]++
	take, hang := s.take, s.hang
	s.mu.Unlock()
	switch {
	case take != nil:
		r.Body = io.NopCloser(bytes.NewReader(body))
		take(w, r)
		return
	case hang:
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.status == http.StatusServiceUnavailable:
		refuse(w, s.status, "Vault is sealed")
	case s.status != 0:
		refuse(w, s.status, http.StatusText(s.status))
	case r.Header.Get("X-Vault-Token") != s.token, s.denied != "" && strings.HasPrefix(path, s.denied):
		refuse(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
	case !mounted || r.Header.Get("X-Vault-Namespace") != s.namespace:
		refuse(w, http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", path))
	default:
		s.engine(w, r, inside, body)
	}
}

// answer writes the envelope that all answers of the API have.
func answer(w http.ResponseWriter, data map[string]any, warnings ...string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"request_id": rand.Text(), "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": data, "wrap_info": nil, "warnings": warnings, "auth": nil, "mount_type": "transit",
	})
}

// refuse writes an error; without words it is that of a missing thing.
func refuse(w http.ResponseWriter, status int, words ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, words...)})
}
