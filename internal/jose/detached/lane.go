package detached

import (
	"errors"
	"io"
	"sync/atomic"
)

// The memory of a lane: a first block while it works in place, then a ring.
const (
	firstBlock = 16 << 10
	ringBlock  = 128 << 10
	ringBlocks = 8
	inPlace    = 256 << 10 // bytes that are not worth a goroutine
)

// ErrClosed is the error of using what was closed, or verified, already.
var ErrClosed = errors.New("already closed")

// Lane is an io.WriteCloser that writes to another writer, mostly a hash, in a
// goroutine of its own, so that two hashes of one stream run on two cores:
//
//	sum := sha256.New()
//	lane := detached.NewLane(sum)
//	defer lane.Close()
//	_, err := detached.VerifyReader(ctx, io.TeeReader(r, lane), verifier)
//	// then lane.Close() again: when it returns nil, sum has seen every byte.
//
// Up to 256 KiB are written by the caller's goroutine and start no other. Then
// the lane holds 1 MiB, and Write waits while all of it is full. A lane is for
// one goroutine at a time; a lane that is not closed leaks its goroutine.
type Lane struct {
	to     io.Writer
	block  []byte // what is being filled
	passed int    // bytes written in place
	ring   *ring  // nil while writing in place
	err    error
	closed bool
}

// NewLane makes a lane to w, which the caller leaves alone until Close.
func NewLane(w io.Writer) *Lane { return &Lane{to: w} }

// Write takes p to be written. An error of the writer behind may come with a
// later Write, or with Close; after Close it is ErrClosed.
func (l *Lane) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		room, err := l.room()
		if err != nil {
			return n, err
		}
		done := copy(room, p)
		l.filled(done)
		p, n = p[done:], n+done
	}
	return n, nil
}

// room is where the next bytes may be put: never empty, and as long as a
// multiple of 4 when all that was put before was.
func (l *Lane) room() ([]byte, error) {
	if l.closed {
		return nil, ErrClosed
	}
	if l.block == nil {
		l.block = make([]byte, 0, firstBlock)
	}
	if len(l.block) == cap(l.block) {
		if err := l.push(); err != nil {
			return nil, err
		}
	}
	return l.block[len(l.block):cap(l.block)], nil
}

func (l *Lane) filled(n int) { l.block = l.block[:len(l.block)+n] }

// push hands the block on and sets an empty one in its place.
func (l *Lane) push() error {
	if l.ring == nil {
		if l.err == nil {
			_, l.err = l.to.Write(l.block)
		}
		if l.err != nil {
			return l.err
		}
		l.passed += len(l.block)
		if l.block = l.block[:0]; l.passed < inPlace {
			return nil
		}
		l.ring = newRing(l.to)
		l.block = <-l.ring.free
		return nil
	}
	l.ring.full <- l.block
	l.block = <-l.ring.free
	return l.ring.failed()
}

// Close writes what is left, waits until all is written and ends the goroutine.
// It answers with the first error of the writer behind. A second call does
// nothing and answers the same.
func (l *Lane) Close() error {
	if l.closed {
		return l.err
	}
	l.closed = true
	if l.ring == nil {
		if l.err == nil && len(l.block) > 0 {
			_, l.err = l.to.Write(l.block)
		}
	} else {
		l.ring.full <- l.block
		close(l.ring.full)
		<-l.ring.done
		l.err = l.ring.failed()
	}
	l.block, l.ring = nil, nil
	return l.err
}

// ring is the goroutine of a lane and the blocks that go round.
type ring struct {
	full, free chan []byte
	done       chan struct{}
	err        atomic.Pointer[error]
}

func newRing(to io.Writer) *ring {
	r := &ring{make(chan []byte, ringBlocks), make(chan []byte, ringBlocks), make(chan struct{}), atomic.Pointer[error]{}}
	for range ringBlocks {
		r.free <- make([]byte, 0, ringBlock)
	}
	go r.run(to)
	return r
}

// run writes until there is no more. After an error it only passes blocks back,
// so that the other side never waits for ever. Blocks go back by the half ring:
// to wake the other side for each costs more than a tenth of a fast hash.
func (r *ring) run(to io.Writer) {
	defer close(r.done)
	var held [][]byte
	for block := range r.full {
		if r.failed() == nil {
			if _, err := to.Write(block); err != nil {
				r.err.Store(&err)
			}
		}
		if held = append(held, block[:0]); len(held) < ringBlocks/2 && len(r.full) > 0 {
			continue
		}
		for _, b := range held {
			r.free <- b
		}
		held = held[:0]
	}
}

func (r *ring) failed() error {
	if err := r.err.Load(); err != nil {
		return *err
	}
	return nil
}
