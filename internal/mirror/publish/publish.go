// Package publish makes releases of a feed, signs them and puts them where
// mirrors find them.
//
// It guarantees that nothing is put anywhere before all of it was held to what
// readers demand, and was signed; that the signed digests are of the bytes that
// were sent; that a release is whole and durable before the pointer to it is
// written; that at every moment, also after a crash, readers find the release
// before or the new one, each with signatures that verify; and that running
// again after a crash ends what was begun. Export ids are never used twice.
//
// One publisher at a time writes to a place. In a directory a lock sees to it;
// in a bucket it is up to the caller, and a second publisher is noticed only
// when it comes in between.
package publish

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

// Options of one publication.
type Options struct {
	Feed string
	// ExportID names the release. Empty means what the index says, else the
	// current time as 20060102T150405Z.
	ExportID string
	// Sequence of the statement; 0 is one more than that of the release shown
	// at the place, 1 if there is none. It must rise.
	Sequence int64
	// Lifetime is how long the release counts as fresh; 0 for DefaultLifetime.
	Lifetime time.Duration
	// Signers sign the statement, the first one also bundles. One to eight: the
	// signatures of two releases lie together in one file for a moment.
	Signers []Signer
	// Policy, if not nil, is that of the mirrors: a release that it would not
	// let follow the one shown is refused, and a release shown that was signed
	// by keys other than those of Signers is believed if the policy does.
	Policy *release.Policy
	// SignBundles signs each bundle that has no signature beside it. One that
	// is there is never replaced.
	SignBundles bool
	// CopyMembers also copies the members into latest/ of a bucket, for readers
	// that know no statement. They see them change one by one. What is there
	// below latest/mirror/ and is no member is removed. In a directory the link
	// shows the members anyway.
	CopyMembers bool

	Now      func() time.Time
	DryRun   bool // do all but write
	Parallel int  // files at once; 8 when 0
	Notify   func(Event)
}

// Signer is a key and the provider under which trust policies list it, which
// is release.DefaultProvider when empty.
type Signer struct {
	*jose.Signer
	Provider string
}

// DefaultLifetime of a release.
const DefaultLifetime = 7 * 24 * time.Hour

const maxSigners = release.MaxSigners / 2

// Event is what goes on. Notify is called from one goroutine at a time.
type Event struct {
	Type     EventType
	ExportID string
	Members  int   // done so far
	Bytes    int64 // done so far
	Total    int64 // to do; of the release
}

// EventType is the type of an Event.
type EventType string

// The events.
const (
	Hashed   EventType = "hashed"   // progress of the first reading
	Signed   EventType = "signed"   // the statement is made
	Uploaded EventType = "uploaded" // progress of the second reading
	Copied   EventType = "copied"   // progress of copies into latest/
	Shown    EventType = "shown"    // the pointer leads to the release
)

// Outcome is how a publication ended.
type Outcome string

// The outcomes.
const (
	Published Outcome = "published"
	Finished  Outcome = "finished"  // the release of an earlier run, which was cut off, is shown now
	Unchanged Outcome = "unchanged" // the very release is shown already
)

// Result is what was done.
type Result struct {
	store.Facts
	Outcome    Outcome             `json:"outcome"`
	Place      string              `json:"place"`
	Before     string              `json:"before,omitempty"` // export that was shown before
	Signatures []release.Signature `json:"signatures"`
	Bundles    int                 `json:"signed_bundles"` // signatures made for bundles
	Uploaded   int                 `json:"uploaded_members"`
	Sent       int64               `json:"uploaded_bytes"`
	Copied     int                 `json:"copied_members"`
	Removed    int                 `json:"removed_members"` // of older releases, below latest/
	DryRun     bool                `json:"dry_run,omitempty"`
}

