package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/fetch"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// errMoved means that the source changed while it was read.
var errMoved = errors.New("the source changed while it was read")

// run is one Sync.
type run struct {
	m       *Mirror
	feed    Feed
	dry     bool
	repair  bool         // read what is here already, and fetch anew what is damaged
	s       *store.Store // nil in a dry run before the first sync
	book    *store.Book  // likewise
	state   *store.State // never nil
	from    objstore.Reader
	src     *fetch.Source // from, within limits
	seen    seen
	content *store.Content // of what is shown, when it was read
	result  *Result
	began   time.Time
	medium  medium // nil for what is reached over a line
}

// medium is a source that is carried: it may lack members, and it knows a bad
// copy from a bad release.
type medium interface {
	// begin is told which release is about to be brought, after it was judged.
	// Its error ends the run.
	begin(ctx context.Context, r *run, st *release.Statement) error
	// end may replace the error of the run before it counts as a refusal.
	end(ctx context.Context, r *run, err error) error
}

// seen is what is known of the release that is being judged, for the record.
type seen struct {
	facts      store.Facts
	signatures []release.Signature
	statement  []byte
	jws        []byte
	etag       string
}

// Sync brings one feed up to date. A refused release is an error with a
// release.Refusal in it; the mirror then shows what it showed before. With dry
// nothing is written and no member is fetched: the result says what would be.
func (m *Mirror) Sync(ctx context.Context, feed Feed, dry bool) (*Result, error) {
	return m.sync(ctx, &run{feed: feed, dry: dry})
}

// Repair is Sync that believes no member on this disk: it reads them all,
// fetches anew what is damaged, and builds the release again, in one step for
// its readers.
func (m *Mirror) Repair(ctx context.Context, feed Feed) (*Result, error) {
	return m.sync(ctx, &run{feed: feed, repair: true})
}

// sync does the work of a run of which feed and how are set.
func (m *Mirror) sync(ctx context.Context, r *run) (*Result, error) {
	feed, dry := r.feed, r.dry
	r.m, r.began, r.state = m, m.now(), &store.State{}
	r.result = &Result{Source: feed.Source.String(), DryRun: dry, Facts: store.Facts{Feed: feed.Name}}
	done, err := r.open(ctx)
	if err != nil {
		return r.result, err
	}
	defer done()
	err = r.sync(ctx)
	if r.medium != nil {
		err = r.medium.end(ctx, r, err)
	}
	err = hostile(err)
	if refused, ok := errors.AsType[*release.Refusal](err); ok && !dry {
		err = errors.Join(err, r.refused(refused))
	}
	if err == nil && !dry {
		err = r.contact()
	}
	r.result.Seconds = m.now().Sub(r.began).Seconds()
	return r.result, err
}

// hostile gives what no honest source does, and no format describes, a reason.
func hostile(err error) error {
	if release.ReasonOf(err) == "" && fault.KindOf(err) == fault.Trust && (errors.Is(err, objstore.ErrRedirect) || errors.Is(err, objstore.ErrIrregular) || errors.Is(err, objstore.ErrKey)) {
		return release.Refuse(release.HostileSource, "%w", err)
	}
	return err
}

// open takes the lock and reads the state.
func (r *run) open(ctx context.Context) (func(), error) {
	var err error
	var release func() error
	if r.dry {
		if r.s, err = store.Open(r.m.Folder(r.feed.Name)); fault.KindOf(err) == fault.NotFound {
			return func() {}, r.connect(ctx)
		}
	} else {
		if r.s, err = store.Create(r.m.Folder(r.feed.Name)); err == nil {
			l, lerr := r.s.Lock(ctx, r.who())
			if lerr != nil {
				return nil, errors.Join(lerr, r.s.Close())
			}
			release = l.Release
		}
	}
	if err != nil {
		return nil, err
	}
	done := func() {
		if r.book != nil {
			_ = r.book.Close()
		}
		if release != nil {
			_ = release()
		}
		_ = r.s.Close()
	}
	if r.book, err = r.s.Book(!r.dry); err == nil {
		r.state = &r.book.State
		err = r.connect(ctx)
	}
	if err != nil {
		done()
		return nil, err
	}
	return done, nil
}

func (r *run) who() string {
	if r.medium != nil {
		return "stella mirror unpack"
	}
	return "stella mirror sync"
}

func (r *run) connect(ctx context.Context) (err error) {
	if r.from, err = r.m.Open(ctx, r.feed.Source); err == nil {
		r.src = r.m.source(r.from, r.feed.Source.Scheme, nil)
	}
	return err
}

// sync tries until the source holds still.
func (r *run) sync(ctx context.Context) error {
	finished := false
	if r.book != nil && !r.dry {
		var err error
		if finished, err = r.book.Settle(); err != nil {
			return err
		}
	}
	for i := 0; ; i++ {
		err := r.once(ctx)
		if finished && err == nil && r.result.Outcome == Unchanged {
			r.result.Outcome = Finished
		}
		if !errors.Is(err, errMoved) && !errors.Is(err, objstore.ErrChanged) {
			return err
		}
		if i >= r.m.restarts() {
			return fault.Errorf(fault.Transient, "%s was rewritten %d times while it was read", r.src.Place(), i+1).
				Hint("nothing was shown; the next run tries again. A publisher that writes the statement last does not disturb readers")
		}
		r.m.notify(Event{Type: Restarted, Feed: r.feed.Name, Text: err.Error()})
		if err := r.m.sleep(ctx, min(r.m.settle()/8, time.Second)); err != nil {
			return err
		}
		// latest may be a link, which was followed once.
		if err := r.connect(ctx); err != nil {
			return err
		}
	}
}

