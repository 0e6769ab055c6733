package keyring

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ledger"
	"github.com/stella-ops/stella/internal/secret"
)

// Dir is a Store in a directory, which replicas share as a volume: records
// are files "history-NNNNNNNNNN" made by an exclusive link(2), so one writer
// wins each number, and private keys are PEM files "KID.pem" of mode 0600.
type Dir struct{ d *durable.Dir }

const (
	historyPrefix = "history-"
	keySuffix     = ".pem"
)

// OpenDir opens an existing directory that group and others cannot enter.
func OpenDir(path string) (*Dir, error) {
	d, err := durable.Open(path)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "key directory: %w", err).
			Hint("install -d -m 700 %s", path)
	}
	info, err := d.Stat(".")
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fault.Errorf(fault.Config, "key directory %q has mode %04o: others can enter it", path, info.Mode().Perm()).
			Hint("chmod 700 %s", path)
	}
	if err == nil {
		// What a crash left behind half-written. Writes take milliseconds.
		err = d.Sweep(orphanAge)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &Dir{d}, nil
}

// NewDir is OpenDir on an open directory, for tests that inject faults.
func NewDir(d *durable.Dir) *Dir { return &Dir{d} }

// Close releases the directory.
func (s *Dir) Close() error { return s.d.Close() }

func historyName(seq uint64) string { return fmt.Sprintf("%s%010d", historyPrefix, seq) }

// Entries implements Store. Looking for news costs one failed open.
func (s *Dir) Entries(ctx context.Context, after uint64) ([]ledger.Record, error) {
	// An open directory outlives its name: what it holds then is no news.
	if err := s.d.Moved(); err != nil {
		return nil, err
	}
	var records []ledger.Record
	for seq := after + 1; ; seq++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data, err := s.d.Read(historyName(seq), ledger.MaxBytes)
		if errors.Is(err, fs.ErrNotExist) {
			if after == 0 {
				err = s.checkGap(seq)
			} else {
				err = nil
			}
			return records, err
		}
		if err != nil {
			return nil, err
		}
		rec, err := ledger.Decode(seq, data)
		if err != nil {
			return nil, fault.As(fault.Trust, err)
		}
		records = append(records, rec)
	}
}

// checkGap tells a complete history from one that lost a record in the middle.
func (s *Dir) checkGap(next uint64) error {
	names, err := s.d.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		n, ok := strings.CutPrefix(name, historyPrefix)
		if !ok {
			continue
		}
		if seq, err := strconv.ParseUint(n, 10, 64); err == nil && seq > next {
			return fault.Errorf(fault.Trust, "key history in %q: record %d is missing, though record %d is there", s.d.Path(), next, seq)
		}
	}
	return nil
}

// Append implements Store.
func (s *Dir) Append(_ context.Context, rec ledger.Record) error {
	err := s.d.Create(historyName(rec.Seq), rec.Encode(), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return ErrConflict
	}
	return err
}

// PutKey implements Store.
func (s *Dir) PutKey(_ context.Context, name string, pkcs8 []byte) error {
	block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return s.d.Create(name+keySuffix, block, 0o600)
}

// Key implements Store. A key file that others can read is refused.
func (s *Dir) Key(_ context.Context, name string) ([]byte, error) {
	info, err := s.d.Stat(name + keySuffix)
	if err != nil {
		return nil, fmt.Errorf("private key %q in %q: %w", name, s.d.Path(), err)
	}
	if err := secret.CheckMode(s.d.Path()+"/"+name+keySuffix, info); err != nil {
		return nil, err
	}
	data, err := s.d.Read(name+keySuffix, secret.MaxBytes)
	if err != nil {
		return nil, err
	}
	return DecodePEM(data)
}

// DecodePEM takes one PRIVATE KEY block (PKCS #8) out of data and nothing else.
func DecodePEM(data []byte) ([]byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, fault.Errorf(fault.Config, "not exactly one PEM block of type PRIVATE KEY (PKCS #8)").
			Hint("convert it: openssl pkcs8 -topk8 -nocrypt -in OLD.pem -out NEW.pem")
	}
	return block.Bytes, nil
}

// Keys implements Store. It also removes what a crash left half-written.
func (s *Dir) Keys(context.Context) ([]StoredKey, error) {
	if err := s.d.Sweep(orphanAge); err != nil {
		return nil, err
	}
	names, err := s.d.Names()
	if err != nil {
		return nil, err
	}
	var keys []StoredKey
	for _, name := range names {
		base, ok := strings.CutSuffix(name, keySuffix)
		if !ok {
			continue
		}
		info, err := s.d.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("private key %q in %q: %w", base, s.d.Path(), err)
		}
		keys = append(keys, StoredKey{Name: base, Stored: info.ModTime()})
	}
	return keys, nil
}

func intentName(replica string, slot int) string {
	sum := sha256.Sum256([]byte(replica))
	return fmt.Sprintf("making-%x-%d", sum[:8], slot)
}

// Intent implements Store.
func (s *Dir) Intent(_ context.Context, replica string, slot int) (string, error) {
	data, err := s.d.Read(intentName(replica, slot), secret.MaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

// SetIntent implements Store.
func (s *Dir) SetIntent(_ context.Context, replica string, slot int, name string) error {
	if name == "" {
		return s.d.Remove(intentName(replica, slot))
	}
	return s.d.Write(intentName(replica, slot), []byte(name+"\n"), 0o600)
}

// DestroyKey implements Store.
func (s *Dir) DestroyKey(_ context.Context, name string) error {
	return s.d.Remove(name + keySuffix)
}
