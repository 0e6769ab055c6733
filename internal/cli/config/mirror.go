package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// Mirror says what is mirrored, from where and to where.
type Mirror struct {
	Root        string              `yaml:"root" path:"made" doc:"directory of all feeds; it must exist, and below it each feed has its own"`
	TrustPolicy string              `yaml:"trust_policy" path:"read" doc:"trust policy file: whose releases to believe, and how large they may be; feeds of shape tree do without"`
	Feeds       []MirrorFeed        `yaml:"feeds"`
	Parallel    int                 `yaml:"parallel" doc:"requests at once, of each feed: 1 to 256"`
	Settle      strictyaml.Duration `yaml:"settle" doc:"how long a mismatch must stay the same before it counts as an attack and not as a publisher at work; at most 10 minutes"`
	MetricsFile string              `yaml:"metrics_file" path:"made" doc:"file for the textfile collector of Prometheus' node_exporter, written after each run; its name ends in .prom; empty for none"`
	Keep        int                 `yaml:"keep" doc:"prune keeps this many releases of each feed, and always those that latest and previous lead to: 1 to 100000"`
	PruneGrace  strictyaml.Duration `yaml:"prune_grace" doc:"prune removes nothing that was placed within this time; it must be longer than what is served may be cached"`
	S3          MirrorS3            `yaml:"s3"`
	HTTPS       MirrorHTTPS         `yaml:"https"`
}

// MirrorFeed is one thing to mirror.
type MirrorFeed struct {
	Name   string       `yaml:"name" json:"name" doc:"unique name, as its releases call it: lower-case letters, digits and hyphens"`
	Source string       `yaml:"source" json:"source" doc:"where it comes from: s3://BUCKET/PREFIX, https://HOST/PATH or file:///ABSOLUTE/PATH"`
	Shape  mirror.Shape `yaml:"shape" json:"shape" doc:"release (by default): signed, verified before it is shown; tree: any files, of which nothing can be verified"`
}

// MirrorS3 says how s3:// places are reached. Without keys the AWS SDK looks
// for them where it always does.
type MirrorS3 struct {
	Region          string     `yaml:"region" doc:"region of the buckets; by default AWS_REGION or the AWS configuration file"`
	Endpoint        string     `yaml:"endpoint" doc:"URL of another service than Amazon's: https, or http on loopback"`
	PathStyle       bool       `yaml:"path_style" doc:"the bucket is part of the path and not of the host, as most other services want it"`
	CAFile          string     `yaml:"ca_file" path:"read" doc:"PEM file of the only CAs to trust; empty for the system's"`
	AccessKeyID     secret.Ref `yaml:"access_key_id" doc:"reference to the id of the access key; without it AWS_ACCESS_KEY_ID, the AWS configuration files, or the role of the host"`
	SecretAccessKey secret.Ref `yaml:"secret_access_key" doc:"reference to the access key itself"`
	SessionToken    secret.Ref `yaml:"session_token" doc:"reference to the session token, for temporary keys"`
}

// MirrorHTTPS says how https:// places are reached.
type MirrorHTTPS struct {
	CAFile   string     `yaml:"ca_file" path:"read" doc:"PEM file of the only CAs to trust; empty for the system's"`
	Username string     `yaml:"username" doc:"name for HTTP Basic authentication"`
	Password secret.Ref `yaml:"password" doc:"reference to its password"`
	Token    secret.Ref `yaml:"token" doc:"reference to a bearer token, instead of name and password"`
}

const (
	maxFeeds    = 64
	maxParallel = 256
	maxKeep     = 100_000
	maxGrace    = 366 * 24 * time.Hour
	keyFeeds    = "mirror.feeds"
)

func mirrorDefaults() Mirror {
	return Mirror{
		Parallel: 16, Settle: strictyaml.Duration(15 * time.Second),
		Keep: 5, PruneGrace: strictyaml.Duration(time.Hour),
	}
}

