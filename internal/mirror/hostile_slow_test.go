package mirror_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
)

// The floor of these tests. Its window is the shortest that a policy may have.
const (
	floor    = 1024 // bytes a second
	slowRule = "limits: {minimum_rate: 1024, rate_window: 1s}"
)

// slowly is a source that takes its time.
type slowly struct {
	name string
	kind fault.Kind
	why  release.Reason
	on   sourceKind
	do   func(*exchange) bool
	// asked bounds how often the key that is slow is asked for.
	key   string
	asked int
	least time.Duration // a run that takes less proves nothing
	files map[string][]byte
	delay []time.Duration // before further tries; nil for one without delay
}

func slowlies() []slowly {
	st := release.FileStatement
	// One byte a second, and ten times the floor: the same bytes.
	trickle := func(e *exchange) bool { return e.drip(1, time.Second) }
	brisk := func(e *exchange) bool { return e.drip(floor/2, 50*time.Millisecond) }
	// Half the floor each, 16 at once.
	thin := func(e *exchange) bool {
		return strings.HasSuffix(e.key, ".bin") && e.drip(floor/2/10, time.Second/10)
	}
	many := map[string][]byte{}
	for i := range 16 {
		many[fmt.Sprintf("mirror/primary/%d.bin", i)] = big(1200)[bigPath]
	}
	return []slowly{
		{name: "statement at 1 byte a second", kind: fault.Trust, why: release.TooSlow, do: on(st, trickle), key: st, asked: 1},
		{name: "signature at 1 byte a second", kind: fault.Trust, why: release.TooSlow, do: on(release.FileSignature, trickle), key: release.FileSignature, asked: 1},
		{name: "member at 1 byte a second", kind: fault.Trust, why: release.TooSlow, do: on(bigPath, trickle), key: bigPath, asked: 1},
		{name: "member at 1 byte a second, S3", kind: fault.Trust, why: release.TooSlow, on: inBucket, do: on(bigPath, trickle), key: bigPath, asked: 1},
		{name: "control: member at ten times the floor", do: on(bigPath, brisk), key: bigPath, asked: 1, least: 1500 * time.Millisecond},
		{name: "control: all at ten times the floor, S3", on: inBucket, do: brisk, key: bigPath, asked: 1, least: 1500 * time.Millisecond},
		{name: "control: many requests over a thin line", do: thin, files: many, key: "mirror/primary/7.bin", asked: 1, least: 1500 * time.Millisecond},
		{name: "one request over that line", kind: fault.Trust, why: release.TooSlow, do: thin, key: bigPath, asked: 1},
		{name: "silence after the header", kind: fault.Transient, do: on(bigPath, func(e *exchange) bool { e.WriteHeader(200); e.flush(); return e.hang() }), key: bigPath, asked: 2},
		{name: "silence in the middle", kind: fault.Transient, do: on(bigPath, func(e *exchange) bool {
			_, _ = e.Write(e.data[:1000])
			e.flush()
			return e.hang()
		}), key: bigPath, asked: 2},
		{name: "silence in the middle once", do: on(bigPath, once(func(e *exchange) bool {
			e.Header().Set("Content-Length", fmt.Sprint(len(e.data)))
			_, _ = e.Write(e.data[:1000])
			e.flush()
			return e.hang()
		})), key: bigPath, asked: 2, least: time.Second},
		{name: "control: header byte by byte", do: on(st, func(e *exchange) bool {
			head := "HTTP/1.1 200 OK\r\nContent-Length: " + fmt.Sprint(len(e.data)) + "\r\n\r\n"
			return e.rawly(head, string(e.data), 40*time.Millisecond)
		}), key: st, asked: 1, least: time.Second},
	}
}

// TestSlow: who trickles is dropped at the floor, and that is a refusal; who is
// silent fails for now; who is only slow is read to the end. They wait side by
// side, so subtests are started by hand.
func TestSlow(t *testing.T) {
	t.Parallel()
	list := slowlies()
	if !testing.Short() { // it takes as long as the transport waits for a header
		list = append(list, slowly{name: "no header", kind: fault.Transient, do: on(release.FileStatement, (*exchange).hang), key: release.FileStatement, asked: 1, delay: []time.Duration{}})
	}
	var wg sync.WaitGroup
	for _, s := range list {
		wg.Go(func() { t.Run(s.name, s.run) })
	}
	wg.Wait()
}

func (s slowly) run(t *testing.T) {
	w, o := newOrigin(t, s.on)
	w.m.Policy = w.policy(slowRule)
	w.m.Parallel = 16
	if w.m.Delays = s.delay; s.delay == nil {
		w.m.Delays = []time.Duration{0}
	}
	one := w.publish(1)
	w.good(one)
	if s.files == nil {
		s.files = big(20 * floor)
	}
	two := w.more(2, s.files)
	o.bad(s.do)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a trickle would go on for hours
	defer cancel()
	began := time.Now()
	_, err := w.m.Sync(ctx, w.feed, false)
	took := time.Since(began)
	if fault.KindOf(err) != s.kind || release.ReasonOf(err) != s.why {
		t.Fatalf("after %s: kind %v, reason %q, want %v, %q: %v", took, fault.KindOf(err), release.ReasonOf(err), s.kind, s.why, err)
	}
	if n := len(o.requests(s.key)); n != s.asked || took < s.least {
		t.Errorf("%s was asked for %d times in %s, want %d and %s at least", s.key, n, took, s.asked, s.least)
	}
	if err == nil {
		w.shows(two)
		return
	}
	w.shows(one)
	st, serr := w.m.Status("concelier")
	if serr != nil || s.why != "" && st.Refusals[s.why] != 1 || s.why == "" && len(st.Refusals) > 0 {
		t.Errorf("%v %+v", serr, st.Refusals)
	}
	o.bad(nil)
	w.good(two)
}
