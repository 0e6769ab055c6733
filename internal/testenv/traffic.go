package testenv

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Traffic mints tokens without a pause and lets every verifier judge each one
// twice: at once, and shortly before it expires.
type Traffic struct {
	Mint      func(ctx context.Context) (token string, expires time.Time, err error)
	Verifiers []Verifier
	Workers   int           // parallel minters; zero means 4
	Pace      time.Duration // between two mints of a worker; zero means 15 ms

	minted   atomic.Int64
	verified atomic.Int64
	failed   atomic.Int64 // mints that failed
	tooLate  atomic.Int64 // judgements that ended after the token had expired, so do not count
	mu       sync.Mutex
	rejected map[string]int // by verifier
	examples []string
	mintErrs []string
	kids     map[string]int64
	wg       sync.WaitGroup
	cancel   context.CancelFunc
}

// Figures are what came of the traffic.
type Figures struct {
	Minted, Verified, MintFailures int64
	TooLate                        int64          // judgements that a slow machine made too late to count
	Rejected                       map[string]int // by verifier; empty when there was none
	KIDs                           map[string]int64
	Examples                       []string
}

// Total is the number of rejections.
func (f Figures) Total() int {
	n := 0
	for _, v := range f.Rejected {
		n += v
	}
	return n
}

// String is one line for people.
func (f Figures) String() string {
	return fmt.Sprintf("%d tokens minted under %d keys, %d verifications, %d rejected, %d mints failed",
		f.Minted, len(f.KIDs), f.Verified, f.Total(), f.MintFailures)
}

// Begin starts the traffic; it runs until End.
func (t *Traffic) Begin(ctx context.Context) {
	ctx, t.cancel = context.WithCancel(ctx)
	t.rejected, t.kids = map[string]int{}, map[string]int64{}
	workers, pace := t.Workers, t.Pace
	if workers == 0 {
		workers = 4
	}
	if pace == 0 {
		pace = 15 * time.Millisecond
	}
	for range workers {
		t.wg.Go(func() { t.work(ctx, pace) })
	}
}

// End stops minting, waits until every token has been judged the second time,
// and returns the figures.
func (t *Traffic) End() Figures {
	t.cancel()
	t.wg.Wait()
	return t.Now()
}

// Now returns the figures so far.
func (t *Traffic) Now() Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Figures{
		Minted: t.minted.Load(), Verified: t.verified.Load(), MintFailures: t.failed.Load(), TooLate: t.tooLate.Load(),
		Rejected: maps.Clone(t.rejected), KIDs: maps.Clone(t.kids),
		Examples: slices.Concat(t.examples, t.mintErrs),
	}
}

func (t *Traffic) work(ctx context.Context, pace time.Duration) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		token, expires, err := t.Mint(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.failed.Add(1)
			t.note(&t.mintErrs, err.Error())
			continue
		}
		t.minted.Add(1)
		t.mu.Lock()
		t.kids[KIDOf(token)]++
		t.mu.Unlock()
		t.judge(token, "when new", expires)
		t.wg.Go(func() {
			// 400 ms before the end, so that a slow machine does not make a
			// good token expire under the verifier's hands.
			timer := time.NewTimer(time.Until(expires.Add(-400 * time.Millisecond)))
			defer timer.Stop()
			<-timer.C
			t.judge(token, "shortly before its end", expires)
		})
	}
}

func (t *Traffic) judge(token, when string, expires time.Time) {
	kid := KIDOf(token)
	for _, v := range t.Verifiers {
		// Verification is not cut short by the end of the traffic.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := v.Verify(ctx, token)
		cancel()
		if !time.Now().Before(expires) {
			t.tooLate.Add(1) // a slow machine: it says nothing about the keys
			continue
		}
		t.verified.Add(1)
		if err != nil {
			t.mu.Lock()
			t.rejected[v.Name()]++
			t.mu.Unlock()
			t.note(&t.examples, fmt.Sprintf("%s: token of key %s refused %s: %v", v.Name(), kid, when, err))
		}
	}
}

func (t *Traffic) note(to *[]string, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(*to) < 5 {
		*to = append(*to, text)
	}
}

// KIDOf reads the kid of a token without checking anything.
func KIDOf(token string) string {
	head, _, _ := strings.Cut(token, ".")
	var h struct {
		KID string `json:"kid"`
	}
	if err := decodePart(head, &h); err != nil {
		return "?"
	}
	return h.KID
}
