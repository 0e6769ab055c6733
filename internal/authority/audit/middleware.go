package audit

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/httpd"
)

// Sink takes records. Write returns within a bounded time, whatever happens to
// what is behind it, keeps nothing of r, and goes on when ctx has ended: a
// client that hangs up must not take its record with it. A Sink is safe for
// concurrent use and tells about its own failures.
type Sink interface {
	Write(ctx context.Context, r *Record)
}

// Sinks writes each record to all of them, in order.
type Sinks []Sink

// Write implements Sink.
func (s Sinks) Write(ctx context.Context, r *Record) {
	for _, one := range s {
		one.Write(ctx, r)
	}
}

// Options of Middleware.
type Options struct {
	Now    func() time.Time             // nil: time.Now
	Remote func(r *http.Request) string // whom r comes from, for a site with trusted proxies; nil: the TCP peer
}

// What a record says when the handler did not.
const (
	reasonNoOutcome  = "the handler set no outcome"
	reasonUnfinished = "the handler did not finish"
)

// Middleware gives every request an Event and, after the handler, writes one
// record of it if Set was called; also when the handler panics, with outcome
// Error. The record is handed over before the end of the answer leaves. Inside
// another Middleware it does nothing.
func Middleware(sink Sink, o Options) func(http.Handler) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Remote == nil {
		o.Remote = httpd.RemoteHost
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if Of(r.Context()) != nil {
				next.ServeHTTP(w, r)
				return
			}
			e := &Event{}
			in := r.WithContext(context.WithValue(r.Context(), eventKey{}, e))
			finished := false
			defer func() {
				r.Pattern = in.Pattern // for whoever measures by route, outside
				e.end(sink, r, o, finished)
			}()
			next.ServeHTTP(w, in)
			finished = true
		})
	}
}

// end closes the event and writes its record, if there is one.
func (e *Event) end(sink Sink, r *http.Request, o Options, finished bool) {
	e.mu.Lock()
	e.ended = true
	set := e.set
	e.mu.Unlock()
	if !set {
		return
	}
	rec := &e.rec // nobody changes it any more
	rec.OccurredAt = o.Now().UTC().Truncate(time.Microsecond)
	rec.CorrelationID = clean(httpd.RequestID(r.Context()), MaxName)
	switch {
	case !finished:
		rec.Outcome, rec.Reason = Error, Classify(reasonUnfinished, None)
	case !rec.Outcome.valid():
		rec.Outcome, rec.Reason = Error, Classify(reasonNoOutcome, None)
	}
	rec.Network = Network{
		RemoteAddress: Classify(o.Remote(r), Personal),
		ForwardedFor:  Classify(forwarded(r.Header), Personal),
		UserAgent:     classify(r.Header.Get("User-Agent"), Personal, MaxUserAgent),
	}
	sink.Write(r.Context(), rec)
}

// forwarded returns what proxies say about where the request came from, in the
// order in which it was said.
func forwarded(h http.Header) string {
	lines := h["X-Forwarded-For"]
	if len(lines) == 0 {
		lines = h["Forwarded"]
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return strings.Join(lines, ", ")
}
