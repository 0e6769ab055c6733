package cli

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/objstore/https"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/release"
)

// places opens sources and targets. Those on the network are opened once in a
// run, so connections are shared; a folder each time, since the link that leads
// to it may be switched meanwhile.
// Secrets are read when the first place needs them. It is safe for concurrent
// use.
type places struct {
	config *config.Config

	mu        sync.Mutex
	opened    map[objstore.Place]objstore.Reader
	s3        *s3.Options
	authorize func(*http.Request) error
}

func newPlaces(c *config.Config) *places {
	return &places{config: c, opened: map[objstore.Place]objstore.Reader{}}
}

// open opens a place for reading. In offline mode all but files is a stand-in
// that refuses.
func (p *places) open(ctx context.Context, place objstore.Place) (objstore.Reader, error) {
	if p.remote(place) && p.config.Offline {
		return objstore.Offline(place), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.opened[place]; ok {
		return r, nil
	}
	r, err := p.dial(ctx, place)
	if err == nil && p.remote(place) {
		p.opened[place] = r
	}
	return r, err
}

func (p *places) dial(ctx context.Context, place objstore.Place) (objstore.Reader, error) {
	switch place.Scheme {
	case objstore.File:
		return openFolder(place)
	case objstore.S3:
		return p.bucket(ctx, place)
	}
	h := p.config.Mirror.HTTPS
	if p.authorize == nil {
		authorize, err := httpsCredentials(h)
		if err != nil {
			return nil, err
		}
		p.authorize = authorize
	}
	return https.New(place, https.Options{MaxConns: p.conns(), CAFile: h.CAFile, Authorize: p.authorize})
}

// store opens a place for reading and writing.
func (p *places) store(ctx context.Context, place objstore.Place) (objstore.Store, error) {
	if err := p.reachable(ctx, place); err != nil {
		return nil, err
	}
	r, err := p.open(ctx, place)
	if err != nil {
		return nil, err
	}
	s, ok := r.(objstore.Store)
	if !ok {
		return nil, fault.Errorf(fault.Input, "%s cannot be written to", place).Hint("use s3:// or file://")
	}
	return s, nil
}

func openFolder(place objstore.Place) (objstore.Reader, error) {
	s, err := fs.Open(place.Path)
	if fault.KindOf(err) == fault.NotFound {
		return nil, fault.Errorf(fault.NotFound, "%w", err).Hint("is it mounted? ls -ld %s", place.Path)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p *places) bucket(ctx context.Context, place objstore.Place) (objstore.Reader, error) {
	if p.s3 == nil {
		o, err := s3Options(p.config.Mirror.S3)
		if err != nil {
			return nil, err
		}
		o.MaxConns = p.conns()
		p.s3 = o
	}
	s, err := s3.Open(ctx, place, *p.s3)
	if err != nil {
		return nil, err // never a Store that is nil in an interface that is not
	}
	return s, nil
}

func (p *places) conns() int { return max(32, p.config.Mirror.Parallel) }

func s3Options(s config.MirrorS3) (*s3.Options, error) {
	o := &s3.Options{Region: s.Region, Endpoint: s.Endpoint, PathStyle: s.PathStyle, CAFile: s.CAFile}
	if s.AccessKeyID == "" {
		return o, nil
	}
	id, err := s.AccessKeyID.Load()
	if err != nil {
		return nil, err
	}
	key, err := s.SecretAccessKey.Load()
	if err != nil {
		return nil, err
	}
	session := ""
	if s.SessionToken != "" {
		token, err := s.SessionToken.Load()
		if err != nil {
			return nil, err
		}
		session = string(token.Reveal())
	}
	o.Credentials = s3.Static(string(id.Reveal()), string(key.Reveal()), session)
	return o, nil
}

// httpsCredentials puts what is configured on requests.
func httpsCredentials(h config.MirrorHTTPS) (func(*http.Request) error, error) {
	ref := h.Token
	if h.Username != "" {
		ref = h.Password
	}
	if ref == "" {
		return func(*http.Request) error { return nil }, nil
	}
	value, err := ref.Load()
	if err != nil {
		return nil, err
	}
	text := string(value.Reveal())
	for _, c := range []byte(text) {
		if c < ' ' || c == 0x7f {
			return nil, fault.Errorf(fault.Config, "secret %s has a control character in it, which no HTTP header may have", ref)
		}
	}
	if h.Username != "" {
		return func(r *http.Request) error { r.SetBasicAuth(h.Username, text); return nil }, nil
	}
	return func(r *http.Request) error { r.Header.Set("Authorization", "Bearer "+text); return nil }, nil
}

func (p *places) remote(place objstore.Place) bool { return place.Scheme != objstore.File }

// reachable is an error of kind Offline when a place needs the network and may
// not have it. It opens nothing.
func (p *places) reachable(ctx context.Context, place objstore.Place) error {
	if !p.config.Offline || !p.remote(place) {
		return nil
	}
	_, err := objstore.Offline(place).Open(ctx, release.FileStatement, objstore.Get{})
	return err
}

// offline is reachable for every feed.
func (m *mirrors) offline(ctx context.Context, feeds []mirror.Feed) error {
	for _, f := range feeds {
		if err := m.places.reachable(ctx, f.Source); err != nil {
			return err
		}
	}
	return nil
}

// close gives up connections and folders.
func (p *places) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.opened {
		if c, ok := r.(io.Closer); ok {
			_ = c.Close() // a Put was durable before
		}
	}
	clear(p.opened)
}
