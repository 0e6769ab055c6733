package optok

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/revocation"
)

// Defaults of RevocationOptions, and the bound of one look.
const (
	defaultInterval  = 30 * time.Second
	defaultTolerance = 10 * time.Minute
	lookTimeout      = 20 * time.Second
)

// errNoList is the cause of 503 before the first list.
var errNoList = errors.New("no revocation list has been taken in yet")

// RevocationOptions of a Revocations; zero values are the defaults named.
type RevocationOptions struct {
	// URL is the issuer's GET /revocations. Empty: lists come by Load only,
	// and the last one holds until the next, however old it is.
	URL      string
	Set      *revocation.Set // required
	Keys     Keys            // required: the issuer's keys that lists are signed with
	Client   *http.Client    // nil: http.DefaultClient; redirects are never followed
	Interval time.Duration   // between looks; 30 s
	// Tolerance is for how long after a good look (or after the list was
	// issued), added to Interval, the list is relied on while the issuer is
	// away; 10 min; negative: none. After it Check says that it cannot tell.
	Tolerance time.Duration
	// KeepStale relies on the last list for ever. A revoked token is then
	// accepted while whoever presents it can keep the issuer out of reach.
	KeepStale bool
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: discard
}

// Revocations follows an issuer's revocation list for a Verifier. A list is
// taken in only with a signature of the issuer's, and never an older one than
// before. Safe for concurrent use.
type Revocations struct {
	o RevocationOptions

	look sync.Mutex // one look at a time; guards etag
	etag string

	mu   sync.Mutex
	good time.Time // start of the last look that reached the issuer
}

// NewRevocations makes a Revocations; nothing is fetched yet.
func NewRevocations(o RevocationOptions) *Revocations {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	client := *o.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.Client = &client
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.Tolerance == 0 {
		o.Tolerance = defaultTolerance
	}
	o.Tolerance = max(o.Tolerance, 0)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Revocations{o: o}
}

// Check answers for Verifier.Revoked. What is known to be revoked stays so;
// for everything else the list must be recent enough.
func (f *Revocations) Check(_ context.Context, p *Principal) (reason string, revoked bool, err error) {
	reason, revoked = f.o.Set.Revoked(revocation.Claims{
		TokenID: p.TokenID, Subject: p.Subject, ClientID: p.ClientID, KID: p.KID, IssuedAt: p.IssuedAt,
	})
	if revoked {
		return reason, true, nil
	}
	cur := f.o.Set.Current()
	switch {
	case cur == nil:
		return "", false, errNoList
	case f.o.URL == "" || f.o.KeepStale:
		return "", false, nil
	}
	f.mu.Lock()
	good := f.good
	f.mu.Unlock()
	now := f.o.Now()
	// A list says what was so when it was issued, however it came: after a
	// restart it is from the State.
	if issued := cur.Bundle.IssuedAt; issued.After(good) && !issued.After(now) {
		good = issued
	}
	if age, limit := now.Sub(good), f.o.Interval+f.o.Tolerance; age > limit {
		return "", false, fmt.Errorf("the revocation list is %s old, at most %s is tolerated", age.Round(time.Second), limit)
	}
	return "", false, nil
}

// Run looks at once and then every Interval until ctx ends. That the looks
// fail is logged once when it begins and once when it ends; a refused list is
// logged every time.
func (f *Revocations) Run(ctx context.Context) {
	tick := time.NewTicker(f.o.Interval)
	defer tick.Stop()
	failing := false
	for {
		err := f.Look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && (!failing || revocation.Untrusted(err)):
			f.o.Log.ErrorContext(ctx, "revocation list not taken in", "url", f.o.URL, "err", err)
		case err == nil && failing:
			f.o.Log.InfoContext(ctx, "revocation list followed again", "url", f.o.URL)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Look fetches the list once, in at most 20 s and revocation.MaxDocument
// bytes, and takes it in. Errors have fault kinds: Transient when the issuer
// is away, Trust for a list that is refused; the list from before holds then.
func (f *Revocations) Look(ctx context.Context) error {
	f.look.Lock()
	defer f.look.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	began := f.o.Now()
	doc, etag, err := f.fetch(ctx)
	if err != nil {
		return err
	}
	if doc != nil {
		v, err := doc.Verify(ctx, revocation.Keys(f.o.Keys))
		if err != nil {
			return fmt.Errorf("revocation list from %s: %w", f.o.URL, err)
		}
		if _, err := f.o.Set.Apply(v); err != nil {
			return fmt.Errorf("revocation list from %s: %w", f.o.URL, err)
		}
		f.etag = etag
	}
	f.mu.Lock()
	f.good = began
	f.mu.Unlock()
	return nil
}

// fetch returns nil when the list has not changed.
func (f *Revocations) fetch(ctx context.Context) (*revocation.Document, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.o.URL, nil)
	if err != nil {
		return nil, "", fault.Errorf(fault.Input, "revocation list: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-cache") // a cache on the way asks the issuer
	if f.etag != "" && f.o.Set.Current() != nil {
		req.Header.Set("If-None-Match", f.etag)
	}
	resp, err := f.o.Client.Do(req)
	if err != nil {
		return nil, "", fault.Errorf(fault.Transient, "fetching revocation list: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "":
		return nil, "", nil
	case resp.StatusCode != http.StatusOK:
		return nil, "", fault.Errorf(fault.Transient, "fetching revocation list from %s: status %d", f.o.URL, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, revocation.MaxDocument+1))
	if err != nil {
		return nil, "", fault.Errorf(fault.Transient, "reading revocation list from %s: %w", f.o.URL, err)
	}
	doc, err := revocation.ParseDocument(body)
	if err != nil {
		return nil, "", fmt.Errorf("revocation list from %s: %w", f.o.URL, err)
	}
	etag := resp.Header.Get("ETag")
	if len(etag) > 256 {
		etag = ""
	}
	return doc, etag, nil
}

// Load takes in a bundle that came another way, such as on a medium, with its
// detached signature and, unless it is empty, its digest. It is in effect when
// Load returns nil. The errors are those of revocation.Verify and
// revocation.Set.Apply.
func (f *Revocations) Load(ctx context.Context, bundle []byte, jws, digest string) error {
	v, err := revocation.Verify(ctx, bundle, jws, digest, revocation.Keys(f.o.Keys))
	if err != nil {
		return err
	}
	_, err = f.o.Set.Apply(v)
	return err
}
