package revocation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"encoding/json"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/lock"
)

// StateSchema names the format of a state file.
const StateSchema = "stella.revocation.state/v1"

const stateFile = "revocation-state.json"

// State keeps the last accepted bundle in a directory, so that a verifier that
// was restarted goes on refusing and cannot be talked back to an older bundle.
// Whoever can write to the directory can undo that; its mode should be 0700.
type State struct {
	dir  *durable.Dir
	held *lock.Lock
}

// stateWait is how long OpenState waits for another process.
const stateWait = 10 * time.Second

// stateDoc is what the file holds. The bundle was verified before it was
// written; the digest finds damage, not malice.
type stateDoc struct {
	Schema   string `json:"schema"`
	Bundle   []byte `json:"bundle"`
	Digest   string `json:"sha256"`
	KID      string `json:"kid"`
	Provider string `json:"provider"`
}

// OpenState opens an existing directory, for one process at a time: of two that
// read the same state the slower one would take the faster one's bundle back.
// It waits ten seconds for another; then the error is of kind Locked.
func OpenState(path string) (*State, error) {
	dir, err := durable.Open(path)
	if err != nil {
		return nil, fmt.Errorf("state of revocations: %w", err)
	}
	held, err := lock.Acquire(context.Background(), filepath.Join(path, "revocation-state.lock"), "stella, taking a list in", stateWait)
	if err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("state of revocations: %w", err)
	}
	return &State{dir, held}, nil
}

// Close lets the directory go.
func (s *State) Close() error { return errors.Join(s.held.Release(), s.dir.Close()) }

// load returns what was accepted last, or nil.
func (s *State) load() (*Verified, error) {
	data, err := s.dir.Read(stateFile, 2*MaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state of revocations: %w", err)
	}
	var d stateDoc
	if err := jose.DecodeStrict(data, &d); err != nil || d.Schema != StateSchema {
		return nil, refuse(ErrSchema, "%q in %q is not a %s: %v", stateFile, s.dir.Path(), StateSchema, err)
	}
	if Digest(d.Bundle) != d.Digest {
		return nil, refuse(ErrDigest, "%q in %q is damaged", stateFile, s.dir.Path())
	}
	b, err := Parse(d.Bundle)
	if err != nil {
		return nil, fmt.Errorf("%q in %q: %w", stateFile, s.dir.Path(), err)
	}
	return &Verified{Bundle: b, Bytes: d.Bundle, Digest: d.Digest, KID: d.KID, Provider: d.Provider}, nil
}

// save replaces what was accepted last.
func (s *State) save(v *Verified) error {
	data, err := json.Marshal(stateDoc{StateSchema, v.Bytes, v.Digest, v.KID, v.Provider})
	if err != nil {
		return fmt.Errorf("state of revocations: %w", err)
	}
	if err := s.dir.Write(stateFile, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("the bundle is in effect, but not kept over a restart: %w", err)
	}
	return nil
}
