package cli

import (
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/ui"
)

// tokenWant is what a token is asked for beyond the configuration. Flags
// replace what the configuration says.
type tokenWant struct {
	scopes           []string
	audience, tenant string
	reason           string
	bearer           bool
	person           bool // of a person, whatever the configuration says
}

func (w *tokenWant) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&w.scopes, "scope", nil, "`SCOPE` to ask for instead of auth.scopes (may be repeated)")
	f.StringVar(&w.audience, "audience", "", "audience to ask for instead of auth.audience")
	f.StringVar(&w.tenant, "tenant", "", "tenant to ask for instead of the configured one")
}

// given reports whether any flag narrows which token is meant.
func (w tokenWant) given() bool { return len(w.scopes) > 0 || w.audience != "" || w.tenant != "" }

// flags spells w as a command line would, for hints.
func (w tokenWant) flags() string {
	var b strings.Builder
	for _, s := range w.scopes {
		fmt.Fprintf(&b, " --scope %s", s)
	}
	if w.audience != "" {
		b.WriteString(" --audience " + w.audience)
	}
	if w.tenant != "" {
		b.WriteString(" --tenant " + w.tenant)
	}
	return b.String()
}

// authSession is one command's way to the Authority.
type authSession struct {
	app    *App
	config *config.Config
	client *oauth.Client
	*progress
}

// openAuth makes a session for the configured Authority. It opens nothing.
// Kind Config when the configuration does not do.
func openAuth(app *App, want tokenWant) (*authSession, error) {
	c, err := app.Config()
	if err != nil {
		return nil, err
	}
	if err := c.Require("authority.url"); err != nil {
		return nil, err
	}
	hc, err := app.Client(c)
	if err != nil {
		return nil, err
	}
	static, err := c.Token()
	if err != nil {
		return nil, err
	}
	s := &authSession{app: app, config: c, progress: newProgress(app)}
	o := oauth.Config{
		Issuer: c.Authority.URL, Origins: c.Authority.Origins, ClientID: c.Auth.ClientID, Credential: credential(c.Auth),
		Scopes: c.Auth.Scopes, Audience: c.Auth.Audience, Tenant: c.Tenant, Reason: want.reason,
		Bearer: want.bearer || !c.Auth.DPoP || c.Auth.EffectiveMethod() == config.TLSClientAuth,
		Device: want.person || c.Auth.Person(), StaticToken: static, CacheDir: c.Auth.TokenCache, Offline: c.Offline,
		HTTP: hc, AttemptTimeout: c.Authority.Timeout.Std(), RetryDelays: app.RetryDelays, Now: app.Now, Events: s.show,
		Sleep: app.Sleep,
	}
	if len(want.scopes) > 0 {
		o.Scopes = want.scopes
	}
	if want.audience != "" {
		o.Audience = want.audience
	}
	if want.tenant != "" {
		o.Tenant = want.tenant
	}
	s.client, err = oauth.New(o)
	return s, err
}

// credential is how the client proves itself.
func credential(a config.Auth) oauth.Credential {
	switch a.EffectiveMethod() {
	case config.PrivateKeyJWT:
		return oauth.PrivateKeyJWT(func() (*jose.Signer, error) { return oauth.LoadSigner(a.PrivateKey, a.KeyID) })
	case config.ClientSecretBasic:
		return oauth.SecretBasic(a.ClientSecret.Load)
	case config.TLSClientAuth:
		return oauth.TLSClientAuth(func() (*x509.Certificate, error) { return oauth.LoadCertificate(a.Certificate) })
	}
	return oauth.Public()
}

// progress shows what a client is waiting for, and its warnings. It is safe
// for concurrent use.
type progress struct {
	streams *ui.Streams
	line    *ui.Line
	mu      sync.Mutex
}

func newProgress(app *App) *progress {
	return &progress{streams: app.Streams, line: app.Streams.Line()}
}

func (p *progress) show(e oauth.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case oauth.EventWarning:
		p.line.Clear()
		p.streams.Warn("%s", e.Message)
	case oauth.EventWait:
		if e.Of == 0 { // a poll, of which there are as many as it takes
			p.line.Set(fmt.Sprintf("no answer, asking again in %s: %s", e.Wait.Round(time.Second), e.Message))
			return
		}
		p.line.Set(fmt.Sprintf("attempt %d of %d failed, next in %s: %s", e.Attempt, e.Of, e.Wait.Round(time.Second), e.Message))
	case oauth.EventAttempt:
		if e.Attempt > 1 {
			p.line.Set(fmt.Sprintf("attempt %d of %d: %s", e.Attempt, e.Of, e.URL))
		}
	}
}

// close removes the progress line; it may be called twice.
func (p *progress) close() { p.line.Clear() }

// static reports whether STELLA_TOKEN replaces the cache.
func (s *authSession) static() bool { return s.config.HasToken() }

// openFetcher gets public documents with the CAs of caFile ("": the system's).
func openFetcher(app *App, p *progress, caFile string) (oauth.Fetcher, error) {
	c, err := app.Config()
	if err != nil {
		return oauth.Fetcher{}, err
	}
	hc, err := app.HTTP(c, httpd.ClientOptions{CAFile: caFile})
	if err != nil {
		return oauth.Fetcher{}, err
	}
	return oauth.Fetcher{
		HTTP: hc, AttemptTimeout: c.Authority.Timeout.Std(), RetryDelays: app.RetryDelays, Offline: c.Offline, Now: app.Now,
		Events: p.show,
	}, nil
}
