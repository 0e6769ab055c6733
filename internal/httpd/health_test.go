package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		h := &health{timeout: time.Second, draining: new(atomic.Bool), checks: []Check{
			{Name: "key", Live: true, Func: func(context.Context) error { asked.Add(1); return nil }},
			{Name: "db", Func: func(context.Context) error { return errors.New("down at 10.0.0.1") }},
			{Name: "slow", Func: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			{Name: "panics", Func: func(context.Context) error { panic("oops") }},
		}}
		ask := func(live, detail bool) (int, HealthReport, string) {
			w := httptest.NewRecorder()
			h.answer(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), live, detail)
			var report HealthReport
			if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil {
				t.Fatal(err)
			}
			return w.Code, report, w.Body.String()
		}
		if code, report, _ := ask(true, true); code != 200 || len(report.Checks) != 1 {
			t.Errorf("healthz: %d %+v", code, report)
		}
		begin := time.Now()
		code, report, text := ask(false, true)
		if code != 503 || len(report.Checks) != 4 || !strings.Contains(text, "10.0.0.1") || time.Since(begin) != time.Second {
			t.Errorf("readyz: %d %s after %s", code, text, time.Since(begin))
		}
		for i, want := range []string{"", "down at 10.0.0.1", "context deadline exceeded", "panic: oops"} {
			if report.Checks[i].Error != want {
				t.Errorf("check %d says %q, want %q", i, report.Checks[i].Error, want)
			}
		}
		if _, _, text := ask(false, false); strings.Contains(text, "10.0.0.1") {
			t.Errorf("the public answer tells %s", text)
		}
		before := asked.Load()
		for range 50 {
			ask(false, true)
		}
		if asked.Load() != before {
			t.Error("a flood of probes asks each time")
		}
		time.Sleep(keep) // synctest: no real time passes
		ask(false, true)
		if asked.Load() != before+1 {
			t.Errorf("asked %d times after the report went stale", asked.Load()-before)
		}
	})
}

func TestPublicHealthHandlers(t *testing.T) {
	s, err := New(plain(func(http.ResponseWriter, *http.Request) {}))
	if err != nil {
		t.Fatal(err)
	}
	s.AddCheck(Check{Name: "db", Func: func(context.Context) error { return errors.New("inside") }})
	for want, h := range map[int]http.Handler{200: s.Health(), 503: s.Ready()} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		if w.Code != want || strings.Contains(w.Body.String(), "inside") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
