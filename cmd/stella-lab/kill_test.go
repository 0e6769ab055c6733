package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/signals"
	"github.com/stella-ops/stella/internal/testenv"
)

// killing is a load on a lab, and what was killed under it.
type killing struct {
	*lab
	tally   *tally
	over    atomic.Bool // no more requests are begun
	workers sync.WaitGroup
	callers []*caller
	kills   []kill
}

type kill struct {
	url           string
	sent, noticed time.Time
}

// work repeats what do does until the load is over. An error is one of the
// test unless a request of the caller was lost meanwhile.
func (k *killing) work(t *testing.T, c *caller, do func(ctx context.Context) error) {
	k.callers = append(k.callers, c)
	k.workers.Go(func() {
		for !k.over.Load() && t.Context().Err() == nil {
			before := c.losses()
			if err := do(t.Context()); err != nil && c.losses() == before {
				k.tally.note("%s: %v", c.id, err)
			}
		}
	})
}

// pair is one person's client, which can send a request twice at once.
type pair struct{ one, two *caller }

// both sends a form twice at once.
func (p pair) both(ctx context.Context, form url.Values) (a, b reply, err error) {
	var errs [2]error
	var second sync.WaitGroup
	second.Go(func() { b, errs[1] = p.two.token(ctx, form) })
	a, errs[0] = p.one.token(ctx, form)
	second.Wait()
	return a, b, errors.Join(errs[0], errs[1])
}

// person logs in, uses the code twice at once, and refreshes.
func (k *killing) person(t *testing.T, name string) {
	t.Helper()
	prover := newProver(t)
	p := pair{k.caller(t, personalID, "", prover), k.caller(t, personalID, "", prover)}
	p.two.recorder, p.two.http = p.one.recorder, p.one.http
	k.work(t, p.one, func(ctx context.Context) error {
		code, err := p.one.login(ctx, name)
		if err != nil {
			return err
		}
		a, b, err := p.both(ctx, deviceForm(code))
		if err != nil {
			return err
		}
		k.tally.spent("code", code, a, b)
		if a.Refresh == "" {
			a = b
		}
		return k.refresh(ctx, p, a.Refresh)
	})
}

// refresh follows a family of refresh tokens for a while, and ends it by using
// one twice at once. What was lost is sent again.
func (k *killing) refresh(ctx context.Context, p pair, token string) error {
	for range 4 {
		if token == "" {
			return nil // lost
		}
		r, err := p.one.token(ctx, refreshForm(token))
		if err != nil {
			return err
		}
		k.tally.spent("refresh token", token, r)
		if !r.Lost {
			token = r.Refresh
		}
	}
	if token == "" {
		return nil
	}
	a, b, err := p.both(ctx, refreshForm(token))
	if err != nil {
		return err
	}
	// Neither may be good: a second use ends the family, and so the first.
	k.tally.atMostOnce("refresh token", token, a, b)
	return nil
}

// service mints tokens and asks about each.
func (k *killing) service(t *testing.T, id, secretFile string) {
	t.Helper()
	c := k.caller(t, id, secretFile, newProver(t))
	k.work(t, c, func(ctx context.Context) error {
		r, err := c.token(ctx, clientForm())
		if err != nil || r.Access == "" {
			return errors.Join(fmt.Errorf("minting: %s", r), err)
		}
		k.tally.did("client_credentials")
		answer, _, err := c.form(ctx, "/introspect", url.Values{"token": {r.Access}}, nil)
		if err != nil || !answer.Active {
			return errors.Join(fmt.Errorf("introspection of a new token: %s, active %t", answer, answer.Active), err)
		}
		k.tally.did("introspection")
		return nil
	})
}