func (r *run) once(ctx context.Context) error {
	r.seen = seen{}
	if r.feed.Shape == Tree {
		return r.tree(ctx)
	}
	etag := ""
	if r.state.Shown.Layout == store.Signed && r.judged() && r.s.HasRelease(r.state.Shown.ExportID) && !r.repair {
		etag = r.state.Contact.ETag
	}
	st, err := r.statement(ctx, etag)
	switch {
	case errors.Is(err, objstore.ErrNotModified) && etag != "":
		return r.unchanged()
	case errors.Is(err, objstore.ErrNotModified):
		return fault.Errorf(fault.Transient, "%s answers that nothing changed, though nobody asked", r.src.Place())
	case errors.Is(err, objstore.ErrNotFound):
		return r.withoutStatement(ctx)
	case err != nil:
		return err
	}
	if err := r.m.Policy.CheckTime(st.GeneratedAt, st.ExpiresAt, r.m.now()); err != nil {
		return err
	}
	same, err := r.m.Policy.CheckPin(st, r.seen.facts.Digest, r.state.Pin)
	if err != nil {
		return err
	}
	if same && (r.state.Held || r.s.HasRelease(st.ExportID) && !r.repair) {
		return errors.Join(r.resigned(st), r.unchanged())
	}
	if err := r.reused(st); err != nil {
		return err
	}
	if r.medium != nil {
		if err := r.medium.begin(ctx, r, st); err != nil {
			return err
		}
	}
	return r.bring(ctx, st)
}

// judged reports whether what was said of this source before was said under the
// same trust policy.
func (r *run) judged() bool {
	c := r.state.Contact
	return c.Source == r.src.Place() && c.Policy == r.m.Policy.Digest()
}

// reused refuses an export under whose name another one was accepted before,
// from keys that are trusted still.
func (r *run) reused(st *release.Statement) error {
	was, ok := r.state.Export(st.ExportID)
	if !ok || was.Digest == r.seen.facts.Digest || !r.m.Policy.Holds(was.Signers) {
		return nil
	}
	return release.Refuse(release.Equivocation, "the export %s was accepted before, with other content", st.ExportID).
		Found(was.Digest, r.seen.facts.Digest)
}

// resigned takes other signatures of a statement that is here: a key that was
// rolled over must not leave a release behind that nobody can verify.
func (r *run) resigned(st *release.Statement) error {
	if r.dry || r.medium != nil || !r.s.HasRelease(st.ExportID) {
		return nil
	}
	was, err := r.s.Content(st.ExportID)
	if err != nil || was.Digest != r.seen.facts.Digest || bytes.Equal(was.Signatures, r.seen.jws) {
		return err
	}
	if err := r.s.Resign(st.ExportID, r.seen.jws); err != nil {
		return err
	}
	return r.book.Append(r.m.now(), store.Resigned, store.Event{
		Facts: was.Facts, Source: r.src.Place(), Signatures: r.seen.signatures, Pin: r.pin(was), Operator: r.m.Operator, Version: r.m.Version,
	})
}

// unchanged ends a run that found nothing new. What is shown may have become
// stale meanwhile; then that is the news.
func (r *run) unchanged() error {
	r.result.Outcome = Unchanged
	r.result.Facts = r.state.Shown
	if r.state.Held {
		r.result.Outcome = Held
	}
	pin := r.state.Shown
	if r.feed.Shape == Tree || r.state.Held {
		return nil // nobody promised a tree anything; and who holds an old release knows it
	}
	r.seen.facts = pin
	return r.m.Policy.CheckTime(pin.GeneratedAt, pin.ExpiresAt, r.m.now())
}

// contact remembers that the source was there.
func (r *run) contact() error {
	etag := r.seen.etag
	if etag == "" && r.judged() {
		etag = r.state.Contact.ETag
	}
	r.state.Contact = store.Contact{Source: r.src.Place(), ETag: etag, Policy: r.m.Policy.Digest(), At: r.m.now().UTC()}
	return r.book.Save()
}

// refused records why a release was not taken, once: the same release refused
// for the same reason again is no news. The state has the time of the latest
// one, as precise as that of a contact: which of both came last is how it stands.
func (r *run) refused(why *release.Refusal) error {
	now := r.m.now().UTC()
	if r.known(why.Reason, why.Member) {
		r.state.Refused.At = now
		return r.book.Save()
	}
	facts := r.seen.facts
	facts.Feed = r.feed.Name
	err := r.book.Append(now, store.Refused, store.Event{
		Facts: facts, Source: r.src.Place(), Signatures: r.seen.signatures, Operator: r.m.Operator, Version: r.m.Version,
		Refusal: &store.Refusal{Reason: why.Reason, Message: fmt.Sprintf("%.1000s", why.Error()), Member: why.Member, KeyID: why.KeyID, Expected: why.Expected, Actual: why.Actual},
	})
	if err == nil {
		r.state.Refused.At = now
	}
	if why.Reason == release.Equivocation && r.seen.statement != nil {
		name := fmt.Sprintf("%s-%.16s", r.seen.facts.ExportID, r.seen.facts.Digest[len("sha256:"):])
		err = errors.Join(err, r.s.KeepEvidence(name+".json", r.seen.statement), r.s.KeepEvidence(name+".json.jws", r.seen.jws))
	}
	return errors.Join(err, r.book.Save())
}
