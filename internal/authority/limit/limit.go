// Package limit holds callers to a number of requests in each window of time,
// for all replicas together.
//
// It guarantees that no caller gets more than the permits of a window from all
// replicas that share a counter, however many requests race; that a caller is
// an address (a /64 of IPv6) with, if it is registered, a client, so nobody at
// another address uses up the budget; that Retry-After is exact to the second;
// and that memory is bounded. While the shared counter is out of reach each
// replica holds callers to its own count: never closed, never open.
package limit

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// Endpoint is a group of paths with a rule of its own.
type Endpoint string

// The endpoints.
const (
	Token     Endpoint = "token"     // /token, /revoke, /introspect and the like
	Authorize Endpoint = "authorize" // device authorization and its pages
	Internal  Endpoint = "internal"  // /internal
)

// Rule is the budget of one caller at one endpoint: PermitLimit requests in
// each window of fixed place and length; windows begin at multiples of Window
// since 1970. QueueLimit more wait for the next window and compete there with
// its own requests.
type Rule struct {
	Enabled     bool
	PermitLimit int           // 1 to MaxPermits
	Window      time.Duration // 1 s to 1 h, whole seconds
	QueueLimit  int           // of one caller on one replica, 0 to MaxQueue
}

// Bounds of a Rule.
const (
	MaxPermits = 1_000_000
	MaxQueue   = 1000
	minWindow  = time.Second
	maxWindow  = time.Hour
)

// Check reports what is wrong with r, as an error of kind fault.Config.
func (r Rule) Check() error {
	switch {
	case r.PermitLimit < 1 || r.PermitLimit > MaxPermits:
		return fault.Errorf(fault.Config, "permitLimit is %d, want 1 to %d", r.PermitLimit, MaxPermits)
	case r.Window < minWindow || r.Window > maxWindow || r.Window%time.Second != 0:
		return fault.Errorf(fault.Config, "window is %s, want whole seconds from %s to %s", r.Window, minWindow, maxWindow)
	case r.QueueLimit < 0 || r.QueueLimit > MaxQueue:
		return fault.Errorf(fault.Config, "queueLimit is %d, want 0 to %d", r.QueueLimit, MaxQueue)
	}
	return nil
}

// Rules are the rules of the endpoints. One without a rule has no limit.
type Rules map[Endpoint]Rule

// Defaults returns the rules of an empty configuration.
func Defaults() Rules {
	return Rules{
		Token:     {Enabled: true, PermitLimit: 30, Window: time.Minute},
		Authorize: {Enabled: true, PermitLimit: 60, Window: time.Minute, QueueLimit: 10},
		Internal:  {Enabled: false, PermitLimit: 5, Window: time.Minute},
	}
}

// Counter counts for all replicas. Count adds one to the counter of a name and
// returns what it is now; each call gets another number. It may forget a
// counter ttl after its first call. An error means that the counter is out of
// reach.
type Counter interface {
	Count(ctx context.Context, name string, ttl time.Duration) (int64, error)
}

// Options of a Limiter.
type Options struct {
	// Rules returns the rules in force; called for every request.
	Rules func() Rules
	// Shared counts for all replicas; nil where there is one replica.
	Shared Counter
	// Timeout bounds one call of Shared; 0 for 250 ms.
	Timeout time.Duration
	// MaxWait bounds how long a request waits in a queue; one that would have
	// to wait longer is refused at once. 0 for 30 s: the caller's own patience
	// and the server's bound on an answer (60 s) must not end first.
	MaxWait time.Duration
	// MaxCallers bounds how many callers of an endpoint are counted one by one
	// in a window; 0 for 65536. The others of that window share 1024 budgets,
	// chosen by a secret hash, on each replica: a flood from many addresses
	// makes it tight for newcomers, and for nobody else, and opens nothing.
	MaxCallers int
	// MaxWaiting bounds how many requests wait in all queues; 0 for 1024.
	MaxWaiting int
	// Now is the clock; nil for time.Now.
	Now func() time.Time
	// Log is told of refusals and of the shared counter's coming and going;
	// nil for none.
	Log *slog.Logger
	// Rejected is called for each refusal, for metrics and the audit; nil for
	// none. The limiter of the metric is called "authority-" and the endpoint.
	Rejected func(ctx context.Context, e Endpoint)
	// SharedUp is called with false when the shared counter goes out of reach
	// and with true when it is back; nil for none.
	SharedUp func(up bool)
}

// Decision is the answer to one request.
type Decision struct {
	Allowed bool
	// RetryAfter is, for a refusal, how long to wait, in whole seconds: a call
	// then finds a new window, a call one second earlier does not.
	RetryAfter time.Duration
	Limit      int       // permits of a window; 0 without a limit
	Remaining  int       // permits left in this window, at the time of the decision
	Reset      time.Time // end of the window; zero without a limit
}

// Take asks for one permit for a caller: the address it comes from and, if it
// named a registered client, the client's id, else "". It waits where the rule
// has a queue with room. The error is that of a ctx that ended meanwhile; then
// there is no permit.
func (l *Limiter) Take(ctx context.Context, e Endpoint, remote netip.Addr, client string) (Decision, error) {
	rule, ok := l.o.Rules()[e]
	if !ok || !rule.Enabled {
		return Decision{Allowed: true}, ctx.Err()
	}
	k := caller{network(remote), client}
	d, err := l.take(ctx, e, rule, k)
	if err != nil || d.Allowed {
		return d, err
	}
	if wait := d.Reset.Sub(l.o.Now()); wait <= l.o.MaxWait && l.enter(e, k, rule.QueueLimit) {
		err := sleep(ctx, wait)
		l.leave(e, k)
		if err != nil {
			return Decision{}, err
		}
		if d, err = l.take(ctx, e, rule, k); err != nil || d.Allowed {
			return d, err
		}
	}
	if l.o.Rejected != nil {
		l.o.Rejected(ctx, e)
	}
	return d, nil
}

// take decides without waiting.
func (l *Limiter) take(ctx context.Context, e Endpoint, rule Rule, k caller) (Decision, error) {
	if err := ctx.Err(); err != nil {
		return Decision{}, err
	}
	now := l.o.Now()
	n, win, exact := l.tables[e].add(k, rule, now)
	// This replica's own count is enough to refuse, and what it refuses costs
	// the shared counter nothing.
	if n <= int64(rule.PermitLimit) && exact && l.o.Shared != nil {
		n = max(n, l.shared(ctx, e, rule, k, win, now))
	}
	d := Decision{
		Allowed: n <= int64(rule.PermitLimit), Limit: rule.PermitLimit,
		Remaining: int(max(int64(rule.PermitLimit)-n, 0)), Reset: win.end(rule.Window),
	}
	if !d.Allowed {
		d.RetryAfter = seconds(d.Reset.Sub(now))
	}
	return d, ctx.Err()
}

// seconds rounds up, so that whoever waits as told does not come too early.
func seconds(d time.Duration) time.Duration {
	return max((d+time.Second-1)/time.Second, 1) * time.Second
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// network is what counts as one address: whoever has an IPv6 /64 has 2^64
// addresses.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
