// Package httpget opens objects by one HTTP GET, for the stores that speak it.
//
// It guarantees one request an Open (two where the object is empty and a range
// was asked for), no redirect followed, error bodies bounded to 64 KiB and
// 10 s, and a Body that holds exactly the announced bytes of one version, or
// fails.
package httpget

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

// Client asks one place.
type Client struct {
	Transport http.RoundTripper
	Place     string // for messages
	Agent     string // User-Agent
	Base      url.URL
	// Web also sends If-Range and refuses a Content-Encoding: web servers may
	// transform what they serve. S3 only repeats the header that an object was
	// stored with, and serves the bytes as they are.
	Web bool
	// Authorize completes a request last: it signs it or adds credentials. Its
	// error ends the Open, and is returned as it is. May be nil.
	Authorize func(*http.Request) error
	// Explain makes the error of an answer that is none of 200, 206, 304, 412
	// and 416 from its bounded body; nil is for the usual one. May be nil.
	Explain func(a Answer) error
}

// Answer is an answer that tells an error.
type Answer struct {
	Op     objstore.Op
	Key    string
	Status int
	Header http.Header
	Body   []byte // at most 64 KiB
}

// Open implements objstore.Reader.
func (c *Client) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	if err := errors.Join(objstore.CheckKey(key), g.Check()); err != nil {
		return nil, fault.Errorf(fault.Input, "%s: %w", c.naming(key), err)
	}
	if err := objstore.Dead(ctx, objstore.OpRead, c.Place, key); err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancel(ctx)
	e := exchange{c: c, ctx: ctx, cancel: cancel, key: key, g: g}
	o, err := e.do(inner)
	if err != nil {
		cancel()
		return nil, err
	}
	return o, nil
}

// exchange is one GET and its answer.
type exchange struct {
	c      *Client
	ctx    context.Context // the caller's
	cancel func()          // ends the exchange
	key    string
	g      objstore.Get
}

func (e *exchange) do(ctx context.Context) (*objstore.Object, error) {
	req := (&http.Request{
		Method: http.MethodGet, URL: e.c.url(e.key), Host: e.c.Base.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: e.header(),
	}).WithContext(ctx)
	if e.c.Authorize != nil {
		if err := e.c.Authorize(req); err != nil {
			if dead := objstore.Dead(e.ctx, objstore.OpRead, e.c.Place, e.key); dead != nil {
				return nil, dead
			}
			return nil, err
		}
	}
	resp, err := e.c.Transport.RoundTrip(req)
	if err != nil {
		return nil, e.cut(err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		o, err := e.accept(resp)
		if err != nil {
			resp.Body.Close()
		}
		return o, err
	}
	return e.refused(ctx, resp)
}

func (c *Client) url(key string) *url.URL {
	u := c.Base
	u.Path += "/" + key
	u.RawPath = escape(u.Path)
	return &u
}

func (e *exchange) header() http.Header {
	h := http.Header{"Accept-Encoding": {"identity"}, "User-Agent": {e.c.Agent}}
	strong := e.g.IfMatch != "" && !weak(e.g.IfMatch)
	if strong {
		h["If-Match"] = []string{e.g.IfMatch}
	}
	if e.g.IfNoneMatch != "" {
		h["If-None-Match"] = []string{e.g.IfNoneMatch}
	}
	if !e.g.Ranged() {
		return h
	}
	end := ""
	if e.g.Length > 0 {
		end = strconv.FormatInt(e.g.Offset+e.g.Length-1, 10)
	}
	h["Range"] = []string{"bytes=" + strconv.FormatInt(e.g.Offset, 10) + "-" + end}
	if strong && e.c.Web {
		h["If-Range"] = []string{e.g.IfMatch} // for servers that know no If-Match
	}
	return h
}

// accept makes the object of an answer that has one.
func (e *exchange) accept(resp *http.Response) (*objstore.Object, error) {
	o := &objstore.Object{Info: objstore.Info{Key: e.key, Size: resp.ContentLength, ETag: objstore.CleanETag(resp.Header.Get("ETag"))}}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		o.Modified = t
	}
	if enc := resp.Header.Get("Content-Encoding"); e.c.Web && enc != "" && !strings.EqualFold(enc, "identity") {
		return nil, fault.Errorf(fault.Trust, "%s: the server sent it with Content-Encoding %.40q, which was not asked for", e.c.naming(e.key), enc).
			Hint("switch compression off for this path on the server: signed bytes must arrive as they are")
	}
	// Not all servers know conditions; what they serve says how it stands.
	if e.g.IfMatch != "" && o.ETag != "" && !sameTag(e.g.IfMatch, o.ETag) {
		return nil, e.fail(objstore.ErrChanged, nil)
	}
	if e.g.IfNoneMatch != "" && sameTag(e.g.IfNoneMatch, o.ETag) {
		return nil, e.fail(objstore.ErrNotModified, nil)
	}
	b := &body{e: e, from: resp.Body, left: resp.ContentLength}
	if resp.StatusCode == http.StatusPartialContent {
		r, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err == nil {
			err = r.answers(e.g, resp.ContentLength)
		}
		if err != nil {
			return nil, e.fail(objstore.ErrTransient, fmt.Errorf("the server sent other bytes than asked for: %w", err))
		}
		o.Size, o.Offset, b.left = r.size, r.first, r.last-r.first+1
	} else if e.g.Offset > 0 && resp.ContentLength >= 0 && resp.ContentLength <= e.g.Offset {
		return nil, e.fail(objstore.ErrRange, nil) // some servers know no 416
	} else if e.g.Offset == 0 && e.g.Length > 0 && (b.left < 0 || b.left > e.g.Length) {
		b.left, b.atMost = e.g.Length, b.left < 0
	}
	o.Body = b
	return o, nil
}

