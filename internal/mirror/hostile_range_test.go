package mirror_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/release"
)

// partial answers a request for a range with whatever is said to be in it.
func partial(span func(from, size int) (string, []byte)) func(*exchange) bool {
	return on(bigPath, func(e *exchange) bool {
		if e.nth == 1 {
			return e.cut(len(e.data) / 2)
		}
		from := 0
		if _, err := fmt.Sscanf(e.r.Header.Get("Range"), "bytes=%d-", &from); err != nil || from == 0 {
			return false
		}
		text, extra := span(from, len(e.data))
		e.Header().Set("ETag", `"`+release.Digest(e.data)[7:39]+`"`)
		e.Header().Set("Content-Range", text)
		e.WriteHeader(http.StatusPartialContent)
		_, _ = e.Write(append(e.data[from:len(e.data):len(e.data)], extra...))
		return true
	})
}

// rangeMisdeeds are about the rest of a member that was cut.
func rangeMisdeeds() []misdeed {
	good := func(from, size int) string { return fmt.Sprintf("bytes %d-%d/%d", from, size-1, size) }
	return []misdeed{
		{name: "range: control", do: partial(func(from, size int) (string, []byte) { return good(from, size), nil })},
		{name: "range from another offset", kind: fault.Transient, do: partial(func(from, size int) (string, []byte) { return good(from+1, size), nil })},
		{name: "range that ends early", kind: fault.Transient, do: partial(func(from, size int) (string, []byte) {
			return fmt.Sprintf("bytes %d-%d/%d", from, size-2, size), nil
		})},
		{name: "range of a longer object", do: partial(func(from, size int) (string, []byte) {
			return fmt.Sprintf("bytes %d-%d/%d", from, size, size+1), []byte{0}
		})},
		{name: "more bytes than the range", do: partial(func(from, size int) (string, []byte) { return good(from, size), make([]byte, 9000) })},
		{name: "more bytes than the range, announced", kind: fault.Transient, do: func(e *exchange) bool {
			if e.key == bigPath && e.nth > 1 {
				e.Header().Set("Content-Length", fmt.Sprint(len(e.data)))
			}
			return partial(func(from, size int) (string, []byte) { return good(from, size), make([]byte, from) })(e)
		}},
		{name: "no Content-Range", kind: fault.Transient, do: partial(func(int, int) (string, []byte) { return "", nil })},
		{name: "a range of nonsense", kind: fault.Transient, do: partial(func(int, int) (string, []byte) {
			return "bytes 99999999999999999999-5/" + strings.Repeat("9", 3000), nil
		})},
	}
}

// TestCutOnce: what was cut goes on where it stopped, with the same version of
// the object, and no byte comes twice.
func TestCutOnce(t *testing.T) {
	t.Parallel()
	const size = 600 << 10
	for _, at := range []int{0, 1, 256 << 10, size / 2, size - 1} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			w, o := newOrigin(t, onWeb)
			extra := big(size)
			files := w.more(1, extra)
			o.bad(on(bigPath, once(func(e *exchange) bool { return e.cut(at) })))
			w.good(files)
			got := o.requests(bigPath)
			if len(got) != 2 || got[0].span != "" || got[0].sent != int64(at) || got[0].sent+got[1].sent != size {
				t.Fatalf("%+v", got)
			}
			span, tag := fmt.Sprintf("bytes=%d-", at), `"`+release.Digest(extra[bigPath])[7:39]+`"`
			if at == 0 {
				span = ""
			}
			if got[1].span != span || got[1].ifMatch != tag {
				t.Errorf("%+v", got[1])
			}
		})
	}
}

