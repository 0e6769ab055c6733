package hashivault

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// Make makes version 1 of a key that signs only and cannot be exported, or
// finds it, and returns hashivault://NAME?version=1&sha256=HEX (transit HTTP
// API, "Create key" and "Read key"). The name is at most 128 letters, digits,
// '.', '_' and '-'. A key of that name that is of another type or that may be
// known outside of the engine is refused with kind Trust, one that may not
// sign with Config.
func (p *Provider) Make(ctx context.Context, name string) (string, error) {
	if !validName(name) {
		return "", fault.Errorf(fault.Input, "key name %.140q: use 1 to %d letters, digits, dots, underscores and hyphens", name, maxName)
	}
	// The engine leaves a key of that name as it is, so replicas may race.
	_, err := p.call(ctx, http.MethodPost, "keys/"+name, name, map[string]any{
		"type": keyType, "exportable": false, "allow_plaintext_backup": false,
	})
	if err != nil {
		return "", err
	}
	// Older servers answer the creation without a body, so it is read.
	info, err := p.read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.Errorf(fault.Transient, "the vault does not show key %s yet, which it just made", name)
	}
	if err != nil {
		return "", err
	}
	ref := reference{name: name, version: 1}
	pub, err := info.public(ref)
	if err != nil {
		return "", err
	}
	if err := errors.Join(info.neverLeft(name), info.maySign(p.o.Mount, ref)); err != nil {
		return "", err
	}
	if ref.sum, err = sumOf(pub); err != nil {
		return "", err
	}
	return ref.String(), nil
}

// Open finds the key that ref names, of any origin (transit HTTP API, "Read
// key"). Errors: Input for a malformed reference, fs.ErrNotExist for a key or
// version that is not there, Trust for a key that is not EC P-256 or not the
// one of the reference's hash, Config for a version that may not sign, Denied
// for a token without permission, Transient for an outage.
func (p *Provider) Open(ctx context.Context, ref string) (keyring.RemoteKey, error) {
	r, err := parseReference(ref)
	if err != nil {
		return nil, err
	}
	pub, err := p.find(ctx, r)
	if err != nil {
		return nil, err
	}
	return &key{p, r, pub}, nil
}

// Destroy deletes the key with all its versions (transit HTTP API, "Update key
// configuration" and "Delete key"). It deletes nothing if what has the name is
// not what ref names. Errors are those of Open, without fs.ErrNotExist.
func (p *Provider) Destroy(ctx context.Context, ref string) error {
	r, err := parseReference(ref)
	if err != nil {
		return err
	}
	info, err := p.read(ctx, r.name)
	if err == nil {
		_, err = info.public(r)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = p.call(ctx, http.MethodPost, "keys/"+r.name+"/config", r.name, map[string]any{"deletion_allowed": true})
	if err == nil {
		_, err = p.call(ctx, http.MethodDelete, "keys/"+r.name, r.name, nil)
	}
	if refusedBy(err, http.StatusBadRequest, http.StatusInternalServerError) {
		// Another replica may have been first; the words for that differ.
		if _, gone := p.read(ctx, r.name); errors.Is(gone, fs.ErrNotExist) {
			return nil
		}
	}
	return err
}

func (p *Provider) read(ctx context.Context, name string) (*keyInfo, error) {
	data, err := p.call(ctx, http.MethodGet, "keys/"+name, name, nil)
	if err != nil {
		return nil, err
	}
	info, err := parseKeyInfo(data)
	if err != nil {
		return nil, query{p: p, about: name}.strange(err)
	}
	return info, nil
}
