package store

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/ledger"
	"github.com/stella-ops/stella/internal/release"
)

const (
	stateSchema = "stella.mirror.state/v1"
	maxState    = 1 << 20
)

// State is what the history says, and when the source was seen last. All but
// Contact and the time of the last refusal is computed from the history; the
// file only saves the reading.
type State struct {
	Schema     string                   `json:"schema"`
	Records    uint64                   `json:"records"` // of the history that are counted in here
	Head       string                   `json:"head"`    // digest of the last of them
	Key        *jose.Key                `json:"key,omitempty"`
	Shown      Facts                    `json:"shown"` // what latest must lead to
	AcceptedAt time.Time                `json:"accepted_at,omitzero"`
	Held       bool                     `json:"held,omitempty"` // rolled back: stays until something newer than Pin comes
	HeldReason string                   `json:"held_reason,omitempty"`
	Pin        release.Pin              `json:"pin,omitzero"`
	PinnedAt   time.Time                `json:"pinned_at,omitzero"`  // when it was accepted
	Exports    []Export                 `json:"exports,omitempty"`   // accepted and not pruned, in the order of acceptance
	Statement  bool                     `json:"statement,omitempty"` // a release had one once: they all must
	Refusals   map[release.Reason]int64 `json:"refusals,omitempty"`
	Refused    *LastRefusal             `json:"refused,omitempty"`
	Contact    Contact                  `json:"contact,omitzero"`
}

// Export is a release that was accepted.
type Export struct {
	ID         string    `json:"id"`
	Digest     string    `json:"digest"`
	Signers    []string  `json:"signers,omitempty"`    // thumbprints
	ReplacedAt time.Time `json:"replaced_at,omitzero"` // when another was shown in its place; zero while it is shown
}

// Export finds an accepted release.
func (s *State) Export(id string) (Export, bool) {
	if i := slices.IndexFunc(s.Exports, func(e Export) bool { return e.ID == id }); i >= 0 {
		return s.Exports[i], true
	}
	return Export{}, false
}

// LastRefusal is the newest refusal.
type LastRefusal struct {
	At     time.Time `json:"at"`
	Digest string    `json:"digest,omitempty"` // of the refused statement
	Export string    `json:"export_id,omitempty"`
	Refusal
}

// Contact is when the source was seen last, whether or not it had news.
type Contact struct {
	Source string    `json:"source"`
	ETag   string    `json:"etag,omitempty"`   // of the statement
	Policy string    `json:"policy,omitempty"` // digest of the trust policy that judged it
	At     time.Time `json:"at,omitzero"`
}

// Book is the state together with the history that it comes from.
type Book struct {
	State
	s *Store
	h *history
}

