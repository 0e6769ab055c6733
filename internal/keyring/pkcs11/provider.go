//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"fmt"
	"sync"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

// maxCalls is how many calls may be inside the module at once, and so how many
// sessions there are, the anchor apart. Smart cards have few, HSMs thousands.
const maxCalls = 16

// Provider is a token with its keys. It is safe for concurrent use.
//
// It stands on the plain wrapper of the C interface. The better known layer over
// that, crypto11, logs in when it is made, takes the first of several tokens of
// one label, keeps the PIN, and neither sees that a login was lost nor gets it
// back: all of that would have to be built around it.
type Provider struct {
	o       Options
	m       *module
	calls   chan struct{} // holds an element for each call
	dial    chan struct{} // holds one while somebody connects
	refused secret.Bytes  // the PIN that the token refused; with dial only

	mu     sync.Mutex
	link   *link // nil: connect first
	closed bool
}

// Open loads the module and returns a Provider that logs in at the first call,
// so that a token that is away is no reason not to start. Errors are of kind
// Config: options that cannot be right, or a module that cannot be loaded.
func Open(o Options) (*Provider, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m, err := modules.load(o.Module)
	if err != nil {
		return nil, err
	}
	return &Provider{o: o, m: m, calls: make(chan struct{}, maxCalls), dial: make(chan struct{}, 1)}, nil
}

// Close ends the sessions of p; later calls fail. Calls that are inside the
// module are not waited for: what they use ends behind the last of them. The
// module is finalized when nobody in the process uses it.
func (p *Provider) Close() error {
	p.mu.Lock()
	l := p.link
	p.link, p.closed = nil, true
	p.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.retire()
}

// do runs op with a session. A call into a module cannot be interrupted (PKCS
// #11 has no way that modules implement), so it runs beside its caller, who
// leaves when ctx ends; what op returns then is dropped.
func do[T any](ctx context.Context, p *Provider, op func(context.Context, session) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	select {
	case p.calls <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("waiting for other calls to the PKCS#11 token %q: %w", p.o.Token, ctx.Err())
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-p.calls }()
		v, err := run(ctx, p, op)
		done <- result{v, p.explain(err)}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("waiting for the PKCS#11 token %q: %w", p.o.Token, ctx.Err())
	}
}

// run runs op, and once more on a new login if the first was lost.
func run[T any](ctx context.Context, p *Provider, op func(context.Context, session) (T, error)) (v T, err error) {
	for range 2 {
		l, failed := p.connected(ctx)
		if failed != nil {
			return v, failed
		}
		if err = ctx.Err(); err == nil { // connecting takes its time
			v, err = once(ctx, l, op)
		}
		if lost(err) {
			p.drop(l)
		}
		l.leave()
		if !lost(err) {
			break
		}
	}
	return v, err
}

func once[T any](ctx context.Context, l *link, op func(context.Context, session) (T, error)) (v T, err error) {
	s, err := l.take()
	if err != nil {
		return v, fmt.Errorf("opening a session: %w", err)
	}
	v, err = op(ctx, s)
	s.put(err)
	return v, err
}

// connected returns a link that the caller has joined.
func (p *Provider) connected(ctx context.Context) (*link, error) {
	select {
	case p.dial <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.dial }()
	if l, err := p.current(nil); l != nil || err != nil {
		return l, err
	}
	l, err := p.connect()
	if err != nil {
		return nil, err
	}
	return p.current(l)
}

// current joins the link there is, or else makes that of fresh, if any.
func (p *Provider) current(fresh *link) (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		if fresh != nil {
			_ = fresh.retire()
		}
		return nil, fault.Errorf(fault.Unclassified, "the PKCS#11 token %q was closed", p.o.Token)
	}
	if fresh != nil {
		p.link = fresh
	}
	if p.link != nil {
		p.link.join()
	}
	return p.link, nil
}

// drop makes the next call connect, unless another has done so already.
func (p *Provider) drop(l *link) {
	p.mu.Lock()
	current := p.link == l
	if current {
		p.link = nil
	}
	p.mu.Unlock()
	if current {
		_ = l.retire() // we are its user still: it ends when we leave
	}
}
