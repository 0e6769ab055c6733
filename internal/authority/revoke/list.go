package revoke

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
)

const (
	// lookEvery bounds how often callers who are nobody cause a look at the
	// store.
	lookEvery = time.Second
	// exportTimeout bounds one look. It is far below keepLists, so that a
	// replica that was held up never writes a sequence that was there before.
	exportTimeout = 30 * time.Second
	keepLists     = 10 * time.Minute
	// renew is the age from which a list is made anew although nothing has
	// changed. After the database was restored from a backup its lists are
	// older than those that verifiers have, and are refused; with the next
	// list, which is newer, all is well again. It is below the time for which
	// verifiers do without a list.
	renew = 5 * time.Minute
	// maxList bounds an encoded list, so that it fits a document of the
	// database in base64. It is about 30,000 entries.
	maxList = 8 << 20
	// maxTokens bounds how many tokens of one client are listed one by one.
	maxTokens = 2000
	// maxTrim bounds how many old lists one export removes.
	maxTrim = 16
)

// List is one list as it is handed out.
type List struct {
	Bundle *revocation.Bundle // not to be changed
	KID    string             // of the key that signed it
	Body   []byte             // an encoded revocation.Document; not to be changed
	ETag   string
}

// stored is a list in the store.
type stored struct {
	Bundle    []byte `json:"bundle"`
	Signature string `json:"signature"`
	KID       string `json:"kid"`
}

// forever is the Until of lists: the newest one must stay whatever happens, or
// sequences would begin again. Old ones are removed by trim.
func forever() time.Time { return time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC) }

func listID(sequence int64) string { return fmt.Sprintf("%016d", sequence) }

// Current returns the list, at most a second old unless something was added
// on this replica since.
func (r *Register) Current(ctx context.Context) (*List, error) { return r.export(ctx, lookEvery) }

// Export returns the list as it is now, having made and stored a new one if
// what must be on it has changed, or if the last one is five minutes old or was
// signed by a key that is not current any more. When no new one can be signed
// or stored, the last one is returned as long as nothing is missing on it.
func (r *Register) Export(ctx context.Context) (*List, error) { return r.export(ctx, 0) }

func (r *Register) export(ctx context.Context, age time.Duration) (*List, error) {
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	select {
	case r.sem <- struct{}{}:
		defer func() { <-r.sem }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the revocation list: %w", ctx.Err())
	}
	now := r.o.Now()
	if since := now.Sub(r.looked); r.last != nil && since >= 0 && since < age && !r.dirty.Load() {
		return r.last, nil
	}
	r.dirty.Store(false) // before the look: what is added during it counts as new
	for {
		list, done, err := r.look(ctx, now)
		if err != nil {
			r.dirty.Store(true)
			return nil, fmt.Errorf("revocation list: %w", err)
		}
		if done {
			r.looked = now
			return list, nil
		}
	}
}

// look makes one attempt; not done means that another replica was faster.
func (r *Register) look(ctx context.Context, now time.Time) (list *List, done bool, err error) {
	// The newest list is read before the entries. So when the insert of the
	// next sequence succeeds, nothing that an earlier list had seen is missed.
	if err := r.follow(ctx); err != nil {
		return nil, false, err
	}
	want, err := r.want(ctx, now)
	if err != nil {
		return nil, false, err
	}
	complete := r.last != nil && want.satisfied(r.last.Bundle)
	if complete && now.Sub(r.last.Bundle.IssuedAt) < renew && r.o.Current(r.last.KID) {
		return r.last, true, nil
	}
	next, rec, err := r.make(want.entries(), now)
	if err == nil {
		err = r.o.Records.Insert(ctx, *rec)
	}
	switch {
	case errors.Is(err, store.ErrExists):
		return nil, false, ctx.Err()
	case err != nil && complete:
		return r.last, true, nil // true still, if only for a while
	case err != nil:
		return nil, false, err
	}
	r.last = next
	r.trim(ctx, now)
	return next, true, nil
}

