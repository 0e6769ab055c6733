// Package fakekms is a key management service that speaks the protocol of AWS
// KMS (JSON 1.1 over HTTPS) and can be made to misbehave.
//
// It guarantees real sockets, real ECDSA keys and the key states, names and
// errors of the AWS KMS API reference for the actions it knows; that a request
// without a Signature Version 4 header of the expected access key is refused;
// and that nothing is left behind when the context it was given ends. It does
// not check the signature itself, nor policies: who calls may do everything
// that Deny does not take away.
package fakekms

import (
	"context"
	"crypto/ecdsa"
	"net/http"
	"sync"

	"github.com/stella-ops/stella/internal/testenv"
)

// Every stands for all actions where a method wants one.
const Every = "*"

// Options shapes a Server; every field has a default.
type Options struct {
	Region       string // default eu-central-1
	Account      string // default 111122223333
	AccessKeyID  string // default AKIAIOSFODNN7EXAMPLE
	SessionToken string // if set, requests must carry it
}

// Server is a running service. It is safe for concurrent use.
type Server struct {
	URL string // https, of loopback
	o   Options
	ctx context.Context

	mu        sync.Mutex
	keys      map[string]*stored // by key id
	order     []string           // key ids as they were made
	aliases   map[string]string  // alias/NAME: key id
	calls     map[string]int
	knobs     map[string]*knobs // by action
	otherKey  *ecdsa.PrivateKey // signs in place of the right one
	answerKey string            // given as KeyId in place of the right one
}

// knobs is how one action misbehaves.
type knobs struct {
	failure Failure
	fails   int // how many more calls; below zero for all
	hang    bool
	lose    int // how many more answers
	before  func()
	after   func()
	handler http.HandlerFunc
}

// Failure is an error answer.
type Failure struct {
	Status  int // HTTP; 0 for 400
	Code    string
	Message string
}

// Start runs a service with a certificate of ca until ctx ends.
func Start(ctx context.Context, ca *testenv.CA, o Options) (*Server, error) {
	for field, value := range map[*string]string{&o.Region: "eu-central-1", &o.Account: "111122223333", &o.AccessKeyID: "AKIAIOSFODNN7EXAMPLE"} {
		if *field == "" {
			*field = value
		}
	}
	s := &Server{
		o: o, ctx: ctx, keys: map[string]*stored{}, aliases: map[string]string{},
		calls: map[string]int{}, knobs: map[string]*knobs{},
	}
	var err error
	s.URL, err = testenv.Serve(ctx, ca, "kms", s)
	return s, err
}

// Throttle refuses the next n calls of an action, or all if n is below zero.
func (s *Server) Throttle(action string, n int) {
	s.Fail(action, n, Failure{Code: "ThrottlingException", Message: "Rate exceeded"})
}

// Deny refuses an action for good, as a missing permission does.
func (s *Server) Deny(action string) {
	s.Fail(action, -1, Failure{Code: "AccessDeniedException", Message: "User: arn:aws:iam::" + s.o.Account +
		":user/stella is not authorized to perform: kms:" + action + " because no identity-based policy allows the kms:" + action + " action"})
}

// Fail answers the next n calls of an action with f, or all if n is below zero.
func (s *Server) Fail(action string, n int, f Failure) {
	s.turn(action, func(k *knobs) { k.fails, k.failure = n, f })
}

// Hang leaves calls of an action without an answer until the caller goes.
func (s *Server) Hang(action string) { s.turn(action, func(k *knobs) { k.hang = true }) }

// Lose carries out the next n calls of an action, but cuts the connection in
// place of the answer.
func (s *Server) Lose(action string, n int) { s.turn(action, func(k *knobs) { k.lose = n }) }

// Before calls do ahead of every call of an action, which waits for it.
func (s *Server) Before(action string, do func()) { s.turn(action, func(k *knobs) { k.before = do }) }

// After calls do when a call of an action was carried out; its answer waits for
// that.
func (s *Server) After(action string, do func()) { s.turn(action, func(k *knobs) { k.after = do }) }

// Handle has h answer an action in place of the service.
func (s *Server) Handle(action string, h http.HandlerFunc) {
	s.turn(action, func(k *knobs) { k.handler = h })
}

// Behave ends all misbehaviour.
func (s *Server) Behave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.knobs, s.otherKey, s.answerKey = map[string]*knobs{}, nil, ""
}

// SignAs signs with key, whatever key was asked for.
func (s *Server) SignAs(key *ecdsa.PrivateKey) { s.mu.Lock(); defer s.mu.Unlock(); s.otherKey = key }

// AnswerKey names id as the key in answers of GetPublicKey and Sign.
func (s *Server) AnswerKey(id string) { s.mu.Lock(); defer s.mu.Unlock(); s.answerKey = id }

// Calls counts the calls of an action so far, refused ones included.
func (s *Server) Calls(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[action]
}

func (s *Server) turn(action string, do func(*knobs)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.knobs[action] == nil {
		s.knobs[action] = &knobs{}
	}
	do(s.knobs[action])
}
