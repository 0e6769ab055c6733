package detached

import (
	"encoding/base64"
	"errors"
	"io"
)

// What is read at once, in bytes: first little, as most payloads are small.
const (
	firstRead = 16 << 10
	readBlock = 192 << 10
)

// input turns payload bytes into the payload part of a signing input. As they
// are, they go to the writer at once: handing them to another core costs as much
// as it gains. Base64url goes through a lane, so that encoding and hashing run
// side by side.
type input struct {
	to      io.Writer
	lane    *Lane   // only for base64url
	pairs   *pairs  // made when there is enough to encode
	rest    [3]byte // what is not yet a group of three
	resting int
	closed  bool
}

func newInput(to io.Writer, encode bool) *input {
	in := &input{to: to}
	if encode {
		in.lane = NewLane(to)
	}
	return in
}

func (in *input) Write(p []byte) (int, error) {
	switch {
	case in.closed:
		return 0, ErrClosed
	case in.lane == nil:
		return in.to.Write(p)
	}
	n := 0
	if in.resting > 0 {
		n = copy(in.rest[in.resting:], p)
		if in.resting += n; in.resting < len(in.rest) {
			return n, nil
		}
		in.resting = 0
		if _, err := in.groups(in.rest[:]); err != nil {
			return 0, err
		}
	}
	whole := (len(p) - n) / 3 * 3
	done, err := in.groups(p[n : n+whole])
	n += done
	if err != nil {
		return n, err
	}
	in.resting = copy(in.rest[:], p[n:])
	return len(p), nil
}

// groups encodes whole groups of three into the lane, which has room for whole
// groups of four. It answers how many bytes of p it took.
func (in *input) groups(p []byte) (n int, err error) {
	for n < len(p) {
		room, err := in.lane.room()
		if err != nil {
			return n, err
		}
		part := p[n:min(len(p), n+len(room)/4*3)]
		if in.pairs == nil && len(part) >= 1<<10 {
			in.pairs = newPairs()
		}
		if in.pairs != nil {
			in.pairs.encode(room, part)
		} else {
			base64.RawURLEncoding.Encode(room, part)
		}
		in.lane.filled(len(part) / 3 * 4)
		n += len(part)
	}
	return n, nil
}

// ReadFrom takes r to its end. Its errors are those of r and of the writer
// behind, and ErrClosed.
func (in *input) ReadFrom(r io.Reader) (total int64, err error) {
	if in.closed {
		return 0, ErrClosed
	}
	block := make([]byte, firstRead)
	for {
		n, err := r.Read(block)
		if _, failed := in.Write(block[:n]); failed != nil {
			return total, failed
		}
		switch total += int64(n); {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		case total >= inPlace && len(block) < readBlock:
			block = make([]byte, readBlock)
		}
	}
}

// Close ends the input: the last one or two bytes are encoded, and all of it
// has reached the writer behind.
func (in *input) Close() error {
	if in.lane == nil || in.closed {
		in.closed = true
		return nil
	}
	in.closed = true
	var last [4]byte
	n := base64.RawURLEncoding.EncodedLen(in.resting)
	base64.RawURLEncoding.Encode(last[:n], in.rest[:in.resting])
	_, err := in.lane.Write(last[:n])
	return errors.Join(err, in.lane.Close())
}