// make signs a list with the next sequence.
func (r *Register) make(entries []revocation.Entry, now time.Time) (*List, *store.Record, error) {
	signer, err := r.o.Signer()
	if err != nil {
		return nil, nil, err
	}
	b := &revocation.Bundle{
		Issuer: r.o.Issuer, IssuedAt: now.UTC().Truncate(time.Second), SchemaVersion: revocation.SchemaVersion, Sequence: 1,
		SigningKeyID: signer.Key().KeyID, Revocations: entries,
	}
	if r.last != nil {
		b.Sequence = r.last.Bundle.Sequence + 1
		if r.last.Bundle.IssuedAt.After(b.IssuedAt) {
			b.IssuedAt = r.last.Bundle.IssuedAt // clocks of replicas differ, lists do not go back
		}
	}
	// Different for each list, so that after a restore a lower sequence can be
	// told from an old list.
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand never returns an error
	b.BundleID = hex.EncodeToString(id[:])
	data, err := revocation.Encode(b)
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxList {
		return nil, nil, fmt.Errorf("it has %d bytes, at most %d can be handed out; it shrinks as revoked tokens expire", len(data), maxList)
	}
	jws, err := revocation.Sign(data, signer, "")
	if err != nil {
		return nil, nil, err
	}
	s := &stored{data, jws, b.SigningKeyID}
	list, err := s.list(b)
	if err != nil {
		return nil, nil, err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding: %w", err)
	}
	return list, &store.Record{Kind: store.RevocationLists, ID: listID(b.Sequence), Data: text, Until: forever()}, nil
}

func (s *stored) list(b *revocation.Bundle) (*List, error) {
	body, err := (&revocation.Document{Sequence: b.Sequence, Bundle: s.Bundle, Signature: s.Signature}).Encode()
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	sum := sha256.Sum256(body)
	return &List{b, s.KID, body, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}, nil
}

// follow makes r.last the newest stored list.
//
// Lists are contiguous, and are removed oldest first. So if, after N+1 was not
// found, N is, then N+1 was never there and N is the newest.
func (r *Register) follow(ctx context.Context) error {
	for {
		if r.last == nil {
			if err := r.find(ctx); err != nil || r.last == nil {
				return err
			}
		}
		next, err := r.readList(ctx, r.last.Bundle.Sequence+1)
		if err == nil {
			r.last = next
			continue
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		_, err = r.o.Records.Record(ctx, store.RevocationLists, listID(r.last.Bundle.Sequence))
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		r.last = nil // this replica has not looked for very long
	}
}

// find looks through all lists, as a replica does once in its life.
func (r *Register) find(ctx context.Context) error {
	all, err := r.o.Records.List(ctx, store.RevocationLists)
	if err != nil || len(all) == 0 {
		return err
	}
	oldest, err := parseList(&all[0])
	if err != nil {
		return err
	}
	r.oldest = oldest.Bundle.Sequence
	r.last, err = parseList(&all[len(all)-1])
	return err
}

func (r *Register) readList(ctx context.Context, sequence int64) (*List, error) {
	rec, err := r.o.Records.Record(ctx, store.RevocationLists, listID(sequence))
	if err != nil {
		return nil, err
	}
	return parseList(rec)
}

func parseList(rec *store.Record) (*List, error) {
	var s stored
	if err := jose.DecodeStrict(rec.Data, &s); err != nil {
		return nil, fmt.Errorf("list %s in the store: %w", rec.ID, err)
	}
	b, err := revocation.Parse(s.Bundle)
	if err != nil {
		return nil, fmt.Errorf("list %s in the store: %w", rec.ID, err)
	}
	if listID(b.Sequence) != rec.ID {
		return nil, fmt.Errorf("list %s in the store has sequence %d", rec.ID, b.Sequence)
	}
	return s.list(b)
}

// trim removes lists that are neither the newest nor young, oldest first. What
// fails is left for the next time.
func (r *Register) trim(ctx context.Context, now time.Time) {
	for range maxTrim {
		if r.oldest >= r.last.Bundle.Sequence {
			return
		}
		old, err := r.readList(ctx, r.oldest)
		if err == nil {
			if now.Sub(old.Bundle.IssuedAt) < keepLists {
				return
			}
			err = r.o.Records.Remove(ctx, store.RevocationLists, listID(r.oldest))
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return
		}
		r.oldest++
	}
}
