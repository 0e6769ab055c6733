package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tally counts what things that work once were good for, and how often each
// kind of request succeeded. It keeps no secrets.
type tally struct {
	mu    sync.Mutex
	done  map[string]int // successes by kind
	good  map[string]int // by name: tokens that were given for it
	lost  map[string]int // by name: answers that nobody got
	wrong []string
}

func newTally() *tally {
	return &tally{done: map[string]int{}, good: map[string]int{}, lost: map[string]int{}}
}

// did counts a success.
func (y *tally) did(kind string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.done[kind]++
}

// note keeps what must not happen.
func (y *tally) note(format string, args ...any) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.wrong = append(y.wrong, fmt.Sprintf(format, args...))
}

// spent takes the answers to some uses of a code or refresh token. It has given
// one token by then, at most one in all; none only where an answer was lost.
func (y *tally) spent(kind, secret string, replies ...reply) {
	y.count(kind, secret, 1, replies)
}

// atMostOnce is spent for something that need not have given any.
func (y *tally) atMostOnce(kind, secret string, replies ...reply) {
	y.count(kind, secret, 0, replies)
}

func (y *tally) count(kind, secret string, least int, replies []reply) {
	name := fmt.Sprintf("%s %x", kind, sha256.Sum256([]byte(secret)))[:len(kind)+9]
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, r := range replies {
		switch {
		case r.Lost:
			y.lost[name]++
		case r.Status == http.StatusOK:
			y.good[name]++
			y.done[kind]++
		case r.Code != "invalid_grant":
			y.wrong = append(y.wrong, fmt.Sprintf("%s: answered with %s", name, r))
		}
	}
	if n := y.good[name]; n > 1 || n < least && y.lost[name] == 0 {
		y.wrong = append(y.wrong, fmt.Sprintf("%s: %d tokens were given for it, %d answers lost", name, n, y.lost[name]))
	}
}

// now returns a copy of the successes and what was wrong.
func (y *tally) now() (done map[string]int, wrong []string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	done = map[string]int{}
	for kind, n := range y.done {
		done[kind] = n
	}
	return done, slices.Clone(y.wrong)
}

// The counters see what they are there to see.
func TestTally(t *testing.T) {
	good, used, lost := reply{Status: 200}, reply{Status: 400, Code: "invalid_grant"}, reply{Status: 502, Lost: true}
	for _, row := range []struct {
		name         string
		uses         [][]reply
		spent, twice int // what is wrong where one must be good, and where none need be
	}{
		{"once", [][]reply{{good, used}}, 0, 0},
		{"twice at once", [][]reply{{good, good}}, 1, 1},
		{"twice", [][]reply{{good, used}, {good}}, 1, 1},
		{"never", [][]reply{{used, used}}, 1, 0},
		{"never, but one was lost", [][]reply{{used, lost}}, 0, 0},
		{"lost, and then good", [][]reply{{lost}, {good}}, 0, 0},
		{"lost, and then twice", [][]reply{{lost}, {good}, {good}}, 1, 1},
		{"another answer", [][]reply{{good, {Status: 503, Code: "temporarily_unavailable"}}}, 1, 1},
	} {
		y, z := newTally(), newTally()
		y.spent("code", "another", good)
		for _, uses := range row.uses {
			y.spent("code", "x", uses...)
			z.atMostOnce("code", "x", uses...)
		}
		_, spent := y.now()
		if _, twice := z.now(); len(spent) != row.spent || len(twice) != row.twice {
			t.Errorf("%s: %q, %q", row.name, spent, twice)
		}
	}
}

// windows counts successes by windows of time. A request that is answered in
// another window than it was sent in may have been counted in either.
type windows struct {
	span time.Duration

	mu   sync.Mutex
	sure map[int64]int // both ends in the window
	all  map[int64]int // by the window of the answer
	none int           // refusals
}

func newWindows(span time.Duration) *windows {
	return &windows{span: span, sure: map[int64]int{}, all: map[int64]int{}}
}

func (w *windows) number(at time.Time) int64 { return at.UnixNano() / int64(w.span) }

func (w *windows) add(sent, answered time.Time, passed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !passed {
		w.none++
		return
	}
	n := w.number(answered)
	w.all[n]++
	if w.number(sent) == n {
		w.sure[n]++
	}
}

func (w *windows) refused() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.none
}

// most returns how many passed for sure in the fullest window, from window
// first on, and in how many windows limit were told that they had passed.
func (w *windows) most(first int64, limit int) (most, full int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, passed := range w.all {
		if n < first {
			continue
		}
		most = max(most, w.sure[n])
		if passed >= limit {
			full++
		}
	}
	return most, full
}

// over lists the windows in which more than limit passed, and says whether more
// passed in all than the windows between the first and the last had room for.
func (w *windows) over(limit int) (wrong []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	total, first, last := 0, int64(0), int64(0)
	for n, passed := range w.all {
		if total == 0 || n < first {
			first = n
		}
		last = max(last, n)
		total += passed
		if w.sure[n] > limit {
			wrong = append(wrong, fmt.Sprintf("%d passed in window %d", w.sure[n], n))
		}
	}
	if room := int(last-first+2) * limit; total > room { // and the window in which the first was sent
		wrong = append(wrong, fmt.Sprintf("%d passed, and there was room for %d", total, room))
	}
	return wrong
}

func TestWindows(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	w := newWindows(time.Second)
	for range 3 {
		w.add(at(0.1), at(0.9), true)
		w.add(at(0.1), at(0.2), false)
		w.add(at(0.9), at(1.1), true) // of either window
	}
	if most, full := w.most(1000, 3); len(w.over(3)) != 0 || most != 3 || full != 2 {
		t.Errorf("%q, %d, %d", w.over(3), most, full)
	}
	w.add(at(0.3), at(0.4), true)
	if wrong := w.over(3); len(wrong) != 1 || !strings.HasPrefix(wrong[0], "4 passed in window 1000") {
		t.Errorf("%q", wrong)
	}
	for range 6 {
		w.add(at(0.9), at(1.1), true)
	}
	if wrong := w.over(3); len(wrong) != 2 {
		t.Errorf("%q", wrong)
	}
}