// TestCutAlways: a server that always breaks off makes a run fail for now. What
// came is kept, and the next run goes on there.
func TestCutAlways(t *testing.T) {
	t.Parallel()
	for _, kind := range []sourceKind{onWeb, inBucket} {
		t.Run(string(kind), func(t *testing.T) {
			w, o := newOrigin(t, kind)
			one := w.publish(1)
			w.good(one)
			const size = 600 << 10
			extra := big(size)
			two := w.more(2, extra)
			o.bad(on(bigPath, func(e *exchange) bool { return e.cut(50 << 10) }))
			if _, err := w.sync(); fault.KindOf(err) != fault.Transient {
				t.Fatal(err)
			}
			w.shows(one)
			had := w.partOf(extra[bigPath])
			if had != 5*50<<10 {
				t.Errorf("%d bytes are kept of five tries", had)
			}
			o.bad(nil)
			if res := w.good(two); res.Received >= size {
				t.Errorf("%d bytes were fetched", res.Received)
			}
			got := o.requests(bigPath)
			if len(got) != 1 || got[0].span != fmt.Sprintf("bytes=%d-", had) || got[0].sent != size-had {
				t.Errorf("%+v", got)
			}
			if left := w.partOf(extra[bigPath]); left != -1 {
				t.Errorf("%d bytes are left in staging", left)
			}
		})
	}
}

// TestReplacedBetweenRanges: while a member is read by parts, it becomes that
// of the next release. The reader begins again and takes the new release;
// nothing is put together of two.
func TestReplacedBetweenRanges(t *testing.T) {
	t.Parallel()
	for name, serves := range map[string]struct {
		kind sourceKind
		size int
		do   func(e *exchange) bool
	}{
		"If-Match":           {onWeb, 600 << 10, nil},
		"If-Match, S3":       {inBucket, 7 << 20, nil},
		"no If-Match":        {onWeb, 600 << 10, func(e *exchange) bool { e.r.Header.Del("If-Match"); e.r.Header.Del("If-Range"); return false }},
		"no ETag":            {onWeb, 600 << 10, func(e *exchange) bool { return untagged(e) }},
		"no ETag, no ranges": {onWeb, 600 << 10, func(e *exchange) bool { _, _ = e.Write(e.data); return true }},
	} {
		t.Run(name, func(t *testing.T) {
			w, o := newOrigin(t, serves.kind)
			w.m.Parallel = 2
			one := w.publish(1)
			w.good(one)
			w.more(2, big(serves.size))
			var three map[string][]byte
			var writing sync.Mutex // who settles waits longer than a publisher writes
			w.m.Sleep = func(context.Context, time.Duration) error { writing.Lock(); defer writing.Unlock(); return nil }
			o.bad(on(bigPath, func(e *exchange) bool {
				if e.nth == 1 {
					return e.cut(min(len(e.data)/2, 1<<20))
				}
				if e.nth == 2 {
					writing.Lock()
					three = w.more(3, big(serves.size))
					writing.Unlock()
					e.data = three[bigPath]
				}
				return serves.do != nil && serves.do(e)
			}))
			if res := w.good(three); res.Sequence != 3 || res.Outcome != mirror.Updated {
				t.Errorf("%+v", res)
			}
			if st, err := w.m.Status("concelier"); err != nil || len(st.Refusals) != 0 {
				t.Errorf("%v %+v", err, st.Refusals)
			}
		})
	}
}

// untagged answers ranges without an ETag.
func untagged(e *exchange) bool {
	from := 0
	if _, err := fmt.Sscanf(e.r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
		e.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(e.data)-1, len(e.data)))
		e.WriteHeader(http.StatusPartialContent)
	}
	_, _ = e.Write(e.data[from:])
	return true
}

// TestChangingETags: pieces of one member must be of one version, so with a
// store that gives each answer another ETag they cannot be had; that is no
// attack, and nothing is shown. A member of one piece can.
func TestChangingETags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size int
		kind fault.Kind
	}{{300 << 10, fault.None}, {7 << 20, fault.Transient}} {
		w, o := newOrigin(t, inBucket)
		one := w.publish(1)
		w.good(one)
		w.more(2, big(c.size))
		o.bad(func(e *exchange) bool {
			if tag := e.r.Header.Get("If-Match"); tag != "" {
				return e.status(http.StatusPreconditionFailed)
			}
			return false
		})
		_, err := w.sync()
		if fault.KindOf(err) != c.kind || release.ReasonOf(err) != "" {
			t.Errorf("%d bytes: %v", c.size, err)
		}
		if err != nil {
			w.shows(one)
		}
	}
}
