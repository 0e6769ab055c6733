package jwkscheck

import (
	"context"
	"fmt"
	"sync"

	"github.com/stella-ops/stella/internal/fault"
)

// Point is a place that serves the set: the Authority itself, a replica, a CDN
// edge, or a file that was carried over an air gap.
type Point struct {
	Name string
	URL  string // https, http, file or a path
	// Getter asks for the URL; each place may have CAs of its own.
	Getter Getter
	// Optional points may answer 404; they are then absent and do not count.
	Optional bool
}

// State is what a comparison says of one point.
type State string

// The states of a point.
const (
	Same        State = "same"
	Differs     State = "differs"
	Unreachable State = "unreachable"
	NotASet     State = "not-a-set"
	Absent      State = "absent" // an optional point that is not served
)

// Difference is one key on which a point and the reference disagree.
type Difference struct {
	KID    string `json:"kid"`
	Kind   string `json:"kind"` // missing, extra, other-key, other-status, duplicate
	Detail string `json:"detail"`
}

// Seen is what one point served.
type Seen struct {
	Point       Point
	State       State
	Keys        []KeyInfo
	HTTP        *HTTP
	Differences []Difference
	Problem     string // for Unreachable and NotASet
	err         error
}

// Comparison holds all points; the first is the reference.
type Comparison struct {
	Points []Seen
}

// Compare fetches all points at once and compares each with the first, by
// kid, thumbprint and status; the order of keys and further members do not
// matter. It fails only when ctx ends or offline mode forbids asking; see Err for the verdict.
func Compare(ctx context.Context, points []Point) (*Comparison, error) {
	c := &Comparison{Points: make([]Seen, len(points))}
	var wg sync.WaitGroup
	for i, p := range points {
		wg.Go(func() { c.Points[i] = look(ctx, p) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for i := range c.Points {
		s := &c.Points[i]
		if fault.KindOf(s.err) == fault.Offline || fault.KindOf(s.err) == fault.Input {
			return nil, s.err
		}
		if i == 0 || s.State != Same || c.Points[0].State != Same {
			continue
		}
		if s.Differences = differences(c.Points[0].Keys, s.Keys); len(s.Differences) > 0 {
			s.State = Differs
		}
	}
	return c, nil
}

func look(ctx context.Context, p Point) Seen {
	s := Seen{Point: p, State: Same}
	d, err := Load(ctx, p.Getter, p.URL, nil)
	if err == nil {
		s.HTTP = d.HTTP
		var keys []rawKey
		if keys, _, err = parseRaw(d.Body); err == nil {
			s.Keys = infos(keys)
			return s
		}
		err = fault.Errorf(fault.Trust, "%s does not serve a key set: %w", p.URL, err)
	}
	s.err, s.Problem = err, err.Error()
	switch k := fault.KindOf(err); {
	case k == fault.NotFound && p.Optional:
		s.State = Absent
	case k == fault.Trust:
		s.State = NotASet
	default:
		s.State = Unreachable
	}
	return s
}

// Err gives the verdict: nil when all points agree; kind Trust when one serves
// no key set or cannot be trusted, ChecksFailed when one differs, Transient
// when one cannot be reached, in this order. The message names the points.
func (c *Comparison) Err() error {
	for _, v := range []struct {
		state State
		kind  fault.Kind
		text  string
	}{
		{NotASet, fault.Trust, "does not serve a key set"},
		{Differs, fault.ChecksFailed, "serves other keys than " + c.Points[0].Point.Name},
		{Unreachable, fault.Transient, "cannot be reached"},
	} {
		var bad []Seen
		for _, s := range c.Points {
			if s.State == v.state {
				bad = append(bad, s)
			}
		}
		if len(bad) == 0 {
			continue
		}
		return verdict(v.kind, v.text, bad)
	}
	return nil
}

func verdict(kind fault.Kind, text string, bad []Seen) error {
	first := bad[0]
	cause := first.Problem
	if len(first.Differences) > 0 {
		cause = first.Differences[0].Detail
	}
	e := fault.Errorf(kind, "%s %s: %s", names(bad), text, cause)
	e.Hints = fault.HintsOf(first.err)
	if h := first.HTTP; kind == fault.ChecksFailed && h != nil && h.Age > 0 && h.Age < h.MaxAge {
		e.Hint("a cache on the way answered, %s old; it may be fresh again in %s", h.Age, h.MaxAge-h.Age)
	}
	if kind == fault.ChecksFailed {
		e.Hint("what each one serves: stella auth jwks show %s", first.Point.URL)
	}
	return e
}

func names(bad []Seen) string {
	out := ""
	for i, s := range bad {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%q", s.Point.Name)
	}
	return out
}
