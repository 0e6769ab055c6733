// Package ledger is one append-only, hash-linked, signed record.
//
// It guarantees that a chain of accepted records has no gap, no fork and no
// changed byte: each record carries the hash of the one before it and is
// signed by the key that the first record names. Where records are stored is
// the caller's business; the format is docs/formats/ledger.md.
package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// Schema and Type are the domain separation of ledger records: the first in
// the payload, the second in the signature's protected header.
const (
	Schema = "stella.ledger.entry/v1"
	Type   = "application/vnd.stella.ledger-entry+jws"
)

// MaxBytes bounds one stored record.
const MaxBytes = 1 << 20

// ErrBroken means that a record does not continue the chain or was changed.
var ErrBroken = errors.New("ledger is broken")

// Record is one stored entry: the exact payload bytes and a detached JWS
// (RFC 7797, b64=false) over them.
type Record struct {
	Seq     uint64
	Payload []byte
	JWS     string
}

// Entry is the payload of a record.
type Entry struct {
	Schema string          `json:"schema"`
	Seq    uint64          `json:"seq"`
	Prev   string          `json:"prev,omitempty"` // Digest of the record before; absent in the first
	At     time.Time       `json:"at"`
	Kind   string          `json:"kind"`          // what Body is
	Key    *jose.Key       `json:"key,omitempty"` // first record only: who signs
	Body   json.RawMessage `json:"body"`
}

// Encode writes the record in its stored form: the payload on one line, the
// signature on the next.
func (r Record) Encode() []byte {
	out := make([]byte, 0, len(r.Payload)+len(r.JWS)+2)
	out = append(append(out, r.Payload...), '\n')
	return append(append(out, r.JWS...), '\n')
}

// Digest identifies the record and, through Prev, everything before it.
func (r Record) Digest() string {
	sum := sha256.Sum256(r.Encode())
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Decode reads the stored form. It checks the shape only; Chain.Accept checks
// the rest.
func Decode(seq uint64, data []byte) (Record, error) {
	if len(data) > MaxBytes {
		return Record{}, fmt.Errorf("%w: record %d is larger than %d bytes", ErrBroken, seq, MaxBytes)
	}
	lines := bytes.Split(data, []byte("\n"))
	if len(lines) != 3 || len(lines[2]) != 0 {
		return Record{}, fmt.Errorf("%w: record %d is not two lines", ErrBroken, seq)
	}
	return Record{Seq: seq, Payload: lines[0], JWS: string(lines[1])}, nil
}

// Chain is a verified prefix of a ledger. The zero value is the empty chain.
type Chain struct {
	key  jose.Key
	head Record
	at   time.Time
}

// Seq is the number of the last accepted record, zero for an empty chain.
func (c *Chain) Seq() uint64 { return c.head.Seq }

// Head is the digest of the last accepted record, empty for an empty chain.
func (c *Chain) Head() string {
	if c.head.Seq == 0 {
		return ""
	}
	return c.head.Digest()
}

// Key is the key that signs the chain, as the first record named it.
func (c *Chain) Key() jose.Key { return c.key }

// Accept checks that rec continues the chain, takes it in and returns its
// entry. After an error (ErrBroken) the chain is as it was.
func (c *Chain) Accept(rec Record) (*Entry, error) {
	var e Entry
	if err := jose.DecodeStrict(rec.Payload, &e); err != nil {
		return nil, fmt.Errorf("%w: record %d: %w", ErrBroken, rec.Seq, err)
	}
	key := c.key
	if c.head.Seq == 0 && e.Key != nil {
		key = *e.Key
	}
	switch {
	case e.Schema != Schema:
		return nil, fmt.Errorf("%w: record %d has schema %q", ErrBroken, rec.Seq, e.Schema)
	case e.Seq != rec.Seq || e.Seq != c.head.Seq+1:
		return nil, fmt.Errorf("%w: record %d says it is number %d, expected %d", ErrBroken, rec.Seq, e.Seq, c.head.Seq+1)
	case e.Prev != c.Head():
		return nil, fmt.Errorf("%w: record %d follows %s, expected %s", ErrBroken, rec.Seq, e.Prev, c.Head())
	case c.head.Seq > 0 && e.Key != nil:
		return nil, fmt.Errorf("%w: record %d names a key", ErrBroken, rec.Seq)
	case e.At.Before(c.at):
		return nil, fmt.Errorf("%w: record %d is dated before the one it follows", ErrBroken, rec.Seq)
	}
	rules := jose.Rules{Algs: []jose.Alg{jose.EdDSA}, Types: []string{Type}, Critical: []string{"b64"}, MaxBytes: MaxBytes}
	jws, err := jose.ParseDetached(rec.JWS, rec.Payload, rules)
	if err == nil {
		_, err = jws.Verify(key)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: record %d: %w", ErrBroken, rec.Seq, err)
	}
	c.key, c.head, c.at = key, rec, e.At
	return &e, nil
}

// Next makes the record that follows the chain; it is not taken in. The
// signer must be the chain's key; for an empty chain it becomes that key.
func (c *Chain) Next(signer *jose.Signer, at time.Time, kind string, body any) (Record, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return Record{}, fmt.Errorf("encoding ledger body: %w", err)
	}
	e := Entry{Schema: Schema, Seq: c.head.Seq + 1, Prev: c.Head(), At: at.UTC(), Kind: kind, Body: raw}
	if c.head.Seq == 0 {
		key := signer.Key()
		e.Key = &key
	}
	payload, err := json.Marshal(e)
	if err != nil {
		return Record{}, fmt.Errorf("encoding ledger entry: %w", err)
	}
	jws, err := signer.SignDetached(map[string]any{"typ": Type}, payload)
	if err != nil {
		return Record{}, fmt.Errorf("signing ledger entry: %w", err)
	}
	rec := Record{Seq: e.Seq, Payload: payload, JWS: jws}
	if n := len(rec.Encode()); n > MaxBytes {
		return Record{}, fmt.Errorf("ledger entry has %d bytes, the limit is %d", n, MaxBytes)
	}
	return rec, nil
}
