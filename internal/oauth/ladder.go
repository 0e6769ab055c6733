package oauth

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/stella-ops/stella/internal/fault"
)

// MaxRetryAfter is the longest wait that a server may ask for; a longer one
// ends the ladder, and the error names it.
const MaxRetryAfter = time.Minute

// DefaultRetryDelays are the waits between attempts: 1 s, 2 s, 5 s.
func DefaultRetryDelays() []time.Duration {
	return []time.Duration{time.Second, 2 * time.Second, 5 * time.Second}
}

// passing marks an error that the next attempt may not meet.
type passing struct {
	err      error
	after    time.Duration // Retry-After of the server; zero when it named none
	answered bool          // by an HTTP status: it is reachable
}

func (p *passing) Error() string { return p.err.Error() }
func (p *passing) Unwrap() error { return p.err }

// ladder retries passing failures after exactly its delays, or after the
// server's Retry-After where that is longer.
type ladder struct {
	delays []time.Duration
	events func(Event)
}

// climb runs do until it succeeds, fails for good, or the delays are used up.
// Then the error is of kind Transient and says what to check. what completes
// the sentence "… : no answer".
func climb[T any](ctx context.Context, l ladder, what, url string, do func(context.Context) (T, error)) (T, error) {
	attempt, last := 0, &passing{}
	steps := &steps{delays: l.delays, last: last}
	v, err := backoff.Retry(ctx, func() (T, error) {
		attempt++
		l.events(Event{Kind: EventAttempt, URL: url, Attempt: attempt, Of: len(l.delays) + 1})
		v, err := do(ctx)
		var p *passing
		if err != nil && !errors.As(err, &p) {
			return v, backoff.Permanent(err)
		}
		if p != nil {
			*last = *p
		}
		return v, err
	}, backoff.WithBackOff(steps), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, d time.Duration) {
		l.events(Event{Kind: EventWait, URL: url, Attempt: attempt, Of: len(l.delays) + 1, Wait: d, Message: err.Error()})
	}))
	var p *passing
	if !errors.As(err, &p) {
		return v, err
	}
	e := fault.Errorf(fault.Transient, "%s: no answer that helps after %d of %d attempts: %w", what, attempt, len(l.delays)+1, p.err)
	if p.after > MaxRetryAfter {
		e.Hint("the server asks to be left alone for %s", p.after)
	}
	if p.answered {
		return v, e.Hint("the server is reachable and cannot do this now; its log says why")
	}
	return v, e.Hint("check that the server runs and is reachable: curl -sSI %s", url)
}

// steps is a backoff.BackOff with exact delays. The library's own way to
// honour Retry-After would start the delays anew each time.
type steps struct {
	delays []time.Duration
	next   int
	last   *passing
}

func (s *steps) Reset() { s.next = 0 }

func (s *steps) NextBackOff() time.Duration {
	if s.next >= len(s.delays) || s.last.after > MaxRetryAfter {
		return backoff.Stop
	}
	s.next++
	return max(s.delays[s.next-1], s.last.after)
}

// retryAfter reads a Retry-After header (RFC 9110 section 10.2.3); zero when
// it is absent or makes no sense.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 && n < 1<<30 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}
