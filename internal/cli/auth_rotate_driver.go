package cli

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/lock"
	"github.com/stella-ops/stella/internal/rotate"
)

// authorityAudience is what a token for the Authority's own API is for.
const authorityAudience = "api://authority"

// rotateShared are the flags that every command below rotate has.
type rotateShared struct{ bootstrap bool }

func (r *rotateShared) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&r.bootstrap, "bootstrap", false, "use auth.bootstrap_key instead of a token: for an emergency in which no token can be had")
}

// driver is a rotate.Driver and what the command line keeps beside it.
type driver struct {
	*rotate.Driver
	config *config.Config
	client *http.Client
	key    *bootstrapDoer // nil without the bootstrap key
}

// driver makes the way to the lifecycle API. It opens nothing.
func (r *rotateShared) driver(app *App, manage bool) (*driver, error) {
	c, err := app.Config()
	if err != nil {
		return nil, err
	}
	if err := c.Require("authority.url"); err != nil {
		return nil, err
	}
	d := &driver{config: c}
	if d.client, err = app.Client(c); err != nil {
		return nil, err
	}
	looker := &rotate.Looker{Client: d.client, Timeout: c.Authority.Timeout.Std()}
	for _, v := range c.VantagePoints {
		p := rotate.Point{Name: v.Name, URL: v.URL}
		if v.CAFile != "" {
			if p.Client, err = app.HTTP(c, httpd.ClientOptions{CAFile: v.CAFile}); err != nil {
				return nil, err
			}
		}
		looker.Extra = append(looker.Extra, p)
	}
	doer, err := r.doer(app, d, manage)
	if err != nil {
		return nil, err
	}
	api := &rotate.API{Base: strings.TrimSuffix(c.Authority.URL, "/"), Doer: doer}
	if _, ok := doer.(*bootstrapDoer); ok {
		api.Refused = "check auth.bootstrap_key: stella config show --origin"
	}
	d.Driver = &rotate.Driver{API: api, Looker: looker, Delays: app.RetryDelays, Now: app.Now}
	d.Events = func(e rotate.Event) { // long runs replace it, see watch
		if e.Type == rotate.Warning {
			app.Streams.Warn("%s", e.Text)
		}
	}
	return d, nil
}

// doer sends requests with a token, or with the bootstrap key if that is
// asked for or all there is.
func (r *rotateShared) doer(app *App, d *driver, manage bool) (rotate.Doer, error) {
	a := d.config.Auth
	if a.BootstrapKey != "" {
		d.key = &bootstrapDoer{client: d.client, header: a.BootstrapHeader, load: a.BootstrapKey.Load}
	}
	if r.bootstrap || a.ClientID == "" && !d.config.HasToken() {
		if d.key == nil {
			if r.bootstrap {
				return nil, d.config.Require("auth.bootstrap_key")
			}
			return nil, d.config.Require("auth.client_id")
		}
		return d.key, nil
	}
	need := []string{keyring.ScopeRead}
	if manage {
		need = append(need, keyring.ScopeManage)
	}
	want := lifecycleToken(a, need)
	s, err := openAuth(app, want)
	if err != nil {
		return nil, err
	}
	t := newTokenDoer(s, want)
	if d.key != nil {
		t.instead = app.typed("--bootstrap")
	}
	return t, nil
}

// lifecycleToken is the token for the lifecycle API with the scopes of need.
func lifecycleToken(a config.Auth, need []string) tokenWant {
	want := tokenWant{}
	if a.Audience == "" {
		want.audience = authorityAudience
	}
	for _, scope := range need {
		if !slices.Contains(a.Scopes, scope) {
			want.scopes = need
		}
	}
	return want
}

// lock keeps two long runs on this host apart; nil where there is no place for
// it. Single transitions take no lock: an emergency must not wait for a timer.
func (d *driver) lock(ctx context.Context) (*lock.Lock, error) {
	dir := d.config.Auth.TokenCache
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.As(fault.Config, err)
	}
	return lock.Acquire(ctx, filepath.Join(dir, "rotate.lock"), "stella auth rotate", 0)
}

// completionBudget bounds what a completion may take.
const completionBudget = 300 * time.Millisecond

func (r *rotateShared) completeKIDs(ctx context.Context, app *App, states []keyring.State) []string {
	return r.completeFrom(ctx, app, func(report *keyring.Report) (kids []string) {
		for _, k := range report.Keys {
			if slices.Contains(states, k.State) {
				kids = append(kids, k.KID+"\t"+string(k.State))
			}
		}
		return kids
	})
}

// completeFrom asks the Authority once; whatever goes wrong completes nothing.
func (r *rotateShared) completeFrom(ctx context.Context, app *App, pick func(*keyring.Report) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionBudget)
	defer cancel()
	d, err := r.driver(app, false)
	if err != nil {
		return nil
	}
	report, err := d.API.Report(ctx)
	if err != nil {
		return nil
	}
	return pick(report)
}
