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
// known outside of the engine is refused with kind Trust, one that may not sign
// with Config.
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
	ref, err := p.pinned(info, reference{name: name, version: 1})
	if err != nil {
		return "", err
	}
	if why := info.left(); why != "" {
		return "", fault.Errorf(fault.Trust, "there is a vault key %s already, and it %s: it is not used", name, why)
	}
	return ref.String(), nil
}

// pinned is ref with the hash of the public half that it names, if that key may
// sign.
func (p *Provider) pinned(info *keyInfo, ref reference) (reference, error) {
	pub, err := info.public(ref)
	if err == nil {
		err = info.maySign(p.o.Mount, ref)
	}
	if err != nil {
		return reference{}, err
	}
	ref.sum, err = sumOf(pub)
	return ref, err
}

// Adopt checks a key that an operator made and returns its reference with the
// hash of its public half (transit HTTP API, "Read key"). A key of another
// type, or that is, was or can be outside of the engine, is refused with kind
// Input; the other errors are those of Open.
func (p *Provider) Adopt(ctx context.Context, ref string) (string, error) {
	r, err := parseReference(ref)
	if err != nil {
		return "", err
	}
	info, err := p.read(ctx, r.name)
	if err != nil {
		return "", err
	}
	if err := info.rightType(fault.Input, r.name); err != nil {
		return "", err
	}
	if why := info.left(); why != "" {
		return "", fault.Errorf(fault.Input, "vault key %s %s: only keys that never left the vault, and cannot, are used", r.name, why).
			Hint("make another: vault write %s/keys/NAME type=%s", p.o.Mount, keyType)
	}
	if r, err = p.pinned(info, r); err != nil {
		return "", err
	}
	return r.String(), nil
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

// Destroy deletes the key (transit HTTP API, "Update key configuration" and
// "Delete key"). It deletes nothing if what has the name is not what ref names,
// and nothing if the key has another version, which would go with it: that is
// of kind Order. Other errors are those of Open, without fs.ErrNotExist.
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
	if err == nil {
		err = info.alone(p.o.Mount, r)
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
