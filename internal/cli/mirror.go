package cli

import (
	"context"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/ui"
)

const mirrorLong = `Keeps copies of signed feeds. A reader of a mirror sees one whole verified
release or the one before it, never anything else: what does not verify is
refused with its reason, and what was served before stays.

The section mirror of the configuration names the feeds, where they come from,
and the trust policy that says whose releases to believe.`

// newMirrorCmd is the parent of everything about mirrors of feeds.
func newMirrorCmd(app *App) *cobra.Command {
	return group("mirror", "Copies of signed feeds: fetch, verify, serve, carry", long(mirrorLong, fault.Config),
		"  stella mirror --help", mirrorCommands(app)...)
}

// mirrorCommands lists the commands under mirror, in the order of their help.
func mirrorCommands(app *App) []*cobra.Command {
	return []*cobra.Command{
		newMirrorSyncCmd(app), newMirrorVerifyCmd(app), newMirrorStatusCmd(app), newMirrorRollbackCmd(app), newMirrorPruneCmd(app),
		newMirrorPublishCmd(app), newMirrorPackCmd(app), newMirrorUnpackCmd(app),
	}
}

// trustWant is what a command wants of the trust policy.
type trustWant uint8

const (
	trustNone  trustWant = iota
	trustIfAny           // without one, or with a bad one, less is told
	trustNeeded
)

// mirrors are the feeds of one run, and what works on them.
type mirrors struct {
	app    *App
	config *config.Config
	engine mirror.Mirror // a copy for each feed, since Notify tells no feeds apart in time
	feeds  []mirror.Feed // those that are meant
	places *places
}

// mirrors makes ready for a command that is about the named feeds, or all. It
// opens the trust policy alone. The caller closes.
func (a *App) mirrors(names []string, trust trustWant) (*mirrors, error) {
	c, err := a.Config()
	if err != nil {
		return nil, err
	}
	// What is served is for everybody to read, whoever types this; what is not
	// says so itself.
	syscall.Umask(0o022)
	m := &mirrors{app: a, config: c, places: newPlaces(c)}
	if m.feeds, err = selectFeeds(c, names); err != nil {
		return nil, err
	}
	if err := c.Require("mirror.root"); err != nil {
		return nil, err
	}
	m.engine = mirror.Mirror{
		Dir: c.Mirror.Root, Operator: operatorName(), Version: a.Build.Version, Parallel: c.Mirror.Parallel, Settle: c.Mirror.Settle.Std(),
		Open: m.places.open, Now: a.Now, Sleep: a.Sleep, Delays: a.RetryDelays,
	}
	m.engine.Policy, err = loadTrust(a, c, m.feeds, trust)
	return m, err
}

func (m *mirrors) close() { m.places.close() }

// loadTrust reads the trust policy. Feeds of shape tree need none: then the
// limits are those of an empty one.
func loadTrust(a *App, c *config.Config, feeds []mirror.Feed, trust trustWant) (*release.Policy, error) {
	signed := slices.ContainsFunc(feeds, func(f mirror.Feed) bool { return f.Shape != mirror.Tree })
	switch {
	case trust == trustNone:
		return nil, nil
	case c.Mirror.TrustPolicy != "":
		p, err := release.LoadPolicy(c.Mirror.TrustPolicy)
		if err == nil {
			for _, name := range p.FeedNames() {
				if !slices.Contains(feedNames(c), name) {
					a.Streams.Warn("the trust policy names the feed %q, which is not configured; configured: %s", name, strings.Join(feedNames(c), ", "))
				}
			}
		}
		if err != nil && trust == trustIfAny {
			a.Streams.Warn("%v; whether a release is stale is not judged", err)
			return nil, nil
		}
		return p, err
	case !signed:
		return release.DefaultPolicy(), nil
	case trust == trustIfAny:
		return nil, nil
	}
	return nil, c.Require("mirror.trust_policy")
}