// Book reads the state, and from the history what is newer. With write the
// store must be locked; then the history may be added to.
func (s *Store) Book(write bool) (*Book, error) {
	h, err := openHistory(s.path(dirHistory), write)
	if err != nil {
		return nil, err
	}
	b := &Book{s: s, h: h}
	ahead := uint64(0)
	if !b.quick() {
		ahead = b.Records
		// Nothing of it is believed then, not even what the source said last: a
		// history that was put back must not be told that nothing has changed.
		b.State, h.chain = State{Schema: stateSchema}, ledger.Chain{}
	}
	err = h.replay(b.count)
	if err == nil && b.Records < ahead {
		err = fault.Errorf(fault.Trust, "the history of %s ends at record %d, though %d were written: its end is gone", s.dir, b.Records, ahead).
			Hint("put the records back, from a backup: %s", s.path(dirHistory)).
			Hint("if they are lost, remove %s: what was accepted since is forgotten then", s.path(fileState))
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return b, nil
}

// quick loads the state file, if it agrees with the record that it ends at.
func (b *Book) quick() bool {
	data, err := b.s.root.Read(fileState, maxState)
	if err != nil || json.Unmarshal(data, &b.State) != nil || b.Schema != stateSchema {
		b.State = State{}
		return false
	}
	if b.Records == 0 || b.Key == nil {
		return false
	}
	raw, err := b.h.dir.Read(recordName(b.Records), ledger.MaxBytes)
	if err != nil {
		return false
	}
	rec, err := ledger.Decode(b.Records, raw)
	if err != nil {
		return false
	}
	b.h.chain, err = ledger.Resume(rec, b.Head, *b.Key)
	return err == nil
}

// count takes one entry of the history into the state.
func (b *Book) count(e *ledger.Entry, ev *Event) error {
	key := b.h.chain.Key()
	b.Records, b.Head, b.Key = b.h.chain.Seq(), b.h.chain.Head(), &key
	switch Kind(e.Kind) {
	case Accepted:
		b.Shown, b.AcceptedAt, b.Held, b.HeldReason = ev.Facts, e.At, false, ""
		b.Statement = b.Statement || ev.Layout == Signed
		if ev.Pin != nil {
			b.Pin, b.PinnedAt = *ev.Pin, e.At
		}
		b.Exports = slices.DeleteFunc(b.Exports, func(x Export) bool { return x.ID == ev.ExportID })
		b.Exports = append(b.Exports, Export{ID: ev.ExportID, Digest: ev.Digest, Signers: b.Pin.Signers})
		b.replaced(e.At)
		b.Refused = nil
	case Resigned:
		if ev.Pin != nil && ev.Pin.Digest == b.Pin.Digest {
			b.Pin.Signers = ev.Pin.Signers
		}
		for i := range b.Exports {
			if b.Exports[i].ID == ev.ExportID && ev.Pin != nil {
				b.Exports[i].Signers = ev.Pin.Signers
			}
		}
	case Pruned:
		b.Exports = slices.DeleteFunc(b.Exports, func(x Export) bool { return slices.Contains(ev.Removed, x.ID) })
	case RolledBack:
		b.Shown, b.Held, b.HeldReason = ev.Facts, ev.ExportID != b.Pin.ExportID, ev.Reason // back to the newest: no longer held
		b.replaced(e.At)
	case Refused:
		if ev.Refusal == nil {
			break
		}
		if b.Refusals == nil {
			b.Refusals = map[release.Reason]int64{}
		}
		b.Refusals[ev.Refusal.Reason]++
		b.Refused = &LastRefusal{At: e.At, Digest: ev.Digest, Export: ev.ExportID, Refusal: *ev.Refusal}
	}
	return nil
}

// replaced notes when releases ceased to be shown.
func (b *Book) replaced(at time.Time) {
	for i := range b.Exports {
		switch x := &b.Exports[i]; {
		case x.ID == b.Shown.ExportID:
			x.ReplacedAt = time.Time{}
		case x.ReplacedAt.IsZero():
			x.ReplacedAt = at
		}
	}
}

// Append writes one entry of the history and takes it into the state.
func (b *Book) Append(at time.Time, kind Kind, ev Event) error {
	e, err := b.h.append(at, kind, ev)
	if err != nil {
		return err
	}
	return b.count(e, &ev)
}

// Save writes the state file.
func (b *Book) Save() error {
	b.Schema = stateSchema
	data, err := json.MarshalIndent(b.State, "", "  ")
	if err != nil {
		return err
	}
	return full(b.s.root.Write(fileState, append(data, '\n'), 0o644))
}

// Settle makes latest lead to where the history says, after a run that was cut
// off between the two.
func (b *Book) Settle() (changed bool, err error) {
	at, err := b.s.Latest()
	if err != nil || b.Shown.ExportID == "" || at == b.Shown.ExportID || !b.s.HasRelease(b.Shown.ExportID) {
		return false, err
	}
	return true, b.s.show(b.Shown.ExportID)
}

// Close releases the history.
func (b *Book) Close() error { return b.h.close() }

// Audit reads the whole history again and calls each with every entry.
func (s *Store) Audit(each func(*ledger.Entry, *Event) error) (records uint64, err error) {
	h, err := openHistory(s.path(dirHistory), false)
	if err != nil {
		return 0, err
	}
	defer h.close()
	err = h.replay(each)
	return h.chain.Seq(), err
}