// Publish makes a release of the folder from, which holds mirror/, and shows
// it at a place. Errors are of kind Input when the folder is not what it must
// be (most with a release.Refusal inside), Order when the place does not let
// this release follow, Locked while another run publishes, Trust when what is
// shown cannot be believed, Transient when something changed meanwhile.
func Publish(ctx context.Context, from string, to Destination, o Options) (result *Result, err error) {
	j, err := newJob(from, to, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.from.Close()) }()
	if !o.DryRun {
		end, err := to.begin(ctx, o.Feed)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	for _, step := range []func(context.Context) error{j.list, j.documents, j.before, j.hash, j.signBundles, j.statement, j.sign} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	if j.o.DryRun {
		return j.result, nil
	}
	return j.result, j.write(ctx)
}

// job is one publication.
type job struct {
	o     Options
	now   time.Time
	from  *folder
	to    Destination
	trust *trust

	files  []*file // in the order of their paths
	byPath map[string]*file
	index  *release.Index
	id     string
	fixed  bool // the id was not made from the time

	shown *believed // what readers see; nil if there is nothing
	there *believed // our own release of this id, from an earlier run; nil if there is none

	parcel *parcel
	result *Result
}

func newJob(from string, to Destination, o Options) (*job, error) {
	if o.Lifetime == 0 {
		o.Lifetime = DefaultLifetime
	}
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case !release.FeedName(o.Feed):
		return nil, fault.Errorf(fault.Input, "feed %.80q is not 1 to 64 lower-case letters, digits and hyphens", o.Feed)
	case o.ExportID != "" && !release.ExportID(o.ExportID):
		return nil, fault.Errorf(fault.Input, "export id %.80q is not a plain name", o.ExportID)
	case o.Lifetime < time.Second:
		return nil, fault.Errorf(fault.Input, "a lifetime of %s is less than a second", o.Lifetime)
	case o.Sequence < 0:
		return nil, fault.Errorf(fault.Input, "sequence %d is negative", o.Sequence)
	}
	t, err := newTrust(o)
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(from)
	if err != nil {
		return nil, err
	}
	return &job{o: o, now: o.Now().UTC().Truncate(time.Second), from: folder, to: to, trust: t, result: &Result{Place: to.Place(), DryRun: o.DryRun}}, nil
}

// write puts the release to its place, shows it, and looks at it as a reader
// does.
func (j *job) write(ctx context.Context) error {
	p := j.parcel
	same := j.shown != nil && bytes.Equal(j.shown.data, p.data)
	// What is shown was put there whole before, but may get another signature.
	complete := same && j.there != nil && bytes.Equal(j.there.jws, p.jws)
	if !complete {
		if err := j.to.put(ctx, p); err != nil {
			return err
		}
	}
	if !same {
		if err := j.alone(ctx, j.shown); err != nil {
			return err
		}
	}
	wrote, err := j.to.show(ctx, p)
	if err != nil {
		return err
	}
	switch {
	case complete && !wrote:
		j.result.Outcome = Unchanged
	case j.there != nil:
		j.result.Outcome = Finished
	default:
		j.result.Outcome = Published
	}
	j.result.Uploaded, j.result.Sent = p.uploaded, p.sent
	j.result.Copied, j.result.Removed = p.copied, p.removed
	if err := j.alone(ctx, &believed{pair: pair{p.data, p.jws}}); err != nil {
		return err
	}
	p.notify(Shown, 0, 0)
	return nil
}

// alone checks that the place shows exactly what this run believes it does.
func (j *job) alone(ctx context.Context, want *believed) error {
	is, err := j.to.head(ctx)
	if err != nil {
		return err
	}
	if is == nil && want == nil || is != nil && want != nil && bytes.Equal(is.data, want.data) && bytes.Equal(is.jws, want.jws) {
		return nil
	}
	return fault.Errorf(fault.Transient, "what %s shows has changed meanwhile: somebody else publishes to it", j.to.Place()).
		Hint("let one publisher at a time write to a place, then publish again")
}