func (c *Config) checkMirror() error {
	m := c.Mirror
	switch {
	case m.Parallel < 1 || m.Parallel > maxParallel:
		return c.bad("mirror.parallel", "found %d; allowed: 1 to %d", m.Parallel, maxParallel)
	case m.Settle <= 0 || m.Settle.Std() > maxTimeout:
		return c.bad("mirror.settle", "found %s; allowed: more than zero, at most %s", m.Settle, maxTimeout)
	case m.Keep < 1 || m.Keep > maxKeep:
		return c.bad("mirror.keep", "found %d; allowed: 1 to %d", m.Keep, maxKeep)
	case m.PruneGrace.Std() > maxGrace:
		return c.bad("mirror.prune_grace", "found %s; allowed: at most a year", m.PruneGrace)
	case m.MetricsFile != "" && !strings.HasSuffix(m.MetricsFile, ".prom"):
		return c.bad("mirror.metrics_file", "found %.200q; the collector reads only files whose name ends in .prom", m.MetricsFile)
	case len(m.Feeds) > maxFeeds:
		return c.bad(keyFeeds, "found %d feeds; allowed: at most %d", len(m.Feeds), maxFeeds)
	}
	for _, check := range []func() error{c.checkFeeds, c.checkS3, c.checkHTTPS} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkFeeds() error {
	seen := map[string]bool{}
	for i, f := range c.Mirror.Feeds {
		switch key := itemKey(keyFeeds, i, "name"); {
		case !release.FeedName(f.Name):
			return c.bad(key, "found %.80q; allowed: 1 to 64 of a-z 0-9 -, beginning with a letter", f.Name)
		case seen[f.Name]:
			return c.bad(key, "%q is used twice", f.Name)
		}
		seen[f.Name] = true
		place, err := objstore.Parse(f.Source)
		if err != nil {
			return c.bad(itemKey(keyFeeds, i, "source"), "%w", err)
		}
		if f.Shape == mirror.Tree && (place.Scheme == objstore.HTTPS || place.Scheme == objstore.HTTP) {
			return c.bad(itemKey(keyFeeds, i, "shape"), "a tree cannot come from %s: a web server has no listing", place).
				Hint("use s3:// or file://, or a release")
		}
	}
	return nil
}

func (c *Config) checkS3() error {
	s := c.Mirror.S3
	if s.Endpoint != "" {
		if err := CheckURL(s.Endpoint); err != nil {
			return c.bad("mirror.s3.endpoint", "%w", err)
		}
		if u, err := url.Parse(s.Endpoint); err != nil || strings.Trim(u.Path, "/") != "" {
			return c.bad("mirror.s3.endpoint", "an endpoint has no path")
		}
	}
	switch {
	case s.Region != "" && !regexp.MustCompile(`^[a-z0-9-]{1,60}$`).MatchString(s.Region):
		return c.bad("mirror.s3.region", "found %.80q, which is no region", s.Region)
	case s.AccessKeyID != "" && s.SecretAccessKey == "":
		return c.bad("mirror.s3.access_key_id", "it needs mirror.s3.secret_access_key")
	case s.SecretAccessKey != "" && s.AccessKeyID == "":
		return c.bad("mirror.s3.secret_access_key", "it needs mirror.s3.access_key_id")
	case s.SessionToken != "" && s.AccessKeyID == "":
		return c.bad("mirror.s3.session_token", "it needs mirror.s3.access_key_id")
	}
	return nil
}

func (c *Config) checkHTTPS() error {
	h := c.Mirror.HTTPS
	switch {
	case h.Username != "" && h.Password == "":
		return c.bad("mirror.https.username", "it needs mirror.https.password")
	case h.Password != "" && h.Username == "":
		return c.bad("mirror.https.password", "it needs mirror.https.username")
	case h.Username != "" && h.Token != "":
		return c.bad("mirror.https.token", "it excludes mirror.https.username")
	case strings.ContainsAny(h.Username, ":\r\n"):
		return c.bad("mirror.https.username", "a user name has no colon and no line break (RFC 7617)")
	case h.Username == "" && h.Token == "":
		return nil
	}
	if hosts := c.feedHosts(objstore.HTTPS, objstore.HTTP); len(hosts) > 1 {
		return c.bad("mirror.https", "its credentials would be sent to %d hosts: %s", len(hosts), strings.Join(hosts, ", ")).
			Hint("use a configuration file for each host")
	}
	return nil
}

// feedHosts lists the hosts or buckets of all sources with one of the schemes.
func (c *Config) feedHosts(schemes ...objstore.Scheme) []string {
	var hosts []string
	for _, f := range c.Mirror.Feeds {
		p, err := objstore.Parse(f.Source)
		if err == nil && slices.Contains(schemes, p.Scheme) && !slices.Contains(hosts, p.Host) {
			hosts = append(hosts, p.Host)
		}
	}
	return hosts
}

// mirrorFindings is the part of Findings that is about the mirror.
func (c *Config) mirrorFindings() []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	m, by := c.Mirror, map[string]string{}
	signed := false
	for _, f := range m.Feeds {
		signed = signed || f.Shape != mirror.Tree
		if f.Shape == mirror.Tree {
			add("mirror.feeds: %s has shape tree: nothing of it can be verified", f.Name)
		}
		if other := by[f.Source]; other != "" {
			add("mirror.feeds: %s and %s have the same source", other, f.Name)
		}
		by[f.Source] = f.Name
	}
	if len(m.Feeds) > 0 && m.Root == "" {
		add("mirror.root is not set, so no feed can be mirrored")
	}
	if signed && m.TrustPolicy == "" {
		add("mirror.trust_policy is not set, so no release can be verified")
	}
	if len(m.Feeds) == 0 && (m.Root != "" || m.TrustPolicy != "") {
		add("mirror.feeds is empty, so nothing is mirrored")
	}
	if m.Keep == 1 {
		add("mirror.keep is 1: after a prune at most the release before is left to roll back to")
	}
	if (m.S3.Endpoint != "" || m.S3.AccessKeyID != "") && len(c.feedHosts(objstore.S3)) == 0 && len(m.Feeds) > 0 {
		add("mirror.s3 is set, but no feed comes from s3://")
	}
	if (m.HTTPS.Username != "" || m.HTTPS.Token != "") && len(c.feedHosts(objstore.HTTPS, objstore.HTTP)) == 0 && len(m.Feeds) > 0 {
		add("mirror.https has credentials, but no feed comes from https://")
	}
	return out
}
