package audit

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stella-ops/stella/internal/obs"
)

func grant(r *http.Request) {
	e := Of(r.Context())
	e.Set(TypeClientCredentials)
	e.Outcome(Success, "")
	e.Client("stella-operator", "")
	e.Tenant("tenant-default")
	e.Scopes([]string{"jobs.read", "jobs.trigger"})
	e.Prop(PropTokenID, "4f9a9f0c2d1b4e6f", None)
	e.Prop(PropKID, "es256-2026-11-22-1", None)
}

type discard struct{ buf []byte }

func (d *discard) Write(_ context.Context, r *Record) { d.buf = r.AppendJSON(d.buf[:0]) }

// BenchmarkRecord is what one record adds to a token request, by sink: "none"
// is the event and its JSON alone.
func BenchmarkRecord(b *testing.B) {
	file, err := OpenFile(filepath.Join(b.TempDir(), "audit.jsonl"), FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close(context.Background())
	for name, sink := range map[string]Sink{
		"none": &discard{}, "file": file, "log": NewLog(obs.NewLogger(nowhere{}, "json", new(slog.LevelVar))),
	} {
		b.Run(name, func(b *testing.B) {
			h := Middleware(sink, Options{})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { grant(r) }))
			r := httptest.NewRequest("POST", "/token", nil)
			r.Header.Set("User-Agent", "stella/1.0 (linux; amd64) oauth")
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}

// BenchmarkAppendJSON is the encoding of a record with every member.
func BenchmarkAppendJSON(b *testing.B) {
	rec, buf := full(), make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		buf = rec.AppendJSON(buf[:0])
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
