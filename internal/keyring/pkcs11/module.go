//go:build pkcs11 && cgo

package pkcs11

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/fault"
)

// modules is the one thing here that belongs to the process and not to a
// Provider, because C_Initialize does: a module is initialized for all its users
// in a process or for none (PKCS #11 v2.40, section 5.4).
var modules registry

type registry struct {
	mu     sync.Mutex
	byPath map[string]*module
}

// module is a loaded library. Once loaded it stays: unloading is where vendors'
// libraries, which have threads of their own, crash.
type module struct {
	ctx  *p11.Ctx
	path string

	login  sync.Mutex // held while anybody of us logs in
	making sync.Mutex // held while anybody of us makes a key
	mu     sync.Mutex // of what follows
	users  int        // it is initialized while there are any
	ours   bool       // we initialized it, so we finalize it
}

// load loads the module at path, or returns it if it is there already.
func (r *registry) load(path string) (*module, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "looking for the PKCS#11 module: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.byPath[real]; m != nil {
		return m, nil
	}
	ctx := p11.New(real)
	if ctx == nil {
		return nil, fault.Errorf(fault.Config, "%q is no PKCS#11 module: it cannot be loaded, or has no C_GetFunctionList", path).
			Hint("ldd %s", path)
	}
	if r.byPath == nil {
		r.byPath = map[string]*module{}
	}
	m := &module{ctx: ctx, path: real}
	r.byPath[real] = m
	return m, nil
}

// acquire initializes the module for its first user.
func (m *module) acquire() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 {
		err := m.ctx.Initialize()
		if err != nil && !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
			return fmt.Errorf("initializing the module: %w", err)
		}
		m.ours = err == nil
	}
	m.users++
	return nil
}

// release finalizes the module behind its last user. Nothing of this package
// may be inside it then, or what happens is undefined.
func (m *module) release() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users--; m.users > 0 || !m.ours {
		return nil
	}
	if err := m.ctx.Finalize(); err != nil {
		return fmt.Errorf("finalizing the module: %w", err)
	}
	return nil
}
