package revoke

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
)

// Paths below the issuer.
const (
	PathList   = "/revocations"
	PathAdd    = "/internal/revocations"
	PathExport = "/internal/revocations/export"
	PathRevoke = "/revoke"
)

// ScopeManage lets a token's holder add revocations and export the list at
// once.
const ScopeManage = "authority.revocations.manage"

// maxRequest bounds the body of a call to PathAdd, in bytes.
const maxRequest = 16 << 10

// API serves the revocation calls.
type API struct {
	Register *Register
	// Operator lets callers in who may manage revocations, and says who they
	// are. The method of guard.Guard is one.
	Operator func(r *http.Request, scope string) (who string, err error)
	// Authenticate finds out which client asks (RFC 7009 section 2.1): the
	// errors are answers of package wire. What the authentication uses up is
	// used up when it returns.
	Authenticate func(r *http.Request, f *wire.Form) (clientID string, err error)
	// AccessToken reads an access token of this Authority. ErrNotOurs means
	// that it is none, or is not valid any more; any other error, that it
	// cannot be told now. See ReadAccess.
	AccessToken func(ctx context.Context, token string) (*AccessToken, error)
	// Refresh revokes a refresh token and what came of it. ErrNotOurs means
	// that it is none, or is another client's; it is left alone then.
	Refresh func(ctx context.Context, token, clientID string) error
	// Known reports whether there is such a client or subject, so that a typing
	// mistake is not taken for a revocation; nil: everything is known.
	Known func(ctx context.Context, category revocation.Category, id string) (bool, error)
	// Ready says why nothing can be decided now, so that callers need not wait
	// for a database that is known to be down; nil: ask it.
	Ready func() error
	// Keys looks at the signing keys anew before an export: another replica may
	// just have revoked one. Nil: what Options.Keys returns is current.
	Keys func(ctx context.Context) error
	// MaxAge is for how long caches may keep the list.
	MaxAge    func() time.Duration
	Log       *slog.Logger
	RequestID func(ctx context.Context) string
}

// Routes adds the calls to mux.
func (a *API) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+PathList, a.list)
	mux.HandleFunc("GET "+PathExport, a.export)
	mux.HandleFunc("POST "+PathAdd, a.add)
	mux.HandleFunc("POST "+PathRevoke, a.revoke)
}

// list hands the list out to everyone, as CRLs are: it names no secret, and
// verifiers must not need credentials to learn what to refuse.
func (a *API) list(w http.ResponseWriter, r *http.Request) {
	var l *List
	err := a.ready()
	if err == nil {
		l, err = a.Register.Current(r.Context())
	}
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	h := w.Header()
	if age := int(a.MaxAge().Seconds()); age > 0 {
		h.Set("Cache-Control", "public, max-age="+strconv.Itoa(age)+", must-revalidate")
	} else {
		h.Set("Cache-Control", "no-store")
	}
	l.serve(w, r)
}

// export hands the list out to operators as it is at this moment.
func (a *API) export(w http.ResponseWriter, r *http.Request) {
	e := audit.Of(r.Context())
	e.Set(audit.TypeRevocationRead)
	who, err := a.Operator(r, ScopeManage)
	if err != nil {
		e.Outcome(audit.Failure, "not permitted")
		a.refuse(w, r, err)
		return
	}
	e.Prop("operator", who, audit.None)
	l, err := a.fresh(r.Context())
	if err != nil {
		e.Outcome(audit.Error, "the list could not be made")
		a.refuse(w, r, err)
		return
	}
	e.Outcome(audit.Success, "")
	e.Prop("revocation.sequence", strconv.FormatInt(l.Bundle.Sequence, 10), audit.None)
	w.Header().Set("Cache-Control", "no-store")
	l.serve(w, r)
}

func (a *API) ready() error {
	if a.Ready == nil {
		return nil
	}
	return a.Ready()
}

// fresh is the list as it is now, with what other replicas have revoked.
func (a *API) fresh(ctx context.Context) (*List, error) {
	if err := a.ready(); err != nil {
		return nil, err
	}
	if a.Keys != nil {
		if err := a.Keys(ctx); err != nil {
			return nil, err
		}
	}
	return a.Register.Export(ctx)
}

