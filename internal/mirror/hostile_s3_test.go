package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

// TestRealS3 breaks what comes from a real S3 gateway. Each answer that is not
// spoiled is the gateway's own.
func TestRealS3(t *testing.T) {
	t.Parallel()
	const size = 7 << 20 // several pieces at once
	for _, c := range []struct {
		name string
		kind fault.Kind
		why  release.Reason
		do   func(*exchange) bool
	}{
		{name: "control", do: func(*exchange) bool { return false }},
		{name: "503 for a while", do: func(e *exchange) bool { return e.nth <= 3 && e.status(503) }},
		{name: "503 for ever", kind: fault.Transient, do: func(e *exchange) bool { return e.status(503) }},
		{name: "503 for a member for ever", kind: fault.Transient, do: on(bigPath, func(e *exchange) bool { return e.status(503) })},
		{name: "each piece cut once", do: on(bigPath, func(e *exchange) bool { return e.nth%2 == 1 && e.cut(700<<10) })},
		{name: "each piece cut for ever", kind: fault.Transient, do: on(bigPath, func(e *exchange) bool { return e.cut(70 << 10) })},
		{name: "slow", kind: fault.Trust, why: release.TooSlow, do: on(bigPath, func(e *exchange) bool { return e.drip(10, time.Second/10) })},
		{name: "slow, but above the floor", do: on(bundlePath, func(e *exchange) bool { return e.drip(1, time.Millisecond) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, o := newRelay(t)
			w.m.Policy = w.policy(slowRule)
			one := w.publish(1)
			w.good(one)
			extra := big(size)
			two := w.more(2, extra)
			o.bad(c.do)
			_, err := w.sync()
			if fault.KindOf(err) != c.kind || release.ReasonOf(err) != c.why {
				t.Fatalf("kind %v, reason %q, want %v, %q: %v", fault.KindOf(err), release.ReasonOf(err), c.kind, c.why, err)
			}
			if err == nil {
				w.shows(two)
				var sent int64
				for _, a := range o.requests(bigPath) {
					sent += a.sent
				}
				if sent != size {
					t.Errorf("%d bytes came over the line for a member of %d", sent, size)
				}
				return
			}
			w.shows(one)
			o.bad(nil)
			w.good(two)
		})
	}
}

// TestBucketDenied: a bucket that one may not read is said to be that, with
// what to do; it is no refusal of a release.
func TestBucketDenied(t *testing.T) {
	t.Parallel()
	w := worldOn(t, inBucket)
	one := w.publish(1)
	w.good(one)
	two := w.publish(2)
	server, err := lab.gateway()
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := server.AddUser()
	if err != nil {
		t.Fatal(err)
	}
	wrong := nobody
	wrong.SecretKey += "x"
	mine := w.m.Open
	for name, user := range map[string]s3server.User{"no rights": nobody, "wrong secret": wrong, "unknown": {AccessKey: "nobody", SecretKey: "nothing"}} {
		for _, feed := range []string{"release", "tree"} {
			w.m.Open = func(ctx context.Context, p objstore.Place) (objstore.Reader, error) {
				return server.ClientAs(ctx, user, p.String())
			}
			w.feed.Shape = mirror.Shape(feed)
			_, err := w.sync()
			if fault.KindOf(err) != fault.Denied || !errors.Is(err, objstore.ErrDenied) || len(fault.HintsOf(err)) == 0 {
				t.Errorf("%s, %s: %v %q", name, feed, err, fault.HintsOf(err))
			}
			w.feed.Shape = ""
			w.shows(one)
		}
	}
	w.m.Open = mine
	if st, err := w.m.Status("concelier"); err != nil || len(st.Refusals) != 0 {
		t.Errorf("%v %v", err, st.Refusals)
	}
	w.good(two)
}

// TestNoBucket: a source that is not there is no emptied one.
func TestNoBucket(t *testing.T) {
	t.Parallel()
	w := worldOn(t, inBucket)
	server, err := lab.gateway()
	if err != nil {
		t.Fatal(err)
	}
	w.from(place(t, "s3://no-such-bucket-here/concelier/latest"), func(ctx context.Context, p objstore.Place) (closer, error) {
		return server.Client(ctx, p.String())
	})
	for _, shape := range []string{"release", "tree"} {
		w.feed.Shape = mirror.Shape(shape)
		if _, err := w.sync(); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s: %v", shape, err)
		}
	}
}

// TestTwoAtOnce: of two syncs one runs; the other is told so at once.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	w, o := newOrigin(t, onWeb)
	one := w.publish(1)
	w.good(one)
	two := w.publish(2)
	w.m.Notify = nil // that of this world is for one run at a time
	inside, leave := make(chan struct{}), make(chan struct{})
	o.bad(on(bundlePath, once(func(*exchange) bool { close(inside); <-leave; return false })))
	done := make(chan error)
	go func() { _, err := w.m.Sync(t.Context(), w.feed, false); done <- err }()
	<-inside
	other := *w.m
	other.Operator = "other@host"
	for range 3 {
		began := time.Now()
		_, err := other.Sync(t.Context(), w.feed, false)
		if took := time.Since(began); fault.KindOf(err) != fault.Locked || took > 5*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
	}
	if _, err := other.Sync(t.Context(), w.feed, true); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	w.shows(one)
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.shows(two)
	if st, err := w.m.Status("concelier"); err != nil || fmt.Sprint(st.Releases) != "[20260301T010000Z 20260301T020000Z]" {
		t.Errorf("%v %+v", err, st)
	}
}
