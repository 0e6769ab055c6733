package httpget

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/objstore"
)

// An answer that tells an error is read this far and this long.
const (
	maxErrorBody  = 64 << 10
	errorBodyTime = 10 * time.Second
)

// drain reads an error body, which also lets the connection be used again.
func (e *exchange) drain(resp *http.Response) []byte {
	stop := time.AfterFunc(errorBodyTime, e.cancel)
	defer stop.Stop()
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // the status says enough without it
	return text
}

// body gives exactly the bytes that are due.
type body struct {
	e      *exchange
	from   io.ReadCloser
	left   int64 // bytes due; -1: whatever comes
	atMost bool  // fewer than left is the whole object too
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.from.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	switch {
	case b.left == 0:
		return n, io.EOF // of an answer with a length the connection is free by now
	case err == nil:
		return n, nil
	case err == io.EOF && (b.left < 0 || b.atMost):
		return n, io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, b.e.cut(err)
}

// Close ends the exchange; of a body that was not read to its end the
// connection is given up.
func (b *body) Close() error {
	err := b.from.Close()
	b.e.cancel()
	return err
}

// contentRange is the Content-Range of RFC 9110 section 14.4.
type contentRange struct {
	first, last int64
	size        int64 // -1: unknown
}

func parseContentRange(s string) (contentRange, error) {
	bad := fmt.Errorf("Content-Range %.60q", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return contentRange{}, bad
	}
	r := contentRange{size: -1}
	var err1, err2, err3 error
	r.first, err1 = number(first)
	r.last, err2 = number(last)
	if size != "*" {
		r.size, err3 = number(size)
	}
	if errors.Join(err1, err2, err3) != nil || r.last < r.first || r.size >= 0 && r.last >= r.size {
		return contentRange{}, bad
	}
	return r, nil
}

// number reads digits alone, in one way.
func number(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err == nil && strconv.FormatUint(n, 10) != s {
		err = strconv.ErrSyntax
	}
	return int64(n), err
}

func (r contentRange) String() string {
	size := "*"
	if r.size >= 0 {
		size = strconv.FormatInt(r.size, 10)
	}
	return fmt.Sprintf("bytes %d-%d/%s", r.first, r.last, size)
}

// answers says whether the range is what g asked for, in length bytes (-1 if
// they were not announced).
func (r contentRange) answers(g objstore.Get, length int64) error {
	want := r.last - r.first + 1
	switch {
	case !g.Ranged():
		return errors.New("a part, where the whole was wanted")
	case r.first != g.Offset || length >= 0 && length != want || g.Length > 0 && want > g.Length:
		return fmt.Errorf("%s in %d bytes, for offset %d and length %d", r, length, g.Offset, g.Length)
	case r.size >= 0 && r.last+1 < r.size && want != g.Length:
		return fmt.Errorf("%s ends early for offset %d and length %d", r, g.Offset, g.Length)
	}
	return nil
}