func (l *List) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", l.ETag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(l.Body))
}

// Request is the body of POST /internal/revocations.
type Request struct {
	Category  revocation.Category `json:"category"` // token, subject or client
	ID        string              `json:"id"`       // jti, sub or client_id
	Reason    string              `json:"reason"`   // a machine code
	ClientID  string              `json:"client_id,omitempty"`
	SubjectID string              `json:"subject_id,omitempty"`
	TokenType string              `json:"token_type,omitempty"` // with token; default access_token
	ExpiresAt time.Time           `json:"expires_at,omitzero"`  // with token: its exp; default: the longest it can be
}

// ParseRequest reads a Request strictly. Errors are refusals.
func ParseRequest(data []byte) (*Request, error) {
	var in Request
	if err := jose.DecodeStrict(data, &in); err != nil {
		return nil, problem.New(problem.Invalid, fmt.Sprintf("the body is not a revocation: %v", err))
	}
	return &in, nil
}

// Entry is what a request asks to be stored.
func (q *Request) Entry() Entry {
	e := Entry{Expiry: q.ExpiresAt, Entry: revocation.Entry{
		Category: q.Category, ID: q.ID, Reason: q.Reason, ClientID: q.ClientID, SubjectID: q.SubjectID, TokenType: q.TokenType,
	}}
	switch e.Category {
	case revocation.Token:
		if e.TokenType == "" {
			e.TokenType = accessToken
		}
	case revocation.Subject:
		e.SubjectID = q.ID
	case revocation.Client:
		e.ClientID = q.ID
	}
	return e
}

// Answer is the answer of POST /internal/revocations.
type Answer struct {
	Created bool `json:"created"` // false: something that reaches as far was there already
}

// add serves POST /internal/revocations.
func (a *API) add(w http.ResponseWriter, r *http.Request) {
	e := audit.Of(r.Context())
	e.Set(audit.TypeRevocation)
	created, err := a.doAdd(r, e)
	if err != nil {
		outcome := audit.Failure
		if problem.Status(problem.From(err).Code) >= 500 {
			outcome = audit.Error
		}
		e.Outcome(outcome, problem.From(err).Code)
		a.refuse(w, r, err)
		return
	}
	e.Outcome(audit.Success, "")
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	problem.JSON(w, status, Answer{created})
}

func (a *API) doAdd(r *http.Request, e *audit.Event) (created bool, err error) {
	who, err := a.Operator(r, ScopeManage)
	if err != nil {
		return false, err
	}
	e.Prop("operator", who, audit.None)
	if ct := r.Header.Get("Content-Type"); ct != "application/json" {
		return false, problem.New(problem.Invalid, "the content type must be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil || len(body) > maxRequest {
		return false, problem.New(problem.Invalid, "the body is larger than 16 KiB or cannot be read")
	}
	in, err := ParseRequest(body)
	if err != nil {
		return false, err
	}
	entry := in.Entry()
	e.Subject(entry.SubjectID, "", "", "")
	e.Client(entry.ClientID, "")
	e.Prop("revocation.category", string(entry.Category), audit.None)
	e.Prop("revocation.id", entry.ID, audit.Personal)
	e.Prop("revocation.reason", entry.Reason, audit.None)
	if least := a.Register.longest(); entry.Category == revocation.Token && entry.Expiry.Before(least) {
		entry.Expiry = least // the first record of a token stays, so it must not be too short
	}
	if a.Known != nil {
		switch known, err := a.Known(r.Context(), entry.Category, entry.ID); {
		case err != nil:
			return false, err
		case !known:
			return false, problem.New(problem.NotFound, fmt.Sprintf("there is no %s %.60q; a person's subject begins with usr_ and is in GET /internal/users/NAME", entry.Category, entry.ID))
		}
	}
	return a.Register.Add(r.Context(), entry)
}

func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	problem.Write(w, r, a.Log, a.RequestID(r.Context()), err)
}
