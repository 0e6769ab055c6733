// Package mirror keeps copies of signed feeds.
//
// It guarantees that a reader of a mirror sees one whole verified release or
// the one before it, never anything else: nothing is shown before every byte
// of it was verified and is on the disk; what is refused is refused with its
// reason, recorded once, and leaves the last good release where it is; a source
// that is rewritten while it is read is read again, and is not called hostile
// for that.
package mirror

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/mirror/fetch"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/signals"
)

// Shape is what a source holds.
type Shape string

// The shapes.
const (
	Releases Shape = "release" // a release as package release has it
	Tree     Shape = "tree"    // any files: nothing is signed, so nothing can be verified
)

// Allowed lists the shapes.
func (Shape) Allowed() []string { return []string{string(Releases), string(Tree)} }

// Feed is one thing to mirror.
type Feed struct {
	Name   string
	Source objstore.Place
	Shape  Shape // Releases when empty
}

// Mirror is what all operations share. Make it whole; nil functions have
// defaults.
type Mirror struct {
	Dir      string          // below it each feed has its folder
	Policy   *release.Policy // whom to believe; Tree feeds use its limits alone
	Operator string          // who acts, for the record
	Version  string
	Parallel int           // requests at once; 16 when 0
	Settle   time.Duration // how long a mismatch must stay the same to be believed; 15 s when 0
	Restarts int           // how often to begin again when the source is being rewritten; 3 when 0

	Open   func(context.Context, objstore.Place) (objstore.Reader, error)
	Now    func() time.Time
	Sleep  func(context.Context, time.Duration) error // for retries and settling
	Delays []time.Duration                            // of retries; nil for the usual ones
	Notify func(Event)                                // called from one goroutine at a time
}

// Event is what goes on.
type Event struct {
	Type     EventType
	Feed     string
	ExportID string
	Text     string // Restarted, Retried
	Members  int    // fetched or to fetch
	Bytes    int64  // arrived so far, or to fetch
	Total    int64  // bytes to fetch
}

// EventType is the type of an Event.
type EventType string

// The events.
const (
	Found     EventType = "found"     // a new release, with what is to be fetched
	Progress  EventType = "progress"  // many times
	Restarted EventType = "restarted" // the source changed under the reader
	Settling  EventType = "settling"  // a mismatch is looked at again
	Verified  EventType = "verified"  // everything is there and good
	Shown     EventType = "shown"     // the link was flipped
)

func (m *Mirror) notify(e Event) {
	if m.Notify != nil {
		m.Notify(e)
	}
}

func (m *Mirror) now() time.Time {
	if m.Now != nil {
		return m.Now().UTC()
	}
	return time.Now().UTC()
}

func (m *Mirror) settle() time.Duration {
	if m.Settle > 0 {
		return m.Settle
	}
	return 15 * time.Second
}

func (m *Mirror) restarts() int {
	if m.Restarts > 0 {
		return m.Restarts
	}
	return 3
}

func (m *Mirror) parallel() int {
	if m.Parallel > 0 {
		return m.Parallel
	}
	return 16
}

func (m *Mirror) sleep(ctx context.Context, d time.Duration) error {
	if m.Sleep != nil {
		return m.Sleep(ctx, d)
	}
	return signals.Sleep(ctx, d)
}

// Folder is where a feed's store is.
func (m *Mirror) Folder(feed string) string { return filepath.Join(m.Dir, feed) }

// source reads from a store within the limits of the policy.
func (m *Mirror) source(r objstore.Reader, scheme objstore.Scheme, onBytes func(int64)) *fetch.Source {
	ranges := scheme == objstore.S3 || scheme == objstore.File
	return fetch.New(r, m.Policy.Limits, fetch.Options{Ranges: ranges, Delays: m.Delays, Sleep: m.Sleep, OnBytes: onBytes})
}

// sibling is the folder of an export beside the place of the latest one: its
// members never change there, so that no reader of them races with a
// publisher. Places that are not called latest have none.
func sibling(place objstore.Place, export string) (objstore.Place, bool) {
	above, ok := strings.CutSuffix("/"+place.Path, "/latest")
	if !ok || place.Scheme == objstore.File {
		return objstore.Place{}, false // latest is a link there, and was followed once
	}
	place.Path = strings.TrimPrefix(above+"/"+export, "/")
	return place, true
}

// Result is what a run did with one feed.
type Result struct {
	store.Facts
	Outcome  Outcome `json:"outcome"`
	Source   string  `json:"source,omitempty"`
	Before   string  `json:"before,omitempty"` // the export that was shown before
	Fetched  int     `json:"fetched_members"`
	Received int64   `json:"fetched_bytes"`
	Kept     int     `json:"kept_members"` // unchanged, linked
	Seconds  float64 `json:"took_s"`
	DryRun   bool    `json:"dry_run,omitempty"`
}

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Updated   Outcome = "updated"   // a new release is shown
	Unchanged Outcome = "unchanged" // the newest one is shown
	Held      Outcome = "held"      // an operator rolled back, and nothing newer came
	Repaired  Outcome = "repaired"  // the release that is shown was built again
	Finished  Outcome = "finished"  // an earlier run was cut off before it showed what it had accepted
)