// refused makes the error of an answer without an object.
func (e *exchange) refused(ctx context.Context, resp *http.Response) (*objstore.Object, error) {
	text := e.drain(resp)
	switch code := resp.StatusCode; {
	case code == http.StatusNotModified && e.g.IfNoneMatch != "":
		return nil, e.fail(objstore.ErrNotModified, nil)
	case code == http.StatusPreconditionFailed && e.g.IfMatch != "":
		return nil, e.fail(objstore.ErrChanged, nil)
	case code == http.StatusRequestedRangeNotSatisfiable && e.g.Offset > 0:
		return nil, e.fail(objstore.ErrRange, nil)
	case code == http.StatusRequestedRangeNotSatisfiable && e.g.Length > 0:
		// It is empty, or was: no range fits that. Without one, it does.
		whole := *e
		whole.g.Length = 0
		o, err := whole.do(ctx)
		if err == nil {
			if b, ok := o.Body.(*body); ok && (b.left < 0 || b.left > e.g.Length) {
				b.left, b.atMost = e.g.Length, b.left < 0
			}
		}
		return o, err
	}
	return nil, e.c.Refusal(Answer{objstore.OpRead, e.key, resp.StatusCode, resp.Header, text})
}

// cut makes the error of an exchange that broke off.
func (e *exchange) cut(err error) error {
	if dead := objstore.Dead(e.ctx, objstore.OpRead, e.c.Place, e.key); dead != nil {
		return dead
	}
	return Cut(objstore.OpRead, e.c.Place, e.key, err)
}

func (e *exchange) fail(why, cause error) error {
	return objstore.Fail(objstore.OpRead, e.c.Place, e.key, why, cause)
}

func (c *Client) naming(key string) string { return objstore.Naming(objstore.OpRead, c.Place, key) }

// weak tells a tag that proves no equality of bytes.
func weak(tag string) bool { return strings.HasPrefix(tag, "W/") }

// sameTag is the weak comparison of RFC 9110 section 8.8.3.2.
func sameTag(a, b string) bool {
	return strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

// escape leaves only what no server takes for anything else: RFC 3986's
// unreserved characters and the slash. S3 signatures want it so too.
func escape(path string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	out.Grow(len(path) + 16)
	for _, c := range []byte(path) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			out.WriteByte(c)
		default:
			out.WriteByte('%')
			out.WriteByte(hex[c>>4])
			out.WriteByte(hex[c&15])
		}
	}
	return out.String()
}
