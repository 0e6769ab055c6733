package store

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/ledger"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/secret"
)

// Kind is what an Event is about.
type Kind string

// The kinds of events, as the ledger names them.
const (
	Accepted   Kind = "mirror.accepted"
	Resigned   Kind = "mirror.resigned" // the same statement, with other signatures
	Refused    Kind = "mirror.refused"
	RolledBack Kind = "mirror.rolled_back"
	Pruned     Kind = "mirror.pruned"
)

// Event is the body of a ledger entry. docs/formats/release.md describes it.
type Event struct {
	Facts
	Source     string              `json:"source,omitempty"` // where it came from, without secrets
	Signatures []release.Signature `json:"signatures,omitempty"`
	Pin        *release.Pin        `json:"pin,omitempty"`     // accepted: what may not be gone below
	Refusal    *Refusal            `json:"refusal,omitempty"` // refused: why
	From       string              `json:"from,omitempty"`    // rolled back: the export that was shown before
	Reason     string              `json:"reason,omitempty"`  // rolled back: what the operator said
	Removed    []string            `json:"removed,omitempty"` // pruned: exports
	Operator   string              `json:"operator"`          // user and host
	Version    string              `json:"version"`           // of this program
}

// Refusal is a release.Refusal at rest.
type Refusal struct {
	Reason   release.Reason `json:"reason"`
	Message  string         `json:"message"`
	Member   string         `json:"member,omitempty"`
	KeyID    string         `json:"kid,omitempty"`
	Expected string         `json:"expected,omitempty"`
	Actual   string         `json:"actual,omitempty"`
}

// history is the signed record of one store, a file a record.
type history struct {
	dir    *durable.Dir
	signer *jose.Signer
	chain  ledger.Chain
}

const fileSigner = "signer.pem"

func recordName(seq uint64) string { return fmt.Sprintf("%010d", seq) }

// openHistory opens the record without reading it. create makes the key that
// signs it, when there is neither key nor record.
func openHistory(path string, create bool) (*history, error) {
	dir, err := durable.Open(path)
	if err != nil {
		return nil, fault.As(fault.Config, err)
	}
	h := &history{dir: dir}
	if create {
		if err := h.loadSigner(path); err != nil {
			return nil, errors.Join(err, dir.Close())
		}
	}
	return h, nil
}

func (h *history) loadSigner(path string) error {
	if _, err := h.dir.Stat(recordName(1)); errors.Is(err, fs.ErrNotExist) {
		if err := h.newSigner(); err != nil {
			return err
		}
	}
	raw, err := secret.Ref("file:" + path + "/" + fileSigner).Load()
	if err != nil {
		return fmt.Errorf("the key that signs the history: %w", err)
	}
	defer raw.Clear()
	block, _ := pem.Decode(raw.Reveal())
	if block == nil {
		return fault.Errorf(fault.Config, "the key that signs the history is no PEM: %s/%s", path, fileSigner)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fault.Errorf(fault.Config, "the key that signs the history: %w", err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return fault.Errorf(fault.Config, "the key that signs the history is no Ed25519 key: %s/%s", path, fileSigner)
	}
	h.signer, err = jose.NewSigner(private, jose.EdDSA, "")
	return err
}

// newSigner makes the key. One that is there already is kept.
func (h *history) newSigner() error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	err = h.dir.Create(fileSigner, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return full(err)
}

func (h *history) close() error { return h.dir.Close() }

// replay accepts the records behind the chain, in order, and calls each with
// them. What does not continue the chain is of kind Trust.
func (h *history) replay(each func(*ledger.Entry, *Event) error) error {
	for {
		seq := h.chain.Seq() + 1
		data, err := h.dir.Read(recordName(seq), ledger.MaxBytes)
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := h.dir.Stat(recordName(seq + 1)); err == nil {
				return fault.Errorf(fault.Trust, "the history has no record %d, though it has %d", seq, seq+1)
			}
			return nil
		}
		if err != nil {
			return err
		}
		rec, err := ledger.Decode(seq, data)
		if err != nil {
			return fault.As(fault.Trust, err)
		}
		entry, err := h.chain.Accept(rec)
		if err != nil {
			return fault.As(fault.Trust, err)
		}
		var ev Event
		if err := json.Unmarshal(entry.Body, &ev); err != nil {
			return fault.Errorf(fault.Trust, "record %d of the history: %w", seq, err)
		}
		if err := each(entry, &ev); err != nil {
			return err
		}
	}
}

// append adds one record behind the chain, durably.
func (h *history) append(at time.Time, kind Kind, ev Event) (*ledger.Entry, error) {
	if last := h.chain.At(); at.Before(last) {
		at = last // a clock that was set back must not break the chain
	}
	if h.chain.Seq() > 0 {
		was, err := h.chain.Key().Thumbprint()
		is, err2 := h.signer.Key().Thumbprint()
		if err != nil || err2 != nil || was != is {
			return nil, fault.Errorf(fault.Config, "%s/%s is not the key that this history was begun with", h.dir.Path(), fileSigner).
				Hint("put the key back, from a backup; nothing was written")
		}
	}
	rec, err := h.chain.Next(h.signer, at.UTC().Truncate(time.Second), string(kind), ev)
	if err != nil {
		return nil, err
	}
	if err := h.dir.Create(recordName(rec.Seq), rec.Encode(), 0o644); err != nil {
		return nil, full(fmt.Errorf("writing the history: %w", err))
	}
	return h.chain.Accept(rec)
}

// KeepEvidence stores a document that contradicts an accepted one, under its digest.
func (s *Store) KeepEvidence(name string, data []byte) error {
	d, err := durable.Open(s.path(dirEvidence))
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Create(name, data, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return full(err)
}
