//go:build pkcs11 && cgo

package pkcs11

import (
	"bytes"
	"fmt"
	"io/fs"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/fault"
)

// maxFound bounds how many objects one search may give.
const maxFound = 1024

// p256 is the value of CKA_EC_PARAMS: the object identifier 1.2.840.10045.3.1.7.
func p256() []byte { return []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07} }

// find returns the objects of a class with one attribute that identifies them.
//
// A search without a login does not fail, it finds no private objects (section
// 4.4), and a login is the process's: it may come back while we look. So that
// there is nothing is believed only of a search that nobody logged in during,
// and that ends logged in.
func (s session) find(class uint, by *p11.Attribute) ([]p11.ObjectHandle, error) {
	found, err := s.search(class, by)
	if err != nil || len(found) > 0 {
		return found, err
	}
	s.m.login.Lock()
	defer s.m.login.Unlock()
	if found, err = s.search(class, by); err == nil && len(found) == 0 {
		err = s.alive()
	}
	return found, err
}

func (s session) search(class uint, by *p11.Attribute) ([]p11.ObjectHandle, error) {
	if err := s.m.ctx.FindObjectsInit(s.h, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_TOKEN, true), by,
	}); err != nil {
		return nil, fmt.Errorf("looking for a key: %w", err)
	}
	var found []p11.ObjectHandle
	for {
		some, _, err := s.m.ctx.FindObjects(s.h, 64)
		if err != nil {
			return nil, fmt.Errorf("looking for a key: %w", err)
		}
		if found = append(found, some...); len(some) == 0 {
			break
		}
		if len(found) > maxFound {
			return nil, fault.Errorf(fault.Config, "more than %d keys of the token have one name", maxFound)
		}
	}
	if err := s.m.ctx.FindObjectsFinal(s.h); err != nil {
		return nil, fmt.Errorf("looking for a key: %w", err)
	}
	return found, nil
}

// one returns the object of a class with an id.
func (s session) one(class uint, id []byte) (p11.ObjectHandle, error) {
	found, err := s.find(class, p11.NewAttribute(p11.CKA_ID, id))
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, fmt.Errorf("the token has no such key, CKA_ID %x: %w", id, fs.ErrNotExist)
	case len(found) > 1:
		return 0, fault.Errorf(fault.Config, "%d keys of the token have the CKA_ID %x: which one is meant, nobody can tell", len(found), id)
	}
	return found[0], nil
}

func (s session) attributes(o p11.ObjectHandle, types ...uint) ([][]byte, error) {
	var template []*p11.Attribute
	for _, t := range types {
		template = append(template, p11.NewAttribute(t, nil))
	}
	got, err := s.m.ctx.GetAttributeValue(s.h, o, template)
	if err != nil {
		return nil, fmt.Errorf("reading attributes of a key: %w", err)
	}
	var values [][]byte
	for _, a := range got {
		values = append(values, a.Value)
	}
	return values, nil
}

// check refuses a private key that somebody may have a copy of, or that does
// not do. words names it in the error.
func (s session) check(o p11.ObjectHandle, words string) error {
	kind, err := s.attributes(o, p11.CKA_KEY_TYPE)
	if err != nil {
		return err
	}
	if ec := p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_EC).Value; !bytes.Equal(kind[0], ec) {
		return fault.Errorf(fault.Config, "%s is no EC key", words)
	}
	values, err := s.attributes(o, p11.CKA_EC_PARAMS, p11.CKA_SENSITIVE, p11.CKA_EXTRACTABLE, p11.CKA_NEVER_EXTRACTABLE, p11.CKA_SIGN)
	if err != nil {
		return err
	}
	is := func(i int) bool { return len(values[i]) == 1 && values[i][0] != 0 }
	switch {
	case !bytes.Equal(values[0], p256()):
		return fault.Errorf(fault.Config, "%s is no P-256 key", words)
	case !is(1):
		return fault.Errorf(fault.Trust, "%s is not sensitive: the token gives it to whoever logs in", words)
	case len(values[2]) != 1 || is(2):
		return fault.Errorf(fault.Trust, "%s is extractable: it can leave the token", words)
	case !is(3):
		return fault.Errorf(fault.Trust, "%s was extractable once, or was made elsewhere: there may be a copy", words)
	case !is(4):
		return fault.Errorf(fault.Config, "%s is not for signing", words)
	}
	return nil
}

// named returns the id of the private key with a name, the lowest of several:
// so those who raced to make it agree on one.
func (s session) named(name string) ([]byte, error) {
	found, err := s.find(p11.CKO_PRIVATE_KEY, p11.NewAttribute(p11.CKA_LABEL, name))
	if err != nil {
		return nil, err
	}
	var lowest []byte
	var key p11.ObjectHandle
	for _, o := range found {
		values, err := s.attributes(o, p11.CKA_ID)
		if err != nil {
			return nil, err
		}
		id := values[0]
		if len(id) == 0 || len(id) > maxID {
			return nil, fault.Errorf(fault.Config, "a key named %q has a CKA_ID of %d bytes, want 1 to %d", name, len(id), maxID)
		}
		if lowest == nil || bytes.Compare(id, lowest) < 0 {
			lowest, key = id, o
		}
	}
	if lowest == nil {
		return nil, fs.ErrNotExist
	}
	return lowest, s.check(key, fmt.Sprintf("the key named %q with CKA_ID %x", name, lowest))
}