// selectFeeds finds the named feeds, or all without names.
func selectFeeds(c *config.Config, names []string) ([]mirror.Feed, error) {
	if len(c.Mirror.Feeds) == 0 {
		return nil, fault.Errorf(fault.Config, "mirror.feeds is empty, so there is nothing to mirror").
			Hint("name the feeds in the configuration file; docs/config-stella.md has the keys").
			Hint("see where values come from: stella config show --origin")
	}
	for _, name := range names {
		if !slices.Contains(feedNames(c), name) {
			return nil, fault.Errorf(fault.Input, "--feed: no feed is called %.80q; configured: %s", name, strings.Join(feedNames(c), ", "))
		}
	}
	var out []mirror.Feed
	for _, f := range c.Mirror.Feeds {
		if len(names) > 0 && !slices.Contains(names, f.Name) {
			continue
		}
		place, err := objstore.Parse(f.Source)
		if err != nil {
			return nil, fault.As(fault.Config, err) // Validate has seen it
		}
		out = append(out, mirror.Feed{Name: f.Name, Source: place, Shape: f.Shape})
	}
	return out, nil
}

func feedNames(c *config.Config) []string {
	names := make([]string, len(c.Mirror.Feeds))
	for i, f := range c.Mirror.Feeds {
		names[i] = f.Name
	}
	return names
}

// one returns the feed that a command is about, which may be left out when only
// one is configured.
func (a *App) one(name string) ([]string, error) {
	c, err := a.Config()
	if err != nil {
		return nil, err
	}
	if names := feedNames(c); name == "" && len(names) > 1 {
		return nil, fault.Errorf(fault.Input, "--feed is missing; configured: %s", strings.Join(names, ", ")).
			Hint("%s", a.typed("--feed="+names[0]))
	}
	if name == "" {
		return nil, nil
	}
	return []string{name}, nil
}

// operatorName says who acts, for the record of a mirror: user and host, and
// who became that user by sudo.
func operatorName() string {
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if sudo := os.Getenv("SUDO_USER"); sudo != "" && sudo != name {
		name = sudo + " as " + name
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	if len(name) > 256 {
		name = name[:256]
	}
	return ui.Clean(name)
}

// feedsFlag adds --feed for commands that are about several feeds.
func feedsFlag(app *App, cmd *cobra.Command, names *[]string) {
	cmd.Flags().StringSliceVar(names, "feed", nil, "feed `NAME`, repeatable; all feeds without it")
	completeFeed(app, cmd)
}

// feedFlag adds --feed for commands that are about one feed.
func feedFlag(app *App, cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "feed", "", "feed `NAME`; may be left out when only one is configured")
	completeFeed(app, cmd)
}

func completeFeed(app *App, cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("feed", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := app.Config()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := feedNames(c)
		for i, f := range c.Mirror.Feeds {
			names[i] += "\t" + f.Source
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// completeExports completes the releases that are on this host.
func completeExports(app *App, cmd *cobra.Command, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return exportsOnDisk(app, cmd.Flags()), cobra.ShellCompDirectiveNoFileComp
	})
}

func exportsOnDisk(app *App, f *pflag.FlagSet) []string {
	c, err := app.Config()
	if err != nil || c.Mirror.Root == "" {
		return nil
	}
	names := feedNames(c)
	if given := f.Lookup("feed"); given != nil && given.Changed {
		names = strings.Split(strings.Trim(given.Value.String(), "[]"), ",")
	}
	var out []string
	for _, name := range names {
		s, err := store.Open((&mirror.Mirror{Dir: c.Mirror.Root}).Folder(name))
		if err != nil {
			continue
		}
		ids, err := s.Releases()
		_ = s.Close()
		if err != nil {
			continue
		}
		latest, _ := s.Latest()
		for _, id := range ids {
			note := name
			if id == latest {
				note += ", shown"
			}
			out = append(out, id+"\t"+note)
		}
	}
	return out
}

// each runs do for every feed at once, so that a source that is slow or down
// holds up no other feed, and returns what went wrong in the order of the feeds.
func (m *mirrors) each(ctx context.Context, do func(context.Context, *mirror.Mirror, mirror.Feed) error, notify func(mirror.Event)) []error {
	errs := make([]error, len(m.feeds))
	var wg sync.WaitGroup
	for i, f := range m.feeds {
		engine := m.engine
		engine.Notify = notify
		wg.Go(func() { errs[i] = do(ctx, &engine, f) })
	}
	wg.Wait()
	return errs
}
