package authority

import (
	"io"
	"net/http"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/httpd"
)

// clientRoutes adds the bootstrap API for clients.
func (s *Server) clientRoutes(mux *http.ServeMux, g *guard.Guard) {
	handle := func(pattern string, serve func(r *http.Request) (int, any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var status int
			var doc any
			err := g.Bootstrap(r)
			if err == nil {
				err = s.db.Err()
			}
			if err == nil {
				status, doc, err = serve(r)
			}
			ev := audit.Of(r.Context())
			ev.Set(audit.TypeBootstrapClient)
			ev.Prop("bootstrap.call", r.Method, audit.None)
			problem.Audit(ev, err)
			switch {
			case err != nil:
				problem.Write(w, r, s.log, httpd.RequestID(r.Context()), err)
			case doc == nil:
				w.WriteHeader(status)
			default:
				problem.JSON(w, status, doc)
			}
		})
	}
	handle("POST "+pathClients, s.putClient)
	handle("GET "+pathClients+"/{id...}", func(r *http.Request) (int, any, error) {
		doc, err := s.clients.Get(r.Context(), r.PathValue("id"))
		return http.StatusOK, doc, err
	})
	handle("DELETE "+pathClients+"/{id...}", func(r *http.Request) (int, any, error) {
		id := r.PathValue("id")
		audit.Of(r.Context()).Client(id, "")
		gone := s.clients.Delete(r.Context(), id)
		if gone != nil && !clients.NotFound(gone) {
			return 0, nil, gone
		}
		// After it: until then the client could have got another token. Also
		// when it is gone: a deletion before this one may have been cut short.
		if err := s.revokeClient(r.Context(), id, reasonClientDeleted); err != nil {
			return 0, nil, err
		}
		if gone != nil {
			return 0, nil, gone
		}
		return http.StatusNoContent, nil, nil
	})
}

func (s *Server) putClient(r *http.Request) (int, any, error) {
	if ct := r.Header.Get("Content-Type"); ct != "application/json" {
		return 0, nil, problem.New(problem.Invalid, "the content type must be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, clients.MaxDocument+1))
	if err != nil || len(body) > clients.MaxDocument {
		return 0, nil, problem.New(problem.Invalid, "the body is larger than 64 KiB or cannot be read")
	}
	doc, err := clients.ParseDocument(body)
	if err != nil {
		return 0, nil, err
	}
	audit.Of(r.Context()).Client(doc.ClientID, doc.ClientName)
	answer, created, err := s.clients.Put(r.Context(), doc, s.set.Load().token.KnownTenant)
	if err != nil {
		return 0, nil, err
	}
	if created {
		return http.StatusCreated, answer, nil
	}
	return http.StatusOK, answer, nil
}
