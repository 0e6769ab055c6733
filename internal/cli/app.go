// Package cli is the command tree of stella.
//
// It guarantees that a command line is checked whole before anything is
// touched (exit 2), that every command tells its exit codes in its help, that
// results are text or JSON at the operator's choice, and that the exit code
// depends on the kind of the error alone (internal/fault).
package cli

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/buildinfo"
	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/obs"
	"github.com/stella-ops/stella/internal/ui"
)

// App is what commands share for one run: where they read and write, what time
// it is, how they are configured. Tests fill it as they need.
type App struct {
	Streams *ui.Streams
	Environ []string // as os.Environ returns it
	Now     func() time.Time
	Build   buildinfo.Info
	Level   *slog.LevelVar // of Log
	Log     *slog.Logger   // to standard error; made by Run

	// HTTP makes the client that talks to one server, with the CAs and the
	// certificate of o; the rest of o is not read. Tests may replace it.
	HTTP func(c *config.Config, o httpd.ClientOptions) (*http.Client, error)

	// RetryDelays are the waits between attempts; nil means 1 s, 2 s, 5 s.
	RetryDelays []time.Duration

	// Sleep waits between two polls of a login; nil waits by the real clock.
	Sleep func(context.Context, time.Duration) error

	flags   flags
	bind    map[string]*pflag.Flag // configuration keys that flags of the command set
	loaded  *config.Config
	started bool     // a command has begun; from here on errors are not usage errors
	line    []string // the command line, without the program's name
}

// flags are the persistent flags of every command.
type flags struct {
	config  string
	output  string
	quiet   bool
	verbose int
	noColor bool
	offline bool
}

// NewApp returns the App of a real process.
func NewApp(environ []string, getenv func(string) string) *App {
	return &App{
		Streams: ui.System(getenv), Environ: environ, Now: time.Now, Build: buildinfo.Read(),
		Level: new(slog.LevelVar), HTTP: httpClient,
	}
}

// Config loads the configuration on the first call and prints its warnings.
// Flags that stand for a key are bound by Bind before it.
func (a *App) Config() (*config.Config, error) {
	if a.loaded != nil {
		return a.loaded, nil
	}
	c, err := config.Load(a.source())
	if err != nil {
		return nil, err
	}
	a.loaded = c
	a.Streams.Format = ui.Format(c.Output)
	for _, w := range c.Warnings() {
		a.Streams.Warn("%s", w)
	}
	return c, nil
}

// Bind makes a flag of a command override a configuration key.
func (a *App) Bind(key string, flag *pflag.Flag) { a.bind[key] = flag }

func (a *App) source() config.Source {
	return config.Source{Path: a.flags.config, Environ: a.Environ, Flags: a.bind}
}

// Client returns the HTTP client for the Authority and for what takes its
// tokens; it presents the client certificate if that is how we prove who we
// are. In offline mode every request fails with kind Offline and opens no
// socket.
func (a *App) Client(c *config.Config) (*http.Client, error) {
	o := httpd.ClientOptions{CAFile: c.Authority.CAFile}
	if c.Auth.EffectiveMethod() == config.TLSClientAuth && !c.Offline {
		// Loaded once to hold the file to the rules for secrets.
		key, err := c.Auth.CertificateKey.Load()
		if err != nil {
			return nil, err
		}
		key.Clear()
		o.CertFile, o.KeyFile = c.Auth.CertificateFiles()
	}
	return a.HTTP(c, o)
}

func httpClient(c *config.Config, o httpd.ClientOptions) (*http.Client, error) {
	if c.Offline {
		return &http.Client{Transport: offline{}}, nil
	}
	return httpd.Client(httpd.ClientOptions{
		Timeout: c.Authority.Timeout.Std(), CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile, Loopback: true,
	})
}

// offline refuses every request.
type offline struct{}

// RoundTrip implements http.RoundTripper.
func (offline) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fault.Errorf(fault.Offline, "%s %s needs the network, but offline mode is on", r.Method, r.URL.Host).
		Hint("run it without --offline and STELLA_OFFLINE")
}

// prepare applies the persistent flags; it runs before every command.
func (a *App) prepare() error {
	s := a.Streams
	s.Quiet = a.flags.quiet
	s.NoColor = s.NoColor || a.flags.noColor
	level := slog.LevelWarn
	if v := a.getenv("STELLA_LOG_LEVEL"); v != "" {
		if l, ok := config.Level(v); ok {
			level = l
		}
	}
	switch {
	case a.flags.verbose >= 2:
		level = slog.LevelDebug
	case a.flags.verbose == 1:
		level = min(level, slog.LevelInfo)
	case a.flags.quiet:
		level = max(level, slog.LevelError)
	}
	a.Level.Set(level)
	a.Log = obs.NewLogger(s.Err, string(s.Format), a.Level)
	if a.flags.quiet && a.flags.verbose > 0 {
		return fault.Errorf(fault.Input, "--quiet and --verbose exclude each other")
	}
	return nil
}

func (a *App) getenv(name string) string {
	for i := len(a.Environ) - 1; i >= 0; i-- {
		if line := a.Environ[i]; len(line) > len(name) && line[len(name)] == '=' && line[:len(name)] == name {
			return line[len(name)+1:]
		}
	}
	return ""
}