// goOn waits until n more of each kind have succeeded.
func (k *killing) goOn(t *testing.T, what string, n int) {
	t.Helper()
	begun, _ := k.tally.now()
	deadline := time.Now().Add(time.Minute)
	for {
		done, wrong := k.tally.now()
		ready := true
		for _, kind := range []string{"code", "refresh token", "client_credentials", "introspection"} {
			ready = ready && done[kind] >= begun[kind]+n
		}
		if len(wrong) > 0 {
			t.Fatalf("%s: %q", what, wrong[:min(len(wrong), 5)])
		}
		if ready {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: the load has stopped: %v after %v", what, done, begun)
		}
		if err := signals.Sleep(t.Context(), 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// unhurried are the lifetimes where no key is rotated: nothing is to be too
// late on a slow machine.
func unhurried() testenv.Lifetimes {
	return testenv.Lifetimes{Cache: time.Minute, Skew: 5 * time.Second, Lease: time.Minute, Poll: time.Second, Token: time.Minute}
}

// explain shows what the replicas said last if the test fails.
func (l *lab) explain(t *testing.T) {
	t.Cleanup(func() {
		for i := range l.Replicas {
			if t.Failed() {
				t.Logf("%s:\n%s", testenv.ReplicaName(i), l.Replica(i).Tail())
			}
		}
	})
}

// kill9 kills a replica without notice.
func (l *lab) kill9(i int) kill {
	p := l.Replica(i)
	k := kill{url: p.URL(), sent: time.Now()}
	p.Kill()
	k.noticed = time.Now()
	return k
}

func (l *lab) restart(t *testing.T, i int) {
	t.Helper()
	if err := l.StartReplica(t.Context(), i); err != nil {
		t.Fatal(err)
	}
}

// TestKillUnderLoad: each of three replicas is killed once while people log in
// and refresh, and services mint and introspect. No token is given twice for
// one code or refresh token, nothing but what a dying replica had in hand is
// lost, and the others go on.
func TestKillUnderLoad(t *testing.T) {
	l := startLab(t, testenv.FleetOptions{Replicas: 3, FreshConns: true, MTLS: true, Lifetimes: unhurried()})
	l.explain(t)
	k := &killing{lab: l, tally: newTally()}
	if err := l.RegisterPublic(t.Context(), personalID, testenv.LoadScope, testenv.LoadAudience); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ana", "bob"} {
		if err := l.RegisterUser(t.Context(), name, password, testenv.LoadScope); err != nil {
			t.Fatal(err)
		}
		k.person(t, name)
		k.person(t, name) // twice: on two devices
	}
	for _, id := range []string{"one", "two", "three"} {
		secretFile, err := l.Register(t.Context(), id, testenv.LoadScope, testenv.LoadAudience)
		if err != nil {
			t.Fatal(err)
		}
		k.service(t, id, secretFile)
	}
	withCert, err := l.RegisterTLS(t.Context(), "tls", testenv.LoadScope, testenv.LoadAudience)
	if err != nil {
		t.Fatal(err)
	}
	k.goOn(t, "before the first kill", 3)
	for i := range l.Replicas {
		k.kills = append(k.kills, l.kill9(i))
		k.goOn(t, "without "+testenv.ReplicaName(i), 3)
		l.restart(t, i)
		k.goOn(t, "with "+testenv.ReplicaName(i)+" again", 3)
		c := l.caller(t, "tls", "", nil)
		c.at, c.http = l.MTLSURL(i), withCert
		if r, err := c.token(t.Context(), clientForm()); err != nil || r.Access == "" {
			t.Errorf("a client with a certificate at %s: %s, %v", testenv.ReplicaName(i), r, err)
		}
	}
	k.over.Store(true)
	k.workers.Wait()
	k.verdict(t)
}

// verdict looks at what was lost, and when.
func (k *killing) verdict(t *testing.T) {
	t.Helper()
	done, wrong := k.tally.now()
	lost := 0
	for _, c := range k.callers {
		lost += c.losses()
		wrong = append(wrong, c.wrong...)
	}
	if len(wrong) > 0 {
		t.Errorf("wrong: %q", wrong[:min(len(wrong), 10)])
	}
	losses := k.Losses()
	t.Logf("%v; lost with 3 kills: %d", done, lost)
	if len(losses) != lost {
		t.Errorf("the proxy lost %d requests, the clients %d", len(losses), lost)
	}
	for _, x := range losses {
		inFlight := false
		for _, kill := range k.kills {
			inFlight = inFlight || x.Backend == kill.url && x.Began.Before(kill.noticed) && x.Failed.After(kill.sent)
		}
		if !inFlight {
			t.Errorf("%s at %s was lost between %s and %s, which no kill explains", x.Request, x.Backend,
				x.Began.Format("15:04:05.000"), x.Failed.Format("15:04:05.000"))
		}
	}
}

// TestLimitUnderKills: with a Redis that the replicas share, no more than one
// budget passes in any window, whichever replica is killed; the control takes
// the Redis away, and the replicas' own budgets add up.
func TestLimitUnderKills(t *testing.T) {
	const limit = 10
	redis := testenv.Redis(t)
	l := startLab(t, testenv.FleetOptions{
		Replicas: 3, FreshConns: true, RedisURL: redis.URL(), TokenLimit: limit, TokenWindow: time.Second, Lifetimes: unhurried(),
	})
	l.explain(t)
	secretFile, err := l.RegisterBearer(t.Context(), "limited", testenv.LoadScope, testenv.LoadAudience)
	if err != nil {
		t.Fatal(err)
	}
	w := newWindows(time.Second)
	k := &killing{lab: l, tally: newTally()}
	for range 4 {
		c := l.caller(t, "limited", secretFile, nil)
		k.work(t, c, func(ctx context.Context) error {
			sent := time.Now()
			r, err := c.token(ctx, clientForm())
			switch {
			case err != nil || r.Lost || r.Status != 200 && r.Status != 429:
				return errors.Join(errors.New(r.String()), err)
			}
			w.add(sent, time.Now(), r.Status == 200)
			return signals.Sleep(ctx, 5*time.Millisecond) // so that others get a turn, the Redis above all
		})
	}
	full := func(what string, n int) {
		t.Helper()
		l.until(t, what, func() bool { _, now := w.most(0, limit); return now >= n })
	}
	full("windows without kills", 1)
	for i := range l.Replicas {
		k.kills = append(k.kills, l.kill9(i))
		full("a window without "+testenv.ReplicaName(i), 2+2*i)
		l.restart(t, i)
		full("a window with it again", 3+2*i)
	}
	most, n := w.most(0, limit)
	t.Logf("shared: at most %d in a window, %d windows full, %d refused", most, n, w.refused())
	for i := range l.Replicas {
		if log, err := os.ReadFile(l.Replica(i).Log); err != nil || strings.Contains(string(log), "shared counter of rate limits is out of reach") {
			t.Fatalf("%s did not reach the Redis in time, so this machine is too slow for this test: %v", testenv.ReplicaName(i), err)
		}
	}
	if wrong := w.over(limit); len(wrong) > 0 {
		t.Errorf("more than the limit: %q", wrong)
	}

	redis.Kill()
	after := w.number(time.Now()) + 1
	l.until(t, "control: more than one budget passes without the Redis", func() bool {
		most, _ := w.most(after, limit)
		return most > limit
	})
	k.over.Store(true)
	k.workers.Wait()
	k.verdict(t)
}

// until polls until ok.
func (l *lab) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		if err := signals.Sleep(t.Context(), 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}
