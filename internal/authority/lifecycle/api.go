// Package lifecycle is the key lifecycle API of the Authority: it puts the
// keyring, the counts of live tokens and the sightings of vantage points
// together, serves them as keyring's wire documents, and activates scheduled
// keys when their time has come.
//
// It guarantees that every change is made by the keyring's own rules on what
// was really observed, that an activation which needs observations is refused
// while they cannot be read, and that an emergency (taint, revoke, stage,
// publish) needs nothing but the keyring, so it works while the database is
// down.
package lifecycle

import (
	"context"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/ledger"
)

// Keys is the part of keyring.Keyring that is used here.
type Keys interface {
	Ring() *keyring.Ring
	Refresh(ctx context.Context) error
	Change(ctx context.Context, c keyring.Change) (*keyring.Outcome, error)
	History(ctx context.Context) ([]ledger.Record, error)
	CannotSign() error
	Unusable() []keyring.KeyTrouble
	NotDestroyed() []keyring.KeyTrouble
}

// Counter sums live tokens over all replicas.
type Counter interface {
	Live(ctx context.Context) ([]keyring.Live, time.Time, error)
}

// Point is a vantage point that the configuration requires.
type Point struct{ Name, URL string }

// API serves the lifecycle calls. All fields are required.
type API struct {
	Keys     Keys
	Vantage  store.Vantage
	Counter  Counter
	Guard    *guard.Guard
	Required func() []Point
	Issuer   string
	JWKSURI  string
	Replica  string
	// KeySource is where new keys are made, in the words of the configuration.
	KeySource string
	Import    Importer // of private keys for the upstream-compatible call
	// Database says why the database is known to be out of reach, or nil, so
	// that an emergency need not wait for it.
	Database func() error
	// Timeout bounds what is asked of the database in one request.
	Timeout   time.Duration
	Now       func() time.Time
	Log       *slog.Logger
	RequestID func(context.Context) string
}

// MaxBody bounds a request body.
const MaxBody = 64 << 10

// Register adds the routes.
func (a *API) Register(mux *http.ServeMux) {
	routes := map[string]func(*http.Request) (int, any, error){
		"GET " + keyring.PathKeyring:         a.report,
		"POST " + keyring.PathTransitions:    a.transition,
		"POST " + keyring.PathObservations:   a.observe,
		"DELETE " + keyring.PathObservations: a.forget,
		"POST " + keyring.PathUpstream:       a.upstream,
	}
	for pattern, serve := range routes {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			status, doc, err := serve(r)
			record(r, err)
			switch {
			case err != nil:
				problem.Write(w, r, a.Log, a.RequestID(r.Context()), err)
			case doc == nil:
				w.WriteHeader(status)
			default:
				problem.JSON(w, status, doc)
			}
		})
	}
	mux.HandleFunc("GET "+keyring.PathHistory, a.history)
}

// record writes down how a change of the keyring ended. Reading leaves no
// record, and neither does a look at a vantage point, which comes every few
// seconds.
func record(r *http.Request, err error) {
	if err == nil && (r.Method == http.MethodGet || r.Method == http.MethodPost && r.URL.Path == keyring.PathObservations) {
		return
	}
	ev := audit.Of(r.Context())
	ev.Set(audit.TypeSigning)
	ev.Prop("call", r.Method+" "+r.URL.Path, audit.None)
	problem.Audit(ev, err)
}

// readJSON decodes a body strictly.
func readJSON(r *http.Request, v any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return problem.New(problem.Invalid, "the content type must be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return problem.New(problem.Invalid, "the body could not be read")
	}
	if len(body) > MaxBody {
		return problem.New(problem.Invalid, "the body is larger than 64 KiB")
	}
	return decode(body, v)
}

func decode(body []byte, v any) error {
	if err := jose.DecodeStrict(body, v); err != nil {
		return problem.New(problem.Invalid, "the body is not the document that this call takes: "+err.Error())
	}
	return nil
}

// report answers GET PathKeyring.
func (a *API) report(r *http.Request) (int, any, error) {
	if _, err := a.Guard.Operator(r, keyring.ScopeRead); err != nil {
		return 0, nil, err
	}
	if err := a.Keys.Refresh(r.Context()); err != nil {
		return 0, nil, err
	}
	rep, _ := a.Report(r.Context(), a.Keys.Ring())
	return http.StatusOK, rep, nil
}

// history answers GET PathHistory with the stored records, one after the
// other, byte for byte: two lines each.
func (a *API) history(w http.ResponseWriter, r *http.Request) {
	var records []ledger.Record
	_, err := a.Guard.Operator(r, keyring.ScopeRead)
	if err == nil {
		records, err = a.Keys.History(r.Context())
	}
	if err != nil {
		problem.Write(w, r, a.Log, a.RequestID(r.Context()), err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	for _, rec := range records {
		if _, err := w.Write(rec.Encode()); err != nil {
			return // the caller has gone away
		}
	}
}
