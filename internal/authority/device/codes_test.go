package device_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/store/mongostore"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/testenv"
)

// stores runs a test on every store, with a function that opens a handle.
func stores(t *testing.T, f func(t *testing.T, open func() store.Records)) {
	t.Run("mem", func(t *testing.T) {
		s := mem.New(0)
		f(t, func() store.Records { return s })
	})
	t.Run("mongo", func(t *testing.T) {
		uri, database := testenv.Mongo(t)
		f(t, func() store.Records {
			s, err := mongostore.Open(mongostore.Options{URI: uri, Database: database, Timeout: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close(context.WithoutCancel(t.Context())) })
			if err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}

func codesOn(r store.Records, c *clock) *device.Codes {
	return &device.Codes{Records: r, Lifetime: func() time.Duration { return 15 * time.Minute }, Now: c.now}
}

// replicas are three replicas over two handles of one store.
func replicas(open func() store.Records, c *clock) []*device.Codes {
	a, b := open(), open()
	return []*device.Codes{codesOn(a, c), codesOn(b, c), codesOn(a, c)}
}

// parallel calls f n times at once and counts what it returned.
func parallel(n int, f func(i int) string) map[string]int {
	got, start := map[string]int{}, make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			s := f(i)
			mu.Lock()
			defer mu.Unlock()
			got[s]++
		})
	}
	close(start)
	wg.Wait()
	return got
}

func begin(t *testing.T, c *device.Codes) *device.Issued {
	t.Helper()
	i, err := c.Begin(t.Context(), device.Request{ClientID: "stella-cli", Scopes: []string{"a", "b"}, Audience: "api://x", Tenants: []string{"acme"}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

var approval = &device.Approval{Subject: "usr_1", Username: "alice", Tenant: "acme", Scopes: []string{"a"}, Audience: "api://x", ClientID: "stella-cli"}

func code(err error) string {
	if err == nil {
		return "ok"
	}
	return wire.AsRefusal(err).Code
}

// Of 50 redemptions at once, over three replicas and two handles, one wins.
func TestRedeemOnce(t *testing.T) {
	stores(t, func(t *testing.T, open func() store.Records) {
		all := replicas(open, newClock())
		i := begin(t, all[0])
		if err := device.Decide(t.Context(), all[1], i.UserCode, approval); err != nil {
			t.Fatal(err)
		}
		got := parallel(50, func(n int) string {
			c := all[n%len(all)]
			a, err := c.Check(t.Context(), i.DeviceCode, "stella-cli")
			if err == nil {
				err = c.Redeem(t.Context(), a)
			}
			return code(err)
		})
		if got["ok"] != 1 || got["invalid_grant"] != 49 {
			t.Errorf("%v", got)
		}
		if _, err := all[2].Check(t.Context(), i.DeviceCode, "stella-cli"); !errors.Is(err, device.ErrUsed) {
			t.Errorf("after that: %v", err)
		}
	})
}

// Of approvals and denials at once one holds, and all are told the same.
func TestDecideOnce(t *testing.T) {
	stores(t, func(t *testing.T, open func() store.Records) {
		all := replicas(open, newClock())
		i := begin(t, all[0])
		got := parallel(50, func(n int) string {
			a := approval
			if n%2 == 0 {
				a = nil
			}
			held, err := device.Held(t.Context(), all[n%len(all)], i.UserCode, a)
			return fmt.Sprint(held, err)
		})
		if len(got) != 1 {
			t.Errorf("%v", got)
		}
	})
}

// Of browsers that enter a code at once one owns it, and all are told which.
func TestClaimOnce(t *testing.T) {
	stores(t, func(t *testing.T, open func() store.Records) {
		all := replicas(open, newClock())
		i := begin(t, all[0])
		got := parallel(50, func(n int) string {
			owner, err := device.Claim(t.Context(), all[n%len(all)], i.UserCode, fmt.Sprint("browser ", n))
			return fmt.Sprint(owner, err)
		})
		if len(got) != 1 {
			t.Errorf("%v", got)
		}
	})
}

// Of polls at one moment one is in time, and each other one adds 5 s.
func TestPollRace(t *testing.T) {
	stores(t, func(t *testing.T, open func() store.Records) {
		c := newClock()
		all := replicas(open, c)
		i := begin(t, all[0])
		got := parallel(9, func(n int) string {
			_, err := all[n%len(all)].Check(t.Context(), i.DeviceCode, "stella-cli")
			return code(err)
		})
		if got["authorization_pending"] != 1 || got["slow_down"] != 8 {
			t.Errorf("%v", got)
		}
		c.add(43 * time.Second) // of 45
		if _, err := all[0].Check(t.Context(), i.DeviceCode, "stella-cli"); code(err) != "slow_down" {
			t.Errorf("before the new interval: %v", err)
		}
		c.add(50 * time.Second)
		if _, err := all[1].Check(t.Context(), i.DeviceCode, "stella-cli"); code(err) != "authorization_pending" {
			t.Errorf("at the new interval: %v", err)
		}
	})
}

type poll struct {
	after time.Duration // after the one before
	want  string        // the interval: in time with the first one or with ok, else slow_down
}

// Each row is a run of polls.
func TestSlowDown(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for name, polls := range map[string][]poll{
		"at the interval":         {{0, "5"}, {5 * s, "5"}, {5 * s, "5"}, {7 * s, "5"}, {5 * s, "5"}},
		"a little early":          {{0, "5"}, {4100 * ms, "5"}, {4100 * ms, "5"}, {4100 * ms, "5"}},
		"too early":               {{0, "5"}, {3900 * ms, "10"}},
		"too early across a slot": {{3900 * ms, "5"}, {200 * ms, "10"}},
		"10 s from then on":       {{0, "5"}, {s, "10"}, {9100 * ms, "10 ok"}, {10 * s, "10 ok"}, {8900 * ms, "15"}},
		"each one adds 5 s":       {{0, "5"}, {s, "10"}, {s, "15"}, {s, "20"}, {18900 * ms, "25"}, {24100 * ms, "25 ok"}},
		"counted from the early":  {{0, "5"}, {3900 * ms, "10"}, {8 * s, "15"}},
		"patience is rewarded":    {{0, "5"}, {s, "10"}, {time.Minute, "10 ok"}, {10 * s, "10 ok"}},
		"not without an end":      append([]poll{{0, "5"}}, hurried(30)...),
	} {
		c := newClock()
		codes := codesOn(mem.New(0), c)
		i := begin(t, codes)
		for n, p := range polls {
			c.add(p.after)
			_, err := codes.Check(t.Context(), i.DeviceCode, "stella-cli")
			var slow *device.SlowDown
			switch {
			case errors.As(err, &slow):
				if got := fmt.Sprint(int(slow.Interval.Seconds())); got != p.want {
					t.Errorf("%s, poll %d: slow_down to %s s, want %s", name, n, got, p.want)
				}
				if ref := wire.AsRefusal(err); ref.Code != wire.SlowDown || ref.StatusCode() != 400 || ref.RetryAfter != slow.Interval {
					t.Errorf("%s: %+v", name, ref)
				}
			case !errors.Is(err, device.ErrPending) || p.want != "5" && !strings.HasSuffix(p.want, "ok"):
				t.Errorf("%s, poll %d: %v, want %s", name, n, err, p.want)
			}
		}
	}
}

func hurried(n int) (all []poll) {
	for i := range n {
		all = append(all, poll{time.Millisecond, fmt.Sprint(min(5*(i+2), 120))})
	}
	return all
}

// Each row differs from the control in one thing.
func TestCheck(t *testing.T) {
	for name, row := range map[string]struct {
		code, client string
		after        time.Duration
		approve      *device.Approval
		undecided    bool
		want         error
	}{
		"control":              {},
		"last moment":          {after: 15*time.Minute - 1},
		"ended":                {after: 15 * time.Minute, want: device.ErrExpired},
		"another client":       {client: "other", want: device.ErrInvalid},
		"no client":            {client: "-", want: device.ErrInvalid},
		"unknown code":         {code: strings.Repeat("A", 43), want: device.ErrInvalid},
		"not a code":           {code: "user/BCDFGHJK", want: device.ErrInvalid},
		"empty code":           {code: "-", want: device.ErrInvalid},
		"undecided":            {undecided: true, want: device.ErrPending},
		"undecided and ended":  {undecided: true, after: 15 * time.Minute, want: device.ErrExpired},
		"another client's end": {client: "other", after: 15 * time.Minute, want: device.ErrInvalid},
	} {
		c := newClock()
		codes := codesOn(mem.New(0), c)
		i := begin(t, codes)
		if !row.undecided {
			if err := device.Decide(t.Context(), codes, i.UserCode, approval); err != nil {
				t.Fatal(err)
			}
		}
		c.add(row.after)
		deviceCode, client := i.DeviceCode, "stella-cli"
		if row.code != "" {
			deviceCode = strings.Trim(row.code, "-")
		}
		if row.client != "" {
			client = strings.Trim(row.client, "-")
		}
		a, err := codes.Check(t.Context(), deviceCode, client)
		if !errors.Is(err, row.want) || (err == nil) != (a != nil) {
			t.Errorf("%s: %+v %v", name, a, err)
		}
		if a != nil && (a.Subject != "usr_1" || a.Tenant != "acme" || len(a.Scopes) != 1) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	codes := codesOn(mem.New(0), newClock())
	i := begin(t, codes)
	if err := device.Decide(t.Context(), codes, i.UserCode, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a denial stays
		if _, err := codes.Check(t.Context(), i.DeviceCode, "stella-cli"); !errors.Is(err, device.ErrDenied) {
			t.Errorf("denied: %v", err)
		}
	}
}

// What is swept is not known any more, but never before its end, and what
// says that a code was used goes no sooner than the code.
func TestSweep(t *testing.T) {
	c, st := newClock(), mem.New(0)
	codes := codesOn(st, c)
	i := begin(t, codes)
	if err := device.Decide(t.Context(), codes, i.UserCode, approval); err != nil {
		t.Fatal(err)
	}
	a, err := codes.Check(t.Context(), i.DeviceCode, "stella-cli")
	if err != nil {
		t.Fatal(err)
	}
	if err := codes.Redeem(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		after time.Duration
		want  error
	}{{0, device.ErrUsed}, {15*time.Minute - 1, device.ErrUsed}, {time.Hour, device.ErrUsed}, {time.Second, device.ErrInvalid}} {
		c.add(row.after)
		if err := st.SweepRecords(t.Context(), c.now()); err != nil {
			t.Fatal(err)
		}
		if _, err := codes.Check(t.Context(), i.DeviceCode, "stella-cli"); !errors.Is(err, row.want) {
			t.Errorf("after %v: %v, want %v", row.after, err, row.want)
		}
	}
}

// While the store fails in any one place, whether it wrote or not, nothing is
// granted and nothing is granted twice.
func TestStoreFails(t *testing.T) {
	for _, persist := range []bool{false, true} {
		for _, place := range []string{"read device_codes", "read device_events redeemed", "read device_events decision", "insert device_events redeemed"} {
			f := &faulty{Records: mem.New(0)}
			codes := codesOn(f, newClock())
			i := begin(t, codes)
			if err := device.Decide(t.Context(), codes, i.UserCode, approval); err != nil {
				t.Fatal(err)
			}
			run := func() error {
				a, err := codes.Check(t.Context(), i.DeviceCode, "stella-cli")
				if err == nil {
					err = codes.Redeem(t.Context(), a)
				}
				return err
			}
			hit := false
			f.set(persist, func(op string, kind store.Kind, id string) bool {
				_, event, _ := strings.Cut(id, "/")
				now := strings.TrimSpace(op+" "+string(kind)+" "+event) == place
				hit = hit || now
				return now
			})
			if err := run(); !hit || wire.AsRefusal(err).StatusCode() != http.StatusServiceUnavailable {
				t.Errorf("%s: reached %t: %v", place, hit, err)
			}
			f.set(false, nil)
			want := "ok"
			if persist && strings.HasPrefix(place, "insert") {
				want = "invalid_grant" // it happened: never twice
			}
			if err := run(); code(err) != want {
				t.Errorf("%s, persisting %t, then: %v, want %s", place, persist, err, want)
			}
		}
	}
}
