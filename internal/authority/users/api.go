package users

import (
	"io"
	"log/slog"
	"net/http"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/httpd"
)

// Path of the API below the issuer.
const Path = "/internal/users"

// API is the bootstrap API for users:
//
//	POST   /internal/users                  a Document: 201 created, 200 replaced
//	GET    /internal/users/{name}           the Document, without password
//	DELETE /internal/users/{name}           204
//	POST   /internal/users/{name}/password  {"password": …}: 204
//	POST   /internal/users/{name}/unlock    204
//
// Errors are keyring.Problem.
type API struct {
	Users       *Directory
	Guard       func(*http.Request) error // who may call; problem.Unauthenticated otherwise
	Ready       func() error              // nil while the database answers
	KnownTenant func(id string) bool
	Log         *slog.Logger
}

// Register adds the API to mux.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+Path, a.handle("put", a.put))
	mux.HandleFunc("GET "+Path+"/{name}", a.handle("read", a.get))
	mux.HandleFunc("DELETE "+Path+"/{name}", a.handle("delete", func(r *http.Request) (int, any, error) {
		return a.done(r)(a.Users.Delete(r.Context(), r.PathValue("name")))
	}))
	mux.HandleFunc("POST "+Path+"/{name}/unlock", a.handle("unlock", func(r *http.Request) (int, any, error) {
		return a.done(r)(a.Users.Unlock(r.Context(), r.PathValue("name")))
	}))
	mux.HandleFunc("POST "+Path+"/{name}/password", a.handle("password", func(r *http.Request) (int, any, error) {
		var body struct {
			Password string `json:"password"`
		}
		if err := read(r, &body, "password document"); err != nil {
			return 0, nil, err
		}
		return a.done(r)(a.Users.SetPassword(r.Context(), r.PathValue("name"), body.Password))
	}))
}

// handle lets callers in whom the guard accepts, and writes one audit record
// whatever happens.
func (a *API) handle(action string, serve func(*http.Request) (int, any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		event := audit.Of(r.Context())
		event.Set(audit.TypeBootstrapUser)
		event.Prop("bootstrap.action", action, audit.None)
		event.Subject("", Normalise(r.PathValue("name")), "", PluginName)
		var status int
		var doc any
		err := a.Guard(r)
		if err == nil {
			err = a.Ready()
		}
		if err == nil {
			status, doc, err = serve(r)
		}
		if err != nil {
			p := problem.From(err)
			outcome := audit.Failure
			if problem.Status(p.Code) >= 500 {
				outcome = audit.Error
			}
			event.Outcome(outcome, p.Code)
			problem.Write(w, r, a.Log, httpd.RequestID(r.Context()), err)
			return
		}
		event.Outcome(audit.Success, "")
		if doc == nil {
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(status)
			return
		}
		problem.JSON(w, status, doc)
	}
}

func (a *API) put(r *http.Request) (int, any, error) {
	var doc Document
	if err := read(r, &doc, "user document"); err != nil {
		return 0, nil, err
	}
	answer, created, err := a.Users.Put(r.Context(), &doc, a.KnownTenant)
	if err != nil {
		return 0, nil, err
	}
	about(r, answer)
	if created {
		return http.StatusCreated, answer, nil
	}
	return http.StatusOK, answer, nil
}

func (a *API) get(r *http.Request) (int, any, error) {
	doc, err := a.Users.Get(r.Context(), r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	about(r, doc)
	return http.StatusOK, doc, nil
}

// about says in the audit record whom a call was about.
func about(r *http.Request, doc *Document) {
	event := audit.Of(r.Context())
	event.Subject(doc.Subject, doc.Username, doc.DisplayName, PluginName)
	event.Tenant(doc.Tenant)
	event.Scopes(doc.Scopes)
}

// done answers 204 to a change of the named user.
func (a *API) done(r *http.Request) func(subject string, err error) (int, any, error) {
	return func(subject string, err error) (int, any, error) {
		audit.Of(r.Context()).Subject(subject, Normalise(r.PathValue("name")), "", PluginName)
		return http.StatusNoContent, nil, err
	}
}

// read reads a JSON body within the bound.
func read(r *http.Request, v any, what string) error {
	if r.Header.Get("Content-Type") != "application/json" {
		return problem.New(problem.Invalid, "the content type must be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxDocument+1))
	defer clear(body)
	if err != nil {
		return problem.New(problem.Invalid, "the body cannot be read")
	}
	return decode(body, v, what)
}
