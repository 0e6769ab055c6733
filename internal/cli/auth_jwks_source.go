package cli

import (
	"context"
	"strings"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/jwkscheck"
)

// jwksSource is where key sets of one command come from.
type jwksSource struct {
	app      *App
	config   *config.Config
	location string // URL, path or "-"
	*progress
}

// openJWKS finds the set that a command is about: its argument, or the
// jwks_uri of the configured Authority, which is asked for its metadata then.
func openJWKS(ctx context.Context, app *App, args []string) (*jwksSource, error) {
	c, err := app.Config()
	if err != nil {
		return nil, err
	}
	src := &jwksSource{app: app, config: c, progress: newProgress(app)}
	if len(args) == 1 {
		src.location = args[0]
		return src, nil
	}
	s, err := openAuth(app, tokenWant{})
	if err != nil {
		return nil, err
	}
	defer s.close()
	md, err := s.client.Discover(ctx)
	if err != nil {
		return nil, err
	}
	src.location = md.JWKSURI
	return src, nil
}

// load reads one set. What lies on the Authority's own CAs is asked with them.
func (s *jwksSource) load(ctx context.Context, loc string) (*jwkscheck.Document, error) {
	g, err := s.getter(loc)
	if err != nil {
		return nil, err
	}
	return jwkscheck.Load(ctx, g, loc, s.app.Streams.In)
}

// getter asks for public documents only, so it also takes plain http, for the
// linter to complain about.
func (s *jwksSource) getter(loc string) (jwkscheck.Getter, error) {
	f, err := openFetcher(s.app, s.progress, s.config.Authority.CAFile)
	if err != nil || !strings.HasPrefix(loc, "http://") || s.config.Offline {
		return f, err
	}
	f.HTTP, err = httpd.Client(httpd.ClientOptions{Timeout: s.config.Authority.Timeout.Std(), AllowHTTP: true})
	return f, err
}
