package mirror_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// step is one write of a publisher: data nil removes.
type step struct {
	key  string
	data []byte
}

// rewrite lists the writes that turn one release into the next, in an order.
func rewrite(from, to map[string][]byte, order func(a, b string) int) []step {
	var steps []step
	keys := slices.SortedFunc(maps.Keys(to), order)
	for _, k := range keys {
		if string(from[k]) != string(to[k]) {
			steps = append(steps, step{k, to[k]})
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(from), order) {
		if _, ok := to[k]; !ok {
			steps = append(steps, step{k, nil})
		}
	}
	return steps
}

// publisher writes while the mirror reads: turn by turn, one step before every
// so-manieth request of the reader, and one whenever the reader waits.
type publisher struct {
	*world
	steps    []step
	after    int // requests before the first step
	every    int // requests between steps
	requests int
}

func (p *publisher) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	p.requests++
	if p.requests > p.after && (p.requests-p.after)%p.every == 0 {
		p.next()
	}
	return p.source.Open(ctx, key, g)
}

func (p *publisher) List(ctx context.Context, prefix string, each func(objstore.Info) error) error {
	return p.source.List(ctx, prefix, each)
}

func (p *publisher) Place() string { return p.source.Place() }

func (p *publisher) next() {
	if len(p.steps) == 0 {
		return
	}
	s := p.steps[0]
	p.steps = p.steps[1:]
	if s.data == nil {
		if err := p.source.Delete(p.t.Context(), s.key); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	p.putOne(s.key, s.data)
}

func byName(a, b string) int { return strings.Compare(a, b) }

// TestHonestRace: latest/ is rewritten while it is read, in several orders, at
// every point, slowly and fast. The mirror takes the old or the new release
// whole, or ends with exit code 10; it never calls that an attack.
func TestHonestRace(t *testing.T) {
	pointerLast := func(a, b string) int {
		at := func(k string) int {
			switch k {
			case release.FileStatement:
				return 2
			case release.FileSignature:
				return 1
			}
			return 0
		}
		if d := at(a) - at(b); d != 0 {
			return d
		}
		return byName(a, b)
	}
	orders := map[string]func(a, b string) int{
		"by name": byName, "backwards": func(a, b string) int { return byName(b, a) }, "pointer last": pointerLast,
		"pointer first": func(a, b string) int { return pointerLast(b, a) },
	}
	taken, transient := 0, 0
	for name, order := range orders {
		for _, every := range []int{1, 3, 8} {
			for after := range 14 {
				w := newWorld(t)
				w.m.Parallel = 1
				one := w.publish(1)
				if after%2 == 0 {
					w.good(one) // half of them have a release already
				}
				two := w.files(2, "primary", "community")
				two[release.FileStatement] = w.state(2, two, nil)
				two[release.FileSignature] = w.sign(two[release.FileStatement], "k1")
				p := &publisher{world: w, steps: rewrite(one, two, order), after: after, every: every}
				w.m.Open = func(_ context.Context, place objstore.Place) (objstore.Reader, error) {
					if place == w.feed.Source {
						return p, nil
					}
					return nothing{}, nil
				}
				w.m.Sleep = func(context.Context, time.Duration) error { p.next(); return nil }
				_, err := w.sync()
				switch fault.KindOf(err) {
				case fault.None:
					taken++
				case fault.Transient:
					transient++
				default:
					t.Errorf("%s, every %d after %d: %v: %v", name, every, after, fault.KindOf(err), err)
				}
				st, serr := w.m.Status("concelier")
				if serr != nil || len(st.Refusals) > 0 {
					t.Errorf("%s, every %d after %d: recorded %v, %v", name, every, after, st, serr)
				}
				switch {
				case st.Shown.Sequence == 1:
					w.shows(one)
				case st.Shown.Sequence == 2:
					w.shows(two)
				case err == nil:
					t.Errorf("%s, every %d after %d: nothing is shown", name, every, after)
				}
				for len(p.steps) > 0 { // the publisher ends; the next run takes it
					p.next()
				}
				w.good(two)
			}
		}
	}
	if taken == 0 {
		t.Error("no run took a release")
	}
	t.Logf("%d taken, %d ended with exit code 10", taken, transient)
}

// TestHonestRaceWithoutStatement is TestHonestRace for a source that has no
// statements: never an attack, never two releases mixed.
func TestHonestRaceWithoutStatement(t *testing.T) {
	taken := 0
	for name, order := range map[string]func(a, b string) int{"by name": byName, "backwards": func(a, b string) int { return byName(b, a) }} {
		for _, every := range []int{1, 2, 5} {
			for after := range 12 {
				w := looseWorld(t)
				one, two := w.files(1, "primary", "community"), w.files(2, "primary", "community")
				w.put(one)
				if after%2 == 0 {
					if _, err := w.sync(); err != nil {
						t.Fatal(err)
					}
				}
				steps := rewrite(one, two, order)
				if after%3 == 0 { // removed first, then put anew
					steps = append([]step{{bundlePath + ".jws", nil}, {"mirror/primary/manifest.json", nil}}, steps...)
				}
				p := &publisher{world: w, steps: steps, after: after, every: every}
				w.m.Open = func(context.Context, objstore.Place) (objstore.Reader, error) { return p, nil }
				w.m.Sleep = func(context.Context, time.Duration) error { p.next(); return nil }
				_, err := w.sync()
				if kind := fault.KindOf(err); kind != fault.None && kind != fault.Transient {
					t.Errorf("%s, every %d after %d: %v: %v", name, every, after, kind, err)
				}
				if st, serr := w.m.Status("concelier"); serr != nil || len(st.Refusals) > 0 {
					t.Errorf("%s, every %d after %d: recorded %v, %v", name, every, after, st, serr)
				}
				if err == nil {
					taken++
				}
				for len(p.steps) > 0 {
					p.next()
				}
				delete(two, "mirror/primary/constant.json")
				w.good(two)
			}
		}
	}
	if taken == 0 {
		t.Error("no run took a release")
	}
}

type nothing struct{}

func (nothing) Open(_ context.Context, key string, _ objstore.Get) (*objstore.Object, error) {
	return nil, objstore.Fail(objstore.OpRead, "mem://nothing", key, objstore.ErrNotFound, nil)
}
func (nothing) List(context.Context, string, func(objstore.Info) error) error { return nil }
func (nothing) Place() string                                                 { return "mem://nothing" }

// TestRewrittenForEver: a source that never holds still ends with exit code 10.
func TestRewrittenForEver(t *testing.T) {
	w := newWorld(t)
	w.m.Parallel = 1
	releases := []map[string][]byte{w.publish(1), w.publish(2)}
	var steps []step
	for i := range 200 {
		steps = append(steps, rewrite(releases[(i+1)%2], releases[i%2], byName)...)
	}
	p := &publisher{world: w, steps: steps, every: 1}
	w.m.Open = func(context.Context, objstore.Place) (objstore.Reader, error) { return p, nil }
	w.m.Sleep = func(context.Context, time.Duration) error { p.next(); return nil }
	if _, err := w.sync(); fault.KindOf(err) != fault.Transient || !strings.Contains(err.Error(), "rewritten") {
		t.Error(err)
	}
}
