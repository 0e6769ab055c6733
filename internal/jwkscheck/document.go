// Package jwkscheck looks at JWK sets the way an operator must before trusting
// a rotation: it shows them, lints them, and compares what several places
// serve (RFC 7517, 7518, 7638, 8037, 9111).
//
// It guarantees that a set is judged from its raw bytes, so that what a strict
// parser would refuse is found and named; that no private member that it finds
// is ever repeated in a finding; and that a place that cannot be reached is
// never counted as agreeing.
package jwkscheck

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/oauth"
)

// MaxBytes bounds what is read from one place; a set of jose.MaxSetBytes is
// already too large, but the linter wants to see how large.
const MaxBytes = 4 * jose.MaxSetBytes

// SchemaShow marks the document that `auth jwks show --output json` writes
// and that lint takes as the earlier state.
const SchemaShow = "stella.auth.jwks.show/v1"

// Getter gets one public document; oauth.Fetcher is one.
type Getter interface {
	Get(ctx context.Context, url string, header http.Header, limit int64) (*oauth.Answer, error)
}

// Document is a key set as it was found, not yet judged.
type Document struct {
	Source string // URL, path, or "-"
	Body   []byte
	HTTP   *HTTP // nil for a file
}

// HTTP is what the headers of an answer say.
type HTTP struct {
	Status       int
	ContentType  string
	CacheControl string
	MaxAge       time.Duration // -1 when absent
	NoStore      bool
	Immutable    bool
	Age          time.Duration
	ETag         string
	Date         time.Time
	// TagBlind is set when the server answered 304 to an If-None-Match with a
	// tag that it never gave out.
	TagBlind bool
}

// strangeTag is an entity tag that no server has given out.
const strangeTag = `"stella-lint-asks-with-a-tag-nobody-gave"`

// IsURL reports whether loc names something to ask over HTTP.
func IsURL(loc string) bool {
	return strings.HasPrefix(loc, "https://") || strings.HasPrefix(loc, "http://")
}

// Load reads a set from an http(s) URL, a file:// URL, a path, or stdin for
// "-". A missing file is of kind NotFound; a status other than 200 is of kind
// NotFound (404, 410) or Trust.
func Load(ctx context.Context, g Getter, loc string, stdin io.Reader) (*Document, error) {
	if IsURL(loc) {
		return loadURL(ctx, g, loc)
	}
	var r io.Reader = stdin
	if loc != "-" {
		path, err := filePath(loc)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(path)
		if err != nil {
			kind := fault.Input
			if os.IsNotExist(err) {
				kind = fault.NotFound
			}
			return nil, fault.Errorf(kind, "reading a key set: %w", err)
		}
		defer f.Close()
		r = f
	}
	body, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fault.Errorf(fault.Input, "reading a key set from %q: %w", loc, err)
	}
	if len(body) > MaxBytes {
		return nil, fault.Errorf(fault.Trust, "%q is larger than %d bytes; that is no key set", loc, MaxBytes)
	}
	return unwrap(&Document{Source: loc, Body: body}), nil
}

func filePath(loc string) (string, error) {
	if !strings.HasPrefix(loc, "file:") {
		return loc, nil
	}
	u, err := url.Parse(loc)
	if err != nil || u.Path == "" || u.Host != "" && u.Host != "localhost" {
		return "", fault.Errorf(fault.Input, "%.200q is not a file URL", loc).Hint("write file:///absolute/path")
	}
	return u.Path, nil
}

func loadURL(ctx context.Context, g Getter, loc string) (*Document, error) {
	accept := http.Header{"Accept": {"application/jwk-set+json, application/json"}}
	a, err := g.Get(ctx, loc, accept, MaxBytes)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Status == http.StatusNotFound || a.Status == http.StatusGone:
		return nil, fault.Errorf(fault.NotFound, "%s answers %d: no key set there", loc, a.Status)
	case a.Status != http.StatusOK:
		return nil, fault.Errorf(fault.Trust, "%s answers %d instead of a key set", loc, a.Status)
	}
	return &Document{Source: loc, Body: a.Body, HTTP: readHTTP(a)}, nil
}

// probeTag asks once more with a tag that nobody gave out; a 304 would mean
// that clients of this server never see a new key.
func probeTag(ctx context.Context, g Getter, d *Document) {
	h := http.Header{"Accept": {"application/jwk-set+json, application/json"}, "If-None-Match": {strangeTag}}
	a, err := g.Get(ctx, d.Source, h, MaxBytes)
	d.HTTP.TagBlind = err == nil && a.Status == http.StatusNotModified
}

func readHTTP(a *oauth.Answer) *HTTP {
	h := &HTTP{
		Status: a.Status, ContentType: a.Header.Get("Content-Type"), ETag: a.Header.Get("ETag"),
		CacheControl: strings.Join(a.Header.Values("Cache-Control"), ", "), MaxAge: -1,
	}
	h.Date, _ = http.ParseTime(a.Header.Get("Date"))
	if n, err := strconv.Atoi(a.Header.Get("Age")); err == nil && n > 0 && n < 1<<31 {
		h.Age = time.Duration(n) * time.Second
	}
	for _, part := range strings.Split(h.CacheControl, ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
		switch name {
		case "no-store":
			h.NoStore = true
		case "immutable":
			h.Immutable = true
		case "max-age":
			if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil && n >= 0 && n < 1<<31 {
				h.MaxAge = time.Duration(n) * time.Second
			}
		}
	}
	return h
}

// saved is the part of a `show --output json` document that lint needs.
type saved struct {
	Schema   string `json:"schema"`
	URL      string `json:"url"`
	ETag     string `json:"etag"`
	Document string `json:"document"`
}

// unwrap takes the set, its address and its tag out of a saved show document; anything
// else stays as it is.
func unwrap(d *Document) *Document {
	var s saved
	if err := json.Unmarshal(d.Body, &s); err != nil || s.Schema != SchemaShow || s.Document == "" {
		return d
	}
	d.Body = []byte(s.Document)
	d.HTTP = &HTTP{ETag: s.ETag, MaxAge: -1}
	return d
}

func at(i int, k rawKey) string {
	if k.kid == "" {
		return fmt.Sprintf("keys[%d]", i)
	}
	return fmt.Sprintf("keys[%d] (kid %.80q)", i, k.kid)
}
