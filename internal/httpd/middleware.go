package httpd

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// wrap puts around a handler what every request gets, outermost first:
// request id, body limit and access log, panic recovery, headers.
func (s *Server) wrap(h http.Handler, secure bool) http.Handler {
	return s.logged(s.recovered(s.headers(h, secure)))
}

// headers sets what is right for an API; a handler may set its own instead.
func (s *Server) headers(next http.Handler, secure bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		if secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		in := &info{id: requestID(r)}
		r = r.WithContext(context.WithValue(r.Context(), infoKey{}, in))
		if limit := s.cfg.Limits.Body; limit > 0 {
			// Given the server's own writer, the reader can close the connection.
			r.Body = http.MaxBytesReader(w, r.Body, limit)
		}
		rec := &recorder{ResponseWriter: w}
		w.Header().Set(RequestIDHeader, in.id)
		defer func() {
			elapsed := time.Since(start)
			if s.cfg.Observe != nil {
				s.cfg.Observe(r, r.Pattern, rec.code(), elapsed)
			}
			s.access(r, rec, in, elapsed)
		}()
		next.ServeHTTP(rec, r)
	})
}

// access writes the access log line. The query string and the headers stay
// out of it: both carry credentials in practice.
func (s *Server) access(r *http.Request, rec *recorder, in *info, elapsed time.Duration) {
	attrs := append([]slog.Attr{
		slog.String("request_id", in.id),
		slog.String("method", short(r.Method, 16)),
		slog.String("path", short(r.URL.Path, 256)),
		slog.Int("status", rec.code()),
		slog.Int64("bytes", rec.bytes),
		slog.Float64("seconds", elapsed.Seconds()),
		slog.String("remote", RemoteHost(r)),
		slog.String("proto", r.Proto),
	}, in.all()...)
	s.cfg.Log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}

func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.cfg.Log.LogAttrs(r.Context(), slog.LevelError, "panic", slog.Any("panic", p),
				slog.String("request_id", RequestID(r.Context())), slog.String("stack", string(debug.Stack())))
			if rec, ok := w.(*recorder); ok && rec.status != 0 {
				panic(http.ErrAbortHandler) // half an answer must not look like a whole one
			}
			WriteProblem(w, r, http.StatusInternalServerError, "internal", "the server made a mistake; it is logged under the trace id")
		}()
		next.ServeHTTP(w, r)
	})
}

func short(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// recorder remembers the status and the size of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 { // 1xx are not the answer
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// ReadFrom keeps sendfile for large files.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := io.Copy(r.ResponseWriter, src)
	r.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}
