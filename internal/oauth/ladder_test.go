package oauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

func TestLadder(t *testing.T) {
	down := &passing{err: errors.New("connection refused")}
	for _, tc := range []struct {
		name    string
		results []error
		kind    fault.Kind
		tries   int
		took    time.Duration
	}{
		{"at once", []error{nil}, fault.None, 1, 0},
		{"second", []error{down, nil}, fault.None, 2, time.Second},
		{"last", []error{down, down, down, nil}, fault.None, 4, 8 * time.Second},
		{"never", []error{down, down, down, down, nil}, fault.Transient, 4, 8 * time.Second},
		{"for good", []error{down, fault.Errorf(fault.Denied, "no"), nil}, fault.Denied, 2, time.Second},
		{"longer on request", []error{down, &passing{err: errors.New("429"), after: 20 * time.Second}, down, nil}, fault.None, 4, 26 * time.Second},
		{"shorter on request", []error{&passing{err: errors.New("429"), after: time.Millisecond}, nil}, fault.None, 2, time.Second},
		{"too long a request", []error{&passing{err: errors.New("429"), after: time.Hour}, nil}, fault.Transient, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, tries := time.Now(), 0
				l := ladder{DefaultRetryDelays(), func(Event) {}}
				_, err := climb(t.Context(), l, "asking", "https://a.example", func(context.Context) (int, error) {
					tries++
					return tries, tc.results[tries-1]
				})
				if got := fault.KindOf(err); got != tc.kind || tries != tc.tries || time.Since(start) != tc.took {
					t.Errorf("kind %v after %d tries in %v (%v), want %v, %d, %v", got, tries, time.Since(start), err, tc.kind, tc.tries, tc.took)
				}
				if tc.kind == fault.Transient && len(fault.HintsOf(err)) == 0 {
					t.Error("no hint says what to check")
				}
			})
		})
	}
}

func TestLadderEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		l := ladder{DefaultRetryDelays(), r.add}
		_, _ = climb(t.Context(), l, "asking", "u", func(context.Context) (int, error) {
			return 0, &passing{err: errors.New("refused")}
		})
		var kinds []EventKind
		var waits []time.Duration
		for _, e := range r.events {
			kinds = append(kinds, e.Kind)
			if e.Kind == EventWait {
				waits = append(waits, e.Wait)
			}
		}
		want := []EventKind{EventAttempt, EventWait, EventAttempt, EventWait, EventAttempt, EventWait, EventAttempt}
		if !slices.Equal(kinds, want) || !slices.Equal(waits, DefaultRetryDelays()) {
			t.Errorf("events %v with waits %v", kinds, waits)
		}
	})
}

func TestLadderCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("operator pressed ^C")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(1500*time.Millisecond, func() { cancel(stop) })
		start, tries := time.Now(), 0
		_, err := climb(ctx, ladder{DefaultRetryDelays(), func(Event) {}}, "asking", "u", func(context.Context) (int, error) {
			tries++
			return 0, &passing{err: errors.New("refused")}
		})
		if !errors.Is(err, stop) || tries != 2 || time.Since(start) != 1500*time.Millisecond {
			t.Errorf("got %v after %d tries in %v", err, tries, time.Since(start))
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-3": 0, "0": 0, "soon": 0, "99999999999999999999": 0,
		now.Add(7 * time.Second).Format(http.TimeFormat): 7 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):      0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("Retry-After %q gives %v, want %v", v, got, want)
		}
	}
}

// TestAnsweredIsReachable: who got an answer need not look for the server.
func TestAnsweredIsReachable(t *testing.T) {
	for _, answered := range []bool{false, true} {
		l := ladder{events: func(Event) {}}
		_, err := climb(t.Context(), l, "asking", "https://a/token", func(context.Context) (int, error) {
			return 0, &passing{err: errors.New("503"), answered: answered}
		})
		if hints := strings.Join(fault.HintsOf(err), " "); strings.Contains(hints, "curl") == answered || fault.KindOf(err) != fault.Transient {
			t.Errorf("answered %v: %v, hints %q", answered, err, hints)
		}
	}
}
